//! Questions that a handler stops waiting for while its task goes on.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::tasks::{Outcome, Phase, Status, Task, TaskLimits, TaskStore};
use tokio::sync::Semaphore;

use crate::faults::{Call, Fault, Faulty, Plan};
use crate::world::{World, one, settle};

/// Tools that ask, and stop waiting when the gate `stops` opens. They go on through the other gate.
struct Impatient {
    stops: Semaphore,
    goes_on: Semaphore,
}

fn question() -> Value {
    json!({ "method": "ask" })
}

fn failed(error: impl ToString) -> Failure {
    Failure::new(json!({ "code": 1, "message": "no" }), error.to_string())
}

async fn pass(gate: &Semaphore) {
    gate.acquire().await.unwrap().forget();
}

impl Impatient {
    async fn ask_for_a_while(&self, task: &TaskContext, key: &str) {
        tokio::select! {
            _ = task.request_inputs(one(key, question())) => {}
            () = pass(&self.stops) => {}
        }
    }
}

#[async_trait]
impl Handler for Impatient {
    fn policy(&self, tool: &str) -> Option<Policy> {
        let max_attempts = if tool.starts_with("fails") { 2 } else { 1 };
        Some(Policy { max_attempts, backoff_ms: 1_000, ..Policy::default() })
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        let done = |text: Value| Ok(Exit::Complete(json!({ "done": text })));
        if task.attempt() > 1 {
            return done(json!("again"));
        }
        match task.call().tool.as_str() {
            "stops" => self.ask_for_a_while(&task, "a").await,
            "asks two" => {
                let (_, answers) = tokio::join!(
                    self.ask_for_a_while(&task, "a"),
                    task.request_inputs(one("b", question())),
                );
                return done(answers.map_err(failed)?["b"].clone());
            }
            "asks one twice" => {
                let (_, answers) = tokio::join!(
                    self.ask_for_a_while(&task, "a"),
                    task.request_inputs(one("a", question())),
                );
                return done(answers.map_err(failed)?["a"].clone());
            }
            "asks anew" => {
                self.ask_for_a_while(&task, "a").await;
                pass(&self.goes_on).await;
                let answers = task.request_inputs(one("a", question())).await;
                return done(answers.map_err(failed)?["a"].clone());
            }
            "fails late" => {
                pass(&self.goes_on).await;
                self.ask_for_a_while(&task, "a").await;
                let error = json!({ "code": 1, "message": "no" });
                return Err(Failure::retryable(error, "no answer"));
            }
            "fails" => {
                self.ask_for_a_while(&task, "a").await;
                let error = json!({ "code": 1, "message": "no" });
                return Err(Failure::retryable(error, "no answer"));
            }
            "parks" => {
                self.ask_for_a_while(&task, "a").await;
                return Ok(Exit::Park { requests: one("b", question()), variables: Map::new() });
            }
            "tells" => {
                self.ask_for_a_while(&task, "a").await;
                task.set_status("on my own").await.map_err(failed)?;
            }
            "asks late" => {
                pass(&self.goes_on).await;
                self.ask_for_a_while(&task, "a").await;
            }
            "ends" => {
                self.ask_for_a_while(&task, "a").await;
                return done(json!("ended"));
            }
            "resumes" => {
                self.ask_for_a_while(&task, "a").await;
                task.resume().await;
                return done(json!("resumed"));
            }
            _ => {}
        }
        pass(&self.goes_on).await;
        done(Value::Null)
    }
}

struct Scene {
    world: World,
    handler: Arc<Impatient>,
    worker: Worker,
}

impl Scene {
    /// A worker with one slot.
    async fn new() -> Self {
        let world = World::new();
        let process = world.healthy();
        Self::on(world, process).await
    }

    async fn on(world: World, process: Faulty) -> Self {
        Self::within(world, process, TaskLimits::default()).await
    }

    async fn within(world: World, process: Faulty, limits: TaskLimits) -> Self {
        let gate = || Semaphore::new(0);
        let handler = Arc::new(Impatient { stops: gate(), goes_on: gate() });
        let tasks = TaskStore::new(Arc::new(process), world.clock.clone()).with_limits(limits);
        let options = WorkerOptions { concurrency: 1, ..WorkerOptions::default() };
        let worker = Worker::start(tasks, handler.clone(), options).await.unwrap();
        Self { world, handler, worker }
    }

    async fn submit(&self, tool: &str) -> Task {
        let task = self.world.submit(&self.worker, tool).await;
        settle().await;
        task
    }

    async fn stop_waiting(&self) {
        self.handler.stops.add_permits(1);
        settle().await;
    }

    async fn go_on(&self) {
        self.handler.goes_on.add_permits(1);
        settle().await;
    }

    async fn answer(&self, task: &Task, key: &str) {
        let this = self.world.this(&task.id);
        self.world.tasks.deliver_inputs(&this, one(key, json!(key))).await.unwrap();
        settle().await;
    }

