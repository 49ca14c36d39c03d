//! What a handler that asks does to the slots: none runs without one for long, none keeps one that
//! it does not need.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::tasks::{Outcome, Phase, Status, Task};
use tokio::sync::Semaphore;

use crate::world::{World, one, settle};

/// Tools that wait for an answer, and not always for as long as it takes.
struct Impatient {
    stops: Semaphore,
    asks_again: Semaphore,
    goes_on: Semaphore,
}

#[async_trait]
impl Handler for Impatient {
    fn policy(&self, _: &str) -> Option<Policy> {
        Some(Policy::default())
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        let passed = async |gate: &Semaphore| gate.acquire().await.unwrap().forget();
        match task.call().tool.as_str() {
            "stops" => {
                tokio::select! {
                    _ = task.request_inputs(one("a", json!({ "method": "ask" }))) => {}
                    () = passed(&self.stops) => {}
                }
                passed(&self.asks_again).await;
                task.request_inputs(one("b", json!({ "method": "ask" }))).await.unwrap();
            }
            "stops going on" => {
                // Answered, and dropped in line for the slot.
                let asked = task.request_inputs(one("a", json!({ "method": "ask" })));
                tokio::select! {
                    _ = asked => {}
                    () = passed(&self.stops) => {}
                }
                passed(&self.goes_on).await;
            }
            "asks" => drop(task.request_inputs(one("a", json!({ "method": "ask" }))).await),
            "waits" => passed(&self.goes_on).await,
            _ => {}
        }
        Ok(Exit::Complete(json!({ "done": true })))
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
        let gate = || Semaphore::new(0);
        let handler = Arc::new(Impatient { stops: gate(), asks_again: gate(), goes_on: gate() });
        let options = WorkerOptions { concurrency: 1, ..WorkerOptions::default() };
        let worker = Worker::start(world.tasks.clone(), handler.clone(), options).await.unwrap();
        Self { world, handler, worker }
    }

    async fn submit(&self, tool: &str) -> Task {
        let task = self.world.submit(&self.worker, tool).await;
        settle().await;
        task
    }

    async fn open(&self, gate: impl Fn(&Impatient) -> &Semaphore) {
        gate(&self.handler).add_permits(1);
        settle().await;
    }

    async fn answer(&self, task: &Task, key: &str) {
        let this = self.world.this(&task.id);
        self.world.tasks.deliver_inputs(&this, one(key, json!("yes"))).await.unwrap();
        settle().await;
    }

    async fn runs(&self, task: &Task) -> bool {
        self.world.get(&task.id).await.phase == Phase::Running
    }

    async fn is_done(&self, task: &Task) -> bool {
        let outcome = self.world.get(&task.id).await.outcome;
        outcome == Some(Outcome::Result(json!({ "done": true })))
    }
}

#[tokio::test]
async fn a_handler_that_stops_waiting_has_its_slot_again_at_once_if_it_is_free() {
    let scene = Scene::new().await;
    let stops = scene.submit("stops").await;
    scene.open(|it| &it.stops).await;
    let other = scene.submit("echo").await;
    assert!(!scene.runs(&other).await && !scene.is_done(&other).await, "beyond the concurrency");
    // Its next wait gives the slot back again.
    scene.open(|it| &it.asks_again).await;
    assert!(scene.is_done(&other).await);
    scene.answer(&stops, "b").await;
    assert!(scene.is_done(&stops).await);
    let next = scene.submit("echo").await;
    assert!(scene.is_done(&next).await, "no slot is lost");
}

#[tokio::test]
async fn a_handler_that_stops_waiting_while_its_slot_is_taken_gets_the_next() {
    let scene = Scene::new().await;
    scene.submit("stops").await;
    let other = scene.submit("waits").await;
    assert!(scene.runs(&other).await);
    scene.open(|it| &it.stops).await;
    let last = scene.submit("echo").await;
    scene.open(|it| &it.goes_on).await;
    assert!(scene.is_done(&other).await);
    assert!(!scene.runs(&last).await && !scene.is_done(&last).await, "it was not its turn");
    // Whoever waits again leaves the line, or hands the slot on.
    scene.open(|it| &it.asks_again).await;
    assert!(scene.is_done(&last).await);
}

#[tokio::test]
async fn a_handler_that_is_dropped_in_line_for_its_slot_stays_in_line() {
    let scene = Scene::new().await;
    let stops = scene.submit("stops going on").await;
    let other = scene.submit("waits").await;
    scene.answer(&stops, "a").await;
    let last = scene.submit("echo").await;
    scene.open(|it| &it.stops).await;
    scene.open(|it| &it.goes_on).await;
    assert!(scene.is_done(&other).await);
    assert!(!scene.runs(&last).await && !scene.is_done(&last).await, "it was not its turn");
    scene.open(|it| &it.goes_on).await;
    assert!(scene.is_done(&stops).await);
    assert!(scene.is_done(&last).await, "and leaves nothing behind");
}

#[tokio::test]
async fn a_handler_that_waits_for_its_slot_hears_of_a_cancel_at_once() {
    let scene = Scene::new().await;
    let asks = scene.submit("asks").await;
    let other = scene.submit("waits").await;
    assert!(scene.runs(&other).await);
    scene.answer(&asks, "a").await;
    assert_eq!(scene.worker.in_care(), 2, "there is no slot for it");
    scene.world.tasks.cancel(&scene.world.this(&asks.id), None).await.unwrap();
    settle().await;
    // No time has passed.
    assert_eq!(scene.worker.in_care(), 1, "its handler has returned");
    assert_eq!(scene.world.get(&asks.id).await.status, Status::Cancelled);
}
