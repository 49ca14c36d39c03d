//! Execution that survives: one process, several workers, a clock that the test owns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clocks;
mod costs;
mod exploration;
mod faults;
mod heirs;
mod interruptions;
mod limits;
mod owners;
mod reading;
mod retries;
mod slots;
mod standstills;
mod takeovers;
mod trouble;
mod waiting;
mod withdrawals;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::{Map, Value, json};
use tenure::Owner;
use tenure::clock::{Clock, Timestamp};
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::store::InMemoryBackend;
use tenure::tasks::{
    Call, NewTask, Outcome, Phase, Rerun, Status, Task, TaskError, TaskId, TaskRef, TaskStore,
};

/// Tools that do what their names say.
#[derive(Default)]
struct Tools {
    starts: AtomicU32,
}

fn error(message: &str) -> Value {
    json!({ "code": 1, "message": message })
}

#[async_trait]
impl Handler for Tools {
    fn policy(&self, tool: &str) -> Option<Policy> {
        match tool {
            "unknown" => None,
            "flaky" | "startles" => {
                Some(Policy { max_attempts: 3, backoff_ms: 1_000, ..Policy::default() })
            }
            "resumable" => Some(Policy::rerun_after_crash()),
            _ => Some(Policy::default()),
        }
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        match task.call().tool.as_str() {
            "echo" => Ok(Exit::Complete(Value::Object(task.call().arguments.clone()))),
            "panic" => panic!("as asked"),
            "startles" if task.attempt() < 3 => panic!("as asked"),
            "startles" => Ok(Exit::Complete(json!({ "attempt": task.attempt() }))),
            "flaky" if task.attempt() < 3 => Err(Failure::retryable(error("not yet"), "not yet")),
            "flaky" => Ok(Exit::Complete(json!({ "attempt": task.attempt() }))),
            "stuck" => std::future::pending().await,
            "resumable" => {
                if let Some(step) = task.variables().get("step") {
                    return Ok(Exit::Complete(json!({ "step": step, "attempt": task.attempt() })));
                }
                task.checkpoint("step", 7).await.unwrap();
                std::future::pending().await
            }
            "asks" => {
                let answers = task
                    .request_inputs(Map::from_iter([("name".into(), json!({"method": "name"}))]))
                    .await
                    .map_err(|it| Failure::new(error(&it.to_string()), it.to_string()))?;
                Ok(Exit::Complete(json!({ "name": answers["name"] })))
            }
            "parks" => match task.task().inputs.get("ok").and_then(|it| it.response.clone()) {
                Some(answer) => {
                    let round = &task.variables()["round"];
                    Ok(Exit::Complete(json!({ "answer": answer, "round": round })))
                }
                None => Ok(Exit::Park {
                    requests: Map::from_iter([("ok".into(), json!({"method": "ask"}))]),
                    variables: Map::from_iter([("round".into(), json!(1))]),
                }),
            },
            "mute" => Ok(Exit::Complete(json!(42))),
            "mumbles" => {
                let requests = Map::from_iter([("ok".into(), json!("?"))]);
                Ok(Exit::Park { requests, variables: Map::new() })
            }
            "big" => Ok(Exit::Complete(json!({ "text": "x".repeat(1 << 20) }))),
            other => Err(Failure::new(error("no"), format!("no {other}"))),
        }
    }
}

struct Fixture {
    clock: Clock,
    tasks: TaskStore,
    tools: Arc<Tools>,
    alice: Owner,
}

