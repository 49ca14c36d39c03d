//! Two callers can never see, answer, cancel or even detect each other's tasks.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tenure::Owner;
use tenure::tasks::Status;

use crate::harness::{Client, Reply, Server, named, open_keys};

/// The same request for two ids, with the ids and what HTTP adds taken out.
async fn compare(client: &Client, method: &str, foreign: &str, unknown: &str) -> (Reply, Reply) {
    let mut replies = Vec::new();
    for id in [foreign, unknown] {
        let params = json!({
            "taskId": id,
            "inputResponses": { "r1.name": named("Mallory") },
            "notifications": { "taskIds": [id] },
        });
        // The same request id in both.
        let request = client.request(method, params);
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let mut message: Value = serde_json::from_slice(&body).unwrap();
        message["id"] = json!(7);
        let request = axum::http::Request::from_parts(parts, message.to_string().into());
        let mut reply = client.send(request).await;
        reply.body = reply.body.replace(id, "ID");
        replies.push(reply);
    }
    let second = replies.remove(1);
    (replies.remove(0), second)
}

#[tokio::test]
async fn a_foreign_task_is_answered_byte_for_byte_like_an_unknown_one() {
    let server = Server::with_callers().await;
    let (alice, bob) = (server.client_of("alice"), server.client_of("bob"));
    let id = alice.create("rounds").await;
    let owner = Owner::new("alice").unwrap();
    let before = server.task_of(&owner, &id, |task| task.status == Status::InputRequired).await;

    let unknown = "01990000-0000-7000-8000-000000000000";
    for method in ["tasks/get", "tasks/update", "tasks/cancel", "subscriptions/listen"] {
        let (foreign, unknown) = compare(&bob, method, &id, unknown).await;
        assert_eq!(foreign, unknown, "{method}");
        assert!(!foreign.body.contains("alice"), "{foreign:?}");
    }
    let after = server.task_of(&owner, &id, |_| true).await;
    assert_eq!(after, before, "the task was touched");

    let key = open_keys(&before).remove(0);
    alice.update(&id, json!({ key: named("Ada") })).await.unwrap();
    assert_eq!(alice.cancel(&id).await.unwrap(), json!({ "resultType": "complete" }));
}

#[tokio::test]
async fn an_idempotency_key_of_one_caller_means_nothing_to_another() {
    let server = Server::with_callers().await;
    let meta = json!({ "io.tenure/idempotencyKey": "the same" });
    let create =
        async |caller| server.client_of(caller).with_meta(meta.clone()).create("wait").await;
    let (alices, bobs) = (create("alice").await, create("bob").await);
    assert_ne!(alices, bobs);
    assert_eq!(create("alice").await, alices);
    let get = server.client_of("bob").get(&alices).await;
    assert_eq!(get.unwrap_err()["message"], format!("unknown task: {alices}"));
}

#[tokio::test]
async fn a_tool_learns_on_whose_behalf_it_runs() {
    let server = Server::with_callers().await;
    let bob = server.client_of("bob");
    let id = bob.create("whoami").await;
    let owner = Owner::new("bob").unwrap();
    server.task_of(&owner, &id, |task| task.status == Status::Completed).await;
    assert_eq!(bob.get(&id).await.unwrap()["result"]["content"][0]["text"], "bob");
    let inline = server.client_of("alice").with_capabilities(json!({}));
    let said = inline.tool("whoami", json!({})).await.unwrap();
    assert_eq!(said["content"][0]["text"], "alice");
}

#[tokio::test]
async fn a_request_without_a_good_token_is_401_whatever_it_asks() {
    let server = Server::with_callers().await;
    let nobody = server.client();
    let mallory = server.client_of("mallory");
    for (client, challenge) in [(nobody, "Bearer"), (mallory, r#"Bearer error="invalid_token""#)] {
        for request in [
            client.request("tools/call", json!({ "name": "wait", "arguments": {} })),
            client.request("tasks/get", json!({ "taskId": "x" })),
            client.request("subscriptions/listen", json!({ "notifications": { "taskIds": [] } })),
            client.post("not even JSON"),
        ] {
            let reply = client.send(request).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
            assert_eq!(reply.headers["www-authenticate"], challenge);
            assert_eq!(reply.headers["content-type"], "application/json");
            assert_eq!(reply.outcome().unwrap_err()["code"], -32600);
        }
    }
    assert_eq!(*server.tools.begun.borrow(), 0);
}

#[tokio::test]
async fn a_service_without_our_authentication_fails_closed() {
    use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
    use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};

    let server = Server::new().await;
    let durable = server.durable.clone();
    let service = StreamableHttpService::new(
        move || Ok(durable.clone()),
        LocalSessionManager::default().into(),
        StreamableHttpServerConfig::default(),
    );
    *server.network.lock() = Some(axum::Router::new().nest_service("/mcp", service));
    let client = server.client();
    for reply in [client.tool("wait", json!({})).await, client.get("x").await] {
        assert_eq!(reply.unwrap_err()["message"], "the request has no verified caller");
    }
}
