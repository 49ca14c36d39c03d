//! [`FileBackend`]: everything in one file, crash-safe, on SQLite.

mod cache;
mod column;
mod damage;
mod error;
mod idle;
mod open;
mod operation;
mod query;
mod reader;
mod reclaim;
mod schema;
mod transaction;
mod values;
mod watch;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;

use self::cache::{Cache, Lookup};
use self::open::Database;
use self::operation::{Delete, Put};
use self::query::Listing;
use self::reader::Readers;
use self::reclaim::{Position, Reclaim};
use self::watch::Hub;
use self::writer::Writer;
use crate::clock::Clock;
use crate::store::{
    Key, Page, PageRequest, Partition, Precondition, Record, StorageBackend, StoreError, Version,
    VersionToken, Watch, WatchFrom, Write,
};

/// Expired records that are reclaimed in one transaction; writers get their turn in between.
const RECLAIMED: usize = 128;
/// Threads for listings and watches, at most.
const LIST_READERS: usize = 4;
/// How long a lone caller stays awake for a record, and for a page: what either takes from memory.
const GET_PATIENCE: Duration = Duration::from_micros(25);
const LIST_PATIENCE: Duration = Duration::from_micros(100);

/// What an acknowledged write has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// It is on the disk: it survives a crash of the program and a loss of power. Concurrent
    /// writers share one `fsync`.
    #[default]
    Full,
    /// It is with the operating system: it survives a crash of the program. A loss of power may
    /// take the last writes, some hundreds of them, never the file's consistency.
    Relaxed,
}

/// How a file is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FileOptions {
    /// What an acknowledged write has behind it.
    pub durability: Durability,
    /// Only read. The file must exist, and every write is refused.
    pub read_only: bool,
    /// Refuse writes with [`StoreError::Full`] beyond this size of the file.
    pub max_bytes: Option<u64>,
    /// Memory for recently used records.
    pub cache_bytes: usize,
    /// How long a write waits for another process that holds the file locked, before it is
    /// [`StoreError::Unavailable`].
    pub lock_wait_ms: u32,
}

impl FileOptions {
    fn lock_wait(&self) -> Duration {
        Duration::from_millis(self.lock_wait_ms.into())
    }
}

impl Default for FileOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            read_only: false,
            max_bytes: None,
            cache_bytes: 32 << 20,
            lock_wait_ms: 5_000,
        }
    }
}

/// Keeps everything in one SQLite file, with its write-ahead log beside it while it is open.
///
/// Several backends, in one process or in many on one machine, can share a file. All of them see
/// every write that was acknowledged to any of them. The file must lie on a local disk.
///
/// Dropping the backend lets the writes that wait finish; outside of an async runtime it waits
/// for them. [`close`](Self::close) always does.
pub struct FileBackend {
    path: PathBuf,
    clock: Clock,
    cache: Arc<Cache>,
    hub: Arc<Hub>,
    writer: Writer,
    point_readers: Readers,
    list_readers: Readers,
    // Dropped last: the threads end when the ways to them are gone.
    threads: Threads,
}

