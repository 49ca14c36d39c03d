//! Watches that were away, or too slow: they resume or resync, and never lose a change silently.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Harness;
use super::fixture::{Fixture, write};
use super::watch::{next_change, next_event};
use crate::limits;
use crate::store::{
    ChangeKind, Entry, Key, PageRequest, Precondition, Revision, StorageBackend, StoreError,
    VersionToken, Watch, WatchEvent, WatchFrom,
};

type State = BTreeMap<String, VersionToken>;

/// A watcher as it is meant to be: it applies every change, and lists when it is told to.
struct Follower<'a> {
    it: &'a Fixture<'a>,
    watch: Watch,
    state: State,
}

fn state_of(entries: &[Entry]) -> State {
    entries.iter().map(|entry| (entry.key.name().to_owned(), entry.record.token)).collect()
}

impl<'a> Follower<'a> {
    async fn new(it: &'a Fixture<'a>, from: WatchFrom, state: State) -> Self {
        Self { it, watch: it.watch(from).await, state }
    }

    async fn listing(&self) -> State {
        state_of(&self.it.walk("", 100).await)
    }

    /// Takes in one event.
    async fn step(&mut self) {
        match next_event(&mut self.watch).await {
            WatchEvent::Resync(_) => self.state = self.listing().await,
            WatchEvent::Change(change) => {
                let name = change.key.name().to_owned();
                match change.kind {
                    ChangeKind::Put { token, .. } => self.state.insert(name, token),
                    ChangeKind::Gone => self.state.remove(&name),
                };
            }
        }
    }

    /// Takes in events until it knows what the listing knows. The writers must have finished.
    async fn converge(&mut self) {
        let listing = self.listing().await;
        while self.state != listing {
            self.step().await;
        }
    }
}

/// A watch from the position of a page tells all that has happened since.
pub async fn watch_from_a_page_misses_nothing(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for name in ["changed", "deleted", "kept"] {
        it.put(name, "x").await;
    }
    let page = it.page("", PageRequest::default()).await;
    it.put("new", "x").await;
    it.put("changed", "y").await;
    it.delete("deleted").await;
    let from = WatchFrom::After(page.revision);
    let mut follower = Follower::new(&it, from, state_of(&page.entries)).await;
    follower.converge().await;
    it.put("later", "x").await;
    follower.converge().await;
}

/// So does a watch from a page of a partition that nobody had written to.
pub async fn watch_from_an_empty_page_misses_nothing(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let page = it.page("", PageRequest::default()).await;
    it.beside("other").put("a", "x").await;
    it.put("a", "x").await;
    let mut follower = Follower::new(&it, WatchFrom::After(page.revision), State::new()).await;
    follower.converge().await;
    it.delete("a").await;
    follower.converge().await;
}

/// So does a watch from before the partition was emptied, even if the store forgot it since.
pub async fn watch_from_before_an_emptied_partition_misses_nothing(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("deleted", "x").await;
    let page = it.page("", PageRequest::default()).await;
    it.delete("deleted").await;
    let (from, known) = (WatchFrom::After(page.revision), state_of(&page.entries));
    Follower::new(&it, from, known.clone()).await.converge().await;
    it.put("anew", "x").await;
    Follower::new(&it, from, known).await.converge().await;
}

/// A watch that is resumed after a change goes on with the next one.
pub async fn watch_resumes_after_a_revision(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut watch = it.watch(WatchFrom::Now).await;
    it.put("a", "x").await;
    let revision = next_change(&mut watch).await.revision;
    drop(watch);
    let b = it.put("b", "x").await;
    let c = it.put("c", "x").await;
    let mut watch = it.watch(WatchFrom::After(revision)).await;
    for (name, token) in [("b", b), ("c", c)] {
        let change = next_change(&mut watch).await;
        assert_eq!(change.key, it.key(name));
        assert_eq!(change.kind, ChangeKind::Put { token, tag: None, expires_at: None });
    }
    let d = it.put("d", "x").await;
    let change = next_change(&mut watch).await;
    assert_eq!(change.kind, ChangeKind::Put { token: d, tag: None, expires_at: None });
}

