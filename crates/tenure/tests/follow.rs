//! Following a task on a store whose watches, or reads, go wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod warnings;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Map, json};
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::StoreError;
use tenure::store::contract::{Mood, Unsteady};
use tenure::tasks::{Call, NewTask, Status, Task, TaskError, TaskRef, TaskStore};

use crate::warnings::Warnings;

/// On the system's clock: how long it waits is what is tested.
async fn task() -> (Arc<Unsteady>, TaskStore, Task) {
    let clock = Clock::system();
    let backend = Arc::new(Unsteady::new(clock.clone()));
    let tasks = TaskStore::new(backend.clone(), clock);
    let call = Call::new("tool", Map::new());
    let task = tasks.create(&Owner::new("alice").unwrap(), NewTask::new(call)).await.unwrap();
    (backend, tasks, task)
}

#[tokio::test]
async fn watches_that_end_at_once_are_made_anew_with_pauses_in_between() {
    let (backend, tasks, task) = task().await;
    backend.set(Mood::Deaf);
    let states = tasks.follow(&task.owner, &task.id).await.unwrap();
    let mut states = std::pin::pin!(states);
    states.next().await.unwrap().unwrap();
    let later = tokio::time::timeout(Duration::from_millis(400), states.next()).await;
    assert!(later.is_err(), "there is nothing to tell: {later:?}");
    // At least 12, 25, 50, 100 and 200 ms lie between the first six.
    let watches = backend.watches();
    assert!((2..=7).contains(&watches), "{watches} watches in 400 ms");

    // No end of a watch is the end of the following.
    backend.set(Mood::Well);
    let this = TaskRef::new(task.owner, task.id);
    tasks.complete(&this, json!({})).await.unwrap();
    let last = tokio::time::timeout(Duration::from_secs(60), states.next()).await;
    assert_eq!(last.expect("news").unwrap().unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_follower_that_cannot_begin_is_told_so_at_once() {
    let (backend, tasks, task) = task().await;
    backend.set(Mood::Blind);
    let begun = tasks.follow(&task.owner, &task.id);
    let begun = tokio::time::timeout(Duration::from_secs(60), begun).await;
    match begun.expect("an answer").map(|_| ()) {
        Err(TaskError::Store(StoreError::Unavailable { .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_follower_is_told_of_trouble_that_lasts() {
    let (backend, tasks, task) = task().await;
    let mut states = Box::pin(tasks.follow(&task.owner, &task.id).await.unwrap());
    states.next().await.unwrap().unwrap();
    backend.set(Mood::Refusing);
    backend.break_watches();
    let told = tokio::time::timeout(Duration::from_secs(60), states.next()).await;
    match told.expect("an answer") {
        Some(Err(TaskError::Store(StoreError::Engine { .. }))) => {}
        other => panic!("{other:?}"),
    }
    assert!(states.next().await.is_none());
}

#[tokio::test]
async fn a_follower_waits_for_what_passes_and_the_log_says_so() {
    let (backend, tasks, task) = task().await;
    let mut states = Box::pin(tasks.follow(&task.owner, &task.id).await.unwrap());
    states.next().await.unwrap().unwrap();
    let warnings = Warnings::default();
    let _taken_down = tracing::subscriber::set_default(warnings.clone());
    backend.set(Mood::Away);
    backend.break_watches();
    let is_said = |text: &String| {
        text.contains("looking at the task again") && text.contains(task.id.as_str())
    };
    tokio::select! {
        told = states.next() => panic!("{told:?}"),
        () = async {
            while !warnings.taken().iter().any(is_said) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    // The trouble is over, and nothing was missed.
    backend.set(Mood::Well);
    tasks.complete(&TaskRef::new(task.owner, task.id), json!({})).await.unwrap();
    let last = tokio::time::timeout(Duration::from_secs(60), states.next()).await;
    assert_eq!(last.expect("news").unwrap().unwrap().status, Status::Completed);
}
