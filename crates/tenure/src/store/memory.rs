//! [`InMemoryBackend`]: the reference model of the contract.

mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use hashbrown::{DefaultHashBuilder, HashMap};
use parking_lot::RwLock;
use tokio::sync::watch::Sender;

use self::watch::changes;
use crate::clock::{Clock, Timestamp};
use crate::limits;
use crate::store::{
    Change, ChangeKind, Cursor, Entry, Key, Page, PageRequest, Partition, Precondition, Record,
    Revision, StorageBackend, StoreError, Version, VersionToken, Watch, WatchFrom, Write,
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
    /// Of the last change, over all partitions: a partition that is dropped and made anew cannot
    /// hand out a position twice.
    sequence: AtomicU64,
    hasher: DefaultHashBuilder,
    shards: Box<[RwLock<Shard>]>,
}

#[derive(Default)]
struct Shard {
    partitions: HashMap<Partition, PartitionState>,
    deadlines: BTreeSet<(Timestamp, Key)>,
}

struct PartitionState {
    records: HashMap<Arc<str>, Stored>,
    order: BTreeSet<Arc<str>>,
    /// The counted records by deadline, so that the expired ones stop counting at once.
    counted: BTreeSet<(Timestamp, Arc<str>)>,
    log: VecDeque<Change>,
    /// Changes up to here are no longer in the log.
    forgotten: u64,
    /// The sequence of the last change; watchers wait on it.
    position: Sender<u64>,
}

struct Stored {
    record: Record,
    counted: bool,
    /// What the record was before, newest first.
    former: VecDeque<Version>,
}

impl Stored {
    fn counted_until(&self) -> Timestamp {
        self.record.expires_at.unwrap_or(Timestamp::MAX)
    }
}

fn version(record: &Record) -> Version {
    Version { value: record.value.clone(), token: record.token, tag: record.tag }
}

impl PartitionState {
    fn new(sequence: u64) -> Self {
        Self {
            records: HashMap::new(),
            order: BTreeSet::new(),
            counted: BTreeSet::new(),
            log: VecDeque::new(),
            forgotten: sequence,
            position: Sender::new(sequence),
        }
    }

    fn live(&self, name: &str, now: Timestamp) -> Option<&Record> {
        let record = &self.records.get(name)?.record;
        (!record.is_expired(now)).then_some(record)
    }

    /// The versions before the next one, as many as that keeps.
    fn take_former(&mut self, name: &str, kept: u32, now: Timestamp) -> VecDeque<Version> {
        let stored = self.records.get_mut(name).filter(|it| !it.record.is_expired(now));
        let Some(stored) = stored.filter(|_| kept > 0) else { return VecDeque::new() };
        let mut former = std::mem::take(&mut stored.former);
        former.truncate(kept as usize - 1);
        former.push_front(version(&stored.record));
        former
    }

    fn check_capacity(&mut self, name: &str, limit: u32, now: Timestamp) -> Result<(), StoreError> {
        while self.counted.first().is_some_and(|(deadline, _)| *deadline <= now) {
            self.counted.pop_first();
        }
        let counts_already =
            self.records.get(name).is_some_and(|it| it.counted && !it.record.is_expired(now));
        if !counts_already && self.counted.len() >= limit as usize {
            return Err(StoreError::PartitionFull { limit });
        }
        Ok(())
    }

    fn announce(&mut self, key: &Key, revision: Revision, kind: ChangeKind) {
        if self.log.len() == limits::WATCH_BACKLOG
            && let Some(oldest) = self.log.pop_front()
        {
            self.forgotten = oldest.revision.sequence;
        }
        self.log.push_back(Change { key: key.clone(), revision, kind });
        self.position.send_replace(revision.sequence);
    }
}

impl Shard {
    /// Takes a record out of every index. The caller announces what that means.
    fn remove(&mut self, key: &Key) -> Option<Stored> {
        let partition = self.partitions.get_mut(key.partition())?;
        let stored = partition.records.remove(key.name())?;
        partition.order.remove(key.name());
        if stored.counted {
            partition.counted.remove(&(stored.counted_until(), key.shared_name()));
        }
        if let Some(deadline) = stored.record.expires_at {
            self.deadlines.remove(&(deadline, key.clone()));
        }
        Some(stored)
    }

    fn insert(&mut self, key: &Key, stored: Stored) {
        let Some(partition) = self.partitions.get_mut(key.partition()) else { return };
        let name = key.shared_name();
        let deadline = stored.record.expires_at;
        let counted = stored.counted.then(|| (stored.counted_until(), Arc::clone(&name)));
        let former = partition.records.insert(Arc::clone(&name), stored);
        if former.is_none() {
            partition.order.insert(Arc::clone(&name));
        }
        let former_counted =
            former.as_ref().filter(|it| it.counted).map(|it| (it.counted_until(), name));
        if former_counted != counted {
            former_counted.map(|it| partition.counted.remove(&it));
            counted.map(|it| partition.counted.insert(it));
        }
        let former_deadline = former.and_then(|it| it.record.expires_at);
        if former_deadline != deadline {
            former_deadline.map(|it| self.deadlines.remove(&(it, key.clone())));
            deadline.map(|it| self.deadlines.insert((it, key.clone())));
        }
    }

