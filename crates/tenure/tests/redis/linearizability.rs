//! Histories over Redis are linearizable, through kills and lost answers.

#[path = "../history/mod.rs"]
mod history;

use std::sync::Arc;
use std::time::Duration;

use tenure::clock::Clock;
use tenure::store::{RedisOptions, StorageBackend};

use self::history::judge;
use crate::proxy::Proxy;
use crate::server::{Server, shared_cluster_url, shared_url};
use crate::store::{impatient, key, open_with, options};

async fn handles(url: &str) -> [Arc<dyn StorageBackend>; 2] {
    handles_with(url, options()).await
}

async fn handles_with(url: &str, options: RedisOptions) -> [Arc<dyn StorageBackend>; 2] {
    [
        Arc::new(open_with(url, options.clone(), Clock::system()).await),
        Arc::new(open_with(url, options, Clock::system()).await),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_linearizable() {
    let stores = handles(&shared_url()).await;
    for round in 0..50 {
        judge(&stores, &key(&format!("{round}")), 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_linearizable() {
    let stores = handles(&shared_cluster_url()).await;
    for round in 0..50 {
        judge(&stores, &key(&format!("{round}")), 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_linearizable_while_answers_are_lost() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let stores = handles(&proxy.url()).await;
    for round in 0..30 {
        let losing = proxy.clone();
        let losing = tokio::spawn(async move {
            for _ in 0..4 {
                losing.lose_answers(1);
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        });
        judge(&stores, &key(&format!("{round}")), 10).await;
        losing.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_linearizable_while_it_is_killed() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let stores = handles(&server.url()).await;
    for round in 0..5 {
        let stores = stores.clone();
        let judging =
            tokio::spawn(async move { judge(&stores, &key(&format!("{round}")), 40).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        server.kill();
        server.launch();
        judging.await.unwrap();
    }
}

/// Whoever does not wait for the server to come back never learns what became of a write that was
/// under way.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_linearizable_whatever_became_of_writes_whose_outcome_is_unknown() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let stores = handles_with(&server.url(), impatient().retries(0)).await;
    let mut unknown = Vec::new();
    // What a kill hits is a matter of luck.
    while unknown.len() < 5 || unknown.iter().sum::<usize>() == 0 {
        assert!(unknown.len() < 50, "no write had an unknown outcome");
        let (stores, key) = (stores.clone(), key(&format!("{}", unknown.len())));
        let judging = tokio::spawn(async move { judge(&stores, &key, 40).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        server.kill();
        server.launch();
        unknown.push(judging.await.unwrap());
    }
    println!("writes of unknown outcome, kill by kill: {unknown:?}");
}
