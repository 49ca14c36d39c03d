//! Heirs that stand still in a takeover, and of whom others take over meanwhile.

use std::sync::Arc;

use tenure::runtime::{Worker, WorkerOptions};
use tenure::store::{Key, Partition};
use tenure::tasks::{Phase, Task, TaskStore, WorkerId};
use tokio::task::JoinHandle;

use crate::faults::{Fault, Faulty, Plan};
use crate::world::{TIMEOUT_MS, World, settle};

/// A process that stands still at a call, or at several in a row, and its worker, whose start may be that
/// call.
fn heir(world: &World, plan: Plan) -> (Faulty, JoinHandle<Worker>) {
    let process = Faulty::new(world.store.clone(), Some(plan));
    let tasks = TaskStore::new(Arc::new(process.clone()), world.clock.clone());
    let tools = Arc::clone(&world.tools);
    let start = async move { Worker::start(tasks, tools, WorkerOptions::default()).await.unwrap() };
    (process, tokio::spawn(start))
}

/// Tells whether both came so far as to stand still.
async fn inherit(first: Plan, second: Plan, tool: &str) -> bool {
    let about = format!("{tool}, {first:?}, {second:?}");
    let world = World::new();
    let testator = world.healthy();
    let dying = world.worker(&testator, WorkerOptions::default()).await;
    let task = world.submit(&dying, tool).await;
    settle().await;
    drop(dying);
    let (first_process, first_heir) = heir(&world, first);
    settle().await;
    let (second_process, second_heir) = heir(&world, second);
    // The first stands still, and then the second, who has taken it for dead.
    world.pass(3 * TIMEOUT_MS).await;
    let both = first_process.calls() > first.first && second_process.calls() > second.first;
    for turn in [1, 1, 2, 1, 1] {
        [&first_process, &second_process][turn - 1].resume();
        settle().await;
    }
    world.pass(4 * TIMEOUT_MS).await;
    let heirs = [first_heir.await.unwrap().id(), second_heir.await.unwrap().id()];
    let adopted = world.get(&task.id).await;
    let worker = adopted.worker.clone().unwrap();
    assert!(heirs.contains(&worker), "{about}: it is nobody's {adopted:?}");
    let phase = if tool == "lasts" { Phase::Running } else { Phase::Parked };
    assert_eq!(adopted.phase, phase, "{about}");
    let claims = world.claims(&first_process).await + world.claims(&second_process).await;
    assert_eq!((claims, world.claims(&testator).await), (1, 0), "{about}");
    both
}

#[tokio::test]
async fn an_heir_that_stands_still_while_another_takes_over_from_it_loses_no_task() {
    let mut met = 0;
    for (tool, length) in [("lasts", 1), ("parks", 3)] {
        for first in 5..13 {
            for second in 6..18 {
                let first = Plan { first, length, fault: Fault::StalledBefore };
                let second = Plan { first: second, length: 1, fault: Fault::StalledAfter };
                met += u32::from(inherit(first, second, tool).await);
            }
        }
    }
    assert!(met > 100, "{met}");
}

fn heartbeat(worker: &WorkerId) -> Key {
    Partition::new(["workers"]).unwrap().key(worker.as_str()).unwrap()
}

/// A task whose first heir has claimed it and stood still before it had adopted it, and a second heir who
/// takes over from the first alone.
struct Scene {
    world: World,
    task: Task,
    first: (Faulty, Worker),
    second: (Faulty, Worker),
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let options = WorkerOptions::default();
        let dying = world.worker(&world.healthy(), options).await;
        let task = world.submit(&dying, "lasts").await;
        settle().await;
        let dead = heartbeat(&dying.id());
        drop(dying);
        let [first, second] = [world.healthy(), world.healthy()];
        let first_worker = world.worker(&first, options).await;
        first.stall_after_claim();
        second.damage(dead);
        let second_worker = world.worker(&second, options).await;
        Self { world, task, first: (first, first_worker), second: (second, second_worker) }
    }

    async fn claims(&self) -> (usize, usize) {
        (self.world.claims(&self.first.0).await, self.world.claims(&self.second.0).await)
    }

    /// Everything is as it should be again; the task is the worker's.
    async fn is_in_care_of(&self, worker: &Worker) {
        self.first.0.repair();
        self.second.0.repair();
        self.world.pass(4 * TIMEOUT_MS).await;
        let task = self.world.get(&self.task.id).await;
        assert_eq!((task.worker, task.phase), (Some(worker.id()), Phase::Running));
        let (first, second) = self.claims().await;
        assert_eq!(first + second, 1);
    }
}

#[tokio::test]
async fn the_claim_of_an_heir_that_stands_still_before_it_adopts_leads_to_the_task() {
    let scene = Scene::new().await;
    scene.world.pass(4 * TIMEOUT_MS).await;
    assert_eq!(scene.claims().await, (0, 1), "the second has it");
    scene.first.0.resume();
    scene.is_in_care_of(&scene.second.1).await;
}

#[tokio::test]
async fn an_heir_that_is_overtaken_by_the_one_from_whom_it_takes_over_looks_again() {
    let scene = Scene::new().await;
    scene.second.0.stall_after_claim();
    // Until both are about to adopt it, and no longer: the second does not count as dead.
    while scene.claims().await != (1, 1) {
        scene.world.pass(TIMEOUT_MS / 4).await;
        assert!(scene.world.clock.now().as_millis() < 1_000_000 + 4 * TIMEOUT_MS);
    }
    // The first comes to adopt it, and does not hear yet that it was taken for dead.
    scene.first.0.damage(heartbeat(&scene.first.1.id()));
    scene.first.0.resume();
    settle().await;
    assert_eq!(scene.world.get(&scene.task.id).await.worker, Some(scene.first.1.id()));
    scene.second.0.resume();
    scene.is_in_care_of(&scene.second.1).await;
}
