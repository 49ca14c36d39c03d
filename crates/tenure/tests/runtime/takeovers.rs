//! Takeovers in which something goes wrong, and those that come after.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use tenure::runtime::{Worker, WorkerOptions};
use tenure::store::{PageRequest, Partition, StorageBackend as _};
use tenure::tasks::{Status, TaskStore};

use crate::faults::{Fault, Faulty, Plan};
use crate::world::{TIMEOUT_MS, World, settle};

/// Such as that a claim of which the task is adopted cannot be removed, and is met again.
#[tokio::test]
async fn a_takeover_that_one_call_of_the_store_failed_holds_up_no_later_one() {
    let mut last = 0;
    for first in 1..60 {
        let world = World::new();
        let plan = Plan { first, length: 1, fault: Fault::Unavailable };
        let process = Faulty::new(world.store.clone(), Some(plan));
        let heir = world.worker(&process, WorkerOptions::default()).await;
        for _ in 0..2 {
            let dying = world.worker(&world.healthy(), WorkerOptions::default()).await;
            let task = world.submit(&dying, "lasts").await;
            drop(dying);
            // Longer than it takes to begin again.
            world.pass(4 * TIMEOUT_MS).await;
            let task = world.get(&task.id).await;
            assert_eq!(task.worker, Some(heir.id()), "{first}");
        }
        last = process.calls();
        assert_eq!(world.claims(&process).await, 2, "{first}");
    }
    assert!(last > 30, "it had as much to do: {last}");
}

#[tokio::test]
async fn a_worker_that_drains_leaves_what_it_could_inherit_to_those_who_stay() {
    let world = World::new();
    let worker = async || world.worker(&world.healthy(), WorkerOptions::default()).await;
    let (draining, dying) = (worker().await, worker().await);
    world.submit(&draining, "lasts").await;
    let task = world.submit(&dying, "lasts").await;
    settle().await;
    let staying = tokio::select! {
        () = draining.shutdown(3_600_000) => panic!("its own task lasts"),
        staying = async {
            settle().await;
            drop(dying);
            world.pass(2 * TIMEOUT_MS).await;
            let staying = worker().await;
            world.pass(2 * TIMEOUT_MS).await;
            staying
        } => staying,
    };
    assert_eq!(world.get(&task.id).await.worker, Some(staying.id()));
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

/// What the heir adopts may be busy for as long as its task lives; a takeover that failed half-way and
/// begins anew does not wait for that.
#[tokio::test]
async fn a_takeover_that_failed_half_way_is_finished_although_what_it_adopted_is_busy() {
    for fault in [Fault::Unavailable, Fault::UnknownDone, Fault::UnknownNotDone, Fault::Panics] {
        for first in 0..24 {
            let about = format!("{fault:?} at {first}");
            let world = World::new();
            let testator = world.healthy();
            let dying = world.worker(&testator, WorkerOptions::default()).await;
            let tasks = [world.submit(&dying, "lasts").await, world.submit(&dying, "parks").await];
            settle().await;
            drop(dying);
            let heir = Faulty::new(world.store.clone(), Some(Plan { first, length: 1, fault }));
            let (tools, options) = (Arc::clone(&world.tools), WorkerOptions::default());
            let store = TaskStore::new(Arc::new(heir.clone()), world.clock.clone());
            let Ok(Ok(worker)) =
                AssertUnwindSafe(Worker::start(store, tools, options)).catch_unwind().await
            else {
                continue;
            };
            world.pass(4 * TIMEOUT_MS).await;
            assert!(heir.calls() > first, "{about}: it was not met");
            for task in tasks {
                assert_eq!(world.get(&task.id).await.worker, Some(worker.id()), "{about}");
            }
            assert!(!worker.takeover().borrow().under_way, "{about}");
            assert_eq!(world.claims(&testator).await, 0, "{about}");
            let workers = Partition::new(["workers"]).unwrap();
            let page = world.store.list_by_prefix(&workers, "", PageRequest::default()).await;
            assert_eq!(page.unwrap().entries.len(), 1, "{about}: the dead one is not buried");
        }
    }
}
