//! Submissions of a process that stands still, or whose clock is set back, so that others may take it for
//! dead meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tenure::runtime::{Worker, WorkerOptions};
use tenure::store::{PageRequest, Partition};
use tenure::tasks::{Phase, Status, TaskStore};

use crate::faults::{Fault, Faulty, Plan};
use crate::world::{TIMEOUT_MS, World, call, settle};

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

/// Its worker has not beaten for so long that any heir may come.
#[tokio::test]
async fn a_task_that_is_created_under_a_stale_heartbeat_is_not_on_record_as_begun() {
    let world = World::new();
    let process = world.healthy();
    let worker = world.worker(&process, WorkerOptions::default()).await;
    // It can write anything but its heartbeat.
    process.damage(Partition::new(["workers"]).unwrap().key(worker.id().as_str()).unwrap());
    world.pass(TIMEOUT_MS).await;
    let alice = world.alice.clone();
    let submitting = tokio::spawn(async move { worker.submit(&alice, call("echo")).await });
    settle().await;
    let _heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
    world.pass(2 * TIMEOUT_MS).await;
    let page = world.tasks.list(&world.alice, PageRequest::default()).await.unwrap();
    let tasks: Vec<_> = page.tasks.into_iter().map(Result::unwrap).collect();
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].status, Status::Completed, "{:?}", tasks[0].status_message);
    submitting.abort();
}

/// An hour by the wall clock; what lasts, lasts as long as before.
#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_stale_heartbeat_fresh_and_holds_up_no_submit() {
    let world = World::new();
    let process = world.healthy();
    let worker = world.worker(&process, WorkerOptions::default()).await;
    let workers = Partition::new(["workers"]).unwrap();
    process.damage(workers.key(worker.id().as_str()).unwrap());
    world.pass(TIMEOUT_MS).await;
    world.clock.set_back_millis(3_600_000);
    let alice = world.alice.clone();
    let submitting = tokio::spawn(async move {
        let told = worker.submit(&alice, call("echo")).await;
        (worker, told)
    });
    settle().await;
    let page = world.tasks.list(&world.alice, PageRequest::default()).await.unwrap();
    let created = page.tasks.into_iter().next().unwrap().unwrap();
    assert_eq!((created.phase, created.attempt), (Phase::Queued, 0), "it may count as dead");
    assert!(!submitting.is_finished());
    // Set back once more, while a beat is waited for.
    world.clock.set_back_millis(3_600_000);
    process.damage(workers.key("another").unwrap());
    world.pass(TIMEOUT_MS).await;
    assert!(submitting.is_finished(), "it waits for the time before");
    let (_worker, told) = submitting.await.unwrap();
    assert_eq!(world.get(&told.unwrap().id).await.status, Status::Completed);
}

/// The record says that the tool runs, but the process that made it knows better.
#[tokio::test]
async fn a_task_that_was_created_late_runs_although_its_tool_may_not_run_twice() {
    let mut created_late = 0;
    for first in 0..12 {
        let world = World::new();
        let fault = Fault::StalledBefore;
        let process = Faulty::new(world.store.clone(), Some(Plan { first, length: 1, fault }));
        let (resumed, alice) = (process.clone(), world.alice.clone());
        let tasks = TaskStore::new(Arc::new(process.clone()), world.clock.clone());
        let tools = Arc::clone(&world.tools);
        let submitted = tokio::spawn(async move {
            let worker = Worker::start(tasks, tools, WorkerOptions::default()).await.unwrap();
            let told = worker.submit(&alice, call("echo")).await;
            (worker, told)
        });
        let _heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
        world.pass(3 * TIMEOUT_MS).await;
        let page = world.tasks.list(&world.alice, PageRequest::default()).await.unwrap();
        if !page.tasks.is_empty() {
            // An heir cannot tell it from one that runs.
            continue;
        }
        created_late += 1;
        resumed.resume();
        world.pass(3 * TIMEOUT_MS).await;
        let (_worker, told) = submitted.await.unwrap();
        let task = world.get(&told.unwrap().id).await;
        assert_eq!(task.status, Status::Completed, "{first}: {:?}", task.status_message);
        assert_eq!(world.tools.starts.load(Ordering::SeqCst), 1, "{first}");
    }
    assert!(created_late > 1, "before the claim, and before the task");
}
