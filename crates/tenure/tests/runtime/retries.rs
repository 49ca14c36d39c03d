//! Attempts that follow one that failed, wherever they run.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::tasks::{Phase, Status};

use crate::world::{TIMEOUT_MS, World, settle};

/// Fails at first, and has a word on that.
struct Flaky;

#[async_trait]
impl Handler for Flaky {
    fn policy(&self, _: &str) -> Option<Policy> {
        Some(Policy { max_attempts: 2, backoff_ms: 60_000, ..Policy::default() })
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        if task.attempt() == 1 {
            return Err(Failure::retryable(json!({ "code": 1, "message": "no" }), "not yet"));
        }
        Ok(Exit::Complete(json!({ "text": "done" })))
    }
}

#[tokio::test]
async fn a_success_shows_no_failure_although_another_worker_retried() {
    for shuts_down in [false, true] {
        let world = World::new();
        let worker = async || {
            let options = WorkerOptions::default();
            Worker::start(world.tasks.clone(), Arc::new(Flaky), options).await.unwrap()
        };
        let first = worker().await;
        let task = world.submit(&first, "any").await;
        settle().await;
        if shuts_down {
            first.shutdown(0).await;
        }
        drop(first);
        let failed = world.get(&task.id).await;
        assert_eq!((failed.phase, failed.attempt), (Phase::Retrying, 1));
        assert_eq!(failed.status_message.as_deref(), Some("not yet"));
        let _heir = worker().await;
        world.pass(2 * TIMEOUT_MS).await;
        let ended = world.get(&task.id).await;
        assert_eq!((ended.status, ended.attempt), (Status::Completed, 2));
        assert_eq!(ended.status_message, None, "{shuts_down}");
    }
}
