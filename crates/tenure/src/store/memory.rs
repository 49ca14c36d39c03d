//! [`InMemoryBackend`]: the reference model of the contract.

mod partition;
mod stored;
mod watch;

use std::collections::BTreeSet;
use std::future::Future;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::future::{BoxFuture, lazy};
use hashbrown::HashMap;
use parking_lot::RwLock;
use tokio::sync::watch::Sender;

use self::partition::{Now, PartitionState, Sought};
use self::stored::{Replaced, Stored};
use self::watch::changes;
use crate::clock::{Clock, Timestamp};
use crate::limits::PAGE_BYTES;
use crate::store::{
    ChangeKind, Cursor, Entry, Key, Page, PageRequest, Partition, Precondition, Record, Revision,
    StorageBackend, StoreError, Version, VersionToken, Watch, WatchFrom, Write,
};

/// Locks are per shard, and a partition lives in one shard: what is atomic needs one lock.
const SHARDS: usize = 64;

/// Keeps everything in this process's memory.
///
/// Nothing survives the process, by design; everything else is as on any other backend, and the
/// model-based tests of the contract suite hold the others against this one.
#[derive(Clone)]
pub struct InMemoryBackend(Arc<Shared>);

struct Shared {
    clock: Clock,
    epoch: u64,
    shards: Box<[RwLock<Shard>]>,
}

#[derive(Default)]
struct Shard {
    /// The sequence of the last change in any partition of this shard. If each partition counted for
    /// itself, one that is dropped and created again would give out its sequences a second time.
    sequence: u64,
    partitions: HashMap<Partition, PartitionState, BuildHasherDefault<KnownHash>>,
    deadlines: BTreeSet<(Timestamp, Key)>,
}

/// A partition knows its hash.
#[derive(Default)]
struct KnownHash(u64);

impl Hasher for KnownHash {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Shard {
    /// A partition, made if there is none, with what goes along with a write to it: the sequence of
    /// the last change, and the deadlines.
    fn partition_mut(
        &mut self,
        partition: &Partition,
    ) -> (&mut PartitionState, &mut u64, &mut BTreeSet<(Timestamp, Key)>) {
        let Self { sequence, partitions, deadlines } = self;
        let state =
            partitions.entry_ref(partition).or_insert_with(|| PartitionState::new(*sequence));
        (state, sequence, deadlines)
    }

    /// Takes a record out of every index. The caller announces what that means.
    fn remove(&mut self, key: &Key) -> Option<Stored> {
        let stored = self.partitions.get_mut(key.partition())?.remove(key)?;
        if let Some(deadline) = stored.expires_at() {
            self.deadlines.remove(&(deadline, key.clone()));
        }
        Some(stored)
    }

    /// Forgets a partition that nobody needs: no record, no watcher.
    fn drop_if_idle(&mut self, partition: &Partition) {
        let idle = self
            .partitions
            .get(partition)
            .is_some_and(|it| it.records.is_empty() && !it.is_watched());
        if idle {
            self.partitions.remove(partition);
        }
    }
}

impl InMemoryBackend {
    /// An empty store that lives by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared {
            clock,
            epoch: rand::random(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }))
    }

    fn shard(&self, partition: &Partition) -> &RwLock<Shard> {
        // Other bits than those by which a shard finds a partition, or all of one shard would collide.
        // The remainder is below SHARDS, so the narrowing loses nothing.
        #[allow(clippy::cast_possible_truncation)]
        let index = ((partition.process_hash() >> 32) % SHARDS as u64) as usize;
        &self.0.shards[index]
    }

    /// Each partition has an epoch of its own: a position of one is none of another.
    fn epoch(&self, partition: &Partition) -> u64 {
        self.0.epoch ^ partition.process_hash()
    }

    fn revision(&self, partition: &Partition, sequence: u64) -> Revision {
        Revision { epoch: self.epoch(partition), sequence }
    }

    fn read(&self, key: &Key) -> Option<Record> {
        let name = Sought::new(key.name());
        let shard = self.shard(key.partition()).read();
        let now = Now::of(&self.0.clock);
        let stored = shard.partitions.get(key.partition())?.live(name, &now)?;
        Some(stored.record())
    }

    fn write(
        &self,
        key: &Key,
        write: &mut Write,
        precondition: &Precondition,
    ) -> Result<VersionToken, StoreError> {
        write.check()?;
        let name = Sought::new(key.name());
        // Freed when the lock is, and not before.
        let mut replaced = Replaced::default();
        let mut shard = self.shard(key.partition()).write();
        let now = Now::of(&self.0.clock);
        let (partition, sequence, deadlines) = shard.partition_mut(key.partition());
        let token = match partition.write(key, name, write, precondition, &now, &mut replaced) {
            Ok(token) => token,
            Err(refused) => {
                shard.drop_if_idle(key.partition());
                return Err(refused);
            }
        };
        *sequence += 1;
        let Write { tag, expires_at, .. } = *write;
        let change = || ChangeKind::Put { token, tag, expires_at };
        partition.announce(key, self.revision(key.partition(), *sequence), change);
        if replaced.expires_at != expires_at {
            replaced.expires_at.map(|at| deadlines.remove(&(at, key.clone())));
            expires_at.map(|at| deadlines.insert((at, key.clone())));
        }
        Ok(token)
    }

    /// Removes a record and says so. The caller has checked that there is one.
    fn remove(&self, shard: &mut Shard, key: &Key) {
        if shard.remove(key).is_some() {
            let (partition, sequence, _) = shard.partition_mut(key.partition());
            *sequence += 1;
            partition.announce(key, self.revision(key.partition(), *sequence), || ChangeKind::Gone);
            shard.drop_if_idle(key.partition());
        }
    }
}

