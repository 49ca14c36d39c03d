//! Following a task on a store whose watches, or reads, go wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::{Map, json};
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::{
    InMemoryBackend, Key, Page, PageRequest, Partition, Precondition, Record, StorageBackend,
    StoreError, Version, VersionToken, Watch, WatchFrom, Write,
};
use tenure::tasks::{Call, NewTask, Status, Task, TaskError, TaskRef, TaskStore};

/// A store in memory whose watches end as soon as they begin, and whose reads may fail.
#[derive(Debug)]
struct Troubled {
    inner: InMemoryBackend,
    watches: AtomicUsize,
    watches_end: AtomicBool,
    reads_fail: AtomicBool,
}

fn away() -> StoreError {
    StoreError::Unavailable { reason: "as the test wants it".into(), source: None }
}

#[async_trait]
impl StorageBackend for Troubled {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        if self.reads_fail.load(Ordering::SeqCst) {
            return Err(away());
        }
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.inner.put(key, write).await
    }

    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        self.inner.put_if_version(key, write, precondition).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        self.inner.delete(key, precondition).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        self.inner.history(key).await
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        self.inner.list_by_prefix(partition, prefix, page).await
    }

    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.cleanup_expired(limit).await
    }

    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError> {
        self.watches.fetch_add(1, Ordering::SeqCst);
        if self.watches_end.load(Ordering::SeqCst) {
            return Ok(futures::stream::iter([Err(away())]).boxed());
        }
        self.inner.watch(partition, from).await
    }
}

/// On the system's clock: how long it waits is what is tested.
async fn task() -> (Arc<Troubled>, TaskStore, Task) {
    let clock = Clock::system();
    let backend = Arc::new(Troubled {
        inner: InMemoryBackend::new(clock.clone()),
        watches: AtomicUsize::new(0),
        watches_end: AtomicBool::new(false),
        reads_fail: AtomicBool::new(false),
    });
    let tasks = TaskStore::new(backend.clone(), clock);
    let call = Call::new("tool", Map::new());
    let task = tasks.create(&Owner::new("alice").unwrap(), NewTask::new(call)).await.unwrap();
    (backend, tasks, task)
}

#[tokio::test]
async fn watches_that_end_at_once_are_made_anew_with_pauses_in_between() {
    let (backend, tasks, task) = task().await;
    backend.watches_end.store(true, Ordering::SeqCst);
    let states = tasks.follow(&task.owner, &task.id).await.unwrap();
    let mut states = std::pin::pin!(states);
    states.next().await.unwrap().unwrap();
    let later = tokio::time::timeout(Duration::from_millis(400), states.next()).await;
    assert!(later.is_err(), "there is nothing to tell: {later:?}");
    // At least 12, 25, 50, 100 and 200 ms lie between the first six.
    let watches = backend.watches.load(Ordering::SeqCst);
    assert!((2..=7).contains(&watches), "{watches} watches in 400 ms");

    // No end of a watch is the end of the following.
    backend.watches_end.store(false, Ordering::SeqCst);
    let this = TaskRef::new(task.owner, task.id);
    tasks.complete(&this, json!(1)).await.unwrap();
    let last = tokio::time::timeout(Duration::from_secs(60), states.next()).await;
    assert_eq!(last.expect("news").unwrap().unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_follower_that_cannot_begin_is_told_so_at_once() {
    let (backend, tasks, task) = task().await;
    backend.reads_fail.store(true, Ordering::SeqCst);
    let begun = tasks.follow(&task.owner, &task.id);
    let begun = tokio::time::timeout(Duration::from_secs(60), begun).await;
    match begun.expect("an answer").map(|_| ()) {
        Err(TaskError::Store(StoreError::Unavailable { .. })) => {}
        other => panic!("{other:?}"),
    }
}
