//! A store that fails when it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::store::{
    InMemoryBackend, Key, Page, PageRequest, Partition, Precondition, Record, StorageBackend,
    StoreError, Version, VersionToken, Watch, WatchFrom, Write,
};

/// How an [`Unsteady`] store fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mood {
    /// It does what it is asked to.
    Well,
    /// Nothing reaches it.
    Away,
    /// It takes no writes.
    ReadOnly,
    /// It has no room for writes.
    Full,
    /// What is written is written, and its answer is lost.
    Mute,
    /// Nothing can be read, but watched.
    Blind,
    /// Nothing can be read or watched, until somebody sees to it.
    Refusing,
    /// Nothing that is read is ever answered.
    Silent,
    /// What is written hangs until it fares otherwise, and happens then.
    Stuck,
    /// Every new watch ends as soon as it begins.
    Deaf,
    /// Others get their turn before each call and after it.
    Crowded,
}

/// A store in memory, for tests of what stands above a store. Its errors carry what no client may
/// see.
#[derive(Debug)]
pub struct Unsteady {
    inner: InMemoryBackend,
    mood: watch::Sender<Mood>,
    /// Fails every watch that there is.
    broken: watch::Sender<()>,
    watches: AtomicUsize,
}

impl Unsteady {
    /// An empty one, that fares well.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            inner: InMemoryBackend::new(clock),
            mood: watch::Sender::new(Mood::Well),
            broken: watch::Sender::new(()),
            watches: AtomicUsize::new(0),
        }
    }

    /// Ends every watch with an error that repeating does not cure.
    pub fn break_watches(&self) {
        self.broken.send_replace(());
    }

    /// From now on it fares like this.
    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// How many watches there have been.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.watches.load(Ordering::SeqCst)
    }

    fn mood(&self) -> Mood {
        *self.mood.borrow()
    }

    /// Lets others have their turn.
    async fn make_way(&self) {
        if self.mood() == Mood::Crowded {
            tokio::task::yield_now().await;
        }
    }

    async fn read(&self) -> Result<(), StoreError> {
        self.make_way().await;
        match self.mood() {
            Mood::Away | Mood::Blind => Err(away()),
            Mood::Refusing => Err(refused()),
            Mood::Silent => std::future::pending().await,
            _ => Ok(()),
        }
    }

    async fn write(&self) -> Result<(), StoreError> {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.mood.subscribe().wait_for(|mood| *mood != Mood::Stuck).await;
        match self.mood() {
            Mood::ReadOnly => Err(StoreError::ReadOnly(Some("/secret/tenure.db".into()))),
            Mood::Full => Err(StoreError::Full(Some("/secret/tenure.db".into()))),
            Mood::Away | Mood::Blind => Err(away()),
            _ => Ok(()),
        }
    }
}

fn away() -> StoreError {
    StoreError::Unavailable {
        reason: "no route to redis://:hunter2@10.0.0.1".into(),
        source: Some("tasks/local".into()),
    }
}

fn refused() -> StoreError {
    StoreError::Engine {
        reason: "access denied to /secret/tenure.db".into(),
        source: Some("tasks/local".into()),
    }
}

#[async_trait]
impl StorageBackend for Unsteady {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.read().await?;
        let read = self.inner.get(key).await;
        self.make_way().await;
        read
    }

    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.write().await?;
        self.inner.put(key, write).await
    }

    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        self.write().await?;
        self.make_way().await;
        let written = self.inner.put_if_version(key, write, precondition).await?;
        self.make_way().await;
        match self.mood() {
            Mood::Mute => Err(StoreError::OutcomeUnknown(Some("/secret/tenure.db".into()))),
            _ => Ok(written),
        }
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        self.write().await?;
        self.make_way().await;
        let deleted = self.inner.delete(key, precondition).await;
        self.make_way().await;
        deleted
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        self.read().await?;
        let read = self.inner.history(key).await;
        self.make_way().await;
        read
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        self.read().await?;
        self.inner.list_by_prefix(partition, prefix, page).await
    }

    async fn counted(&self, partition: &Partition) -> Result<u64, StoreError> {
        self.read().await?;
        self.inner.counted(partition).await
    }

    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.write().await?;
        self.inner.cleanup_expired(limit).await
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
        self.watches.fetch_add(1, Ordering::SeqCst);
        match self.mood() {
            Mood::Away => return Err(away()),
            Mood::Refusing => return Err(refused()),
            Mood::Deaf => return Ok(stream::iter([Err(away())]).boxed()),
            _ => {}
        }
        let mut broken = self.broken.subscribe();
        let watch = self.inner.watch_within(partition, from, delay_ms).await?;
        let watch = watch.take_until(async move { broken.changed().await });
        let failed = StoreError::ReadOnly(Some("/secret/tenure.db".into()));
        Ok(watch.chain(stream::once(async { Err(failed) })).boxed())
    }
}
