//! A slot of a cluster that moves to another node, key by key: what becomes of calls meanwhile.
//!
//! What needs a key that has moved, or one that is not there, is refused until the whole slot has
//! moved. It is refused as a whole, and soon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use tenure::clock::{Clock, Timestamp};
use tenure::store::{
    ChangeKind, Key, Precondition, Record, RedisBackend, StorageBackend as _, StoreError,
    VersionToken, Watch, WatchEvent, WatchFrom,
};
use tokio::sync::watch;

use crate::server::{Cluster, Server};
use crate::store::{STANDSTILL, key, open_with, options, partition, when_back, write};

/// A call whose keys have moved is tried three times, which takes a moment; waiting for a timeout
/// would take six of these.
const BOUND: Duration = STANDSTILL.saturating_mul(3);

/// The move of the slot that the partition of the tests is in.
struct Migration {
    cluster: Cluster,
    /// What the keys of the partition begin with.
    base: String,
    slot: String,
    from: usize,
    to: usize,
}

impl Migration {
    /// A cluster in which nothing moves yet, and a store on it.
    async fn prepare() -> (Self, RedisBackend) {
        let cluster = Cluster::start();
        let options = options();
        let base = format!("{}:{{/p}}:", options.prefix);
        let store = open_with(&cluster.url(), options, Clock::system()).await;
        let slot = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", &base]);
        let owns = |node: &Server| !node.cli(&["EXISTS", &base]).contains("MOVED");
        let from = cluster.nodes.iter().position(owns).unwrap();
        let to = (from + 1) % cluster.nodes.len();
        (Self { cluster, base, slot, from, to }, store)
    }

    fn from(&self) -> &Server {
        &self.cluster.nodes[self.from]
    }

    fn to(&self) -> &Server {
        &self.cluster.nodes[self.to]
    }

    fn begin(&self) {
        let [from, to] = [self.from(), self.to()].map(|node| node.cli(&["CLUSTER", "MYID"]));
        let set_slot = ["CLUSTER", "SETSLOT", &self.slot];
        let said = self.to().cli(&[&set_slot[..], &["IMPORTING", &from]].concat());
        assert_eq!(said, "OK");
        let said = self.from().cli(&[&set_slot[..], &["MIGRATING", &to]].concat());
        assert_eq!(said, "OK");
    }

    /// Moves these of the partition's keys.
    fn carry(&self, keys: &[&str]) {
        let keys: Vec<_> = keys.iter().map(|key| format!("{}{key}", self.base)).collect();
        let port = self.to().port.to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "60000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        // Somebody may have deleted them.
        let said = self.from().cli(&migrate);
        assert!(["OK", "NOKEY"].contains(&&*said), "{keys:?}: {said}");
    }

    /// Moves what is left, and gives the slot to the other node.
    fn finish(&self) {
        loop {
            let left = self.from().cli(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "100"]);
            if left.is_empty() {
                break;
            }
            let left: Vec<_> = left.lines().map(|key| &key[self.base.len()..]).collect();
            self.carry(&left);
        }
        let id = self.to().cli(&["CLUSTER", "MYID"]);
        // The two first; who asks one of the others finds the slot, too.
        for node in [self.to(), self.from()].into_iter().chain(&self.cluster.nodes) {
            assert_eq!(node.cli(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &id]), "OK");
        }
    }
}

/// What the call came to; `None` when it was refused for now.
async fn done<T>(call: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
    let done = tokio::time::timeout(BOUND, call).await.expect("the call hangs");
    match done {
        Ok(done) => Some(done),
        Err(error) => {
            assert!(error.is_retryable(), "{error:?}");
            None
        }
    }
}

/// The records there are.
async fn listed(store: &RedisBackend) -> Result<BTreeMap<Key, VersionToken>, StoreError> {
    let page = store.list_by_prefix(&partition(), "", Default::default()).await?;
    assert!(page.damaged.is_empty() && page.next.is_none());
    Ok(page.entries.into_iter().map(|entry| (entry.key, entry.record.token)).collect())
}

/// What a watcher knows of the partition.
#[derive(Default)]
struct View {
    records: BTreeMap<Key, VersionToken>,
    resyncs: usize,
}

/// Follows the partition, and lists again when the watch says so.
async fn look_on(mut watch: Watch, store: RedisBackend, view: watch::Sender<View>) {
    while let Some(event) = watch.next().await {
        match event.unwrap() {
            WatchEvent::Change(change) => view.send_modify(|view| match change.kind {
                ChangeKind::Put { token, .. } => {
                    view.records.insert(change.key, token);
                }
                ChangeKind::Gone => {
                    view.records.remove(&change.key);
                }
            }),
            WatchEvent::Resync(_) => {
                let records = loop {
                    match listed(&store).await {
                        Ok(records) => break records,
                        Err(error) => assert!(error.is_retryable(), "{error:?}"),
                    }
                };
                view.send_modify(|view| {
                    view.records = records;
                    view.resyncs += 1;
                });
            }
        }
    }
}

