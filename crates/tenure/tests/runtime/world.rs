//! One store, any number of processes on it, and a clock that stands still until it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tenure::Owner;
use tenure::clock::{Clock, Timestamp};
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::store::{InMemoryBackend, PageRequest, StorageBackend as _};
use tenure::tasks::{
    Call, NewTask, Status, Task, TaskError, TaskId, TaskLimits, TaskRef, TaskStore,
};
use tokio::sync::Semaphore;

use crate::faults::Faulty;

pub(crate) const TIMEOUT_MS: u64 = 5_000;

/// Tools that do what their names say.
pub(crate) struct Tools {
    pub(crate) starts: AtomicU32,
    pub(crate) without: Option<&'static str>,
    /// Opens to the tools that wait for it.
    pub(crate) gate: Semaphore,
}

impl Default for Tools {
    fn default() -> Self {
        Self { starts: AtomicU32::new(0), without: None, gate: Semaphore::new(0) }
    }
}

pub(crate) fn one(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value)])
}

#[async_trait]
impl Handler for Tools {
    fn policy(&self, tool: &str) -> Option<Policy> {
        if self.without == Some(tool) {
            return None;
        }
        Some(match tool {
            "kills" | "lasts" | "gated" => Policy::rerun_after_crash(),
            _ => Policy::default(),
        })
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        match task.call().tool.as_str() {
            "asks twice" => {
                let answers = tokio::join!(
                    task.request_inputs(one("a", json!({ "method": "ask" }))),
                    task.request_inputs(one("b", json!({ "method": "ask" }))),
                );
                match answers {
                    (Ok(_), Ok(_)) => Ok(Exit::Complete(json!({ "text": "both" }))),
                    _ => Err(Failure::new(json!({ "code": 1, "message": "no" }), "no answer")),
                }
            }
            "asks" => match task.request_inputs(one("a", json!({ "method": "ask" }))).await {
                Ok(_) => Ok(Exit::Complete(json!({ "text": "answered" }))),
                Err(error) => {
                    Err(Failure::new(json!({ "code": 1, "message": "no" }), error.to_string()))
                }
            },
            "asks late" => {
                task.cancellation().cancelled().await;
                let refused =
                    task.request_inputs(one("a", json!({ "method": "ask" }))).await.unwrap_err();
                assert!(matches!(refused, TaskError::Finished { status: Status::Cancelled }));
                Ok(Exit::Complete(json!({ "text": "too late" })))
            }
            "parks" if task.attempt() == 1 => Ok(Exit::Park {
                requests: one("a", json!({ "method": "ask" })),
                variables: Map::new(),
            }),
            "gated" => {
                self.gate.acquire().await.unwrap().forget();
                match task.checkpoint("step", task.attempt()).await {
                    Ok(()) => Ok(Exit::Complete(json!({ "text": "done" }))),
                    Err(error) => {
                        Err(Failure::new(json!({ "code": 1, "message": "no" }), error.to_string()))
                    }
                }
            }
            "waits" | "lasts" | "kills" => std::future::pending().await,
            _ => Ok(Exit::Complete(json!({ "text": "done" }))),
        }
    }
}

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) store: InMemoryBackend,
    pub(crate) tasks: TaskStore,
    pub(crate) tools: Arc<Tools>,
    pub(crate) alice: Owner,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_000_000));
        let store = InMemoryBackend::new(clock.clone());
        let tasks = TaskStore::new(Arc::new(store.clone()), clock.clone());
        Self { clock, store, tasks, tools: Arc::default(), alice: Owner::new("alice").unwrap() }
    }

    pub(crate) async fn worker(&self, process: &Faulty, options: WorkerOptions) -> Worker {
        self.worker_with(process, options, TaskLimits::default(), Arc::clone(&self.tools)).await
    }

    pub(crate) async fn worker_with(
        &self,
        process: &Faulty,
        options: WorkerOptions,
        limits: TaskLimits,
        tools: Arc<Tools>,
    ) -> Worker {
        let tasks = TaskStore::new(Arc::new(process.clone()), self.clock.clone());
        Worker::start(tasks.with_limits(limits), tools, options).await.unwrap()
    }

    pub(crate) fn healthy(&self) -> Faulty {
        Faulty::new(self.store.clone(), None)
    }

    pub(crate) async fn submit(&self, worker: &Worker, tool: &str) -> Task {
        worker.submit(&self.alice, call(tool)).await.unwrap()
    }

    pub(crate) async fn get(&self, id: &TaskId) -> Task {
        self.tasks.get(&self.alice, id).await.unwrap()
    }

    pub(crate) fn this(&self, id: &TaskId) -> TaskRef {
        TaskRef::new(self.alice.clone(), id.clone())
    }

    pub(crate) async fn pass(&self, millis: u64) {
        for _ in 0..millis.div_ceil(TIMEOUT_MS / 4) {
            settle().await;
            self.clock.advance_millis(TIMEOUT_MS / 4);
        }
        settle().await;
    }

    pub(crate) async fn claims(&self, process: &Faulty) -> usize {
        let mut claims = 0;
        for partition in process.claims() {
            let request = PageRequest::default();
            claims +=
                self.store.list_by_prefix(&partition, "", request).await.unwrap().entries.len();
        }
        claims
    }
}

pub(crate) fn call(tool: &str) -> NewTask {
    NewTask::new(Call::new(tool, Map::new()))
}

pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
