//! What the cases share: a store with a partition of its own, and short names for its calls.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::limits;
use crate::store::contract::Harness;
use crate::store::{
    Current, Entry, Key, Page, PageRequest, Partition, Precondition, Record, StorageBackend,
    StoreError, Tag, Version, VersionToken, Watch, WatchFrom, Write,
};

/// A deadline that is far enough to do something before it on a real clock, and near enough to
/// wait for.
pub(super) const TTL_MS: u64 = 1_000;

/// Names that somebody's encoding takes for something else. In byte order.
pub(super) const HOSTILE: [&str; 25] = [
    "",
    "\0",
    "\0\0",
    "\n",
    " ",
    "%2F",
    "*",
    "-",
    "..",
    "/",
    "//",
    ":",
    "::",
    "?",
    "[a]",
    "\\",
    "a",
    "a\0",
    "a\0b",
    "a/b",
    "a:b",
    "aa",
    "{}",
    "é",
    "\u{10FFFF}",
];

pub(super) struct Fixture<'a> {
    pub(super) harness: &'a dyn Harness,
    pub(super) store: Arc<dyn StorageBackend>,
    pub(super) partition: Partition,
}

impl<'a> Fixture<'a> {
    pub(super) async fn new(harness: &'a dyn Harness) -> Self {
        let unique = format!("{:032x}", rand::random::<u128>());
        let partition = Partition::new(["contract", &unique]).unwrap();
        Self { harness, store: harness.connect().await, partition }
    }

    /// The same store, seen from a partition whose path ends with `segment`.
    pub(super) fn beside(&self, segment: &str) -> Self {
        let path: Vec<_> = self.partition.segments().chain([segment.to_owned()]).collect();
        let partition = Partition::new(path.iter().map(String::as_str)).unwrap();
        Self { harness: self.harness, store: Arc::clone(&self.store), partition }
    }

    /// The same partition through another handle.
    pub(super) async fn elsewhere(&self) -> Self {
        let store = self.harness.connect().await;
        Self { harness: self.harness, store, partition: self.partition.clone() }
    }

    pub(super) fn key(&self, name: &str) -> Key {
        self.partition.key(name).unwrap()
    }

    pub(super) async fn get(&self, name: &str) -> Option<Record> {
        self.store.get(&self.key(name)).await.unwrap()
    }

    pub(super) async fn put(&self, name: &str, value: &str) -> VersionToken {
        self.write(name, write(value)).await.unwrap()
    }

    pub(super) async fn put_until(&self, name: &str, deadline: Timestamp) -> VersionToken {
        self.write(name, write(name).expires_at(deadline)).await.unwrap()
    }

    pub(super) async fn write(&self, name: &str, write: Write) -> Result<VersionToken, StoreError> {
        self.store.put(&self.key(name), write).await
    }

    pub(super) async fn write_if(
        &self,
        name: &str,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        self.store.put_if_version(&self.key(name), write, precondition).await
    }

    pub(super) async fn delete(&self, name: &str) -> bool {
        self.delete_if(name, Precondition::Any).await.unwrap()
    }

    pub(super) async fn delete_if(
        &self,
        name: &str,
        precondition: Precondition,
    ) -> Result<bool, StoreError> {
        self.store.delete(&self.key(name), precondition).await
    }

    pub(super) async fn history(&self, name: &str) -> Vec<Version> {
        self.store.history(&self.key(name)).await.unwrap()
    }

    pub(super) async fn counted(&self) -> u64 {
        self.store.counted(&self.partition).await.unwrap()
    }

    pub(super) async fn page(&self, prefix: &str, page: PageRequest) -> Page {
        self.store.list_by_prefix(&self.partition, prefix, page).await.unwrap()
    }

    /// Everything below `prefix`, walked in pages of `limit`.
    pub(super) async fn walk(&self, prefix: &str, limit: usize) -> Vec<Entry> {
        let mut page = self.page(prefix, PageRequest::first(limit)).await;
        let mut entries = std::mem::take(&mut page.entries);
        while let Some(next) = page.next {
            page = self.page(prefix, PageRequest::after(next, limit)).await;
            entries.append(&mut page.entries);
        }
        entries
    }

    /// The names below `prefix`, in the order of the listing.
    pub(super) async fn names(&self, prefix: &str) -> Vec<String> {
        names(&self.walk(prefix, limits::PAGE_RECORDS).await)
    }

    pub(super) async fn watch(&self, from: WatchFrom) -> Watch {
        self.store.watch(&self.partition, from).await.unwrap()
    }

    /// The moment `millis` from now.
    pub(super) fn after_millis(&self, millis: u64) -> Timestamp {
        self.harness.clock().now().plus_millis(millis)
    }

    /// Lets everything expire that was given [`TTL_MS`].
    pub(super) async fn outlive_ttl(&self) {
        self.harness.advance_millis(TTL_MS + self.harness.resolution_millis()).await;
    }
}

pub(super) fn write(value: &str) -> Write {
    Write::new(value.as_bytes().to_vec())
}

/// The tag that a test calls by a number.
pub(super) fn tag(number: u8) -> Tag {
    // The ends differ, so that a backend which cuts a tag off at either is noticed.
    let mut bytes = [0; Tag::BYTES];
    (bytes[0], bytes[Tag::BYTES - 1]) = (number, !number);
    Tag::new(bytes)
}

pub(super) fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.key.name().to_owned()).collect()
}

/// The write that a call which must conflict says is there.
#[track_caller]
pub(super) fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Option<VersionToken> {
    conflict_with(result).map(|current| current.token)
}

/// All that a call which must conflict says is there.
#[track_caller]
pub(super) fn conflict_with<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Option<Current> {
    match result {
        Err(StoreError::VersionConflict { current }) => current,
        other => panic!("a version conflict was expected, not {other:?}"),
    }
}

/// Asserts that there was no room.
#[track_caller]
pub(super) fn assert_full<T: std::fmt::Debug>(result: Result<T, StoreError>, limit: u32) {
    match result {
        Err(StoreError::PartitionFull { limit: told }) => assert_eq!(told, limit),
        other => panic!("a full partition was expected, not {other:?}"),
    }
}
