//! A store that fails: clear errors, nothing of its own in them, and the server still up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use async_trait::async_trait;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tenure::clock::{Clock, Timestamp};
use tenure::store::{
    InMemoryBackend, Key, Page, PageRequest, Partition, Precondition, Record, StorageBackend,
    StoreError, Version, VersionToken, Watch, WatchFrom, Write,
};
use tenure::tasks::Status;
use tenure_mcp::Callers;

use crate::harness::Server;

const WELL: u8 = 0;
const AWAY: u8 = 1;
const READ_ONLY: u8 = 2;
const FULL: u8 = 3;

/// A store in memory that can be told to fail.
#[derive(Debug)]
struct Unsteady {
    inner: InMemoryBackend,
    mood: Arc<AtomicU8>,
}

impl Unsteady {
    fn read(&self) -> Result<(), StoreError> {
        match self.mood.load(Ordering::Relaxed) {
            AWAY => Err(StoreError::Unavailable {
                reason: "no route to redis://:hunter2@10.0.0.1".into(),
                source: Some("tasks/local".into()),
            }),
            _ => Ok(()),
        }
    }

    fn write(&self) -> Result<(), StoreError> {
        match self.mood.load(Ordering::Relaxed) {
            READ_ONLY => Err(StoreError::ReadOnly(Some("/secret/tenure.db".into()))),
            FULL => Err(StoreError::Full(Some("/secret/tenure.db".into()))),
            _ => self.read(),
        }
    }
}

#[async_trait]
impl StorageBackend for Unsteady {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.read()?;
        self.inner.get(key).await
    }

    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.write()?;
        self.inner.put(key, write).await
    }

    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        self.write()?;
        self.inner.put_if_version(key, write, precondition).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        self.write()?;
        self.inner.delete(key, precondition).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        self.read()?;
        self.inner.history(key).await
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        self.read()?;
        self.inner.list_by_prefix(partition, prefix, page).await
    }

    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.write()?;
        self.inner.cleanup_expired(limit).await
    }

    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError> {
        self.read()?;
        self.inner.watch(partition, from).await
    }
}

async fn server() -> (Server, Arc<AtomicU8>) {
    let clock = Clock::manual(Timestamp::from_millis(1_785_240_000_000));
    let mood = Arc::new(AtomicU8::new(WELL));
    let inner = InMemoryBackend::new(clock.clone());
    let backend = Arc::new(Unsteady { inner, mood: Arc::clone(&mood) });
    (Server::on(backend, clock, Callers::local()).await, mood)
}

#[tokio::test]
async fn an_unavailable_store_is_a_retryable_internal_error_without_details() {
    let (server, mood) = server().await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    mood.store(AWAY, Ordering::Relaxed);
    let expected = json!({
        "code": -32603,
        "message": "the task store is unavailable",
        "data": { "retryable": true },
    });
    for refused in [
        client.get(&id).await,
        client.cancel(&id).await,
        client.update(&id, json!({ "k": {} })).await,
        client.tool("wait", json!({})).await,
    ] {
        assert_eq!(refused.unwrap_err(), expected);
    }
    let mut health = client.post("");
    *health.method_mut() = Method::GET;
    *health.uri_mut() = "/healthz".parse().unwrap();
    let reply = client.send(health).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(!reply.body.contains("hunter2"));
    // What needs no store works on, and so does the rest once it is back.
    assert!(client.tool("echo", json!({})).await.is_ok());
    mood.store(WELL, Ordering::Relaxed);
    assert_eq!(client.get(&id).await.unwrap()["status"], "working");
}

#[tokio::test]
async fn a_store_that_takes_no_writes_still_answers_reads() {
    let (server, mood) = server().await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    for (now, message) in
        [(READ_ONLY, "the task store is read-only"), (FULL, "the task store is full")]
    {
        mood.store(now, Ordering::Relaxed);
        for refused in [client.tool("wait", json!({})).await, client.cancel(&id).await] {
            let refused = refused.unwrap_err();
            let expected: Value =
                json!({ "code": -32603, "message": message, "data": { "retryable": false } });
            assert_eq!(refused, expected);
        }
        assert_eq!(client.get(&id).await.unwrap()["status"], "working");
    }
    mood.store(WELL, Ordering::Relaxed);
    server.open_gate();
    server.task(&id, |task| task.status == Status::Completed).await;
}