async fn watched(store: &RedisBackend) -> watch::Receiver<View> {
    let watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    let (view, seen) =
        watch::channel(View { records: listed(store).await.unwrap(), ..View::default() });
    tokio::spawn(look_on(watch, store.clone(), view));
    seen
}

/// Waits until a watcher knows what there is. Tells how often it had to list again.
async fn resyncs_until_it_knows_all(
    view: &mut watch::Receiver<View>,
    store: &RedisBackend,
) -> usize {
    let there = listed(store).await.unwrap();
    let knows = view.wait_for(|view| view.records == there);
    let view = tokio::time::timeout(12 * STANDSTILL, knows).await;
    view.expect("the watch is silent").unwrap().resyncs
}

const CALLS: [&str; 8] =
    ["get", "get nothing", "overwrite", "expire", "count", "create", "delete", "list"];

/// Far off, and another in each round.
fn deadline(round: u64) -> Timestamp {
    Timestamp::from_millis(4_000_000_000_000 + round)
}

/// Makes each kind of call, on records that are there for this round, and tells which are done.
async fn calls_done(store: &RedisBackend, round: u64) -> Vec<&'static str> {
    let of = |name: &str| key(&format!("{name}-{round}"));
    let done = [
        done(store.get(&key("kept"))).await.is_some_and(|it| it.is_some()),
        done(store.get(&key("nothing"))).await.is_some(),
        done(store.put(&key("kept"), write(&round.to_string()))).await.is_some(),
        done(store.put(&key("fleeting"), write("x").expires_at(deadline(round)))).await.is_some(),
        done(store.put(&of("count"), write("x").counted_within(100))).await.is_some(),
        done(store.put(&of("create"), write("x"))).await.is_some(),
        done(store.delete(&of("delete"), Precondition::Any)).await.is_some(),
        done(listed(store)).await.is_some(),
    ];
    CALLS.into_iter().zip(done).filter_map(|(call, done)| done.then_some(call)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_needs_a_key_that_has_moved_is_refused_and_has_done_nothing() {
    let (migration, store) = Migration::prepare().await;
    for name in ["kept", "fleeting"] {
        store.put(&key(name), write("x")).await.unwrap();
    }
    store.put(&key("counted"), write("x").counted_within(100)).await.unwrap();
    for round in 0..6 {
        store.put(&key(&format!("count-{round}")), write("x")).await.unwrap();
        store.put(&key(&format!("delete-{round}")), write("x")).await.unwrap();
    }
    let mut view = watched(&store).await;
    migration.begin();
    // What is new is a key that is not there, and so are the sets of the past, which a listing asks.
    let all_but_new = ["get", "overwrite", "expire", "count", "delete"];
    assert_eq!(calls_done(&store, 0).await, all_but_new);
    migration.carry(&["counted"]);
    assert_eq!(calls_done(&store, 1).await, ["get", "overwrite", "expire"]);
    migration.carry(&["index"]);
    assert_eq!(calls_done(&store, 2).await, ["get", "overwrite"]);
    migration.carry(&["log"]);
    assert_eq!(calls_done(&store, 3).await, ["get"]);
    migration.carry(&["record:kept"]);
    assert!(calls_done(&store, 4).await.is_empty());
    migration.finish();

    let kept = when_back(async || store.get(&key("kept")).await).await.unwrap();
    assert_eq!(kept.value, "2");
    let fleeting = store.get(&key("fleeting")).await.unwrap().unwrap();
    assert_eq!(fleeting.expires_at, Some(deadline(1)));
    assert_eq!(calls_done(&store, 5).await, CALLS);
    let names: Vec<_> = listed(&store).await.unwrap().into_keys().collect();
    let names: Vec<_> = names.iter().map(Key::name).collect();
    let counts = ["count-0", "count-1", "count-2", "count-3", "count-4", "count-5", "counted"];
    let rest = ["create-5", "delete-1", "delete-2", "delete-3", "delete-4", "fleeting", "kept"];
    assert_eq!(names, [counts, rest].concat());
    let counted = migration.to().cli(&["ZRANGE", &format!("{}counted", migration.base), "0", "-1"]);
    assert_eq!(counted.lines().collect::<Vec<_>>(), ["count-0", "count-5", "counted"]);
    assert_eq!(resyncs_until_it_knows_all(&mut view, &store).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_remembers_a_lost_write_is_not_deleted_by_half() {
    let (migration, store) = Migration::prepare().await;
    store.put(&key("counted"), write("x").counted_within(100)).await.unwrap();
    store.put(&key("a"), write("x")).await.unwrap();
    let record = format!("{}record:a", migration.base);
    let lost = format!("{:016x}@4000000000000;", 1);
    assert_eq!(migration.from().cli(&["HSET", &record, "fence", &lost]), "1");
    let mut view = watched(&store).await;
    migration.begin();
    assert_eq!(done(store.delete(&key("a"), Precondition::Any)).await, None);
    assert!(store.get(&key("a")).await.unwrap().is_some());
    migration.finish();
    assert!(when_back(async || store.delete(&key("a"), Precondition::Any).await).await);
    assert_eq!(resyncs_until_it_knows_all(&mut view, &store).await, 0);
    assert!(migration.to().cli(&["HGET", &record, "fence"]).starts_with(&lost));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_of_which_nothing_is_counted_any_more_keeps_its_log() {
    let (migration, store) = Migration::prepare().await;
    let counted = write("x").counted_within(100).expires_at(deadline(0));
    store.put(&key("a"), counted).await.unwrap();
    migration.begin();
    let token = store.put(&key("a"), write("y")).await.unwrap();
    for name in ["record:a", "index", "log"] {
        let ends_in = migration.from().cli(&["PTTL", &format!("{}{name}", migration.base)]);
        assert_eq!(ends_in, "-1", "{name}");
    }
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().token, token);
}

/// What a record may hold, by what its only writer was told: what was acknowledged last, and what may
/// have landed since.
struct Ledger {
    key: Key,
    /// What is deleted while the slot moves cannot be written again before it has moved.
    may_delete: bool,
    possible: Vec<Option<String>>,
}

impl Ledger {
    fn note(&mut self, value: Option<String>, outcome: Result<(), StoreError>) {
        match outcome {
            Ok(()) => self.possible = vec![value],
            Err(StoreError::Unavailable { .. }) => {}
            Err(StoreError::OutcomeUnknown(_)) => self.possible.push(value),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn check(&self, found: Option<&Record>) {
        let found = found.map(|it| String::from_utf8(it.value.to_vec()).unwrap());
        assert!(self.possible.contains(&found), "{found:?} is none of {:?}", self.possible);
    }

    /// One call, of the kind whose turn it is.
    async fn call(&mut self, store: &RedisBackend, turn: usize) {
        let value = turn.to_string();
        let deadline = deadline(turn as u64);
        match turn % 8 {
            6 if self.may_delete => {
                let deleted = store.delete(&self.key, Precondition::Any).await;
                self.note(None, deleted.map(drop));
            }
            0 | 4 | 6 => {
                let put = store.put(&self.key, write(&value)).await;
                self.note(Some(value), put.map(drop));
            }
            1 => {
                let put = store.put(&self.key, write(&value).expires_at(deadline)).await;
                self.note(Some(value), put.map(drop));
            }
            2 => {
                let put = write(&value).expires_at(deadline).counted_within(100);
                self.note(Some(value), store.put(&self.key, put).await.map(drop));
            }
            3 | 7 => match store.get(&self.key).await {
                Ok(record) => self.check(record.as_ref()),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            },
            _ => match store.list_by_prefix(&partition(), "", Default::default()).await {
                Ok(page) => {
                    let entry = page.entries.iter().find(|it| it.key == self.key);
                    self.check(entry.map(|it| &it.record));
                }
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            },
        }
    }

    async fn keep_calling(
        mut self,
        store: RedisBackend,
        turns: watch::Sender<usize>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let mut turn = 0;
        while !stop.load(Ordering::SeqCst) {
            let call = tokio::time::timeout(BOUND, self.call(&store, turn)).await;
            call.expect("a call hangs");
            turn += 1;
            turns.send_replace(turn);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self
    }
}

/// Waits until everybody has made each kind of call.
async fn round_of_calls(turns: &mut [watch::Receiver<usize>]) {
    for turns in turns {
        let begun = *turns.borrow();
        turns.wait_for(|turns| *turns >= begun + 9).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_load_loses_nothing() {
    let (migration, store) = Migration::prepare().await;
    let mut view = watched(&store).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (writers, mut turns): (Vec<_>, Vec<_>) = (0..6)
        .map(|number| {
            let (turns, counted) = watch::channel(0);
            let (key, may_delete) = (key(&number.to_string()), number % 3 == 0);
            let ledger = Ledger { key, may_delete, possible: vec![None] };
            (tokio::spawn(ledger.keep_calling(store.clone(), turns, stop.clone())), counted)
        })
        .unzip();
    round_of_calls(&mut turns).await;
    migration.begin();
    round_of_calls(&mut turns).await;
    let keys = migration.from().cli(&["CLUSTER", "GETKEYSINSLOT", &migration.slot, "100"]);
    let keys: Vec<_> = keys.lines().map(|key| &key[migration.base.len()..]).collect();
    for keys in keys.chunks(3) {
        migration.carry(keys);
        round_of_calls(&mut turns).await;
    }
    migration.finish();
    round_of_calls(&mut turns).await;
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        let ledger = writer.await.unwrap();
        let record = when_back(async || store.get(&ledger.key).await).await;
        ledger.check(record.as_ref());
        // As if nothing had been.
        let token = store.put(&ledger.key, write("last")).await.unwrap();
        assert_eq!(store.get(&ledger.key).await.unwrap().unwrap().token, token);
    }
    assert_eq!(listed(&store).await.unwrap().len(), 6);
    resyncs_until_it_knows_all(&mut view, &store).await;
}
