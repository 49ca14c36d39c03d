//! A store outlives the runtime on which it was opened.

use std::time::Duration;

use tenure::clock::Clock;
use tenure::store::{StorageBackend as _, WatchEvent, WatchFrom};
use tokio::runtime::{Builder, Runtime};

use crate::server::{Cluster, shared_cluster_url, shared_url};
use crate::store::{key, open, open_with, options, partition, write};
use crate::subscribing::{hears_of, next};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn goes_on(url: &str) {
    let ending = runtime();
    let store = ending.block_on(open(url));
    drop(ending);
    // More than one, since the first may be the one that finds out.
    runtime().block_on(async {
        for version in 1..=3 {
            assert_eq!(store.put(&key("a"), write("x")).await.unwrap().version(), version);
            assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, "x");
        }
    });
    // And again, on a connection that was made anew.
    let version = runtime().block_on(store.put(&key("a"), write("x"))).unwrap().version();
    assert_eq!(version, 4);
}

#[test]
fn a_store_goes_on_when_its_runtime_ends() {
    goes_on(&shared_url());
}

#[test]
fn a_store_on_a_cluster_goes_on_when_its_runtime_ends() {
    goes_on(&shared_cluster_url());
}

/// The nodes have it, and cannot answer before the connection is gone.
#[test]
fn a_write_that_is_under_way_when_its_runtime_ends_is_made_once() {
    let cluster = Cluster::start();
    let home = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let store = home.block_on(open(&cluster.url()));
    // The script is there, and so is the connection to the node.
    home.block_on(store.put(&key("a"), write("x"))).unwrap();
    cluster.nodes.iter().for_each(|node| node.pause());
    std::thread::scope(|threads| {
        let put = threads.spawn(|| runtime().block_on(store.put(&key("a"), write("y"))));
        // Time to leave, and then to find that it is answered no more.
        std::thread::sleep(Duration::from_millis(300));
        drop(home);
        std::thread::sleep(Duration::from_millis(100));
        cluster.nodes.iter().for_each(|node| node.resume());
        assert_eq!(put.join().unwrap().unwrap().version(), 2);
    });
    let found = runtime().block_on(store.get(&key("a"))).unwrap().unwrap();
    assert_eq!((found.token.version(), &found.value[..]), (2, &b"y"[..]));
}

/// Every watcher of a process shares one connection, which lives on the runtime of the first.
fn takes_no_watch_along(url: String) {
    let (ending, staying) = (runtime(), runtime());
    let options = options();
    let watching = ending.block_on(open_with(&url, options.clone(), Clock::system()));
    let (mut live, mut lagging) = ending.block_on(async {
        let live = watching.watch(&partition(), WatchFrom::Now).await.unwrap();
        (live, watching.watch(&partition(), WatchFrom::Now).await.unwrap())
    });
    drop(ending);
    staying.block_on(async {
        let writing = open_with(&url, options, Clock::system()).await;
        writing.put(&key("a"), write("x")).await.unwrap();
        // While nobody listens.
        hears_of(&mut live, "a").await;
        let mut new = watching.watch(&partition(), WatchFrom::Now).await.unwrap();
        writing.put(&key("b"), write("x")).await.unwrap();
        hears_of(&mut live, "b").await;
        hears_of(&mut new, "b").await;
        // More than the log is sure to hold.
        for _ in 0..1_000 {
            writing.put(&key("c"), write("x")).await.unwrap();
        }
        let gap = next(&mut lagging).await;
        assert!(matches!(gap, Some(Ok(WatchEvent::Resync(_)))), "a silent loss: {gap:?}");
    });
}

#[test]
fn a_runtime_that_ends_takes_no_watch_along() {
    takes_no_watch_along(shared_url());
}

#[test]
fn a_runtime_that_ends_takes_no_watch_of_a_cluster_along() {
    takes_no_watch_along(shared_cluster_url());
}
