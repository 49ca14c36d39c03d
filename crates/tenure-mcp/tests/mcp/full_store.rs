//! A store that takes no writes: full, read-only from the start, or read-only from one moment to
//! the next.

use std::sync::Arc;

use serde_json::{Value, json};
use tenure::clock::{Clock, Timestamp};
use tenure::store::contract::{Mood, Unsteady};
use tenure::store::{
    FileBackend, FileOptions, Key, Partition, Precondition, StorageBackend, StoreError, Write,
};
use tenure::tasks::{Status, Task, TaskError, TaskStore};
use tenure_mcp::{Callers, DurableServer};

use crate::harness::{Server, named, open_keys, soon};
use crate::tools::Tools;

fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_785_240_000_000))
}

/// Lets the time pass in which a worker tries again.
fn pass_time(clock: &Clock) {
    let clock = clock.clone();
    tokio::spawn(async move {
        loop {
            clock.advance_millis(100);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
}

/// Writes until nothing more fits, however small, and tells what was written.
async fn fill(backend: &dyn StorageBackend) -> Vec<Key> {
    let ballast = Partition::new(["ballast"]).unwrap();
    let mut keys = Vec::new();
    for bytes in [100_000, 10_000, 1_000, 1] {
        loop {
            let key = ballast.key(keys.len().to_string()).unwrap();
            match backend.put(&key, Write::new(vec![1; bytes])).await {
                Ok(_) => keys.push(key),
                Err(StoreError::Full(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    keys
}

/// What a client is told while the store takes no writes.
async fn refused(server: &Server, id: &str) -> Vec<Value> {
    let client = server.client();
    vec![
        client.tool("wait", json!({ "pad": "x".repeat(20_000) })).await.unwrap_err(),
        client.update(id, json!({ "r1.name": named(&"x".repeat(10_000)) })).await.unwrap_err(),
    ]
}

fn assert_says(errors: &[Value], message: &str) {
    for error in errors {
        assert_eq!((&error["code"], &error["message"]), (&json!(-32603), &json!(message)));
    }
}

/// A task that is at work, and one that waits for its first answer.
async fn two_tasks(server: &Server) -> (String, String) {
    let client = server.client();
    let works = client.create("wait").await;
    let waits = client.create("rounds").await;
    server.task(&waits, |task| task.status == Status::InputRequired).await;
    server.begun(2).await;
    (works, waits)
}

/// Both tasks go on to their ends, and new ones can be made.
async fn assert_works(server: &Server, works: &str, waits: &str) {
    let client = server.client();
    server.task(works, |task| task.status == Status::Completed).await;
    let asks = |key: &'static str| move |task: &Task| open_keys(task).contains(&key.to_owned());
    for (key, name) in [("r1.name", "Ada"), ("r2.name", "Bo")] {
        server.task(waits, asks(key)).await;
        client.update(waits, json!({ key: named(name) })).await.unwrap();
    }
    server.task(waits, |task| task.status == Status::Completed).await;
    let task = client.get(waits).await.unwrap();
    assert_eq!(task["result"]["content"][0]["text"], "Ada and Bo");
    client.create("wait").await;
}

#[tokio::test]
async fn a_full_disk_is_a_clear_error_loses_nothing_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut options = FileOptions::default();
    options.max_bytes = Some(1 << 20);
    let path = folder.path().join("tenure.db");
    let backend = FileBackend::open_with(path, clock.clone(), options).await.unwrap();
    let backend: Arc<dyn StorageBackend> = Arc::new(backend);
    let server = Server::on(Arc::clone(&backend), clock.clone(), Callers::local()).await;
    let (works, waits) = two_tasks(&server).await;

    let ballast = fill(&*backend).await;
    assert_says(&refused(&server, &waits).await, "the task store is full");
    server.open_gate();
    for id in [&works, &waits] {
        server.client().get(id).await.unwrap();
    }

    for key in ballast {
        backend.delete(&key, Precondition::Any).await.unwrap();
    }
    pass_time(&clock);
    assert_works(&server, &works, &waits).await;
}

#[tokio::test]
async fn a_store_that_turns_read_only_is_a_clear_error_loses_nothing_and_passes() {
    let clock = clock();
    let backend = Arc::new(Unsteady::new(clock.clone()));
    let server = Server::on(backend.clone(), clock.clone(), Callers::local()).await;
    let (works, waits) = two_tasks(&server).await;

    backend.set(Mood::ReadOnly);
    let mut errors = refused(&server, &waits).await;
    errors.push(server.client().cancel(&waits).await.unwrap_err());
    assert_says(&errors, "the task store is read-only");
    server.open_gate();
    // The tool returns, and its result cannot be written for a long time.
    pass_time(&clock);
    clock.sleep_millis(60_000).await;
    assert_eq!(server.client().get(&works).await.unwrap()["status"], "working");

    backend.set(Mood::Well);
    assert_works(&server, &works, &waits).await;
}

#[tokio::test]
async fn a_server_does_not_start_on_a_store_that_it_can_only_read_and_leaves_it_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenure.db");
    let clock = clock();
    let open = |read_only| {
        let mut options = FileOptions::default();
        options.read_only = read_only;
        FileBackend::open_with(path.clone(), clock.clone(), options)
    };
    let backend = Arc::new(open(false).await.unwrap());
    let server = Server::on(backend, clock.clone(), Callers::local()).await;
    let id = server.client().create("rounds").await;
    let task = server.task(&id, |task| task.status == Status::InputRequired).await;
    server.crash();

    let tasks = TaskStore::new(Arc::new(open(true).await.unwrap()), clock.clone());
    let started = soon(DurableServer::builder(Tools::new()).start(tasks.clone())).await;
    let error = started.unwrap_err();
    assert!(matches!(error, TaskError::Store(StoreError::ReadOnly(_))), "{error:?}");
    // Looking is still possible.
    assert_eq!(tasks.get(&task.owner, &task.id).await.unwrap(), task);
}
