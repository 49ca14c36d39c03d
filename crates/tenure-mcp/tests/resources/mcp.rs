//! Resources on the protocol, and changes that another replica makes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use axum::response::Response;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tenure::clock::Clock;
use tenure::resources::{Document, ResourceKey, ResourceStore};
use tenure::store::InMemoryBackend;
use tenure::tasks::TaskStore;
use tenure_mcp::http::{HttpOptions, router};
use tenure_mcp::{Callers, DurableServer};
use tokio::time::timeout;
use tower::ServiceExt as _;

use crate::harness::Nothing;

const NEW: &str = "2026-07-28";
const OLD: &str = "2025-11-25";
const CALLERS: &str = r#"caller = [
    { token = "alice", owner = "alice", projects = { acme = "read", "é/x" = "read" } },
    { token = "bob", owner = "bob" },
]"#;

/// A server on a store that another replica writes to.
struct Replica {
    router: Router,
    other: ResourceStore,
    _server: DurableServer<Nothing>,
}

impl Replica {
    async fn new() -> Self {
        Self::with_listeners(100).await
    }

    async fn with_listeners(listeners: usize) -> Self {
        let clock = Clock::system();
        let backend = Arc::new(InMemoryBackend::new(clock.clone()));
        let tasks = TaskStore::new(Arc::clone(&backend) as _, clock.clone());
        let builder = DurableServer::builder(Nothing).resources(["acme", "hidden"]);
        let server = builder.listeners(listeners, listeners).start(tasks).await.unwrap();
        let options = HttpOptions::new(Callers::from_toml(CALLERS).unwrap());
        let other = ResourceStore::new(backend, clock);
        Self { router: router(&server, &options), other, _server: server }
    }

    async fn write(&self, project: &str, id: &str, value: Value) {
        let key = ResourceKey::new(project, "agent", id).unwrap();
        self.other.put(&key, &Document::from_value(&value).unwrap()).await.unwrap();
    }

    async fn delete(&self, project: &str, id: &str) {
        self.other.delete(&ResourceKey::new(project, "agent", id).unwrap()).await.unwrap();
    }

    async fn send(&self, token: &str, session: Option<&str>, message: Value) -> Response {
        let version = if session.is_some() { OLD } else { NEW };
        let method = message["method"].as_str().unwrap().to_owned();
        let mut request = Request::post("/mcp")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("authorization", format!("Bearer {token}"))
            .header("mcp-protocol-version", version)
            .header("mcp-method", &method);
        if let Some(uri) = message["params"]["uri"].as_str() {
            request = request.header("mcp-name", uri);
        }
        if let Some(session) = session.filter(|it| !it.is_empty()) {
            request = request.header("mcp-session-id", session);
        }
        let request = request.body(Body::from(message.to_string())).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn listen(&self, token: &str, method: &str, mut params: Value) -> Messages {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": NEW,
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        Messages::of(self.send(token, None, message).await)
    }

    async fn call(&self, token: &str, method: &str, params: Value) -> Value {
        self.listen(token, method, params).await.next().await
    }
}

struct Messages {
    body: BodyDataStream,
    text: String,
}

impl Messages {
    fn of(response: Response) -> Self {
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Ok(message) = serde_json::from_str(&self.text) {
                self.text.clear();
                return message;
            }
            while let Some((line, rest)) = self.text.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.text = rest;
                let data = line.strip_prefix("data:");
                if let Some(message) = data.and_then(|data| serde_json::from_str(data).ok()) {
                    return message;
                }
            }
            let more = timeout(Duration::from_secs(60), self.body.next()).await.expect("a message");
            let more = more.unwrap_or_else(|| panic!("it ended with {:?}", self.text)).unwrap();
            self.text.push_str(std::str::from_utf8(&more).unwrap());
        }
    }
}

