//! Heartbeats: how a worker shows that it is alive, and how others notice that it is not.
//!
//! Nobody compares clocks. A heartbeat is a write, so its version token changes; a worker whose
//! token has not changed for the timeout, by the observer's own clock since the observer first saw
//! it, is dead. Clocks that differ by hours therefore take nobody for dead.

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Timestamp};
use crate::store::{
    ChangeKind, Key, PageRequest, Partition, Precondition, StorageBackend, StoreError, Tag,
    VersionToken, Watch, WatchEvent, WatchFrom, Write,
};
use crate::tasks::WorkerId;

/// Beats per timeout. Three may be late or lost before anybody notices.
const BEATS_PER_TIMEOUT: u64 = 4;
/// How late a beat is noticed, at most. A takeover is over within the timeout and a second; what is
/// left of that is for the takeover itself.
const NOTICED_WITHIN_MS: u64 = 750;

/// The time from one beat to the next.
pub(super) fn beat_interval_ms(timeout_ms: u64) -> u64 {
    (timeout_ms / BEATS_PER_TIMEOUT).max(1)
}

/// What a heartbeat record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Beat {
    /// The worker lives.
    Alive,
    /// It has shut down and left what it had to others: no need to wait.
    Released,
    /// Another worker is taking its tasks over.
    Inherited,
}

/// A worker's own heartbeat. Every beat is conditional on the one before: when somebody else has
/// written the record, this worker was declared dead.
#[derive(Debug)]
pub(super) struct Heartbeat {
    key: Key,
    /// The beat before.
    token: Mutex<VersionToken>,
}

/// What became of a beat.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BeatOutcome {
    /// The worker is alive in the eyes of others.
    Alive,
    /// It was declared dead; its tasks are somebody else's.
    Lost,
}

fn partition() -> Result<Partition, StoreError> {
    Partition::new(["workers"])
}

/// Marks the last beat in the change itself, so that observers read no beat at all.
const RELEASED: Tag = Tag::new(*b"tenure: released by its worker  ");

fn write(beat: Beat) -> Write {
    let text: &'static [u8] = match beat {
        Beat::Alive => br#"{"beat":"alive"}"#,
        Beat::Released => br#"{"beat":"released"}"#,
        Beat::Inherited => br#"{"beat":"inherited"}"#,
    };
    let write = Write::new(text);
    if beat == Beat::Released { write.tagged(RELEASED) } else { write }
}

impl Heartbeat {
    /// The first beat.
    pub(super) async fn start(
        backend: &dyn StorageBackend,
        worker: &WorkerId,
    ) -> Result<Self, StoreError> {
        let key = partition()?.key(worker.as_str())?;
        let token = backend.put_if_version(&key, write(Beat::Alive), Precondition::Absent).await?;
        Ok(Self { key, token: Mutex::new(token) })
    }

    /// Another beat.
    pub(super) async fn beat(
        &self,
        backend: &dyn StorageBackend,
    ) -> Result<BeatOutcome, StoreError> {
        self.write(backend, Beat::Alive).await
    }

    /// The last beat: what this worker had is free to take.
    pub(super) async fn release(
        &self,
        backend: &dyn StorageBackend,
    ) -> Result<BeatOutcome, StoreError> {
        self.write(backend, Beat::Released).await
    }