/// A position of another history, or beyond this one, is a gap.
pub async fn watch_from_another_epoch_resyncs(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "x").await;
    let here = it.page("", PageRequest::default()).await.revision;
    for foreign in [
        Revision { epoch: !here.epoch, ..here },
        Revision { epoch: !here.epoch, sequence: 0 },
        Revision { sequence: here.sequence + 1_000_000, ..here },
    ] {
        let mut watch = it.watch(WatchFrom::After(foreign)).await;
        let event = next_event(&mut watch).await;
        assert!(matches!(event, WatchEvent::Resync(_)), "{event:?} after {foreign}");
        let token = it.put("a", "y").await;
        let change = next_change(&mut watch).await;
        assert_eq!(change.kind, ChangeKind::Put { token, tag: None, expires_at: None });
    }
}

/// Far more changes than any backend remembers: each kind of change among the first ones.
async fn overrun(it: &Fixture<'_>) {
    it.put("rewritten first", "x").await;
    it.delete("deleted first").await;
    for index in 0..limits::WATCH_BACKLOG {
        it.put(&format!("{index:04}"), "x").await;
        it.put("busy", "x").await;
    }
    it.delete("0001").await;
}

/// A watcher that did not read, and one that was away, end up with what the listing says.
pub async fn watch_never_loses_silently_when_it_lags(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("rewritten first", "x").await;
    it.put("deleted first", "x").await;
    let page = it.page("", PageRequest::default()).await;
    let known = state_of(&page.entries);
    let mut slow = Follower::new(&it, WatchFrom::Now, known.clone()).await;
    overrun(&it).await;
    slow.converge().await;
    let mut away = Follower::new(&it, WatchFrom::After(page.revision), known).await;
    away.converge().await;
}

/// After a gap the watch goes on, with what is committed after it.
pub async fn watch_goes_on_after_a_gap(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut follower = Follower::new(&it, WatchFrom::Now, State::new()).await;
    for _ in 0..2 {
        overrun(&it).await;
        follower.converge().await;
        for name in ["a", "b"] {
            it.put(name, "x").await;
            follower.converge().await;
            it.delete(name).await;
            follower.converge().await;
        }
    }
}

/// A watcher that never reads costs a writer nothing.
pub async fn watch_never_blocks_a_writer(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let idle = [it.watch(WatchFrom::Now).await, it.watch(WatchFrom::Now).await];
    let writing = async {
        for _ in 0..2 {
            overrun(&it).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), writing).await.expect("a writer was blocked");
    drop(idle);
    assert_eq!(it.get("busy").await.unwrap().token.version(), 2 * limits::WATCH_BACKLOG as u64);
}

/// Whatever is written concurrently, a watcher ends with the listing.
pub async fn watch_converges_under_concurrent_writes(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let handles = [Arc::clone(&it.store), harness.connect().await];
    let mut early = Follower::new(&it, WatchFrom::Now, State::new()).await;
    let writers: Vec<_> = (0..8)
        .map(|writer: usize| {
            let store = Arc::clone(&handles[writer % 2]);
            let keys = (0..8).map(|name| it.key(&name.to_string())).collect();
            tokio::spawn(write_at_random(store, keys, writer))
        })
        .collect();
    // One that reads while they write, and one that begins in the middle from a listing.
    for _ in 0..10 {
        early.step().await;
    }
    let page = it.page("", PageRequest::default()).await;
    let from = WatchFrom::After(page.revision);
    let mut late = Follower::new(&it, from, state_of(&page.entries)).await;
    for writer in writers {
        writer.await.unwrap();
    }
    early.converge().await;
    late.converge().await;
}

async fn write_at_random(store: Arc<dyn StorageBackend>, keys: Vec<Key>, seed: usize) {
    // A multiplicative generator suffices to mix the order, and repeats with the seed.
    let mut state = seed as u64 + 1;
    for _ in 0..40 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = &keys[(state >> 33) as usize % keys.len()];
        let result = match (state >> 40) % 4 {
            0 => store.delete(key, Precondition::Any).await.map(drop),
            1 => store.put_if_version(key, write("x"), Precondition::Absent).await.map(drop),
            _ => store.put(key, write("x")).await.map(drop),
        };
        match result {
            Ok(()) | Err(StoreError::VersionConflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
