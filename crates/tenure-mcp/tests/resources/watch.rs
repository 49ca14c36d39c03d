//! Watches as server-sent events.

use std::time::Duration;

use axum::http::Method;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use tenure_mcp::Callers;
use tenure_mcp::http::HttpOptions;

use crate::harness::Api;

struct Events {
    body: axum::body::BodyDataStream,
    text: String,
}

/// Name, id and data of an event.
type Event = (String, Option<String>, Value);

impl Events {
    async fn open(api: &Api, path: &str, headers: &[(&str, &str)]) -> Self {
        let response = api.respond(api.request(Method::GET, path, headers, "")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let lines = event.lines().filter_map(|line| line.split_once(':'));
                    lines
                        .clone()
                        .find(|(it, _)| *it == name)
                        .map(|(_, value)| value.trim().to_owned())
                };
                let Some(data) = field("data") else { continue };
                return Some((field("event")?, field("id"), serde_json::from_str(&data).unwrap()));
            }
            let more = timeout(Duration::from_secs(60), self.body.next()).await.expect("an event");
            self.text.push_str(std::str::from_utf8(&more?.ok()?).unwrap());
        }
    }

    async fn names(&mut self, count: usize) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..count {
            let (name, _, data) = self.next().await.unwrap();
            names.push(format!("{name} {}", data["id"].as_str().unwrap_or("-")));
        }
        names
    }
}

#[tokio::test]
async fn a_watch_tells_the_state_then_a_marker_then_changes() {
    let api = Api::new().await;
    api.put("acme/resources/agent/a", "1").await;
    api.put("acme/resources/tool/t", "1").await;
    let mut events = Events::open(&api, "acme/events?kind=agent", &[]).await;
    assert_eq!(events.names(2).await, ["present a", "primed -"]);
    let tag = api.put("acme/resources/agent/b", "2").await;
    api.put("acme/resources/tool/t", "2").await;
    api.put("other/resources/agent/x", "2").await;
    let (name, id, data) = events.next().await.unwrap();
    assert_eq!((name.as_str(), id.is_some()), ("put", true));
    assert_eq!((&data["id"], &data["kind"]), (&json!("b"), &json!("agent")));
    assert_eq!(data["etag"], tag.trim_matches('"'));
    api.ask(Method::DELETE, "acme/resources/agent/a", &[], "").await;
    assert_eq!(events.names(1).await, ["deleted a"]);
}

#[tokio::test]
async fn patterns_and_single_resources_can_be_watched() {
    let api = Api::new().await;
    for path in ["agent-v1/a", "agent-v2/b", "tool/t", "tool/t2"] {
        api.put(&format!("acme/resources/{path}"), "1").await;
    }
    let mut patterns = Events::open(&api, "acme/events?kind=agent*&kind=x", &[]).await;
    assert_eq!(patterns.names(3).await, ["present a", "present b", "primed -"]);
    let mut one = Events::open(&api, "acme/events?kind=tool&id=t", &[]).await;
    assert_eq!(one.names(2).await, ["present t", "primed -"]);
}

#[tokio::test]
async fn a_kind_with_a_star_in_its_name_can_be_watched_alone() {
    let api = Api::new().await;
    for path in ["a%2A/a", "ab/b"] {
        api.put(&format!("acme/resources/{path}"), "1").await;
    }
    let mut exact = Events::open(&api, "acme/events?kind=a*&exact=true", &[]).await;
    assert_eq!(exact.names(2).await, ["present a", "primed -"]);
    let mut pattern = Events::open(&api, "acme/events?kind=a*&exact=false", &[]).await;
    assert_eq!(pattern.names(3).await, ["present a", "present b", "primed -"]);
    for path in ["ab/c", "a%2A/d"] {
        api.put(&format!("acme/resources/{path}"), "1").await;
    }
    assert_eq!(exact.names(1).await, ["put d"]);
    for malformed in ["exact=true", "kind=a&kind=b&exact=true", "kind=a&exact", "kind=a&exact=1"] {
        assert_eq!(api.get(&format!("acme/events?{malformed}")).await.status.as_u16(), 400);
    }
}