    /// The status, and what is asked.
    async fn asked(&self, task: &Task) -> (Status, Vec<String>) {
        let task = self.world.get(&task.id).await;
        (task.status, task.pending_inputs().map(|(key, _)| key.to_owned()).collect())
    }

    async fn done(&self, task: &Task) -> Option<Value> {
        match self.world.get(&task.id).await.outcome {
            Some(Outcome::Result(result)) => result.get("done").cloned(),
            _ => None,
        }
    }
}

fn open(keys: &[&str]) -> (Status, Vec<String>) {
    (Status::InputRequired, keys.iter().map(|key| (*key).to_owned()).collect())
}

fn working() -> (Status, Vec<String>) {
    (Status::Working, Vec::new())
}

/// Calls of the store until a question is open.
async fn calls_until_asked() -> u64 {
    let world = World::new();
    let process = world.healthy();
    let scene = Scene::on(world, process.clone()).await;
    scene.submit("stops").await;
    process.calls()
}

#[tokio::test]
async fn a_question_that_is_dropped_is_not_asked_any_more_and_takes_no_late_answer() {
    let scene = Scene::new().await;
    let task = scene.submit("stops").await;
    assert_eq!(scene.asked(&task).await, open(&["a"]));
    scene.stop_waiting().await;
    assert_eq!(scene.asked(&task).await, working());
    scene.answer(&task, "a").await;
    assert_eq!(scene.world.get(&task.id).await.inputs["a"].response, None);
    scene.go_on().await;
    assert_eq!(scene.done(&task).await, Some(Value::Null));
}

#[tokio::test]
async fn what_else_is_asked_stays_open_when_a_question_is_dropped() {
    let scene = Scene::new().await;
    let task = scene.submit("asks two").await;
    assert_eq!(scene.asked(&task).await, open(&["a", "b"]));
    scene.stop_waiting().await;
    assert_eq!(scene.asked(&task).await, open(&["b"]));
    scene.answer(&task, "b").await;
    assert_eq!(scene.done(&task).await, Some(json!("b")));
}

#[tokio::test]
async fn a_question_that_another_part_of_the_handler_waits_for_stays_open() {
    let scene = Scene::new().await;
    let task = scene.submit("asks one twice").await;
    scene.stop_waiting().await;
    assert_eq!(scene.asked(&task).await, open(&["a"]));
    scene.answer(&task, "a").await;
    assert_eq!(scene.done(&task).await, Some(json!("a")));
}

#[tokio::test]
async fn a_question_that_was_withdrawn_can_be_asked_anew() {
    let scene = Scene::new().await;
    let task = scene.submit("asks anew").await;
    scene.stop_waiting().await;
    assert_eq!(scene.asked(&task).await, working());
    scene.go_on().await;
    assert_eq!(scene.asked(&task).await, open(&["a"]));
    scene.answer(&task, "a").await;
    assert_eq!(scene.done(&task).await, Some(json!("a")));
}