/// A write that happens when it is polled. Written out because an `async fn` moves its arguments
/// twice, which is dear while the bytes of the value are still on their way to the cache.
struct Writing<'a> {
    store: &'a InMemoryBackend,
    key: &'a Key,
    write: Option<Write>,
    precondition: Precondition,
}

impl Future for Writing<'_> {
    type Output = Result<VersionToken, StoreError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(write) = &mut this.write else { return Poll::Pending };
        let written = this.store.write(this.key, write, &this.precondition);
        // With it goes what it has replaced, and no lock is held.
        this.write = None;
        Poll::Ready(written)
    }
}

impl std::fmt::Debug for InMemoryBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InMemoryBackend").field("clock", &self.0.clock).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageBackend for InMemoryBackend {
    #[inline]
    fn get<'a: 'c, 'b: 'c, 'c>(
        &'a self,
        key: &'b Key,
    ) -> BoxFuture<'c, Result<Option<Record>, StoreError>> {
        Box::pin(lazy(|_| Ok(self.read(key))))
    }

    #[inline]
    fn put<'a: 'c, 'b: 'c, 'c>(
        &'a self,
        key: &'b Key,
        write: Write,
    ) -> BoxFuture<'c, Result<VersionToken, StoreError>> {
        Box::pin(Writing { store: self, key, write: Some(write), precondition: Precondition::Any })
    }

    #[inline]
    fn put_if_version<'a: 'c, 'b: 'c, 'c>(
        &'a self,
        key: &'b Key,
        write: Write,
        precondition: Precondition,
    ) -> BoxFuture<'c, Result<VersionToken, StoreError>> {
        Box::pin(Writing { store: self, key, write: Some(write), precondition })
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        let name = Sought::new(key.name());
        let mut shard = self.shard(key.partition()).write();
        let now = Now::of(&self.0.clock);
        let current = shard
            .partitions
            .get(key.partition())
            .and_then(|it| it.live(name, &now))
            .map(Stored::current);
        precondition.check(current)?;
        self.remove(&mut shard, key);
        Ok(current.is_some())
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        let name = Sought::new(key.name());
        let shard = self.shard(key.partition()).read();
        let now = Now::of(&self.0.clock);
        let stored = shard.partitions.get(key.partition()).and_then(|it| it.live(name, &now));
        Ok(stored.map(Stored::versions).unwrap_or_default())
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        let start = page.start(partition, prefix)?;
        let shard = self.shard(partition).read();
        let now = Now::of(&self.0.clock);
        let Some(state) = shard.partitions.get(partition) else {
            let revision = self.revision(partition, shard.sequence);
            return Ok(Page { entries: Vec::new(), damaged: Vec::new(), next: None, revision });
        };
        let lower = match &start {
            Some(last) => Bound::Excluded(&**last),
            None => Bound::Included(prefix),
        };
        // To hold no bytes against the empty text, which may lie nowhere, takes a processor longer
        // than many.
        let within = |name: &str| prefix.is_empty() || name.starts_with(prefix);
        let mut live = state
            .order
            .range::<str, _>((lower, Bound::Unbounded))
            .take_while(|name| within(name))
            .filter_map(|name| Some((name, state.live(Sought::new(name), &now)?)));
        let mut entries = Vec::with_capacity(page.limit().min(state.order.len()));
        let mut bytes = 0;
        while entries.len() < page.limit() && bytes < PAGE_BYTES {
            let Some((name, stored)) = live.next() else { break };
            let (key, record) = (partition.key(Arc::clone(name))?, stored.record());
            bytes += record.value.len();
            entries.push(Entry { key, record });
        }
        let last = entries.last().map(|entry| entry.key.shared_name());
        let next = match (last, live.next()) {
            (Some(last), Some(_)) => Some(Cursor::new(partition, prefix, last)),
            _ => None,
        };
        let revision = self.revision(partition, state.tell_position());
        Ok(Page { entries, damaged: Vec::new(), next, revision })
    }

    async fn counted(&self, partition: &Partition) -> Result<u64, StoreError> {
        let shard = self.shard(partition).read();
        let now = Now::of(&self.0.clock);
        Ok(shard.partitions.get(partition).map_or(0, |it| it.counted(&now)))
    }

    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.0.clock.now();
        let mut removed = 0;
        for shard in &self.0.shards {
            let mut shard = shard.write();
            while removed < limit {
                let Some((_, key)) = shard.deadlines.first().filter(|(at, _)| *at <= now).cloned()
                else {
                    break;
                };
                self.remove(&mut shard, &key);
                removed += 1;
            }
        }
        Ok(removed)
    }

    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError> {
        let mut shard = self.shard(partition).write();
        let (state, ..) = shard.partition_mut(partition);
        let bell = state.bell.get_or_insert_with(|| Sender::new(0)).subscribe();
        let after = match from {
            WatchFrom::Now => state.tell_position(),
            // A position of another epoch is beyond any of ours, and so a gap.
            WatchFrom::After(revision) if revision.epoch != self.epoch(partition) => u64::MAX,
            WatchFrom::After(revision) => revision.sequence,
        };
        Ok(changes(self.clone(), partition.clone(), bell, after))
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
        Ok(())
    }
}
