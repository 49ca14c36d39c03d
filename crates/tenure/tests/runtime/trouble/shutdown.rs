//! Workers that shut down.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tenure::clock::Clock;
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::tasks::{Outcome, Phase, Rerun, Status};

use super::{World, call, settle};
use crate::faults::{Fault, Faulty, Plan};

#[tokio::test]
async fn a_shutdown_leaves_every_task_finished_or_to_others() {
    let world = World::new();
    let options = WorkerOptions { concurrency: 2, ..WorkerOptions::default() };
    let process = world.healthy();
    let worker = world.worker(&process, options).await;
    let parked = world.submit(&worker, "parks").await;
    settle().await;
    let once = world.submit(&worker, "waits").await;
    let again = world.submit(&worker, "lasts").await;
    let queued = world.submit(&worker, "echo").await;
    settle().await;
    let shutdown = tokio::spawn(async move { worker.shutdown(1_000).await });
    world.pass(1_000 + options.cancel_grace_ms).await;
    shutdown.await.unwrap();
    let once = world.get(&once.id).await;
    assert_eq!(once.status, Status::Failed);
    assert!(once.status_message.unwrap().contains("shut down"));
    let heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
    settle().await;
    assert_eq!(world.get(&queued.id).await.status, Status::Completed);
    let again = world.get(&again.id).await;
    assert_eq!((again.phase, again.attempt, again.rerun), (Phase::Running, 2, Rerun::AfterCrash));
    let parked = world.get(&parked.id).await;
    assert_eq!((parked.status, parked.worker), (Status::InputRequired, Some(heir.id())));
    assert_eq!(world.claims(&process).await, 0);
}

/// Returns when it is asked to, and the grace period ends before anybody can have looked.
struct LastWords(Clock);

#[async_trait]
impl Handler for LastWords {
    fn policy(&self, _: &str) -> Option<Policy> {
        Some(Policy::default())
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        task.cancellation().cancelled().await;
        self.0.advance_millis(WorkerOptions::default().cancel_grace_ms);
        Ok(Exit::Complete(json!("in time")))
    }
}

#[tokio::test]
async fn what_a_handler_returned_within_the_grace_period_counts_however_late_it_is_seen() {
    // Several times: whether it or the end of the period was seen first was left to chance.
    for _ in 0..32 {
        let world = World::new();
        let handler = Arc::new(LastWords(world.clock.clone()));
        let worker =
            Worker::start(world.tasks.clone(), handler, WorkerOptions::default()).await.unwrap();
        let task = world.submit(&worker, "any").await;
        settle().await;
        worker.shutdown(0).await;
        assert_eq!(world.get(&task.id).await.outcome, Some(Outcome::Result(json!("in time"))));
    }
}

#[tokio::test]
async fn a_shutdown_ends_although_the_store_does_not_answer() {
    let world = World::new();
    let plan = Plan { first: 9, length: u64::MAX - 9, fault: Fault::Unavailable };
    let worker =
        world.worker(&Faulty::new(world.store.clone(), Some(plan)), WorkerOptions::default()).await;
    let _ = worker.submit(&world.alice, call("echo")).await;
    let _ = worker.submit(&world.alice, call("lasts")).await;
    settle().await;
    let shutdown = tokio::spawn(async move { worker.shutdown(0).await });
    world.pass(4 * WorkerOptions::default().cancel_grace_ms).await;
    assert!(shutdown.is_finished());
}
