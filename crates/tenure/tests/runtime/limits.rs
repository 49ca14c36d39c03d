//! Limits that were lowered below what is stored.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, json};
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::tasks::{Call, NewTask, Outcome, Status, TaskLimits, TaskStore};

use crate::world::{TIMEOUT_MS, World, one, settle};

/// Nothing fits any more.
fn narrow() -> TaskLimits {
    TaskLimits {
        call_bytes: 1,
        variables_bytes: 1,
        inputs_bytes: 1,
        outcome_bytes: 1,
        message_bytes: 1,
        string_bytes: 1,
        depth: 1,
        ..TaskLimits::default()
    }
}

#[tokio::test]
async fn tasks_beyond_limits_that_were_lowered_are_adopted_and_end() {
    for (tool, end, message) in [
        // It completes.
        ("parks", Status::Completed, ""),
        // Its checkpoint is refused.
        ("gated", Status::Failed, "variables"),
        // It may not run twice.
        ("waits", Status::Failed, "may not run twice"),
    ] {
        let world = World::new();
        let wide = world.worker(&world.healthy(), WorkerOptions::default()).await;
        let new = NewTask::new(Call::new(tool, one("long", json!("x".repeat(9_000)))));
        let task = wide.submit(&world.alice, new).await.unwrap();
        settle().await;
        let this = world.this(&task.id);
        world.tasks.set_variables(&this, one("long", json!("x".repeat(9_000)))).await.unwrap();
        world.tasks.update_status(&this, Some("x".repeat(900))).await.unwrap();
        drop(wide);
        let (options, tools) = (WorkerOptions::default(), Arc::clone(&world.tools));
        let heir = world.worker_with(&world.healthy(), options, narrow(), tools).await;
        world.pass(2 * TIMEOUT_MS).await;
        if tool == "parks" {
            assert_eq!(world.get(&task.id).await.worker, Some(heir.id()));
            // The question is beyond the limits, too. The answer is within them.
            let tasks = TaskStore::new(Arc::new(world.store.clone()), world.clock.clone());
            let tasks = tasks.with_limits(TaskLimits { inputs_bytes: 20, ..narrow() });
            tasks.deliver_inputs(&this, one("a", json!("y"))).await.unwrap();
        }
        world.tools.gate.add_permits(1);
        world.pass(TIMEOUT_MS).await;
        let ended = world.get(&task.id).await;
        assert_eq!(ended.status, end, "{tool}: {:?}", ended.status_message);
        assert!(ended.status_message.unwrap().contains(message), "{tool}");
    }
}

#[tokio::test]
async fn a_task_beyond_limits_that_were_lowered_can_be_cancelled_and_not_grow() {
    let world = World::new();
    let task = world.tasks.create(&world.alice, crate::world::call("tool")).await.unwrap();
    let this = world.this(&task.id);
    world.tasks.set_variables(&this, one("v", json!("x".repeat(900)))).await.unwrap();
    let narrow =
        TaskStore::new(Arc::new(world.store.clone()), world.clock.clone()).with_limits(narrow());
    for refused in [
        narrow.set_variables(&this, one("w", json!(1))).await,
        narrow.record_input_requests(&this, one("a", json!({ "method": "ask" }))).await,
        narrow.complete(&this, json!({ "text": "x".repeat(900) })).await,
    ] {
        assert!(matches!(refused, Err(tenure::tasks::TaskError::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(narrow.cancel(&this, None).await.unwrap().status, Status::Cancelled);
}

/// Returns more than fits.
struct Verbose;

#[async_trait]
impl Handler for Verbose {
    fn policy(&self, _: &str) -> Option<Policy> {
        Some(Policy::default())
    }

    async fn run(&self, _: TaskContext) -> Result<Exit, Failure> {
        Ok(Exit::Complete(json!({ "text": "x".repeat(9_000) })))
    }
}

#[tokio::test]
async fn what_a_worker_says_of_a_refused_result_fits_whatever_the_limits() {
    let world = World::new();
    let tasks = TaskStore::new(Arc::new(world.store.clone()), world.clock.clone());
    let limits = TaskLimits { call_bytes: 1_000, variables_bytes: 2, inputs_bytes: 2, ..narrow() };
    let (tasks, options) = (tasks.with_limits(limits), WorkerOptions::default());
    let worker = Worker::start(tasks, Arc::new(Verbose), options).await.unwrap();
    let new = NewTask::new(Call::new("any", Map::new()));
    let task = worker.submit(&world.alice, new).await.unwrap();
    settle().await;
    let ended = world.get(&task.id).await;
    let said = "the tool's output was refused: outcome: 9011 bytes exceed the limit of 512";
    assert_eq!(ended.status_message.as_deref(), Some(said));
    let error = json!({ "code": -32603, "message": said });
    assert_eq!((ended.status, ended.outcome), (Status::Failed, Some(Outcome::Error(error))));
}

/// Fails with more words than a message may have.
struct Wordy;

#[async_trait]
impl Handler for Wordy {
    fn policy(&self, _: &str) -> Option<Policy> {
        Some(Policy { max_attempts: 2, backoff_ms: 1_000, ..Policy::default() })
    }

    async fn run(&self, _: TaskContext) -> Result<Exit, Failure> {
        Err(Failure::retryable(json!({ "code": 7, "message": "no" }), "é".repeat(9_000)))
    }
}

#[tokio::test]
async fn a_failure_that_says_too_much_keeps_its_error_and_is_tried_again() {
    let world = World::new();
    let options = WorkerOptions::default();
    let worker = Worker::start(world.tasks.clone(), Arc::new(Wordy), options).await.unwrap();
    let task = world.submit(&worker, "any").await;
    let limit = TaskLimits::default().message_bytes;
    for (attempt, status) in [(1, Status::Working), (2, Status::Failed)] {
        settle().await;
        let task = world.get(&task.id).await;
        assert_eq!((task.attempt, task.status), (attempt, status));
        assert_eq!(task.status_message, Some("é".repeat(limit / 2)));
        world.clock.advance_millis(1_000);
    }
    let failed = world.get(&task.id).await;
    assert_eq!(failed.outcome, Some(Outcome::Error(json!({ "code": 7, "message": "no" }))));
}
