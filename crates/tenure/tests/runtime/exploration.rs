//! Systematic exploration: the same few stories, with something going wrong at every single call
//! that a process makes to its store.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt as _;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tenure::Owner;
use tenure::clock::{Clock, Timestamp};
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::store::{InMemoryBackend, PageRequest, Partition, StorageBackend as _};
use tenure::tasks::{Call, NewTask, Outcome, Status, Task, TaskId, TaskRef, TaskStore};

use crate::faults::{Fault, Faulty, Plan};

const TIMEOUT_MS: u64 = 5_000;

/// The stories. Each is one tool.
const STORIES: [&str; 8] =
    ["resumes", "once", "parks", "asks", "drops", "retries", "panics", "keyed"];

/// The handlers of all processes: what they count, the test sees.
#[derive(Default)]
struct Tools {
    starts: Mutex<HashMap<TaskId, u32>>,
}

impl Tools {
    fn starts(&self, id: &TaskId) -> u32 {
        self.starts.lock().get(id).copied().unwrap_or_default()
    }
}

fn one(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value)])
}

fn refused(error: impl std::fmt::Display) -> Failure {
    Failure::new(json!({ "code": -32603, "message": "no" }), error.to_string())
}

#[async_trait]
impl Handler for Tools {
    fn policy(&self, tool: &str) -> Option<Policy> {
        Some(match tool {
            "resumes" | "asks" | "drops" => Policy::rerun_after_crash(),
            "retries" => Policy { max_attempts: 2, backoff_ms: 100, ..Policy::default() },
            _ => Policy::default(),
        })
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        *self.starts.lock().entry(task.id().clone()).or_default() += 1;
        let answer = |key: &str| task.task().inputs.get(key).and_then(|it| it.response.clone());
        match task.call().tool.as_str() {
            "resumes" => {
                if !task.variables().contains_key("step") {
                    task.checkpoint("step", 1).await.map_err(refused)?;
                }
                task.set_status("nearly there").await.map_err(refused)?;
                Ok(Exit::Complete(json!({ "text": "done" })))
            }
            "once" => {
                // Its effect is done whether or not this is told.
                let _ = task.set_status("half-way").await;
                Ok(Exit::Complete(json!({ "text": "done" })))
            }
            "parks" => Ok(match answer("ok") {
                Some(_) => Exit::Complete(json!({ "text": "done" })),
                None => Exit::Park {
                    requests: one("ok", json!({ "method": "ask" })),
                    variables: Map::new(),
                },
            }),
            "asks" => {
                task.request_inputs(one("ok", json!({ "method": "ask" })))
                    .await
                    .map_err(refused)?;
                Ok(Exit::Complete(json!({ "text": "done" })))
            }
            "drops" => {
                let asked = task.request_inputs(one("ok", json!({ "method": "ask" })));
                let soon = async {
                    for _ in 0..8 {
                        tokio::task::yield_now().await;
                    }
                };
                // Answered in an earlier attempt, or not waited for.
                tokio::select! {
                    biased;
                    asked = asked => drop(asked.map_err(refused)?),
                    () = soon => {}
                }
                task.checkpoint("step", 1).await.map_err(refused)?;
                Ok(Exit::Complete(json!({ "text": "done" })))
            }
            "retries" if task.attempt() == 1 => {
                Err(Failure::retryable(json!({ "code": 1, "message": "no" }), "again"))
            }
            // As a panic, but without its noise.
            "panics" => std::panic::resume_unwind(Box::new("as the story goes")),
            _ => Ok(Exit::Complete(json!({ "text": "done" }))),
        }
    }
}

