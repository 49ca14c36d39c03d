//! One worker, several owners: none takes all the room.

use serde_json::json;
use tenure::Owner;
use tenure::runtime::{Worker, WorkerOptions};
use tenure::tasks::{Outcome, Phase, Status, Task, TaskError};

use crate::world::{World, call, settle};

fn owner(name: &str) -> Owner {
    Owner::new(name).unwrap()
}

async fn submit(worker: &Worker, owner: &Owner, tool: &str) -> Task {
    worker.submit(owner, call(tool)).await.unwrap()
}

#[tokio::test]
async fn two_hundred_long_tasks_of_one_owner_do_not_hold_up_a_short_one_of_another() {
    let world = World::new();
    let worker = world.worker(&world.healthy(), WorkerOptions::default()).await;
    let (alice, bob) = (owner("alice"), owner("bob"));
    let mut hers = Vec::new();
    for _ in 0..200 {
        hers.push(submit(&worker, &alice, "waits").await);
    }
    let his = submit(&worker, &bob, "echo").await;
    settle().await;
    // No time has passed.
    assert_eq!(world.tasks.get(&bob, &his.id).await.unwrap().status, Status::Completed);
    let mut running = 0;
    for task in &hers {
        let phase = world.tasks.get(&alice, &task.id).await.unwrap().phase;
        running += usize::from(phase == Phase::Running);
    }
    assert_eq!(running, 32, "half of 64");
}

#[tokio::test]
async fn a_concurrency_of_none_is_taken_for_one() {
    let world = World::new();
    let options = WorkerOptions { concurrency: 0, ..WorkerOptions::default() };
    let worker = world.worker(&world.healthy(), options).await;
    let task = world.submit(&worker, "echo").await;
    settle().await;
    assert_eq!(world.get(&task.id).await.status, Status::Completed);
}

#[tokio::test]
async fn slots_that_become_free_go_round_the_owners_that_wait() {
    let world = World::new();
    let options = WorkerOptions { concurrency: 2, ..WorkerOptions::default() };
    let worker = world.worker(&world.healthy(), options).await;
    let owners = ["carol", "dave", "alice", "bob"].map(owner);
    let [carol, dave, alice, bob] = &owners;
    let first = submit(&worker, carol, "waits").await;
    submit(&worker, dave, "waits").await;
    let mut hers = Vec::new();
    for _ in 0..50 {
        hers.push(submit(&worker, alice, "waits").await);
    }
    let his = submit(&worker, bob, "waits").await;
    settle().await;
    let end = async |task: &Task| {
        let this = tenure::tasks::TaskRef::new(task.owner.clone(), task.id.clone());
        world.tasks.cancel(&this, None).await.unwrap();
        settle().await;
        world.clock.advance_millis(options.cancel_grace_ms);
        settle().await;
    };
    end(&first).await;
    assert_eq!(world.tasks.get(alice, &hers[0].id).await.unwrap().phase, Phase::Running);
    assert_eq!(world.tasks.get(bob, &his.id).await.unwrap().phase, Phase::Queued);
    end(&hers[0]).await;
    assert_eq!(world.tasks.get(bob, &his.id).await.unwrap().phase, Phase::Running);
}

#[tokio::test]
async fn one_owner_does_not_fill_the_queue_for_others() {
    let world = World::new();
    let options = WorkerOptions { capacity: 4, concurrency: 1, ..WorkerOptions::default() };
    let worker = world.worker(&world.healthy(), options).await;
    let (alice, bob) = (owner("alice"), owner("bob"));
    for _ in 0..2 {
        submit(&worker, &alice, "waits").await;
    }
    let refused = worker.submit(&alice, call("waits")).await;
    assert!(matches!(refused, Err(TaskError::QueueFull { limit: 2 })));
    submit(&worker, &bob, "waits").await;
}

/// A tool that asks gives its slot back, and gets one again although its owner has its share.
#[tokio::test]
async fn an_answer_waits_for_a_slot_of_its_owners_share() {
    let world = World::new();
    let options = WorkerOptions { concurrency: 2, ..WorkerOptions::default() };
    let worker = world.worker(&world.healthy(), options).await;
    let asks = world.submit(&worker, "asks").await;
    settle().await;
    let other = world.submit(&worker, "gated").await;
    settle().await;
    assert_eq!(world.get(&other.id).await.phase, Phase::Running, "the slot was free");
    let answer = crate::world::one("a", json!(1));
    world.tasks.deliver_inputs(&world.this(&asks.id), answer).await.unwrap();
    settle().await;
    assert_eq!(world.get(&asks.id).await.outcome, None, "there is no slot for it");
    world.tools.gate.add_permits(1);
    settle().await;
    assert_eq!(
        world.get(&asks.id).await.outcome,
        Some(Outcome::Result(json!({ "text": "answered" })))
    );
}