    async fn write(
        &self,
        backend: &dyn StorageBackend,
        beat: Beat,
    ) -> Result<BeatOutcome, StoreError> {
        for _ in 0..3 {
            let precondition = Precondition::Matches(*self.token.lock());
            match backend.put_if_version(&self.key, write(beat), precondition).await {
                Ok(token) => {
                    *self.token.lock() = token;
                    return Ok(BeatOutcome::Alive);
                }
                // Perhaps an earlier beat landed and its reply was lost. Nobody else writes that
                // this worker is alive. Only a beat that is known to have landed counts, since
                // nobody knows when the other one was sent: so beat again.
                Err(StoreError::VersionConflict { .. } | StoreError::OutcomeUnknown(_)) => {
                    match backend.get(&self.key).await? {
                        Some(record) if read(&record.value) == Beat::Alive => {
                            *self.token.lock() = record.token;
                        }
                        _ => return Ok(BeatOutcome::Lost),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::OutcomeUnknown(None))
    }
}

/// An unknown beat is a live one: whoever wrote it knows more than we do.
fn read(value: &[u8]) -> Beat {
    #[derive(Deserialize)]
    struct Stored {
        beat: Beat,
    }
    serde_json::from_slice(value).map_or(Beat::Alive, |stored: Stored| stored.beat)
}

/// A worker that is dead, and the last write that is known of it.
#[derive(Debug, Clone)]
pub(super) struct Dead {
    pub(super) worker: WorkerId,
    key: Key,
    token: VersionToken,
}

impl Dead {
    /// Takes the inheritance. False if the worker lives after all, or another heir was faster;
    /// from then on the dead can no longer beat, and an heir that dies in turn is replaced.
    pub(super) async fn inherit(
        &mut self,
        backend: &dyn StorageBackend,
    ) -> Result<bool, StoreError> {
        let precondition = Precondition::Matches(self.token);
        match backend.put_if_version(&self.key, write(Beat::Inherited), precondition).await {
            Ok(token) => {
                self.token = token;
                Ok(true)
            }
            Err(StoreError::VersionConflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Forgets the worker, once nothing is left of it.
    pub(super) async fn remove_heartbeat(
        &self,
        backend: &dyn StorageBackend,
    ) -> Result<(), StoreError> {
        match backend.delete(&self.key, Precondition::Matches(self.token)).await {
            Ok(_) | Err(StoreError::VersionConflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Follows all heartbeats, without hurry: to look for each as it comes would be a load that grows with
/// the square of the number of workers.
async fn watch(backend: &dyn StorageBackend, timeout_ms: u64) -> Result<Watch, StoreError> {
    let delay_ms = beat_interval_ms(timeout_ms).min(NOTICED_WITHIN_MS);
    backend.watch_within(&partition()?, WatchFrom::Now, delay_ms).await
}

/// Watches the heartbeats of the others.
pub(super) struct Observer {
    myself: WorkerId,
    clock: Clock,
    timeout_ms: u64,
    seen: HashMap<Key, Seen>,
    watch: Watch,
}

struct Seen {
    token: VersionToken,
    /// By the steady clock: setting the wall clock forward kills nobody.
    deadline: Timestamp,
    /// How often this worker took over and had to leave something: each time it holds back for
    /// longer, so that one with the right tools, or with room, comes first.
    held_back: u32,
}

impl Seen {
    fn patience_ms(&self, timeout_ms: u64) -> u64 {
        timeout_ms.saturating_mul(1 << self.held_back.min(4))
    }
}

impl Observer {
    pub(super) async fn start(
        backend: &dyn StorageBackend,
        myself: WorkerId,
        clock: Clock,
        timeout_ms: u64,
    ) -> Result<Self, StoreError> {
        let watch = watch(backend, timeout_ms).await?;
        let mut observer = Self { myself, clock, timeout_ms, seen: HashMap::new(), watch };
        observer.list(backend).await?;
        Ok(observer)
    }

    /// Waits until a worker is dead, and returns it. It stays under observation, so that it is
    /// returned again should its heir fail.
    pub(super) async fn next_dead(
        &mut self,
        backend: &dyn StorageBackend,
    ) -> Result<Dead, StoreError> {
        loop {
            let now = self.clock.steady();
            if let Some(dead) = self.first_dead(now) {
                return Ok(dead);
            }
            let next = self.seen.values().map(|seen| seen.deadline).min();
            let clock = self.clock.clone();
            let timer = async move {
                match next {
                    Some(deadline) => clock.sleep_millis(deadline.millis_since(now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.watch.next() => self.note(event, backend).await?,
                () = timer => {}
            }
        }
    }

    /// Leaves a dead worker of whom something could not be taken over to others, for a while.
    pub(super) fn hold_back(&mut self, dead: &WorkerId) {
        let now = self.clock.steady();
        if let Some((_, seen)) = self.seen.iter_mut().find(|(key, _)| key.name() == dead.as_str()) {
            seen.held_back = seen.held_back.saturating_add(1);
            seen.deadline = now.plus_millis(seen.patience_ms(self.timeout_ms));
        }
    }

    fn first_dead(&mut self, now: Timestamp) -> Option<Dead> {
        let (key, seen) = self.seen.iter_mut().find(|(_, seen)| seen.deadline <= now)?;
        seen.deadline = now.plus_millis(self.timeout_ms);
        Some(Dead { worker: WorkerId::from(key.name()), key: key.clone(), token: seen.token })
    }

    async fn note(
        &mut self,
        event: Option<Result<WatchEvent, StoreError>>,
        backend: &dyn StorageBackend,
    ) -> Result<(), StoreError> {
        match event {
            Some(Ok(WatchEvent::Change(change))) if change.key.name() == self.myself.as_str() => {}
            Some(Ok(WatchEvent::Change(change))) => match change.kind {
                ChangeKind::Gone => {
                    self.seen.remove(&change.key);
                }
                ChangeKind::Put { token, tag, .. } => {
                    let released = tag == Some(RELEASED);
                    let beat = if released { Beat::Released } else { Beat::Alive };
                    self.see(change.key, token, beat);
                }
            },
            Some(Ok(WatchEvent::Resync(_))) => self.list(backend).await?,
            Some(Err(error)) => return Err(error),
            None => {
                self.watch = watch(backend, self.timeout_ms).await?;
                self.list(backend).await?;
            }
        }
        Ok(())
    }

    async fn list(&mut self, backend: &dyn StorageBackend) -> Result<(), StoreError> {
        let (mut present, mut damaged) = (HashMap::new(), HashSet::new());
        let mut request = PageRequest::default();
        loop {
            let page = backend.list_by_prefix(&partition()?, "", request).await?;
            for entry in page.entries {
                present.insert(entry.key, (entry.record.token, read(&entry.record.value)));
            }
            damaged.extend(page.damaged.into_iter().map(|damaged| damaged.key));
            match page.next {
                Some(next) => request = PageRequest { limit: None, after: Some(next) },
                None => break,
            }
        }
        // A heartbeat that cannot be read stays under observation. It does not beat, and nobody can
        // inherit from its worker until it is put right.
        self.seen.retain(|key, _| present.contains_key(key) || damaged.contains(key));
        for (key, (token, beat)) in present {
            self.see(key, token, beat);
        }
        Ok(())
    }

    fn see(&mut self, key: Key, token: VersionToken, beat: Beat) {
        if key.name() == self.myself.as_str() {
            return;
        }
        let now = self.clock.steady();
        let held_back = match self.seen.get(&key) {
            Some(seen) if seen.token == token => return,
            seen => seen.map_or(0, |seen| seen.held_back),
        };
        let mut seen = Seen { token, deadline: now, held_back };
        if beat != Beat::Released || held_back > 0 {
            seen.deadline = now.plus_millis(seen.patience_ms(self.timeout_ms));
        }
        self.seen.insert(key, seen);
    }
}
