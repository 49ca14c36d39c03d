//! A replica that takes over from its primary.
//!
//! Replication is asynchronous, so Redis may lose what was acknowledged in the moment before a
//! failover. What had reached the replica is there afterwards; calls come back by themselves, in
//! bounded time; watches go on or say `Resync`.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tenure::clock::Clock;
use tenure::store::{
    ChangeKind, Key, Partition, RedisBackend, StorageBackend as _, StoreError, VersionToken,
    WatchEvent, WatchFrom,
};
use tokio::sync::watch;

use crate::proxy::Proxy;
use crate::server::{Cluster, Server};
use crate::store::{impatient, key, open, open_with, options, when_back, write};

/// A call comes to its end in about three seconds: connecting, sending and settling, each with its
/// timeout and retries. One that has none would go on for ever, so there is room for a machine that
/// stands still.
const BOUND: Duration = Duration::from_secs(60);

/// One primary for each of the first three nodes, one replica for each of the others. A node that is
/// silent for the timeout counts as gone, also when the machine is only slow.
fn cluster_with_replicas() -> Cluster {
    let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];
    let cluster = Cluster::of::<6>(std::array::from_fn(|_| Server::start(&args)));
    for replica in &cluster.nodes[3..] {
        let synced = |info: &str| info.contains("master_link_status:up");
        replica.wait_for("replication", &["INFO", "replication"], synced);
    }
    cluster
}

/// Partitions on every primary.
fn keys() -> Vec<Key> {
    (0..12).map(|it| Partition::new([&*it.to_string()]).unwrap().key("a").unwrap()).collect()
}

/// Writes until told to stop, and tells the last token that was acknowledged.
async fn keep_writing(store: RedisBackend, key: Key, stop: Arc<AtomicBool>) -> VersionToken {
    let mut acknowledged = None;
    while !stop.load(Ordering::SeqCst) {
        let started = Instant::now();
        match store.put(&key, write("x")).await {
            Ok(token) => acknowledged = Some(token),
            Err(StoreError::Unavailable { .. } | StoreError::OutcomeUnknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(started.elapsed() < BOUND, "a call took {:?}", started.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    acknowledged.unwrap()
}

/// What a watcher of one record knows: its last version, or that it has to look.
async fn follow(store: RedisBackend, key: Key, known: watch::Sender<Option<u64>>) {
    let mut watch = store.watch(key.partition(), WatchFrom::Now).await.unwrap();
    known.send_replace(Some(0));
    while let Some(event) = watch.next().await {
        match event.unwrap() {
            WatchEvent::Change(change) if change.key != key => {}
            WatchEvent::Change(change) => {
                let ChangeKind::Put { token, .. } = change.kind else { panic!("{change:?}") };
                known.send_replace(Some(token.version()));
            }
            WatchEvent::Resync(_) => {
                let record = loop {
                    match store.get(&key).await {
                        Ok(record) => break record,
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                };
                known.send_replace(Some(record.map_or(0, |record| record.token.version())));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_a_killed_primary_takes_over_under_load() {
    let mut cluster = cluster_with_replicas();
    let store = open_with(&cluster.url(), impatient(), Clock::system()).await;
    // What has reached the replicas.
    for key in keys() {
        let kept = key.partition().key("kept").unwrap();
        when_back(async || store.put(&kept, write("x")).await).await;
    }
    for primary in &cluster.nodes[..3] {
        primary.wait_for("replica in step", &["INFO", "replication"], in_step);
    }
    let mut watches = Vec::new();
    for key in keys() {
        let (known, mut knows) = watch::channel(None);
        tokio::spawn(follow(store.clone(), key, known));
        knows.wait_for(Option::is_some).await.unwrap();
        watches.push(knows);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = keys()
        .into_iter()
        .map(|key| tokio::spawn(keep_writing(store.clone(), key, stop.clone())))
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.nodes[0].kill();
    let killed = Instant::now();
    let probe = keys();
    while probe.len() != writable(&store, &probe).await {
        assert!(killed.elapsed() < BOUND, "calls do not come back");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::SeqCst);
    for ((key, writer), mut knows) in keys().into_iter().zip(writers).zip(watches) {
        let kept = key.partition().key("kept").unwrap();
        let found = when_back(async || store.get(&kept).await).await;
        assert!(found.is_some(), "{kept:?} had reached the replica");
        let acknowledged = writer.await.unwrap();
        let record = when_back(async || store.get(&key).await).await.unwrap();
        assert_eq!(record.token, acknowledged);
        let version = acknowledged.version();
        let told = knows.wait_for(|known| *known == Some(version));
        let told = tokio::time::timeout(BOUND, told).await;
        assert!(told.is_ok(), "{key:?} is at {version}, and its watch is silent");
    }
}

/// How many of the keys can be written to, in another record of theirs.
async fn writable(store: &RedisBackend, keys: &[Key]) -> usize {
    let puts = keys.iter().map(|key| async {
        let key = key.partition().key("probe").unwrap();
        store.put(&key, write("x")).await.is_ok()
    });
    futures::future::join_all(puts).await.into_iter().filter(|ok| *ok).count()
}

/// What a primary says when its replica has received everything.
fn in_step(info: &str) -> bool {
    let number = |after: &str| {
        let rest = &info[info.find(after)? + after.len()..];
        rest.split(|it: char| !it.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let (sent, received) = (number("master_repl_offset:"), number(",offset="));
    sent.is_some() && sent == received
}

/// Has the replica relieve its primary, which waits for it to be in step, so nothing may be lost.
fn promote(replica: &Server) {
    // Redis gives up after five seconds, and wants to be asked again.
    let asked: Cell<Option<Instant>> = Cell::default();
    replica.wait_for("promotion", &["INFO", "replication"], |info| {
        let done = info.contains("role:master");
        if !done && asked.get().is_none_or(|at| at.elapsed() > Duration::from_secs(6)) {
            replica.cli(&["CLUSTER", "FAILOVER"]);
            asked.set(Some(Instant::now()));
        }
        done
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_relieved_loses_no_acknowledged_write() {
    let cluster = cluster_with_replicas();
    let store = open(&cluster.url()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = keys()
        .into_iter()
        .map(|key| tokio::spawn(keep_writing(store.clone(), key, stop.clone())))
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for replica in &cluster.nodes[3..] {
        promote(replica);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::SeqCst);
    for (key, writer) in keys().into_iter().zip(writers) {
        let acknowledged = writer.await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().unwrap().token, acknowledged);
    }
}

#[tokio::test]
async fn a_write_that_meets_a_demoted_primary_goes_to_the_new_one() {
    let primary = Server::start(&[]);
    let port = primary.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    replica.wait_for("link", &["INFO", "replication"], |it| it.contains("master_link_status:up"));
    // A proxy stands for the address that follows the primary.
    let address = Proxy::start(primary.port).await;
    let store = open_with(&address.url(), options(), Clock::system()).await;
    store.put(&key("a"), write("x")).await.unwrap();
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    primary.cli(&["REPLICAOF", "127.0.0.1", &replica.port.to_string()]);
    primary.wait_for("demotion", &["INFO", "replication"], |it| it.contains("role:slave"));
    // The connection to the former primary stays open.
    address.retarget(replica.port);
    let token = store.put(&key("b"), write("y")).await.unwrap();
    assert_eq!(store.get(&key("b")).await.unwrap().unwrap().token, token);
}