#[tokio::test]
async fn a_watch_resumes_after_the_last_event_without_loss() {
    let api = Api::new().await;
    let mut events = Events::open(&api, "acme/events", &[]).await;
    let (_, primed, _) = events.next().await.unwrap();
    drop(events);
    api.put("acme/resources/k/a", "1").await;
    api.put("acme/resources/k/b", "1").await;
    let resume = [("last-event-id", primed.as_deref().unwrap())];
    let mut events = Events::open(&api, "acme/events", &resume).await;
    let (name, after_a, data) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &data["id"]), ("put", &json!("a")));
    drop(events);
    let resume = [("last-event-id", after_a.as_deref().unwrap())];
    let mut events = Events::open(&api, "acme/events", &resume).await;
    assert_eq!(events.names(1).await, ["put b"]);
}

#[tokio::test]
async fn a_position_of_another_history_is_answered_with_a_resync() {
    let api = Api::new().await;
    api.put("acme/resources/k/a", "1").await;
    let foreign = [("last-event-id", "00000000deadbeef-7")];
    let mut events = Events::open(&api, "acme/events", &foreign).await;
    assert_eq!(events.names(3).await, ["resync -", "present a", "primed -"]);
}

/// The position before a resync is one to resume from only for who has all that follows it.
#[tokio::test]
async fn who_is_cut_off_after_a_resync_has_no_position_and_begins_anew() {
    let api = Api::new().await;
    api.put("acme/resources/k/a", "1").await;
    let foreign = [("last-event-id", "00000000deadbeef-7")];
    let mut events = Events::open(&api, "acme/events", &foreign).await;
    let (name, id, _) = events.next().await.unwrap();
    assert_eq!((name.as_str(), id.as_deref()), ("resync", Some("")));
    drop(events);
    let mut events = Events::open(&api, "acme/events", &[("last-event-id", "")]).await;
    assert_eq!(events.names(2).await, ["present a", "primed -"]);
}

#[tokio::test]
async fn a_watch_ends_at_the_shutdown() {
    let api = Api::new().await;
    let mut events = Events::open(&api, "acme/events", &[]).await;
    assert_eq!(events.names(1).await, ["primed -"]);
    api.server.shutdown(0).await;
    assert_eq!(events.next().await, None);
}

const CALLERS: &str = r#"caller = [
    { token = "alice", owner = "alice", projects = { acme = "read" } },
    { token = "bob", owner = "bob", projects = { acme = "read" } },
]"#;

#[tokio::test]
async fn streams_are_bounded_and_no_owner_has_them_all() {
    let mut options = HttpOptions::new(Callers::from_toml(CALLERS).unwrap());
    options.streams = 3;
    options.streams_per_owner = 2;
    let api = Api::with(options).await;
    let (alice, bob) = (api.as_caller("alice"), api.as_caller("bob"));
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(Events::open(&alice, "acme/events", &[]).await);
    }
    let refused = alice.get("acme/events").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("1")));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    open.push(Events::open(&bob, "acme/events", &[]).await);
    let refused = bob.get("acme/events").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, Some("1")));
    // Whoever leaves makes room.
    drop(open);
    Events::open(&alice, "acme/events", &[]).await;
}

#[tokio::test]
async fn a_stream_with_nothing_to_say_shows_that_it_is_there() {
    let mut options = HttpOptions::default();
    options.heartbeat_ms = 20;
    let api = Api::with(options).await;
    let response = api.respond(api.request(Method::GET, "acme/events", &[], "")).await;
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while text.matches("\n:").count() < 3 {
        let more = timeout(Duration::from_secs(60), body.next()).await.expect("a heartbeat");
        text.push_str(std::str::from_utf8(&more.unwrap().unwrap()).unwrap());
    }
    assert!(text.starts_with("event:") && text.contains("primed"), "{text}");
}
