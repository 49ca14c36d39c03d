//! The storage contract, and nothing else: what a backend keeps, and what it promises.
//!
//! A backend that passes the suite in `store::contract` (feature `contract`)
//! keeps these promises; the invariants are listed in `ARCHITECTURE.md`.

mod change;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod error;
#[cfg(feature = "file")]
mod file;
mod key;
mod memory;
mod page;
mod record;
#[cfg(feature = "redis")]
mod redis;

use std::fmt::Debug;

use async_trait::async_trait;

#[cfg(feature = "redis")]
pub use self::redis::{RedisBackend, RedisOptions, TlsIdentity};
pub use change::{Change, ChangeKind, Revision, Watch, WatchEvent, WatchFrom};
pub use error::{Cause, StoreError};
#[cfg(feature = "file")]
pub use file::{Durability, FileBackend, FileOptions};
pub use key::{Key, Partition};
pub use memory::InMemoryBackend;
pub use page::{Cursor, Damaged, Page, PageRequest};
pub use record::{Current, Entry, Precondition, Record, Tag, Version, VersionToken, Write};

/// Keeps versioned records in partitions.
///
/// On every backend, for every method:
///
/// - **Expired is absent**, to the millisecond, for reads and preconditions alike. Whether the
///   record was reclaimed makes no difference.
/// - A version starts at 1 and rises by 1 with each write of its key. The moment of version 1, by
///   the backend's clock, stays with the record.
/// - A write or delete is atomic with all that goes with it: value, version, tag, deadline, count,
///   index, history and notification. An acknowledged one is durable on the terms that the backend documents.
/// - A future that is dropped half-way leaves the call done or not done, or to be done later: a write may
///   be on its way.
#[async_trait]
pub trait StorageBackend: Debug + Send + Sync + 'static {
    /// Reads a record; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if what is stored is not what Tenure wrote, or the backend's own
    /// trouble.
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    /// Writes a record, whatever was there before.
    ///
    /// # Errors
    /// [`StoreError::PartitionFull`] if the write is counted and there is no room,
    /// [`StoreError::TooLarge`], or the backend's own trouble.
    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError>;

    /// Writes a record if the precondition holds. It is checked before the capacity is.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`StoreError::VersionConflict`] with what is really there.
    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError>;

    /// Deletes a record if the precondition holds. Tells whether there was one.
    ///
    /// # Errors
    /// [`StoreError::VersionConflict`] with what is really there.
    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError>;

    /// Tells the versions of a record that are kept, newest first: the current one, then the former
    /// ones that [`Write::keeping`] kept. One consistent look; empty when there is no record.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError>;

    /// Lists the live records of one partition whose names start with `prefix`, in key order.
    /// The cost of a page depends on the page, not on what else is stored; it ends early once its
    /// values come to [`limits::PAGE_BYTES`](crate::limits::PAGE_BYTES). A record that cannot be
    /// read is named in [`Page::damaged`] and hides no other.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] for a cursor of another listing.
    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError>;

    /// Tells how many records of a partition count: those alive whose last write was
    /// [`counted_within`](Write::counted_within) a limit. As exact as the check of the limit, and
    /// without a look at the records.
    ///
    /// # Errors
    /// The backend's own trouble.
    async fn counted(&self, partition: &Partition) -> Result<u64, StoreError>;

    /// Reclaims up to `limit` expired records and tells how many. Correctness never depends on it;
    /// backends that expire by themselves do nothing and return 0.
    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError>;

    /// Follows the changes of one partition. The watch is in place when the call returns. It may
    /// coalesce the changes of a key; it never loses one without a [`WatchEvent::Resync`]; it
    /// never slows a writer down.
    ///
    /// A watch [`After`](WatchFrom::After) a position that is unknown, of another partition or
    /// store, or too old yields `Resync` first.
    ///
    /// # Errors
    /// The backend's own trouble. Later it is the last item of the watch: what passes by itself is
    /// waited out there where the backend can.
    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError>;

    /// Follows the changes of one partition as [`watch`](Self::watch) does, for whoever can wait: a
    /// change may be told `delay_ms` later. Where to look for changes costs the store a call, one
    /// look in this time is enough for all of them.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    async fn watch_within(
        &self,
        partition: &Partition,
        from: WatchFrom,
        delay_ms: u64,
    ) -> Result<Watch, StoreError>;

    /// Moves what is kept beside the store into it, such as a write-ahead log into its file, as far
    /// as no reader is in the way. At the end of an orderly shutdown, so that a copy of the file alone
    /// is whole. Nothing else depends on it; backends that keep nothing beside their store do nothing.
    ///
    /// # Errors
    /// The backend's own trouble. Every acknowledged write is as durable as before.
    async fn checkpoint(&self) -> Result<(), StoreError>;
}
