//! Histories over Redis are linearizable, through kills and lost answers.

#[path = "../history/mod.rs"]
mod history;

use std::sync::Arc;
use std::time::Duration;

use tenure::clock::Clock;
use tenure::store::StorageBackend;

use self::history::judge;
use crate::proxy::Proxy;
use crate::server::{Server, shared_cluster_url, shared_url};
use crate::store::{key, open_with, options};

async fn handles(url: &str) -> [Arc<dyn StorageBackend>; 2] {
    let options = options();
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
