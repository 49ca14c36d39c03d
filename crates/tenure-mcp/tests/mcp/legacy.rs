//! Clients of 2025-11-25: sessions, and no tasks.

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use futures::future::join_all;
use serde_json::{Value, json};
use tenure_mcp::http::HttpOptions;

use crate::harness::{Client, Reply, Server, Stream, callers};

pub(crate) const VERSION: &str = "2025-11-25";

fn request(client: &Client, session: Option<&HeaderValue>, message: Value) -> Request<Body> {
    let mut request = client.post(message.to_string());
    let headers = request.headers_mut();
    headers.insert("mcp-protocol-version", VERSION.parse().unwrap());
    if let Some(session) = session {
        headers.insert("mcp-session-id", session.clone());
    }
    request
}

async fn initialize(client: &Client) -> Reply {
    initialize_as(client, VERSION).await
}

async fn initialize_as(client: &Client, version: &str) -> Reply {
    client.send(initialize_request(client, version)).await
}

pub(crate) fn initialize_request(client: &Client, version: &str) -> Request<Body> {
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": { "name": "old", "version": "1" },
    }});
    let mut request = request(client, None, initialize);
    request.headers_mut().insert("mcp-protocol-version", version.parse().unwrap());
    request
}

pub(crate) async fn open(client: &Client) -> (HeaderValue, Reply) {
    let reply = initialize(client).await;
    let session = reply.headers["mcp-session-id"].clone();
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert!(client.send(request(client, Some(&session), ready)).await.status.is_success());
    (session, reply)
}

/// The stream of what the server tells a session by itself.
pub(crate) async fn standalone(client: &Client, session: &HeaderValue) -> Stream {
    client.stream(standalone_request(client, session)).await
}

pub(crate) fn standalone_request(client: &Client, session: &HeaderValue) -> Request<Body> {
    let mut get = request(client, Some(session), json!({}));
    *get.method_mut() = axum::http::Method::GET;
    get
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

#[tokio::test]
async fn sessions_are_bounded_however_many_are_opened_at_a_time() {
    let mut options = HttpOptions::new(callers());
    options.sessions = 5;
    options.sessions_per_owner = 3;
    let server = Server::with_callers().await.behind(&options);
    let (alice, bob) = (server.client_of("alice"), server.client_of("bob"));
    let opened = async |client: &Client| {
        let replies = join_all((0..32).map(|_| initialize(client))).await;
        for refused in replies.iter().filter(|reply| !reply.status.is_success()) {
            assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
        }
        let statuses: Vec<_> = replies.iter().map(|reply| reply.status.as_u16()).collect();
        let sessions = replies.iter().filter_map(|reply| reply.headers.get("mcp-session-id"));
        (sessions.cloned().collect::<Vec<_>>(), statuses)
    };
    let (hers, statuses) = opened(&alice).await;
    assert_eq!((hers.len(), statuses.iter().filter(|it| **it == 429).count()), (3, 29));
    let (his, statuses) = opened(&bob).await;
    assert_eq!((his.len(), statuses.iter().filter(|it| **it == 503).count()), (2, 30));
    // Clients of later revisions have no session, and need no place.
    assert!(bob.tool("echo", json!({})).await.is_ok());
    // Whoever closes one makes room.
    let mut close = request(&alice, Some(&hers[0]), json!({}));
    *close.method_mut() = axum::http::Method::DELETE;
    assert!(alice.send(close).await.status.is_success());
    assert!(initialize(&bob).await.status.is_success());
}

#[tokio::test]
async fn an_initialize_opens_a_session_whatever_revision_it_names_and_nothing_else_takes_its_place()
{
    let mut options = HttpOptions::new(callers());
    options.sessions_per_owner = 1;
    let server = Server::with_callers().await.behind(&options);
    let alice = server.client_of("alice");
    let (_sender, mut chunks) =
        tokio::sync::mpsc::channel::<Result<axum::body::Bytes, std::io::Error>>(1);
    // Whether this opens a session is unknown until it has come, and it takes no place till then.
    let slow = Body::from_stream(futures::stream::poll_fn(move |cx| chunks.poll_recv(cx)));
    let mut slow = alice.post(slow);
    slow.headers_mut().insert("mcp-protocol-version", VERSION.parse().unwrap());
    let slow = alice.send(slow);
    let opens = initialize_as(&alice, crate::harness::VERSION);
    let opened = tokio::select! {
        biased;
        _ = slow => panic!("it is not complete"),
        opened = opens => opened,
    };
    assert!(opened.status.is_success(), "{opened:?}");
    assert!(opened.headers.contains_key("mcp-session-id"));
    let refused = initialize_as(&alice, crate::harness::VERSION).await;
    assert_eq!((refused.status.as_u16(), refused.messages().len()), (429, 1));
}
