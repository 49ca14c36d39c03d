//! Workers whose clocks are apart.

use std::sync::Arc;

use tenure::clock::{Clock, Timestamp};
use tenure::runtime::{Worker, WorkerOptions};
use tenure::store::{PageRequest, Partition, StorageBackend as _};
use tenure::tasks::{NewTask, Status, TaskStore};

use crate::faults::Faulty;
use crate::world::{TIMEOUT_MS, World, call, settle};

const APART_MS: u64 = 90_000;

/// A world, and the clock of a process that is ahead of all others.
struct Apart {
    world: World,
    ahead: Clock,
}

impl Apart {
    fn new() -> Self {
        let world = World::new();
        let now = world.clock.now().as_millis();
        Self { ahead: Clock::manual(Timestamp::from_millis(now + APART_MS)), world }
    }

    async fn worker_ahead(&self) -> Worker {
        let process = Faulty::ahead(self.world.store.clone(), self.ahead.clone());
        let tasks = TaskStore::new(Arc::new(process), self.ahead.clone());
        let tools = Arc::clone(&self.world.tools);
        Worker::start(tasks, tools, WorkerOptions::default()).await.unwrap()
    }

    async fn pass(&self, millis: u64) {
        for _ in 0..millis.div_ceil(TIMEOUT_MS / 4) {
            settle().await;
            self.ahead.advance_millis(TIMEOUT_MS / 4);
            self.world.clock.advance_millis(TIMEOUT_MS / 4);
        }
        settle().await;
    }

    async fn workers(&self) -> usize {
        let workers = Partition::new(["workers"]).unwrap();
        let page = self.world.store.list_by_prefix(&workers, "", PageRequest::default()).await;
        page.unwrap().entries.len()
    }
}

#[tokio::test]
async fn an_heir_whose_clock_is_ahead_leaves_what_has_expired_only_there_to_the_others() {
    let apart = Apart::new();
    let world = &apart.world;
    let testator = world.healthy();
    let dying = world.worker(&testator, WorkerOptions::default()).await;
    let new = NewTask { ttl_ms: Some(60_000), ..call("gated") };
    let task = dying.submit(&world.alice, new).await.unwrap();
    settle().await;
    drop(dying);
    let ahead = apart.worker_ahead().await;
    apart.pass(2 * TIMEOUT_MS).await;
    assert!(ahead.takeover().borrow().tasks > 0, "it has come across the claim");

    let heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
    apart.pass(4 * TIMEOUT_MS).await;
    let adopted = world.get(&task.id).await;
    assert_eq!((adopted.worker, adopted.attempt), (Some(heir.id()), 2));
    world.tools.gate.add_permits(1);
    apart.pass(2 * TIMEOUT_MS).await;
    assert_eq!(world.get(&task.id).await.status, Status::Completed);
    assert_eq!(world.claims(&testator).await, 0);
    assert_eq!(apart.workers().await, 2, "the dead one is buried");
}

#[tokio::test]
async fn a_dead_worker_is_forgotten_once_no_clock_can_have_a_task_of_its_for_live() {
    let apart = Apart::new();
    let world = &apart.world;
    let dying = world.worker(&world.healthy(), WorkerOptions::default()).await;
    let new = NewTask { ttl_ms: Some(1_000), ..call("lasts") };
    dying.submit(&world.alice, new).await.unwrap();
    settle().await;
    drop(dying);
    let _ahead = apart.worker_ahead().await;
    apart.pass(2 * TIMEOUT_MS).await;
    assert_eq!(apart.workers().await, 2, "not yet");
    apart.pass(tenure::limits::CLOCK_SKEW_MS + 16 * TIMEOUT_MS).await;
    assert_eq!(apart.workers().await, 1);
}