/// One store, and the processes on it.
struct World {
    clock: Clock,
    store: InMemoryBackend,
    tasks: TaskStore,
    tools: Arc<Tools>,
    alice: Owner,
    processes: Vec<Faulty>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_000_000));
        let store = InMemoryBackend::new(clock.clone());
        let tasks = TaskStore::new(Arc::new(store.clone()), clock.clone());
        let alice = Owner::new("alice").unwrap();
        Self { clock, store, tasks, tools: Arc::default(), alice, processes: Vec::new() }
    }

    /// A process and its worker, whose start may already meet the fault.
    fn process(&mut self, plan: Option<Plan>) -> (Faulty, tokio::task::JoinHandle<Option<Worker>>) {
        let process = Faulty::new(self.store.clone(), plan);
        self.processes.push(process.clone());
        let tasks = TaskStore::new(Arc::new(process.clone()), self.clock.clone());
        let tools = self.tools.clone();
        let options =
            WorkerOptions { heartbeat_timeout_ms: TIMEOUT_MS, ..WorkerOptions::default() };
        let worker = tokio::spawn(async move {
            loop {
                let start = Worker::start(tasks.clone(), tools.clone(), options);
                match AssertUnwindSafe(start).catch_unwind().await {
                    Ok(Ok(worker)) => return Some(worker),
                    Ok(Err(error)) if error.is_retryable() => tokio::task::yield_now().await,
                    Ok(Err(_)) | Err(_) => {}
                }
            }
        });
        (process, worker)
    }

    /// Starts the story on a worker; the answer is what the client was told.
    async fn tell(
        &mut self,
        story: &'static str,
        plan: Option<Plan>,
    ) -> (Faulty, tokio::task::JoinHandle<(Worker, Result<Task, String>)>) {
        let (process, worker) = self.process(plan);
        let alice = self.alice.clone();
        let told = tokio::spawn(async move {
            let worker = worker.await.unwrap().unwrap();
            let new = NewTask::new(Call::new(story, Map::new()));
            let told = if story == "keyed" {
                // Two at once: the same task, whichever of them makes it. And who is not told of
                // it asks again.
                let new = NewTask { idempotency_key: Some("k".into()), ..new };
                let (mut told, _) = tokio::join!(
                    worker.submit(&alice, new.clone()),
                    worker.submit(&alice, new.clone())
                );
                for _ in 0..REPEATS {
                    if told.is_ok() {
                        break;
                    }
                    told = worker.submit(&alice, new.clone()).await;
                }
                told
            } else {
                worker.submit(&alice, new).await
            };
            (worker, told.map_err(|error| error.to_string()))
        });
        settle().await;
        (process, told)
    }

    async fn all(&self) -> Vec<Task> {
        let page = self.tasks.list(&self.alice, PageRequest::default()).await.unwrap();
        page.tasks.into_iter().map(Result::unwrap).collect()
    }

    /// Lets time pass and answers what is asked, until every task has ended.
    async fn play(&self, about: &str) -> Vec<Task> {
        for _ in 0..60 {
            settle().await;
            let all = self.all().await;
            if all.iter().all(|task| task.status.is_terminal()) {
                return all;
            }
            for task in all.iter().filter(|task| task.status == Status::InputRequired) {
                let this = TaskRef::new(self.alice.clone(), task.id.clone());
                let _ = self.tasks.deliver_inputs(&this, one("ok", json!("yes"))).await;
            }
            settle().await;
            self.clock.advance_millis(TIMEOUT_MS / 4);
        }
        panic!("{about}: a task never ends: {:#?}", self.all().await);
    }

    /// Lets enough time pass that whatever was left behind has been seen to.
    async fn calm_down(&self) {
        for _ in 0..14 {
            settle().await;
            self.clock.advance_millis(TIMEOUT_MS / 4);
        }
        settle().await;
    }

    async fn claims_left(&self) -> usize {
        let mut left = 0;
        for partition in self.processes.iter().flat_map(Faulty::claims) {
            left += self.names_in(&partition).await;
        }
        left
    }

    async fn workers_left(&self) -> usize {
        self.names_in(&Partition::new(["workers"]).unwrap()).await
    }

    async fn names_in(&self, partition: &Partition) -> usize {
        let page = self.store.list_by_prefix(partition, "", PageRequest::default()).await.unwrap();
        page.entries.len()
    }

    /// What must hold at the end of every story, whatever went wrong.
    async fn check(
        &self,
        about: &str,
        story: &str,
        told: Option<Result<Task, String>>,
        live: usize,
    ) {
        let ended = self.play(about).await;
        if let Some(Ok(task)) = told {
            assert!(
                ended.iter().any(|it| it.id == task.id),
                "{about}: an acknowledged task is gone"
            );
        }
        assert!(ended.len() <= 1, "{about}: one task became {}", ended.len());
        for task in &ended {
            let starts = self.tools.starts(&task.id);
            let most = match story {
                "once" | "panics" | "keyed" => 1,
                "parks" | "retries" => 2,
                _ => u32::MAX,
            };
            assert!(starts <= most, "{about}: started {starts} times");
            if task.status == Status::Completed {
                assert_eq!(
                    task.outcome,
                    Some(Outcome::Result(json!({ "text": "done" }))),
                    "{about}"
                );
                assert!(starts >= 1, "{about}: completed without having run");
            }
            // Its own write may be what panicked in its hands.
            let panicked = task.status_message.as_deref() == Some("the tool panicked");
            if let "resumes" | "asks" | "drops" = story
                && !(panicked && about.contains("Panics"))
            {
                assert_eq!(task.status, Status::Completed, "{about}: {:?}", task.status_message);
            }
        }
        self.calm_down().await;
        assert_eq!(self.all().await, ended, "{about}: a task changed after its end");
        assert_eq!(self.claims_left().await, 0, "{about}: claims are left");
        assert_eq!(self.workers_left().await, live, "{about}: dead workers are left");
    }
}

/// How often a client asks again.
const REPEATS: usize = 24;

/// Lets everything that can go on without time passing go on.
async fn settle() {
    for _ in 0..80 {
        tokio::task::yield_now().await;
    }
}

/// What the client was told so far, if anything.
async fn told(
    telling: tokio::task::JoinHandle<(Worker, Result<Task, String>)>,
) -> (Option<Worker>, Option<Result<Task, String>>) {
    if !telling.is_finished() {
        return (None, None);
    }
    let (worker, told) = telling.await.unwrap();
    (Some(worker), Some(told))
}