fn uris(result: &Value) -> Vec<&str> {
    let resources = result["result"]["resources"].as_array().unwrap();
    resources.iter().map(|it| it["uri"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_client_lists_and_reads_what_its_rights_name() {
    let replica = Replica::new().await;
    replica.write("acme", "a/b", json!({"x": 1})).await;
    replica.write("é/x", "", json!(2)).await;
    replica.write("hidden", "h", json!(3)).await;
    let first = replica.call("alice", "resources/list", json!({})).await;
    assert_eq!(uris(&first), ["tenure://acme/agent/a%2Fb"]);
    let cursor = &first["result"]["nextCursor"];
    let second = replica.call("alice", "resources/list", json!({ "cursor": cursor })).await;
    assert_eq!(uris(&second), ["tenure://%C3%A9%2Fx/agent/"]);
    assert!(second["result"].get("nextCursor").is_none(), "{second}");
    let read = json!({ "uri": "tenure://acme/agent/a%2Fb" });
    let read = replica.call("alice", "resources/read", read).await;
    assert_eq!(read["result"]["contents"][0]["text"], r#"{"x":1}"#);
    let templates = replica.call("alice", "resources/templates/list", json!({})).await;
    let template = &templates["result"]["resourceTemplates"][0]["uriTemplate"];
    assert_eq!(template, "tenure://{project}/{kind}/{id}");
}

#[tokio::test]
async fn many_resources_are_listed_in_pages() {
    let replica = Replica::new().await;
    for id in 0..230 {
        replica.write("acme", &format!("{id:03}"), json!(id)).await;
    }
    let (mut found, mut params) = (0, json!({}));
    loop {
        let page = replica.call("alice", "resources/list", params).await;
        found += uris(&page).len();
        let Some(cursor) = page["result"].get("nextCursor") else { break };
        params = json!({ "cursor": cursor });
    }
    assert_eq!(found, 230);
}

#[tokio::test]
async fn without_rights_a_resource_is_absent() {
    let replica = Replica::new().await;
    replica.write("acme", "a", json!(1)).await;
    assert!(uris(&replica.call("bob", "resources/list", json!({})).await).is_empty());
    let read = |id: &str| json!({ "uri": format!("tenure://acme/agent/{id}") });
    let there = replica.call("bob", "resources/read", read("a")).await;
    let absent = replica.call("alice", "resources/read", read("b")).await;
    assert_eq!(there["error"]["code"], absent["error"]["code"]);
    assert_eq!(there["error"]["message"], "resource not found: tenure://acme/agent/a");
    assert_eq!(absent["error"]["message"], "resource not found: tenure://acme/agent/b");
}

#[tokio::test]
async fn a_listener_is_told_what_another_replica_changes() {
    let replica = Replica::new().await;
    replica.write("acme", "a", json!(1)).await;
    let filter = json!({ "notifications": {
        "resourcesListChanged": true,
        "resourceSubscriptions": ["tenure://acme/agent/a", "tenure://hidden/agent/h", "other://x"],
    }});
    let mut messages = replica.listen("alice", "subscriptions/listen", filter).await;
    let accepted = messages.next().await["params"]["notifications"].clone();
    assert_eq!(accepted["resourcesListChanged"], true);
    // What the caller may not read is accepted like what is not there, and never changes.
    let expected = json!(["tenure://acme/agent/a", "tenure://hidden/agent/h"]);
    assert_eq!(accepted["resourceSubscriptions"], expected);
    let about = |message: &Value| message["params"]["uri"].as_str().unwrap_or("list").to_owned();
    // The first news says that the watches have begun: read, from here on no change is missed.
    assert_eq!(about(&messages.next().await), "tenure://acme/agent/a");
    replica.write("hidden", "h", json!(1)).await;
    replica.write("acme", "new", json!(1)).await;
    replica.write("acme", "a", json!(2)).await;
    let mut told = Vec::new();
    let has = |told: &[(Value, String)], name| told.iter().any(|(_, about)| about == name);
    while !(has(&told, "list") && has(&told, "tenure://acme/agent/a")) {
        let message = messages.next().await;
        told.push((message["method"].clone(), about(&message)));
    }
    assert!(!has(&told, "tenure://hidden/agent/h"));
    for (method, about) in told {
        let list = about == "list";
        let name = if list { "list_changed" } else { "updated" };
        assert_eq!(method, format!("notifications/resources/{name}"));
    }
}

#[tokio::test]
async fn a_client_of_the_older_revision_subscribes() {
    // It takes no place of those who listen in the newer one.
    let replica = Replica::with_listeners(0).await;
    replica.write("acme", "a", json!(1)).await;
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": OLD, "capabilities": {}, "clientInfo": { "name": "old", "version": "1" },
    }});
    let response = replica.send("alice", Some(""), initialize).await;
    let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let opened = Messages::of(response).next().await;
    let expected = json!({ "subscribe": true, "listChanged": true });
    assert_eq!(opened["result"]["capabilities"]["resources"], expected);
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    replica.send("alice", Some(&session), ready).await;
    let get = Request::get("/mcp")
        .header("host", "localhost")
        .header("accept", "text/event-stream")
        .header("authorization", "Bearer alice")
        .header("mcp-protocol-version", OLD)
        .header("mcp-session-id", &session)
        .body(Body::empty())
        .unwrap();
    let mut news = Messages::of(replica.router.clone().oneshot(get).await.unwrap());
    let uri = "tenure://acme/agent/a";
    let subscribe = |uri: &str, method: &str| json!({ "jsonrpc": "2.0", "id": 2, "method": method, "params": { "uri": uri } });
    let hidden = subscribe("tenure://hidden/agent/h", "resources/subscribe");
    let refused = Messages::of(replica.send("alice", Some(&session), hidden).await).next().await;
    assert!(refused.get("error").is_some(), "{refused}");
    let message = subscribe(uri, "resources/subscribe");
    let done = Messages::of(replica.send("alice", Some(&session), message).await).next().await;
    assert_eq!(done["result"], json!({}), "{done}");
    // It was answered, so it has begun.
    replica.write("acme", "a", json!(2)).await;
    let updated = loop {
        let message = news.next().await;
        if message["method"] == "notifications/resources/updated" {
            break message;
        }
        assert_eq!(message["method"], "notifications/resources/list_changed");
    };
    assert_eq!(updated["params"]["uri"], uri);
    let message = subscribe(uri, "resources/unsubscribe");
    let done = Messages::of(replica.send("alice", Some(&session), message).await).next().await;
    assert_eq!(done["result"], json!({}), "{done}");
    replica.delete("acme", "a").await;
    loop {
        let message = news.next().await;
        if message["method"] == "notifications/resources/list_changed" {
            break;
        }
    }
    // That it hears of its list is none of the 100 that it may subscribe to.
    for number in 0..=100 {
        let message = subscribe(&format!("tenure://acme/agent/{number}"), "resources/subscribe");
        let done = Messages::of(replica.send("alice", Some(&session), message).await).next().await;
        assert_eq!(done.get("error").is_some(), number == 100, "{number}: {done}");
    }
}