    /// Forgets a partition that nobody needs: no record, no watcher.
    fn drop_if_idle(&mut self, partition: &Partition) {
        let idle = self
            .partitions
            .get(partition)
            .is_some_and(|it| it.records.is_empty() && it.position.receiver_count() == 0);
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
            sequence: AtomicU64::new(0),
            hasher: DefaultHashBuilder::default(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }))
    }

    fn shard(&self, partition: &Partition) -> &RwLock<Shard> {
        // The remainder is below SHARDS, so the narrowing loses nothing.
        #[allow(clippy::cast_possible_truncation)]
        let index = (self.0.hasher.hash_one(partition) % SHARDS as u64) as usize;
        &self.0.shards[index]
    }

    /// The next position. Called under the lock of the shard, so a partition's own only rise.
    fn next_revision(&self) -> Revision {
        let sequence = self.0.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        Revision { epoch: self.0.epoch, sequence }
    }

    /// Makes sure that the partition exists, and returns it with the rest of its shard locked.
    fn partition_mut<'a>(
        &self,
        shard: &'a mut Shard,
        partition: &Partition,
    ) -> &'a mut PartitionState {
        shard
            .partitions
            .entry_ref(partition)
            .or_insert_with(|| PartitionState::new(self.0.sequence.load(Ordering::Relaxed)))
    }

    fn write(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        write.check()?;
        let now = self.0.clock.now();
        let mut shard = self.shard(key.partition()).write();
        let partition = self.partition_mut(&mut shard, key.partition());
        let live = partition.live(key.name(), now);
        let (current, created_at) = (live.map(Record::current), live.map(|it| it.created_at));
        let checked = precondition.check(current).and_then(|()| match write.capacity {
            Some(limit) => partition.check_capacity(key.name(), limit, now),
            None => Ok(()),
        });
        if let Err(refused) = checked {
            shard.drop_if_idle(key.partition());
            return Err(refused);
        }
        let token = VersionToken::new(current.map_or(1, |it| it.token.version() + 1));
        let Write { value, expires_at, capacity, tag, kept } = write;
        let former = partition.take_former(key.name(), kept, now);
        let created_at = created_at.unwrap_or(now);
        let record = Record { value, token, tag, created_at, expires_at };
        let change = ChangeKind::Put { token, tag, expires_at };
        shard.insert(key, Stored { record, counted: capacity.is_some(), former });
        let revision = self.next_revision();
        self.partition_mut(&mut shard, key.partition()).announce(key, revision, change);
        Ok(token)
    }

    /// Removes a record and says so. The caller has checked that there is one.
    fn remove(&self, shard: &mut Shard, key: &Key) {
        if shard.remove(key).is_some() {
            let revision = self.next_revision();
            self.partition_mut(shard, key.partition()).announce(key, revision, ChangeKind::Gone);
            shard.drop_if_idle(key.partition());
        }
    }
}

impl std::fmt::Debug for InMemoryBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InMemoryBackend").field("clock", &self.0.clock).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageBackend for InMemoryBackend {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let now = self.0.clock.now();
        let shard = self.shard(key.partition()).read();
        Ok(shard.partitions.get(key.partition()).and_then(|it| it.live(key.name(), now)).cloned())
    }

    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.write(key, write, Precondition::Any)
    }

    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        self.write(key, write, precondition)
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        let now = self.0.clock.now();
        let mut shard = self.shard(key.partition()).write();
        let current = shard
            .partitions
            .get(key.partition())
            .and_then(|it| it.live(key.name(), now))
            .map(Record::current);
        precondition.check(current)?;
        self.remove(&mut shard, key);
        Ok(current.is_some())
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        let now = self.0.clock.now();
        let shard = self.shard(key.partition()).read();
        let stored = shard
            .partitions
            .get(key.partition())
            .and_then(|it| it.records.get(key.name()))
            .filter(|it| !it.record.is_expired(now));
        let Some(stored) = stored else { return Ok(Vec::new()) };
        Ok([version(&stored.record)].into_iter().chain(stored.former.iter().cloned()).collect())
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        let now = self.0.clock.now();
        let start = page.start(partition, prefix)?;
        let shard = self.shard(partition).read();
        let Some(state) = shard.partitions.get(partition) else {
            let sequence = self.0.sequence.load(Ordering::Relaxed);
            let revision = Revision { epoch: self.0.epoch, sequence };
            return Ok(Page { entries: Vec::new(), next: None, revision });
        };
        let lower = match &start {
            Some(last) => Bound::Excluded(&**last),
            None => Bound::Included(prefix),
        };
        let mut live = state
            .order
            .range::<str, _>((lower, Bound::Unbounded))
            .take_while(|name| name.starts_with(prefix))
            .filter_map(|name| Some((name, state.live(name, now)?)));
        let mut entries = Vec::new();
        for (name, record) in live.by_ref().take(page.limit()) {
            let key = partition.key(Arc::clone(name))?;
            entries.push(Entry { key, record: record.clone() });
        }
        let last = entries.last().map(|entry| entry.key.shared_name());
        let next = match (last, live.next()) {
            (Some(last), Some(_)) => Some(Cursor::new(partition, prefix, last)),
            _ => None,
        };
        let revision = Revision { epoch: self.0.epoch, sequence: *state.position.borrow() };
        Ok(Page { entries, next, revision })
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
        let position = self.partition_mut(&mut shard, partition).position.subscribe();
        let after = match from {
            WatchFrom::Now => *position.borrow(),
            // A position of another epoch is beyond any of ours, and so a gap.
            WatchFrom::After(revision) if revision.epoch != self.0.epoch => u64::MAX,
            WatchFrom::After(revision) => revision.sequence,
        };
        Ok(changes(self.clone(), partition.clone(), position, after))
    }
}
