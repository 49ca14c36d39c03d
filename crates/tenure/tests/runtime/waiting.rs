//! A store that takes no writes for a while: nothing fails because of it.

use std::sync::Arc;

use serde_json::json;
use tenure::Owner;
use tenure::clock::{Clock, Timestamp};
use tenure::runtime::{Worker, WorkerOptions};
use tenure::store::contract::{Mood, Unsteady};
use tenure::tasks::{Outcome, Status, TaskStore};

use crate::world::{Tools, call, settle};

#[tokio::test]
async fn a_checkpoint_waits_out_a_store_that_takes_no_writes() {
    for mood in [Mood::Away, Mood::ReadOnly, Mood::Full] {
        let clock = Clock::manual(Timestamp::from_millis(1_000_000));
        let store = Arc::new(Unsteady::new(clock.clone()));
        let tasks = TaskStore::new(store.clone(), clock.clone());
        let tools = Arc::<Tools>::default();
        let options = WorkerOptions::default();
        let worker = Worker::start(tasks.clone(), tools.clone(), options).await.unwrap();
        let alice = Owner::new("alice").unwrap();
        let task = worker.submit(&alice, call("gated")).await.unwrap();
        settle().await;

        store.set(mood);
        tools.gate.add_permits(1);
        for _ in 0..8 {
            settle().await;
            clock.advance_millis(1_000);
        }
        store.set(Mood::Well);
        settle().await;
        let task = tasks.get(&alice, &task.id).await.unwrap();
        assert_eq!(task.status, Status::Completed, "{mood:?}: {:?}", task.status_message);
        assert_eq!(task.outcome, Some(Outcome::Result(json!({ "text": "done" }))));
        assert_eq!(task.attempt, 1, "{mood:?}");
    }
}

#[tokio::test]
async fn a_tool_runs_on_while_the_store_refuses_to_be_watched() {
    let clock = Clock::manual(Timestamp::from_millis(1_000_000));
    let store = Arc::new(Unsteady::new(clock.clone()));
    let tasks = TaskStore::new(store.clone(), clock.clone());
    let tools = Arc::<Tools>::default();
    let options = WorkerOptions::default();
    let worker = Worker::start(tasks.clone(), tools.clone(), options).await.unwrap();
    let alice = Owner::new("alice").unwrap();
    let task = worker.submit(&alice, call("gated")).await.unwrap();
    settle().await;

    store.set(Mood::Refusing);
    store.break_watches();
    for _ in 0..4 {
        settle().await;
        clock.advance_millis(1_000);
    }
    store.set(Mood::Well);
    settle().await;
    tools.gate.add_permits(1);
    settle().await;
    let task = tasks.get(&alice, &task.id).await.unwrap();
    assert_eq!(task.status, Status::Completed, "{:?}", task.status_message);
    assert_eq!((task.attempt, tools.starts.load(std::sync::atomic::Ordering::SeqCst)), (1, 1));
}
