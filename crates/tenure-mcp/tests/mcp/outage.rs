//! A store that fails: clear errors, nothing of its own in them, and the server still up.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tenure::clock::{Clock, Timestamp};
use tenure::tasks::Status;
use tenure_mcp::Callers;

use crate::harness::Server;
use crate::unsteady::{Mood, Unsteady};

async fn server() -> (Server, Arc<Unsteady>) {
    let clock = Clock::manual(Timestamp::from_millis(1_785_240_000_000));
    let store = Arc::new(Unsteady::new(clock.clone()));
    (Server::on(store.clone(), clock, Callers::local()).await, store)
}

#[tokio::test]
async fn an_unavailable_store_is_a_retryable_internal_error_without_details() {
    let (server, store) = server().await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    store.set(Mood::Away);
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
    store.set(Mood::Well);
    assert_eq!(client.get(&id).await.unwrap()["status"], "working");
}

#[tokio::test]
async fn a_store_that_takes_no_writes_still_answers_reads() {
    let (server, store) = server().await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    for (now, message) in
        [(Mood::ReadOnly, "the task store is read-only"), (Mood::Full, "the task store is full")]
    {
        store.set(now);
        for refused in [client.tool("wait", json!({})).await, client.cancel(&id).await] {
            let refused = refused.unwrap_err();
            let expected: Value =
                json!({ "code": -32603, "message": message, "data": { "retryable": false } });
            assert_eq!(refused, expected);
        }
        assert_eq!(client.get(&id).await.unwrap()["status"], "working");
    }
    store.set(Mood::Well);
    server.open_gate();
    server.task(&id, |task| task.status == Status::Completed).await;
}