impl FileBackend {
    /// Opens the file at `path`, or creates it, with the default options.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub async fn open(path: impl AsRef<Path>, clock: Clock) -> Result<Self, StoreError> {
        Self::open_with(path, clock, FileOptions::default()).await
    }

    /// Opens the file at `path`, or creates it. A file or folder that takes no writes is opened
    /// for reading.
    ///
    /// # Errors
    /// [`StoreError::InvalidLocation`] if there is no such folder; [`StoreError::Foreign`] if the
    /// file is not ours, damaged, or of a newer format (it is left as it is); or the engine's own
    /// trouble.
    pub async fn open_with(
        path: impl AsRef<Path>,
        clock: Clock,
        options: FileOptions,
    ) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        tokio::task::spawn_blocking(move || Self::open_blocking(path, clock, &options))
            .await
            .map_err(|error| StoreError::Unavailable {
                reason: "opening the file".into(),
                source: Some(error.into()),
            })?
    }

    fn open_blocking(
        path: PathBuf,
        clock: Clock,
        options: &FileOptions,
    ) -> Result<Self, StoreError> {
        let (database, connection) = Database::open(&path, options)?;
        let cache = Arc::new(Cache::new(database.probe()?, options.cache_bytes));
        let hub = Arc::new(Hub::default());
        let (point_readers, mut threads) =
            Readers::start("get", vec![database.reader()?], GET_PATIENCE)?;
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        let connections = (0..parallel.min(LIST_READERS)).map(|_| database.reader());
        let (list_readers, list_threads) =
            Readers::start("list", connections.collect::<Result<_, _>>()?, LIST_PATIENCE)?;
        let (writer, thread) =
            Writer::start(connection, clock.clone(), Arc::clone(&cache), Arc::clone(&hub))?;
        threads.extend(list_threads);
        threads.push(thread);
        let threads = Threads(threads);
        Ok(Self { path, clock, cache, hub, writer, point_readers, list_readers, threads })
    }

    /// Closes the file, after the writes that wait are done.
    pub async fn close(self) {
        let Self { writer, point_readers, list_readers, threads, .. } = self;
        drop((writer, point_readers, list_readers));
        // Fails only with the runtime, which then no longer waits for anything.
        let _ = tokio::task::spawn_blocking(move || threads.join()).await;
    }
}

/// The threads of a backend.
struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    fn join(mut self) {
        self.wait();
    }

    fn wait(&mut self) {
        for thread in self.0.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_err() {
            self.wait();
        }
    }
}

impl fmt::Debug for FileBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBackend").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageBackend for FileBackend {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let record = match self.cache.get(key) {
            Lookup::Hit(record) => Some(record),
            Lookup::Miss(generation) => {
                let (cache, key, now) = (Arc::clone(&self.cache), key.clone(), self.clock.now());
                self.point_readers
                    .read(move |connection| {
                        let record = query::get(connection, &key, now)?;
                        if let Some(record) = &record {
                            cache.keep(generation, key, record.clone());
                        }
                        Ok(record)
                    })
                    .await?
            }
        };
        Ok(record.filter(|record| !record.is_expired(self.clock.now())))
    }

    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.put_if_version(key, write, Precondition::Any).await
    }

    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        write.check()?;
        self.writer.write(Put::new(key.clone(), write, precondition)).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        self.writer.write(Delete::new(key.clone(), precondition)).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        let (key, now) = (key.clone(), self.clock.now());
        self.list_readers.read(move |connection| query::history(connection, &key, now)).await
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        let listing = Listing {
            after: page.start(partition, prefix)?,
            limit: page.limit(),
            partition: partition.clone(),
            prefix: prefix.to_owned(),
            now: self.clock.now(),
        };
        self.list_readers.read(move |connection| query::list(connection, &listing)).await
    }

    async fn counted(&self, partition: &Partition) -> Result<u64, StoreError> {
        let (partition, now) = (partition.clone(), self.clock.now());
        self.list_readers.read(move |connection| query::counted(connection, &partition, now)).await
    }

    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let (mut reclaimed, mut next) = (0, Some(Position::START));
        while let Some(after) = next.filter(|_| reclaimed < limit) {
            let step = RECLAIMED.min(limit - reclaimed);
            let done = self.writer.write(Reclaim::new(after, step)).await?;
            reclaimed += done.count;
            next = done.next;
        }
        Ok(reclaimed)
    }

    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError> {
        let after = match from {
            WatchFrom::Now => None,
            WatchFrom::After(revision) => Some(revision),
        };
        let (reader, writer) = (self.list_readers.handle()?, self.writer.requests());
        watch::watch(&self.hub, reader, writer, partition.clone(), after).await
    }

    // A look costs nothing here, so nobody has to wait for one.
    async fn watch_within(
        &self,
        partition: &Partition,
        from: WatchFrom,
        _delay_ms: u64,
    ) -> Result<Watch, StoreError> {
        self.watch(partition, from).await
    }

    async fn checkpoint(&self) -> Result<(), StoreError> {
        self.writer.checkpoint().await
    }
}
