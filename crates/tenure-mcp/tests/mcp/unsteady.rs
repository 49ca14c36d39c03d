//! A store that fails when it is told to.

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use parking_lot::Mutex;
use tenure::clock::Clock;
use tenure::store::{
    InMemoryBackend, Key, Page, PageRequest, Partition, Precondition, Record, StorageBackend,
    StoreError, Version, VersionToken, Watch, WatchFrom, Write,
};
use tokio::sync::watch;

/// How the store fares.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    Well,
    Away,
    ReadOnly,
    Full,
    /// What is written is written, and its answer is lost.
    Mute,
    /// Nothing can be read, but watched.
    Blind,
    /// Nothing that is read is ever answered.
    Silent,
}

/// A store in memory. Its errors carry what no client may see.
#[derive(Debug)]
pub(crate) struct Unsteady {
    inner: InMemoryBackend,
    mood: Mutex<Mood>,
    /// Fails every watch that there is.
    broken: watch::Sender<()>,
}

impl Unsteady {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            inner: InMemoryBackend::new(clock),
            mood: Mutex::new(Mood::Well),
            broken: watch::Sender::new(()),
        }
    }

    /// Ends every watch with an error that repeating does not cure.
    pub(crate) fn break_watches(&self) {
        self.broken.send_replace(());
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn read(&self) -> Result<(), StoreError> {
        match *self.mood.lock() {
            Mood::Away | Mood::Blind => Err(StoreError::Unavailable {
                reason: "no route to redis://:hunter2@10.0.0.1".into(),
                source: Some("tasks/local".into()),
            }),
            _ => Ok(()),
        }
    }

    fn write(&self) -> Result<(), StoreError> {
        let mood = *self.mood.lock();
        match mood {
            Mood::ReadOnly => Err(StoreError::ReadOnly(Some("/secret/tenure.db".into()))),
            Mood::Full => Err(StoreError::Full(Some("/secret/tenure.db".into()))),
            Mood::Well | Mood::Away | Mood::Blind | Mood::Silent | Mood::Mute => self.read(),
        }
    }
}

#[async_trait]
impl StorageBackend for Unsteady {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.read()?;
        if matches!(*self.mood.lock(), Mood::Silent) {
            std::future::pending::<()>().await;
        }
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.write()?;
        self.inner.put(key, write).await
    }

    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        self.write()?;
        let written = self.inner.put_if_version(key, write, precondition).await?;
        match *self.mood.lock() {
            Mood::Mute => Err(StoreError::OutcomeUnknown(Some("/secret/tenure.db".into()))),
            _ => Ok(written),
        }
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        self.write()?;
        self.inner.delete(key, precondition).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        self.read()?;
        self.inner.history(key).await
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        self.read()?;
        self.inner.list_by_prefix(partition, prefix, page).await
    }

    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.write()?;
        self.inner.cleanup_expired(limit).await
    }

    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError> {
        if matches!(*self.mood.lock(), Mood::Away) {
            self.read()?;
        }
        let mut broken = self.broken.subscribe();
        let watch = self.inner.watch(partition, from).await?;
        let watch = watch.take_until(async move { broken.changed().await });
        let failed = StoreError::ReadOnly(Some("/secret/tenure.db".into()));
        Ok(watch.chain(stream::once(async { Err(failed) })).boxed())
    }
}
