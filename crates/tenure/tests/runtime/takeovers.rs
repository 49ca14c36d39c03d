//! Takeovers in which something goes wrong, and those that come after.

use tenure::runtime::WorkerOptions;

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