#[tokio::test]
async fn a_question_that_is_asked_anew_while_it_is_withdrawn_is_open_in_the_end() {
    let asked = calls_until_asked().await;
    for fault in [Fault::StalledBefore, Fault::StalledAfter, Fault::UnknownDone] {
        for first in asked..asked + 8 {
            let about = format!("{fault:?} at {first}");
            let world = World::new();
            let process = Faulty::new(world.store.clone(), Some(Plan { first, length: 1, fault }));
            let scene = Scene::on(world, process.clone()).await;
            let task = scene.submit("asks anew").await;
            assert_eq!(scene.asked(&task).await, open(&["a"]), "{about}");
            let calm_down = async || {
                process.resume();
                scene.world.pass(5_000).await;
            };
            scene.stop_waiting().await;
            scene.go_on().await;
            calm_down().await;
            calm_down().await;
            assert_eq!(scene.asked(&task).await, open(&["a"]), "{about}");
            scene.answer(&task, "a").await;
            calm_down().await;
            assert!(process.calls() > first, "{about}: it was not met");
            assert_eq!(scene.done(&task).await, Some(json!("a")), "{about}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_away_delays_a_withdrawal_and_no_more() {
    let asked = calls_until_asked().await;
    for fault in [Fault::Unavailable, Fault::UnknownNotDone, Fault::UnknownDone] {
        for length in [1, 3, 10] {
            let world = World::new();
            let plan = Plan { first: asked, length, fault };
            let process = Faulty::new(world.store.clone(), Some(plan));
            let scene = Scene::on(world, process).await;
            let task = scene.submit("stops").await;
            assert_eq!(scene.asked(&task).await, open(&["a"]));
            scene.stop_waiting().await;
            scene.world.pass(20_000).await;
            assert_eq!(scene.asked(&task).await, working(), "{fault:?} for {length}");
        }
    }
}

#[tokio::test]
async fn a_question_that_just_fits_can_be_withdrawn() {
    let mut fitted = Vec::new();
    for inputs_bytes in 30..70 {
        let world = World::new();
        let process = world.healthy();
        let limits = TaskLimits { inputs_bytes, ..TaskLimits::default() };
        let scene = Scene::within(world, process, limits).await;
        let task = scene.submit("stops").await;
        fitted.push(scene.asked(&task).await == open(&["a"]));
        scene.stop_waiting().await;
        assert_eq!(scene.asked(&task).await, working(), "{inputs_bytes}");
    }
    assert!(fitted.contains(&false) && fitted.contains(&true));
}

#[tokio::test]
async fn a_further_attempt_waits_for_no_question_that_was_dropped() {
    let scene = Scene::new().await;
    let task = scene.submit("fails").await;
    scene.stop_waiting().await;
    assert_eq!(scene.world.get(&task.id).await.phase, Phase::Retrying);
    assert_eq!(scene.asked(&task).await, working());
    scene.world.clock.advance_millis(1_000);
    settle().await;
    assert_eq!(scene.done(&task).await, Some(json!("again")));
}

#[tokio::test]
async fn a_task_that_is_parked_waits_for_no_question_that_was_dropped() {
    let scene = Scene::new().await;
    let task = scene.submit("parks").await;
    scene.stop_waiting().await;
    assert_eq!(scene.asked(&task).await, open(&["b"]));
    scene.answer(&task, "b").await;
    assert_eq!(scene.done(&task).await, Some(json!("again")));
}

#[tokio::test]
async fn a_handler_that_has_dropped_a_question_writes_and_resumes_in_its_turn() {
    for tool in ["tells", "resumes"] {
        let scene = Scene::new().await;
        let task = scene.submit(tool).await;
        let other = scene.submit("waits").await;
        assert_eq!(scene.world.get(&other.id).await.phase, Phase::Running, "the slot was free");
        scene.stop_waiting().await;
        assert_eq!(scene.asked(&task).await, working(), "that waits for nothing");
        let waits = scene.world.get(&task.id).await;
        assert_eq!((waits.status_message, waits.outcome), (None, None), "{tool}");
        // The other one ends.
        scene.go_on().await;
        assert_eq!(scene.done(&other).await, Some(Value::Null));
        match tool {
            "tells" => {
                let told = scene.world.get(&task.id).await.status_message;
                assert_eq!(told.as_deref(), Some("on my own"));
            }
            _ => assert_eq!(scene.done(&task).await, Some(json!("resumed"))),
        }
    }
}

#[tokio::test]
async fn a_handler_that_is_to_stop_waits_for_no_turn() {
    let scene = Scene::new().await;
    let task = scene.submit("resumes").await;
    scene.submit("waits").await;
    scene.stop_waiting().await;
    assert_eq!(scene.worker.in_care(), 2);
    scene.world.tasks.cancel(&scene.world.this(&task.id), None).await.unwrap();
    settle().await;
    // No time has passed.
    assert_eq!(scene.worker.in_care(), 1, "it has returned");
}

#[tokio::test]
async fn a_question_that_is_dropped_while_it_is_written_is_withdrawn_once_it_is() {
    for tool in ["asks late", "fails late"] {
        let world = World::new();
        let process = world.healthy();
        let scene = Scene::on(world, process.clone()).await;
        let task = scene.submit(tool).await;
        process.delay_write();
        scene.go_on().await;
        scene.stop_waiting().await;
        process.land();
        settle().await;
        assert_eq!(scene.asked(&task).await, working(), "{tool}");
        scene.world.pass(5_000).await;
        scene.go_on().await;
        let done = if tool == "asks late" { Value::Null } else { json!("again") };
        assert_eq!(scene.done(&task).await, Some(done), "{tool}");
    }
}

#[tokio::test]
async fn a_handler_of_which_a_part_waits_has_no_slot_although_another_part_has_stopped_waiting() {
    for is_answered in [false, true] {
        let scene = Scene::new().await;
        let task = scene.submit("asks two").await;
        if is_answered {
            scene.answer(&task, "a").await;
        } else {
            scene.stop_waiting().await;
        }
        assert_eq!(scene.asked(&task).await, open(&["b"]));
        let other = scene.submit("waits").await;
        assert_eq!(scene.world.get(&other.id).await.phase, Phase::Running, "{is_answered}");
        scene.answer(&task, "b").await;
        assert_eq!(scene.done(&task).await, None, "it is in line");
        scene.go_on().await;
        assert_eq!(scene.done(&other).await, Some(Value::Null));
        assert_eq!(scene.done(&task).await, Some(json!("b")));
    }
}

#[tokio::test]
async fn a_result_is_one_write_although_a_question_was_dropped_before() {
    let world = World::new();
    let process = world.healthy();
    let scene = Scene::on(world, process.clone()).await;
    let task = scene.submit("ends").await;
    process.log();
    scene.stop_waiting().await;
    assert_eq!(scene.done(&task).await, Some(json!("ended")));
    let calls = process.log();
    assert_eq!(calls.iter().filter(|call| **call == Call::Write).count(), 1, "{calls:?}");
}
