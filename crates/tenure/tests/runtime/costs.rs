//! What operations on tasks cost: calls of the store, however many tasks there are.

use std::sync::Arc;

use tenure::runtime::WorkerOptions;
use tenure::store::PageRequest;
use tenure::tasks::{Status, TaskLimits, TaskStore};

use crate::faults::{Call, Faulty};
use crate::world::{TIMEOUT_MS, World, call, settle};

/// A process on a store with so many tasks of one owner, and a look at its calls.
async fn with_tasks(world: &World, count: usize) -> (Faulty, TaskStore) {
    let process = world.healthy();
    let limits = TaskLimits { unfinished_per_owner: 10_000, ..TaskLimits::default() };
    let tasks = TaskStore::new(Arc::new(process.clone()), world.clock.clone()).with_limits(limits);
    for _ in 0..count {
        tasks.create(&world.alice, call("tool")).await.unwrap();
    }
    process.log();
    (process, tasks)
}

#[tokio::test]
async fn to_create_a_task_is_one_write_however_many_there_are() {
    for count in [0, 1, 1_000] {
        let world = World::new();
        let (process, tasks) = with_tasks(&world, count).await;
        tasks.create(&world.alice, call("tool")).await.unwrap();
        assert_eq!(process.log(), [Call::Write], "{count}");
    }
}

#[tokio::test]
async fn to_get_a_task_is_one_read_and_no_write_however_many_there_are() {
    for count in [0, 1, 1_000] {
        let world = World::new();
        let (process, tasks) = with_tasks(&world, count).await;
        let task = tasks.create(&world.alice, call("tool")).await.unwrap();
        process.log();
        for _ in 0..3 {
            tasks.get(&world.alice, &task.id).await.unwrap();
            assert_eq!(process.log(), [Call::Get], "{count}");
        }
    }
}

#[tokio::test]
async fn a_page_of_tasks_is_one_page_of_the_store_and_no_longer() {
    let world = World::new();
    let (process, tasks) = with_tasks(&world, 300).await;
    let mut page = tasks.list(&world.alice, PageRequest::first(50)).await.unwrap();
    let mut pages = 1;
    while let Some(next) = page.next {
        assert_eq!((page.tasks.len(), process.log()), (50, vec![Call::List { limit: 50 }]));
        page = tasks.list(&world.alice, PageRequest::after(next, 50)).await.unwrap();
        pages += 1;
    }
    assert_eq!(pages, 6);
}

#[tokio::test]
async fn to_end_a_task_is_one_write_whoever_polls_it() {
    let world = World::new();
    let process = world.healthy();
    let worker = world.worker(&process, WorkerOptions::default()).await;
    let task = world.submit(&worker, "gated").await;
    settle().await;
    process.log();
    for _ in 0..100 {
        worker.tasks().get(&world.alice, &task.id).await.unwrap();
    }
    assert_eq!(process.log(), [Call::Get; 100]);
    world.tools.gate.add_permits(1);
    settle().await;
    assert_eq!(world.get(&task.id).await.status, Status::Completed);
    // The checkpoint, the result; the claim; and what the follower reads after each.
    let log = process.log();
    let count = |call| log.iter().filter(|it| **it == call).count();
    assert_eq!((count(Call::Write), count(Call::Delete)), (2, 1), "{log:?}");
    assert!(count(Call::Get) <= 2 && log.len() <= 5, "{log:?}");
}

/// Polls between which others may run, as those of clients, and nothing else: 64 of them at once.
#[tokio::test]
async fn a_tight_poller_starves_no_completion() {
    let world = World::new();
    let worker = world.worker(&world.healthy(), WorkerOptions::default()).await;
    let task = world.submit(&worker, "gated").await;
    for _ in 0..30 {
        world.submit(&worker, "waits").await;
    }
    settle().await;
    let pollers = (0..64).map(|_| {
        let (tasks, alice, id) = (worker.tasks().clone(), world.alice.clone(), task.id.clone());
        tokio::spawn(async move {
            let mut polls = 0;
            while !tasks.get(&alice, &id).await.unwrap().status.is_terminal() {
                polls += 1;
                assert!(polls < 10_000, "starved");
                tokio::task::yield_now().await;
            }
            polls
        })
    });
    let pollers: Vec<_> = pollers.collect();
    settle().await;
    world.tools.gate.add_permits(1);
    for poller in pollers {
        // Before the gate is opened it polls about a hundred times, and then a few times more.
        let polls = poller.await.unwrap();
        assert!((50..200).contains(&polls), "{polls}");
    }
}

/// What the others' beats are is told by the watch, and read by nobody.
#[tokio::test]
async fn a_worker_that_has_nothing_to_do_writes_its_heartbeat_and_nothing_else_however_many_there_are()
 {
    for count in [1, 3, 10] {
        let world = World::new();
        let options = WorkerOptions { sweep_interval_ms: 3_600_000, ..WorkerOptions::default() };
        let mut workers = Vec::new();
        for _ in 0..count {
            let process = world.healthy();
            workers.push((world.worker(&process, options).await, process));
            settle().await;
        }
        for (_, process) in &workers {
            process.log();
        }
        for beats in 1..=20 {
            world.pass(TIMEOUT_MS / 4).await;
            for (_, process) in &workers {
                assert_eq!(process.log(), [Call::Write], "beat {beats} of {count}");
            }
        }
    }
}