/// How many calls a story takes when nothing goes wrong.
async fn calls_of(story: &'static str) -> u64 {
    let mut world = World::new();
    let (process, telling) = world.tell(story, None).await;
    world.play(story).await;
    let (_worker, _) = told(telling).await;
    process.calls() + 2
}

async fn explore(faults: &[Fault], length: u64, with_heir: bool) {
    for story in STORIES {
        for first in 0..calls_of(story).await {
            for fault in faults {
                let about = format!("{story}, {fault:?} at {first} for {length}");
                let mut world = World::new();
                let plan = Plan { first, length, fault: *fault };
                let (process, telling) = world.tell(story, Some(plan)).await;
                let _heir = if with_heir { world.process(None).1.await.unwrap() } else { None };
                if let Fault::StalledBefore | Fault::StalledAfter = fault {
                    // Long enough for the heir to take everything; then the sleeper wakes.
                    world.calm_down().await;
                    process.resume();
                }
                for _ in 0..8 {
                    settle().await;
                    if telling.is_finished() {
                        break;
                    }
                    world.clock.advance_millis(TIMEOUT_MS / 4);
                }
                let (_worker, told) = told(telling).await;
                let dies = matches!(fault, Fault::KilledBefore | Fault::KilledAfter);
                let live = usize::from(!dies) + usize::from(with_heir);
                world.check(&about, story, told, live).await;
            }
        }
    }
}

#[tokio::test]
async fn a_process_may_be_killed_at_any_call() {
    explore(&[Fault::KilledBefore, Fault::KilledAfter], 1, true).await;
}

#[tokio::test]
async fn an_heir_may_be_killed_or_stand_still_at_any_call_of_its_takeover() {
    for story in STORIES {
        for fault in [Fault::KilledBefore, Fault::KilledAfter, Fault::StalledAfter] {
            for first in 0..24 {
                let about = format!("{story}, heir {fault:?} at {first}");
                let mut world = World::new();
                // The testator dies when its task is created, running or parked.
                let killed = Plan { first: 6, length: 1, fault: Fault::KilledAfter };
                let (_, telling) = world.tell(story, Some(killed)).await;
                let (heir, first_heir) = world.process(Some(Plan { first, length: 1, fault }));
                let (_, second_heir) = world.process(None);
                let _second_heir = second_heir.await.unwrap();
                world.calm_down().await;
                if heir.calls() <= first {
                    // The takeover is long over, and took fewer calls.
                    assert!(first > 12, "{about}: only {first} calls");
                    break;
                }
                heir.resume();
                settle().await;
                let (_worker, told) = told(telling).await;
                let live =
                    1 + usize::from(first_heir.is_finished() && fault == Fault::StalledAfter);
                world.check(&about, story, told, live).await;
                drop(first_heir);
            }
        }
    }
}

#[tokio::test]
async fn a_takeover_may_meet_trouble_with_the_store_at_any_call() {
    const FAULTS: [Fault; 4] =
        [Fault::Unavailable, Fault::UnknownDone, Fault::UnknownNotDone, Fault::Panics];
    for story in STORIES {
        for fault in FAULTS {
            for first in 0..18 {
                let about = format!("{story}, heir {fault:?} at {first}");
                let mut world = World::new();
                // The testator dies when its task is created, running or parked.
                let killed = Plan { first: 6, length: 1, fault: Fault::KilledAfter };
                let (_, telling) = world.tell(story, Some(killed)).await;
                let (_, heir) = world.process(Some(Plan { first, length: 1, fault }));
                // Nobody answers yet, so what the heir adopts may last.
                world.calm_down().await;
                world.calm_down().await;
                assert_eq!(world.workers_left().await, 1, "{about}: the takeover does not end");
                let _heir = heir.await.unwrap();
                let (_worker, told) = told(telling).await;
                world.check(&about, story, told, 1).await;
            }
        }
    }
}

#[tokio::test]
async fn a_process_may_stand_still_at_any_call_and_come_back() {
    explore(&[Fault::StalledBefore, Fault::StalledAfter], 1, true).await;
}

#[tokio::test]
async fn the_store_may_be_unavailable_at_any_call() {
    explore(&[Fault::Unavailable], 1, false).await;
    explore(&[Fault::Unavailable], 40, true).await;
}

#[tokio::test]
async fn the_outcome_of_any_write_may_be_unknown() {
    explore(&[Fault::UnknownDone, Fault::UnknownNotDone], 1, false).await;
    explore(&[Fault::UnknownDone, Fault::UnknownNotDone], 3, false).await;
    // So long that every patience ends.
    explore(&[Fault::UnknownDone, Fault::UnknownNotDone], 40, false).await;
}

#[tokio::test]
async fn a_panic_of_the_store_at_any_call_leaves_no_task_at_work_for_ever() {
    explore(&[Fault::Panics], 1, false).await;
    explore(&[Fault::Panics], 8, false).await;
}
