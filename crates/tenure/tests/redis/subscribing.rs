//! Watches that cannot be made, or cannot go on: the user may not subscribe.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tenure::Owner;
use tenure::clock::Clock;
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::store::{
    ChangeKind, Partition, RedisBackend, RedisOptions, StorageBackend as _, StoreError, Watch,
    WatchEvent, WatchFrom,
};
use tenure::tasks::{Call, NewTask, Status, TaskError, TaskStore};

use crate::server::{Cluster, Server};
use crate::store::{STANDSTILL, key, open_with, partition, patient, write};
use crate::warnings::Warnings;

/// The user `me`, who has all rights but what `rights` say.
async fn open_as_me(server: &Server, rights: &[&str]) -> RedisBackend {
    let user = ["ACL", "SETUSER", "me", "on", ">pw", "~tenure*", "&tenure*", "+@all"];
    assert_eq!(server.cli(&[&user, rights].concat()), "OK");
    let url = format!("redis://me:pw@127.0.0.1:{}", server.port);
    open_with(&url, patient(RedisOptions::default()), Clock::system()).await
}

fn is_denied(error: &StoreError) -> bool {
    // As calls say it, and soon: what lasts is not waited for.
    matches!(error, StoreError::Engine { source: Some(_), .. })
        && !error.is_retryable()
        && error.to_string().contains("denies access")
}

pub async fn next(watch: &mut Watch) -> Option<Result<WatchEvent, StoreError>> {
    tokio::time::timeout(12 * STANDSTILL, watch.next()).await.expect("the watch is silent")
}

