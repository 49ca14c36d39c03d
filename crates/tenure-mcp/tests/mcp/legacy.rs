//! Clients of 2025-11-25: sessions, and no tasks.

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use serde_json::{Value, json};

use crate::harness::{Client, Reply, Server};

const VERSION: &str = "2025-11-25";

fn request(client: &Client, session: Option<&HeaderValue>, message: Value) -> Request<Body> {
    let mut request = client.post(message.to_string());
    let headers = request.headers_mut();
    headers.insert("mcp-protocol-version", VERSION.parse().unwrap());
    if let Some(session) = session {
        headers.insert("mcp-session-id", session.clone());
    }
    request
}

async fn open(client: &Client) -> (HeaderValue, Reply) {
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": VERSION,
        "capabilities": {},
        "clientInfo": { "name": "old", "version": "1" },
    }});
    let reply = client.send(request(client, None, initialize)).await;
    let session = reply.headers["mcp-session-id"].clone();
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert!(client.send(request(client, Some(&session), ready)).await.status.is_success());
    (session, reply)
}

fn tool(name: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": name, "arguments": {} } })
}

#[tokio::test]
async fn an_old_client_gets_its_results_inline() {
    let server = Server::new().await;
    let client = server.client();
    let (session, opened) = open(&client).await;
    let capabilities = &opened.outcome().unwrap()["capabilities"];
    assert_eq!(capabilities.get("tasks"), None);

    let reply = client.send(request(&client, Some(&session), tool("refuses"))).await;
    assert_eq!(reply.outcome().unwrap()["isError"], true);
    let reply = client.send(request(&client, Some(&session), tool("rounds"))).await;
    let refused = reply.outcome().unwrap_err();
    assert_eq!(refused["code"], -32021);
    assert_eq!(refused["message"], "Missing required client capability");
    assert_eq!(*server.tools.begun.borrow(), 1);
}

#[tokio::test]
async fn a_stolen_session_id_is_no_session() {
    let server = Server::with_callers().await;
    let (alice, bob) = (server.client_of("alice"), server.client_of("bob"));
    let (session, _) = open(&alice).await;
    let stolen = bob.send(request(&bob, Some(&session), tool("whoami"))).await;
    let unknown = HeaderValue::from_static("no-such-session");
    let unknown = bob.send(request(&bob, Some(&unknown), tool("whoami"))).await;
    assert_eq!(stolen, unknown);
    assert_eq!(stolen.status, 404);

    let mut close = request(&bob, Some(&session), json!({}));
    *close.method_mut() = axum::http::Method::DELETE;
    assert_eq!(bob.send(close).await.status, 404);
    let mut watch = request(&bob, Some(&session), json!({}));
    *watch.method_mut() = axum::http::Method::GET;
    assert_eq!(bob.send(watch).await.status, 404);

    let mine = alice.send(request(&alice, Some(&session), tool("whoami"))).await;
    assert_eq!(mine.outcome().unwrap()["content"][0]["text"], "alice");
}
