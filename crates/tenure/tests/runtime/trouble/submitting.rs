//! Submits that are broken off, refused, or stand still.

use std::sync::Arc;

use tenure::runtime::{Worker, WorkerOptions};
use tenure::store::PageRequest;
use tenure::tasks::{Phase, Status, TaskError, TaskLimits, TaskStore};

use super::{TIMEOUT_MS, World, call};
use crate::faults::{Fault, Faulty, Plan};

#[tokio::test]
async fn a_caller_that_leaves_during_a_submit_leaves_no_task_behind_that_nobody_runs() {
    // Dropped after every number of polls: before, between and after its calls.
    for polls in 0..8 {
        let world = World::new();
        let process = world.healthy();
        let worker = world.worker(&process, WorkerOptions::default()).await;
        {
            let mut submit = std::pin::pin!(worker.submit(&world.alice, call("echo")));
            for _ in 0..polls {
                if futures::poll!(&mut submit).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        world.pass(TIMEOUT_MS).await;
        let page = world.tasks.list(&world.alice, PageRequest::default()).await.unwrap();
        for task in page.tasks {
            assert_eq!(task.unwrap().status, Status::Completed, "{polls}");
        }
        assert_eq!(world.claims(&process).await, 0, "{polls}");
    }
}

#[tokio::test]
async fn a_refused_create_leaves_no_claim() {
    let world = World::new();
    let process = world.healthy();
    let limits = TaskLimits { unfinished_per_owner: 1, ..TaskLimits::default() };
    let options = WorkerOptions::default();
    let worker = world.worker_with(&process, options, limits, Arc::clone(&world.tools)).await;
    world.submit(&worker, "waits").await;
    for _ in 0..10 {
        let refused = worker.submit(&world.alice, call("echo")).await;
        assert!(matches!(refused, Err(TaskError::QuotaExceeded { limit: 1 })));
    }
    assert_eq!(world.claims(&process).await, 1);
}

#[tokio::test]
async fn a_worker_with_one_place_that_stood_still_during_a_submit_recovers() {
    for first in 0..12 {
        for fault in [Fault::StalledBefore, Fault::StalledAfter] {
            let world = World::new();
            let process = Faulty::new(world.store.clone(), Some(Plan { first, length: 1, fault }));
            let options = WorkerOptions { capacity: 1, concurrency: 1, ..WorkerOptions::default() };
            let (resumed, alice) = (process.clone(), world.alice.clone());
            let tasks = TaskStore::new(Arc::new(process.clone()), world.clock.clone());
            let tools = Arc::clone(&world.tools);
            let submitted = tokio::spawn(async move {
                let worker = Worker::start(tasks, tools, options).await.unwrap();
                let told = worker.submit(&alice, call("kills")).await;
                (worker, told)
            });
            let heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
            world.pass(3 * TIMEOUT_MS).await;
            resumed.resume();
            world.pass(3 * TIMEOUT_MS).await;
            let (_worker, told) = submitted.await.unwrap();
            let task = world.get(&told.unwrap().id).await;
            assert_eq!(task.phase, Phase::Running, "{first} {fault:?}");
            drop(heir);
        }
    }
}
