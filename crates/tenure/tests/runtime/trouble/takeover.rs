//! Workers that die, and who takes over what they had.

use std::sync::Arc;

use tenure::runtime::WorkerOptions;
use tenure::store::Partition;
use tenure::tasks::{Status, TaskLimits};

use super::{TIMEOUT_MS, Tools, World, settle};

#[tokio::test]
async fn a_call_that_takes_every_server_down_is_given_up_in_the_end() {
    let world = World::new();
    let first = world.worker(&world.healthy(), WorkerOptions::default()).await;
    let task = world.submit(&first, "kills").await;
    let mut dying = first;
    for _ in 0..=tenure::limits::ATTEMPTS {
        settle().await;
        drop(dying);
        dying = world.worker(&world.healthy(), WorkerOptions::default()).await;
        world.pass(TIMEOUT_MS + TIMEOUT_MS / 2).await;
    }
    let task = world.get(&task.id).await;
    assert_eq!((task.status, task.attempt), (Status::Failed, tenure::limits::ATTEMPTS));
}

#[tokio::test]
async fn a_tool_that_the_heir_has_not_got_waits_for_one_that_has() {
    let world = World::new();
    let first = world.worker(&world.healthy(), WorkerOptions::default()).await;
    let task = world.submit(&first, "lasts").await;
    settle().await;
    drop(first);
    let tools = Arc::new(Tools { without: Some("lasts"), ..Tools::default() });
    let (options, limits) = (WorkerOptions::default(), TaskLimits::default());
    let poor = world.worker_with(&world.healthy(), options, limits, tools).await;
    world.pass(4 * TIMEOUT_MS).await;
    assert_ne!(world.get(&task.id).await.worker, Some(poor.id()));
    let rich = world.worker(&world.healthy(), WorkerOptions::default()).await;
    world.pass(4 * TIMEOUT_MS).await;
    let task = world.get(&task.id).await;
    assert_eq!((task.worker, task.attempt), (Some(rich.id()), 2));
}

#[tokio::test]
async fn a_dead_worker_whose_heartbeat_is_damaged_delays_the_heir_of_no_other() {
    let world = World::new();
    let [heir, first, second] = std::array::from_fn(|_| world.healthy());
    let _heir = world.worker(&heir, WorkerOptions::default()).await;
    let damaged = world.worker(&first, WorkerOptions::default()).await;
    let damaged = world.submit(&damaged, "waits").await;
    let other = world.worker(&second, WorkerOptions::default()).await;
    let other = world.submit(&other, "waits").await;
    settle().await;
    let dead = world.get(&damaged.id).await.worker.unwrap();
    heir.damage(Partition::new(["workers"]).unwrap().key(dead.as_str()).unwrap());
    first.stall();
    world.pass(TIMEOUT_MS / 2).await;
    second.stall();
    // The time of the first runs out half-way.
    world.pass(TIMEOUT_MS + TIMEOUT_MS / 4).await;
    assert_eq!(world.get(&other.id).await.status, Status::Failed);
    assert_eq!(world.get(&damaged.id).await.status, Status::Working);
}
