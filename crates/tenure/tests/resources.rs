//! Resources on every backend: one line each. And what they cost, on one that counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

#[cfg(feature = "file")]
mod file_harness;
mod resource_cases;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
#[cfg(feature = "file")]
use futures::StreamExt as _;
use serde_json::json;
use tenure::clock::{Clock, Timestamp};
use tenure::resources::{Document, ResourceError, ResourceKey, ResourceStore};
#[cfg(feature = "file")]
use tenure::resources::{ResourceEvent, Scope};
#[cfg(feature = "file")]
use tenure::store::FileBackend;
use tenure::store::contract::MemoryHarness;
use tenure::store::{
    InMemoryBackend, Key, Page, PageRequest, Partition, Precondition, Record, StorageBackend,
    StoreError, Version, VersionToken, Watch, WatchFrom, Write,
};

mod memory {
    use super::*;
    resource_cases::for_each_case!(MemoryHarness::default());
}

#[cfg(feature = "file")]
mod file {
    use super::*;
    resource_cases::for_each_case!(file_harness::FileHarness::new());
}

/// Counts the calls that reach the store.
#[derive(Debug)]
struct Counting {
    inner: InMemoryBackend,
    reads: AtomicUsize,
    writes: AtomicUsize,
}

impl Counting {
    fn read(&self) -> &InMemoryBackend {
        self.reads.fetch_add(1, Ordering::Relaxed);
        &self.inner
    }

    fn write(&self) -> &InMemoryBackend {
        self.writes.fetch_add(1, Ordering::Relaxed);
        &self.inner
    }

    /// Reads and writes since the last call.
    fn calls(&self) -> (usize, usize) {
        (self.reads.swap(0, Ordering::Relaxed), self.writes.swap(0, Ordering::Relaxed))
    }
}

#[async_trait]
impl StorageBackend for Counting {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.read().get(key).await
    }
    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.write().put(key, write).await
    }
    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        self.write().put_if_version(key, write, precondition).await
    }
    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        self.write().delete(key, precondition).await
    }
    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        self.read().history(key).await
    }
    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        self.read().list_by_prefix(partition, prefix, page).await
    }
    async fn counted(&self, partition: &Partition) -> Result<u64, StoreError> {
        self.read().counted(partition).await
    }
    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.write().cleanup_expired(limit).await
    }
    async fn checkpoint(&self) -> Result<(), StoreError> {
        self.inner.checkpoint().await
    }

    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError> {
        self.watch_within(partition, from, 0).await
    }

    async fn watch_within(
        &self,
        partition: &Partition,
        from: WatchFrom,
        delay_ms: u64,
    ) -> Result<Watch, StoreError> {
        self.read().watch_within(partition, from, delay_ms).await
    }
}

#[tokio::test]
async fn a_conditional_write_is_one_write_without_a_read() {
    let clock = Clock::manual(Timestamp::from_millis(1));
    let inner = InMemoryBackend::new(clock.clone());
    let backend = Arc::new(Counting { inner, reads: 0.into(), writes: 0.into() });
    let resources = ResourceStore::new(Arc::clone(&backend) as _, clock);
    let key = ResourceKey::new("acme", "agent", "planner").unwrap();
    let document = |n: u32| Document::from_value(&json!({ "n": n })).unwrap();

    let etag = resources.put(&key, &document(1)).await.unwrap().etag;
    assert_eq!(backend.calls(), (0, 1), "put");
    resources.put_if_match(&key, &document(2), etag).await.unwrap();
    assert_eq!(backend.calls(), (0, 1), "put_if_match");
    let refused = resources.put_if_match(&key, &document(3), etag).await;
    assert!(matches!(refused, Err(ResourceError::ETagMismatch { .. })));
    assert_eq!(backend.calls(), (0, 1), "a refused put_if_match");
    resources.create(&key, &document(3)).await.unwrap_err();
    assert_eq!(backend.calls(), (0, 1), "create");
    resources.get(&key).await.unwrap();
    assert_eq!(backend.calls(), (1, 0), "get");
    resources.update::<ResourceError>(&key, |_| Ok(document(3))).await.unwrap();
    assert_eq!(backend.calls(), (1, 1), "update");
    resources.update::<ResourceError>(&key, |_| Ok(document(3))).await.unwrap();
    assert_eq!(backend.calls(), (1, 0), "an update that changes nothing");
    resources.revert(&key, 1).await.unwrap();
    assert_eq!(backend.calls(), (1, 1), "revert");
    resources.delete_if_match(&key, etag).await.unwrap();
    assert_eq!(backend.calls(), (0, 1), "delete_if_match");
}

/// A position is as durable as the file: after a restart the watch goes on, without a resync.
#[cfg(feature = "file")]
#[tokio::test]
async fn a_watch_goes_on_after_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenure.db");
    let open = async || {
        let clock = Clock::system();
        let backend = FileBackend::open(&path, clock.clone()).await.unwrap();
        ResourceStore::new(Arc::new(backend), clock)
    };
    let document = |n: u32| Document::from_value(&json!({ "n": n })).unwrap();
    let key = |id: &str| ResourceKey::new("acme", "agent", id).unwrap();
    let scope = || Scope::project("acme").unwrap();

    let resources = open().await;
    let gone = resources.put(&key("gone"), &document(1)).await.unwrap();
    let mut events = Box::pin(resources.watch(scope(), None));
    events.next().await.unwrap().unwrap();
    let primed = events.next().await.unwrap().unwrap().position().unwrap();
    drop((events, resources));

    let resources = open().await;
    resources.delete_if_match(&key("gone"), gone.etag).await.unwrap();
    let written = resources.put(&key("new"), &document(2)).await.unwrap();
    drop(resources);

    let resources = open().await;
    let mut events = Box::pin(resources.watch(scope(), Some(primed)));
    let deleted = events.next().await.unwrap().unwrap();
    assert!(matches!(deleted, ResourceEvent::Deleted { key: it, .. } if it == key("gone")));
    let put = events.next().await.unwrap().unwrap();
    assert!(matches!(put, ResourceEvent::Put { etag, .. } if etag == written.etag), "{put:?}");
}
