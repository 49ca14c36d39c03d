//! What one partition holds, and what a write does to it.

use std::cell::OnceCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashTable;
use tokio::sync::watch::Sender;

use super::stored::{Replaced, Stored};
use crate::clock::{Clock, Timestamp};
use crate::limits;
use crate::store::key::process_hash;
use crate::store::{
    Change, ChangeKind, Key, Precondition, Revision, StoreError, VersionToken, Write,
};

pub(super) struct PartitionState {
    pub(super) records: HashTable<Stored>,
    pub(super) order: BTreeSet<Arc<str>>,
    /// The counted records by deadline, so that the expired ones stop counting at once.
    counted: BTreeSet<(Timestamp, Arc<str>)>,
    pub(super) log: VecDeque<Change>,
    /// How many of the next changes somebody could ask for who was told a position. Nobody asks
    /// for more than the backlog, so a partition that is only written keeps no log.
    wanted: AtomicUsize,
    /// Changes up to here are no longer in the log.
    pub(super) forgotten: u64,
    /// The sequence of the last change.
    position: u64,
    /// Wakes the watchers. Waking nobody is dear, so it is there only once somebody watches.
    pub(super) bell: Option<Sender<u64>>,
}

/// A name to look up.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    name: &'a str,
    hash: u64,
}

impl<'a> Sought<'a> {
    pub(super) fn new(name: &'a str) -> Self {
        Self { name, hash: process_hash(name) }
    }

    fn is(self, stored: &Stored) -> bool {
        // A key that was listed or written shares its name with the record, and it need not be read.
        std::ptr::eq(self.name, stored.name()) || self.name == stored.name()
    }
}

/// The time of one call: read if something needs it, and then once.
pub(super) struct Now<'a> {
    clock: &'a Clock,
    time: OnceCell<Timestamp>,
}

impl<'a> Now<'a> {
    pub(super) fn of(clock: &'a Clock) -> Self {
        Self { clock, time: OnceCell::new() }
    }

    pub(super) fn read(&self) -> Timestamp {
        *self.time.get_or_init(|| self.clock.now())
    }

    pub(super) fn is_before(&self, deadline: Option<Timestamp>) -> bool {
        deadline.is_none_or(|deadline| deadline > self.read())
    }
}

impl PartitionState {
    pub(super) fn new(sequence: u64) -> Self {
        Self {
            records: HashTable::new(),
            order: BTreeSet::new(),
            counted: BTreeSet::new(),
            log: VecDeque::new(),
            wanted: AtomicUsize::new(limits::WATCH_BACKLOG),
            forgotten: sequence,
            position: sequence,
            bell: None,
        }
    }

    pub(super) fn live(&self, name: Sought<'_>, now: &Now<'_>) -> Option<&Stored> {
        self.records.find(name.hash, |it| name.is(it)).filter(|it| now.is_before(it.expires_at()))
    }

    /// Writes if all allows it. Returns the name of the write, and leaves in `replaced` what was there.
    pub(super) fn write(
        &mut self,
        key: &Key,
        name: Sought<'_>,
        write: &mut Write,
        precondition: &Precondition,
        now: &Now<'_>,
        replaced: &mut Replaced,
    ) -> Result<VersionToken, StoreError> {
        let Self { records, order, counted, .. } = self;
        let place = records.find_mut(name.hash, |it| name.is(it));
        let live = place.as_deref().filter(|it| now.is_before(it.expires_at()));
        let current = live.map(Stored::current);
        precondition.check(current)?;
        let counts_already = live.is_some_and(Stored::is_counted);
        if let Some(limit) = write.capacity.filter(|_| !counts_already) {
            check_capacity(counted, limit, now.read())?;
        }
        let token = VersionToken::new(current.map_or(1, |it| it.token.version() + 1));
        let created_at = live.map_or_else(|| now.read(), Stored::created_at);
        if live.is_none() {
            // The history belongs to the record, and went with it.
            write.kept = 0;
        }
        let counted_until = match place {
            Some(stored) => {
                stored.replace(write, token, created_at, replaced);
                stored.counted_until()
            }
            None => {
                let stored = Stored::new(key.shared_name(), write, token, created_at);
                let counted_until = stored.counted_until();
                order.insert(key.shared_name());
                records.insert_unique(name.hash, stored, |it| Sought::new(it.name()).hash);
                counted_until
            }
        };
        if replaced.counted_until != counted_until {
            replaced.counted_until.map(|at| counted.remove(&(at, key.shared_name())));
            counted_until.map(|at| counted.insert((at, key.shared_name())));
        }
        Ok(token)
    }

    /// Takes a record out of every index of the partition.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Stored> {
        let name = Sought::new(key.name());
        let found = self.records.find_entry(name.hash, |it| name.is(it)).ok()?;
        let (stored, _) = found.remove();
        self.order.remove(key.name());
        if let Some(until) = stored.counted_until() {
            self.counted.remove(&(until, key.shared_name()));
        }
        Some(stored)
    }

    /// How many records count. The expired that are still here are looked at one by one.
    pub(super) fn counted(&self, now: &Now<'_>) -> u64 {
        let expired = self.counted.iter().take_while(|(at, _)| *at <= now.read()).count();
        (self.counted.len() - expired) as u64
    }

    pub(super) fn is_watched(&self) -> bool {
        self.bell.as_ref().is_some_and(|bell| bell.receiver_count() > 0)
    }

    /// The position, told to somebody who may resume from it.
    pub(super) fn tell_position(&self) -> u64 {
        self.wanted.store(limits::WATCH_BACKLOG, Ordering::Relaxed);
        self.position
    }

    pub(super) fn announce(
        &mut self,
        key: &Key,
        revision: Revision,
        kind: impl FnOnce() -> ChangeKind,
    ) {
        self.position = revision.sequence;
        let watched = self.is_watched();
        let wanted = self.wanted.get_mut();
        if *wanted == 0 && !watched {
            self.log = VecDeque::new();
            self.forgotten = revision.sequence;
            return;
        }
        *wanted = wanted.saturating_sub(1);
        if self.log.len() == limits::WATCH_BACKLOG
            && let Some(oldest) = self.log.pop_front()
        {
            self.forgotten = oldest.revision.sequence;
        }
        self.log.push_back(Change { key: key.clone(), revision, kind: kind() });
        if watched && let Some(bell) = &self.bell {
            bell.send_replace(revision.sequence);
        }
    }
}

/// Whether there is room for one more counted record. The expired stop counting first.
fn check_capacity(
    counted: &mut BTreeSet<(Timestamp, Arc<str>)>,
    limit: u32,
    now: Timestamp,
) -> Result<(), StoreError> {
    while counted.first().is_some_and(|(deadline, _)| *deadline <= now) {
        counted.pop_first();
    }
    if counted.len() >= limit as usize {
        return Err(StoreError::PartitionFull { limit });
    }
    Ok(())
}