impl Fixture {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_000_000));
        let tasks = TaskStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock.clone());
        Self { clock, tasks, tools: Arc::default(), alice: Owner::new("alice").unwrap() }
    }

    async fn worker(&self) -> Worker {
        self.worker_with(WorkerOptions::default()).await
    }

    async fn worker_with(&self, options: WorkerOptions) -> Worker {
        Worker::start(self.tasks.clone(), self.tools.clone(), options).await.unwrap()
    }

    async fn submit(&self, worker: &Worker, tool: &str) -> Task {
        worker.submit(&self.alice, NewTask::new(Call::new(tool, Map::new()))).await.unwrap()
    }

    /// The first state of the task that satisfies `wanted`.
    async fn until(&self, id: &TaskId, wanted: impl Fn(&Task) -> bool) -> Task {
        let states = self.tasks.follow(&self.alice, id).await.unwrap();
        let mut states = std::pin::pin!(states);
        let wait = async {
            loop {
                match states.next().await {
                    Some(Ok(task)) if wanted(&task) => return task,
                    Some(Ok(_)) => {}
                    end => panic!("the task ended before: {end:?}"),
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.expect("in time")
    }

    async fn ended(&self, id: &TaskId) -> Task {
        self.until(id, |task| task.status.is_terminal()).await
    }

    /// Lets everything that can go on without time passing go on.
    async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    fn this(&self, id: &TaskId) -> TaskRef {
        TaskRef::new(self.alice.clone(), id.clone())
    }
}

/// A process of its own: its worker dies with it, without a word.
struct Process(Option<tokio::runtime::Runtime>);

impl Process {
    async fn start(fixture: &Fixture) -> (Self, Worker) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        // Nothing is shared but what is stored.
        let tasks = TaskStore::new(Arc::clone(fixture.tasks.backend()), fixture.clock.clone());
        let tools = fixture.tools.clone();
        let worker = runtime
            .spawn(async move { Worker::start(tasks, tools, WorkerOptions::default()).await })
            .await
            .unwrap()
            .unwrap();
        (Self(Some(runtime)), worker)
    }

    async fn submit(&self, fixture: &Fixture, worker: &Worker, tool: &'static str) -> Task {
        let (worker, alice) = (worker.clone(), fixture.alice.clone());
        let submit =
            async move { worker.submit(&alice, NewTask::new(Call::new(tool, Map::new()))).await };
        self.0.as_ref().unwrap().spawn(submit).await.unwrap().unwrap()
    }

    fn kill(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test]
async fn a_task_runs_to_its_result() {
    let fixture = Fixture::new();
    let worker = fixture.worker().await;
    let task = fixture.submit(&worker, "echo").await;
    let ended = fixture.ended(&task.id).await;
    assert_eq!(ended.outcome, Some(Outcome::Result(json!({}))));
}

#[tokio::test]
async fn a_panic_fails_the_task_and_nothing_else() {
    let fixture = Fixture::new();
    let worker = fixture.worker().await;
    let task = fixture.submit(&worker, "panic").await;
    let ended = fixture.ended(&task.id).await;
    assert_eq!(ended.status, Status::Failed);
    assert_eq!(ended.status_message.as_deref(), Some("the tool panicked"));
    let next = fixture.submit(&worker, "echo").await;
    assert_eq!(fixture.ended(&next.id).await.status, Status::Completed);
}

#[tokio::test]
async fn a_result_beyond_the_limit_fails_the_task_and_says_so() {
    let fixture = Fixture::new();
    let worker = fixture.worker().await;
    let task = fixture.submit(&worker, "big").await;
    let ended = fixture.ended(&task.id).await;
    assert_eq!(ended.status, Status::Failed);
    assert!(ended.status_message.unwrap().contains("exceed the limit"));
}

#[tokio::test]
async fn what_no_client_could_read_fails_the_task_and_says_so() {
    let fixture = Fixture::new();
    let worker = fixture.worker().await;
    for (tool, reason) in [
        ("mute", "result: not an object"),
        ("mumbles", "input request: not an object with a string `method`"),
    ] {
        let task = fixture.submit(&worker, tool).await;
        let ended = fixture.ended(&task.id).await;
        let said = format!("the tool's output was refused: {reason}");
        assert_eq!(ended.status_message.as_deref(), Some(said.as_str()));
        let error = json!({ "code": -32603, "message": said });
        assert_eq!(ended.outcome, Some(Outcome::Error(error)));
    }
}

#[tokio::test]
async fn a_retryable_failure_or_a_panic_is_tried_again_after_its_backoff() {
    for tool in ["flaky", "startles"] {
        let fixture = Fixture::new();
        let worker = fixture.worker().await;
        let task = fixture.submit(&worker, tool).await;
        for (attempt, backoff_ms) in [(1, 1_000), (2, 2_000)] {
            fixture
                .until(&task.id, |it| it.phase == Phase::Retrying && it.attempt == attempt)
                .await;
            let waits = fixture.tasks.get(&fixture.alice, &task.id).await.unwrap();
            assert!(waits.status_message.is_some(), "why it is tried again");
            fixture.settle().await;
            fixture.clock.advance_millis(backoff_ms);
        }
        let ended = fixture.ended(&task.id).await;
        assert_eq!(ended.outcome, Some(Outcome::Result(json!({ "attempt": 3 }))));
        assert_eq!(ended.status_message, None, "a success shows no failure");
    }
}

#[tokio::test]
async fn a_cancelled_handler_that_does_not_listen_is_dropped_after_the_grace_period() {
    let fixture = Fixture::new();
    let options = WorkerOptions { concurrency: 1, ..WorkerOptions::default() };
    let worker = fixture.worker_with(options).await;
    let stuck = fixture.submit(&worker, "stuck").await;
    let queued = fixture.submit(&worker, "echo").await;
    let cancelled = fixture.tasks.cancel(&fixture.this(&stuck.id), None).await.unwrap();
    assert_eq!(cancelled.status, Status::Cancelled);
    // The only slot is free once the grace period is over, and not before.
    fixture.settle().await;
    assert_eq!(fixture.tasks.get(&fixture.alice, &queued.id).await.unwrap().attempt, 0);
    fixture.clock.advance_millis(options.cancel_grace_ms);
    assert_eq!(fixture.ended(&queued.id).await.status, Status::Completed);
}

#[tokio::test]
async fn work_stops_when_the_task_expires_although_nobody_polls() {
    let fixture = Fixture::new();
    let options = WorkerOptions { concurrency: 1, ..WorkerOptions::default() };
    let worker = fixture.worker_with(options).await;
    let new = NewTask { ttl_ms: Some(500), ..NewTask::new(Call::new("stuck", Map::new())) };
    let stuck = worker.submit(&fixture.alice, new).await.unwrap();
    let queued = fixture.submit(&worker, "echo").await;
    fixture.settle().await;
    fixture.clock.advance_millis(500);
    fixture.settle().await;
    fixture.clock.advance_millis(options.cancel_grace_ms);
    assert_eq!(fixture.ended(&queued.id).await.status, Status::Completed);
    let gone = fixture.tasks.get(&fixture.alice, &stuck.id).await;
    assert!(matches!(gone, Err(TaskError::NotFound)));
}

#[tokio::test]
async fn a_handler_that_asks_gets_the_answer_and_holds_no_slot_meanwhile() {
    let fixture = Fixture::new();
    let options = WorkerOptions { concurrency: 1, ..WorkerOptions::default() };
    let worker = fixture.worker_with(options).await;
    let asks = fixture.submit(&worker, "asks").await;
    fixture.until(&asks.id, |task| task.status == Status::InputRequired).await;
    let other = fixture.submit(&worker, "echo").await;
    assert_eq!(fixture.ended(&other.id).await.status, Status::Completed);
    let answer = Map::from_iter([("name".into(), json!("Ada"))]);
    fixture.tasks.deliver_inputs(&fixture.this(&asks.id), answer).await.unwrap();
    assert_eq!(
        fixture.ended(&asks.id).await.outcome,
        Some(Outcome::Result(json!({ "name": "Ada" })))
    );
}

#[tokio::test]
async fn the_bound_of_the_queue_holds() {
    let fixture = Fixture::new();
    let options =
        WorkerOptions { capacity: 2, capacity_per_owner: Some(2), ..WorkerOptions::default() };
    let worker = fixture.worker_with(options).await;
    fixture.submit(&worker, "stuck").await;
    fixture.submit(&worker, "stuck").await;
    let third = worker.submit(&fixture.alice, NewTask::new(Call::new("echo", Map::new()))).await;
    assert!(matches!(third, Err(TaskError::QueueFull { limit: 2 })));
}

#[tokio::test]
async fn a_dead_workers_resumable_task_continues_from_its_variables() {
    let fixture = Fixture::new();
    let (mut process, worker) = Process::start(&fixture).await;
    let task = process.submit(&fixture, &worker, "resumable").await;
    fixture.until(&task.id, |task| !task.variables.is_empty()).await;
    process.kill();
    let _heir = fixture.worker().await;
    fixture.settle().await;
    fixture.clock.advance_millis(WorkerOptions::default().heartbeat_timeout_ms);
    let ended = fixture.ended(&task.id).await;
    assert_eq!(ended.outcome, Some(Outcome::Result(json!({ "step": 7, "attempt": 2 }))));
}

#[tokio::test]
async fn a_dead_workers_other_task_fails_and_says_why_and_never_runs_twice() {
    let fixture = Fixture::new();
    let (mut process, worker) = Process::start(&fixture).await;
    let task = process.submit(&fixture, &worker, "stuck").await;
    fixture.until(&task.id, |task| task.phase == Phase::Running).await;
    process.kill();
    let _heir = fixture.worker().await;
    fixture.settle().await;
    fixture.clock.advance_millis(WorkerOptions::default().heartbeat_timeout_ms);
    let ended = fixture.ended(&task.id).await;
    assert_eq!(ended.status, Status::Failed);
    assert!(ended.status_message.unwrap().contains("may not run twice"));
    assert!(fixture.tools.starts.load(Ordering::SeqCst) <= 1);
}

#[tokio::test]
async fn a_takeover_counts_the_tasks_that_it_has_looked_at() {
    let fixture = Fixture::new();
    let (mut process, first) = Process::start(&fixture).await;
    let mut tasks = Vec::new();
    for tool in ["stuck", "stuck", "asks"] {
        tasks.push(process.submit(&fixture, &first, tool).await);
    }
    fixture.until(&tasks[2].id, |it| it.status == Status::InputRequired).await;
    process.kill();
    let worker = fixture.worker().await;
    let mut takeover = worker.takeover();
    assert_eq!((takeover.borrow().under_way, takeover.borrow().tasks), (false, 0));
    fixture.settle().await;
    fixture.clock.advance_millis(WorkerOptions::default().heartbeat_timeout_ms + 1);
    takeover.wait_for(|it| it.tasks == 3 && !it.under_way).await.unwrap();
}

#[tokio::test]
async fn a_parked_task_survives_a_crash_although_it_may_not_run_twice() {
    let fixture = Fixture::new();
    let (mut process, worker) = Process::start(&fixture).await;
    let task = process.submit(&fixture, &worker, "parks").await;
    let parked = fixture.until(&task.id, |task| task.phase == Phase::Parked).await;
    assert_eq!((parked.rerun, parked.status), (Rerun::Never, Status::InputRequired));
    process.kill();
    let answer = Map::from_iter([("ok".into(), json!("yes"))]);
    fixture.tasks.deliver_inputs(&fixture.this(&task.id), answer).await.unwrap();
    let _heir = fixture.worker().await;
    fixture.settle().await;
    fixture.clock.advance_millis(WorkerOptions::default().heartbeat_timeout_ms);
    let ended = fixture.ended(&task.id).await;
    assert_eq!(ended.outcome, Some(Outcome::Result(json!({ "answer": "yes", "round": 1 }))));
}

#[tokio::test]
async fn a_worker_that_shut_down_is_inherited_without_waiting() {
    let fixture = Fixture::new();
    let first = fixture.worker().await;
    let task = fixture.submit(&first, "parks").await;
    fixture.until(&task.id, |task| task.phase == Phase::Parked).await;
    first.shutdown(0).await;
    let refused = first.submit(&fixture.alice, NewTask::new(Call::new("echo", Map::new()))).await;
    assert!(matches!(refused, Err(TaskError::ShuttingDown)));
    let heir = fixture.worker().await;
    let adopted = fixture.until(&task.id, |task| task.worker == Some(heir.id())).await;
    assert_eq!(adopted.status, Status::InputRequired);
}

#[tokio::test]
async fn a_create_that_is_repeated_with_its_key_makes_one_task() {
    let fixture = Fixture::new();
    let worker = fixture.worker().await;
    let new = || NewTask {
        idempotency_key: Some("k".into()),
        ..NewTask::new(Call::new("echo", Map::new()))
    };
    let (first, second) =
        tokio::join!(worker.submit(&fixture.alice, new()), worker.submit(&fixture.alice, new()));
    assert_eq!(first.unwrap().id, second.unwrap().id);
    let ended = fixture.ended(&worker.submit(&fixture.alice, new()).await.unwrap().id).await;
    assert_eq!(ended.status, Status::Completed);
    assert_eq!(fixture.tools.starts.load(Ordering::SeqCst), 1);
}
