//! Recently used records, kept only as long as nobody has committed since.
//!
//! A read from here is as current as one from the file. A connection of its own, the probe, asks
//! the engine's shared memory whether anybody, in this process or another, has committed since the
//! cache was last known to be valid (`PRAGMA data_version`; no disk is touched). The writer
//! brings the cache up to date after its own commits; any other commit empties it.

use hashlink::LruCache;
use parking_lot::Mutex;
use rusqlite::Connection;

use super::transaction::Changed;
use super::writer::data_version;
use crate::store::{Key, Record};

/// Bookkeeping of an entry, roughly.
const ENTRY_BYTES: usize = 200;

pub(super) struct Cache(Mutex<State>);

struct State {
    probe: Connection,
    /// What the probe saw when the records were last known to be current.
    valid_at: Option<i64>,
    /// Our own commit is under way: that the probe moves does not mean a stranger.
    committing: bool,
    /// Rises with each commit that was noticed, so that a read from before it is not kept.
    generation: u64,
    records: LruCache<Key, Record>,
    bytes: usize,
    capacity_bytes: usize,
}

/// What the cache knows of a key.
pub(super) enum Lookup {
    /// The record; it may have expired.
    Hit(Record),
    /// Nothing. What is read from the file may be kept on this condition.
    Miss(Generation),
}

/// The moment of a lookup.
#[derive(Clone, Copy)]
pub(super) struct Generation(u64);

impl Cache {
    pub(super) fn new(probe: Connection, capacity_bytes: usize) -> Self {
        Self(Mutex::new(State {
            probe,
            valid_at: None,
            committing: false,
            generation: 0,
            records: LruCache::new_unbounded(),
            bytes: 0,
            capacity_bytes,
        }))
    }

    /// Looks a record up, if no commit was missed.
    ///
    /// For a record that is not here the probe need not be asked. What is read from the file instead
    /// is no older than `valid_at`, and whoever finds it here later asks first.
    pub(super) fn get(&self, key: &Key) -> Lookup {
        let mut state = self.0.lock();
        if (state.valid_at.is_none() || state.records.contains_key(key))
            && state.is_valid()
            && let Some(record) = state.records.get(key)
        {
            return Lookup::Hit(record.clone());
        }
        Lookup::Miss(Generation(state.generation))
    }

    /// Keeps what was read from the file after `generation` was handed out.
    pub(super) fn keep(&self, generation: Generation, key: Key, record: Record) {
        let mut state = self.0.lock();
        if state.generation == generation.0 {
            state.insert(key, record);
        }
    }

    /// Forgets everything: somebody else has committed.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Says that our own commit follows. To be called under the engine's write lock.
    pub(super) fn begin_commit(&self) -> Commit<'_> {
        self.0.lock().committing = true;
        Commit(self)
    }
}

/// Our own commit, under way.
pub(super) struct Commit<'a>(&'a Cache);

impl Commit<'_> {
    /// Takes over what was committed; or forgets everything if `foreign` says that somebody else
    /// has committed as well. Tells which.
    ///
    /// The probe is read before `foreign` is: if there was no stranger up to the later of the two
    /// moments, then what the probe saw is our own commit and nothing more.
    pub(super) fn publish(self, changed: &Changed, foreign: impl FnOnce() -> bool) -> bool {
        let mut state = self.0.0.lock();
        let seen = data_version(&state.probe).ok();
        let foreign = foreign();
        if foreign {
            state.clear();
        } else {
            state.generation += 1;
            for (key, record) in changed {
                match record {
                    Some(record) => state.insert(key.clone(), record.clone()),
                    None => state.remove(key),
                }
            }
        }
        state.valid_at = seen;
        foreign
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.0.0.lock().committing = false;
    }
}

impl State {
    fn is_valid(&mut self) -> bool {
        let seen = data_version(&self.probe).ok();
        if seen.is_some() && seen == self.valid_at {
            return true;
        }
        if !self.committing {
            self.clear();
            self.valid_at = seen;
        }
        false
    }

    fn clear(&mut self) {
        self.generation += 1;
        self.valid_at = None;
        self.records.clear();
        self.bytes = 0;
    }

    fn insert(&mut self, key: Key, record: Record) {
        self.remove(&key);
        let bytes = cost(&key, &record);
        if bytes > self.capacity_bytes {
            return;
        }
        self.bytes += bytes;
        self.records.insert(key, record);
        while self.bytes > self.capacity_bytes {
            let Some((key, record)) = self.records.remove_lru() else { break };
            self.bytes -= cost(&key, &record);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(record) = self.records.remove(key) {
            self.bytes -= cost(key, &record);
        }
    }
}

fn cost(key: &Key, record: &Record) -> usize {
    ENTRY_BYTES + key.partition().as_str().len() + key.name().len() + record.value.len()
}