pub async fn hears_of(watch: &mut Watch, name: &str) {
    match next(watch).await {
        Some(Ok(WatchEvent::Change(change))) => {
            assert_eq!(change.key, key(name));
            assert!(matches!(change.kind, ChangeKind::Put { .. }));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_user_who_may_not_subscribe_is_told_so_until_it_may() {
    let server = Server::start(&[]);
    for (without, with) in [("-subscribe", "+subscribe"), ("resetchannels", "&tenure*")] {
        let store = open_as_me(&server, &[without]).await;
        for _ in 0..2 {
            let watch = store.watch(&partition(), WatchFrom::Now).await.map(drop);
            assert!(matches!(&watch, Err(error) if is_denied(error)), "{without}: {watch:?}");
        }
        assert_eq!(server.cli(&["ACL", "SETUSER", "me", with]), "OK");
        let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
        store.put(&key("a"), write("x")).await.unwrap();
        hears_of(&mut watch, "a").await;
    }
}

#[tokio::test]
async fn a_password_that_is_no_longer_right_is_said_to_who_watches() {
    let server = Server::start(&[]);
    let store = open_as_me(&server, &[]).await;
    server.cli(&["ACL", "SETUSER", "me", "resetpass", ">other"]);
    let watch = store.watch(&partition(), WatchFrom::Now).await.map(drop);
    assert!(matches!(&watch, Err(error) if is_denied(error)), "{watch:?}");
    assert!(!format!("{watch:?}").contains("pw"), "{watch:?}");
}

/// Each node has its own users, so it takes the word of all.
#[tokio::test]
async fn a_password_that_no_node_of_a_cluster_takes_is_said_to_who_watches() {
    let cluster = Cluster::start();
    let each = |args: &[&str]| {
        for node in &cluster.nodes {
            assert_eq!(node.cli(args), "OK");
        }
    };
    each(&["ACL", "SETUSER", "me", "on", ">pw", "~tenure*", "&tenure*", "+@all"]);
    let url = cluster.url().replace("//", "//me:pw@");
    let options = patient(RedisOptions::default());
    let store = open_with(&url, options, Clock::system()).await;
    // Two do not know it any more, and the third still does.
    for node in &cluster.nodes[..2] {
        node.cli(&["ACL", "SETUSER", "me", "resetpass", ">other"]);
    }
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    store.put(&key("a"), write("x")).await.unwrap();
    hears_of(&mut watch, "a").await;
    each(&["ACL", "SETUSER", "me", "resetpass", ">other"]);
    cluster.nodes[2].cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let ended = next(&mut watch).await;
    assert!(matches!(&ended, Some(Err(error)) if is_denied(error)), "{ended:?}");
}

/// One who may no longer subscribe costs those who may nothing.
#[tokio::test]
async fn a_watch_whose_right_is_withdrawn_ends_in_an_error_and_not_in_silence() {
    let server = Server::start(&[]);
    let store = open_as_me(&server, &[]).await;
    let mut watches = Vec::new();
    for name in ["p", "q"] {
        let partition = Partition::new([name]).unwrap();
        watches.push(store.watch(&partition, WatchFrom::Now).await.unwrap());
    }
    // Redis ends the connection of who listens to what it may no longer hear.
    server.cli(&["ACL", "SETUSER", "me", "resetchannels", "&tenure:{/p}:log"]);
    let ended = next(&mut watches[1]).await;
    assert!(matches!(&ended, Some(Err(error)) if is_denied(error)), "{ended:?}");
    assert!(next(&mut watches[1]).await.is_none());
    store.put(&key("a"), write("x")).await.unwrap();
    hears_of(&mut watches[0], "a").await;
}

struct Echo;

#[async_trait::async_trait]
impl Handler for Echo {
    fn policy(&self, _: &str) -> Option<Policy> {
        Some(Policy::default())
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        Ok(Exit::Complete(task.call().arguments.clone().into()))
    }
}

#[tokio::test]
async fn a_task_that_cannot_be_followed_says_so_and_runs_when_it_can() {
    let server = Server::start(&[]);
    let store = open_as_me(&server, &["-subscribe"]).await;
    let tasks = TaskStore::new(Arc::new(store), Clock::system());
    let warnings = Warnings::default();
    let _taken_down = tracing::subscriber::set_default(warnings.clone());
    let worker = Worker::start(tasks.clone(), Arc::new(Echo), WorkerOptions::default());
    let worker = worker.await.unwrap();
    let owner = Owner::new("me").unwrap();
    let task = NewTask::new(Call::new("echo", Default::default()));
    let task = worker.submit(&owner, task).await.unwrap();
    let is_said = |text: &String| {
        text.contains("following the task again")
            && text.contains(task.id.as_str())
            && text.contains("denies access")
    };
    let started = Instant::now();
    while !warnings.taken().iter().any(is_said) {
        assert!(started.elapsed() < 12 * STANDSTILL, "{:?}", warnings.taken());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(tasks.get(&owner, &task.id).await.unwrap().status, Status::Working);
    assert_eq!(server.cli(&["ACL", "SETUSER", "me", "+subscribe"]), "OK");
    while tasks.get(&owner, &task.id).await.unwrap().status != Status::Completed {
        assert!(started.elapsed() < 24 * STANDSTILL, "{:?}", warnings.taken());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn who_follows_a_task_is_told_when_the_right_to_listen_is_withdrawn() {
    let server = Server::start(&[]);
    let store = open_as_me(&server, &[]).await;
    let tasks = TaskStore::new(Arc::new(store), Clock::system());
    let owner = Owner::new("me").unwrap();
    let new = NewTask::new(Call::new("echo", Default::default()));
    let task = tasks.create(&owner, new).await.unwrap();
    let mut states = Box::pin(tasks.follow(&owner, &task.id).await.unwrap());
    assert_eq!(states.next().await.unwrap().unwrap(), task);
    // Redis ends the connection of who listens to what it may no longer hear.
    server.cli(&["ACL", "SETUSER", "me", "resetchannels"]);
    let told = tokio::time::timeout(12 * STANDSTILL, states.next()).await.expect("silence");
    assert!(matches!(&told, Some(Err(TaskError::Store(error))) if is_denied(error)), "{told:?}");
    assert!(states.next().await.is_none());
}
