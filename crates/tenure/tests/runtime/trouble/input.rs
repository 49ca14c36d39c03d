//! Input that is asked for twice at once, or around a cancel.

use serde_json::{Map, json};
use tenure::runtime::WorkerOptions;
use tenure::tasks::{Outcome, Status};

use super::{World, settle};

#[tokio::test]
async fn two_questions_at_once_need_one_slot_to_go_on() {
    let world = World::new();
    let options = WorkerOptions { concurrency: 1, ..WorkerOptions::default() };
    let worker = world.worker(&world.healthy(), options).await;
    let task = world.submit(&worker, "asks twice").await;
    settle().await;
    let both = Map::from_iter([("a".into(), json!(1)), ("b".into(), json!(2))]);
    world.tasks.deliver_inputs(&world.this(&task.id), both).await.unwrap();
    settle().await;
    assert_eq!(world.get(&task.id).await.outcome, Some(Outcome::Result(json!("both"))));
    let next = world.submit(&worker, "echo").await;
    settle().await;
    assert_eq!(world.get(&next.id).await.status, Status::Completed, "the slot is free again");
}

#[tokio::test]
async fn input_asked_for_before_a_cancel_is_not_waited_for_after_it() {
    for tool in ["asks", "parks"] {
        let world = World::new();
        let process = world.healthy();
        let options = WorkerOptions { capacity: 1, ..WorkerOptions::default() };
        let worker = world.worker(&process, options).await;
        let task = world.submit(&worker, tool).await;
        settle().await;
        assert_eq!(world.get(&task.id).await.status, Status::InputRequired);
        world.tasks.cancel(&world.this(&task.id), None).await.unwrap();
        settle().await;
        // No time has passed, and the only place is free.
        world.submit(&worker, "echo").await;
        settle().await;
        assert_eq!(world.claims(&process).await, 0);
    }
}

#[tokio::test]
async fn input_asked_for_after_a_cancel_is_refused_and_waits_for_nothing() {
    let world = World::new();
    let process = world.healthy();
    let worker = world.worker(&process, WorkerOptions::default()).await;
    let task = world.submit(&worker, "asks late").await;
    settle().await;
    world.tasks.cancel(&world.this(&task.id), None).await.unwrap();
    settle().await;
    let task = world.get(&task.id).await;
    assert_eq!((task.status, task.inputs.len()), (Status::Cancelled, 0));
    assert_eq!(world.claims(&process).await, 0, "its handler has returned");
}
