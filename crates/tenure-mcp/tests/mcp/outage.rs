//! A store that fails: clear errors, nothing of its own in them, and the server still up.

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tenure::clock::{Clock, Timestamp};
use tenure::store::contract::{Mood, Unsteady};
use tenure::tasks::Status;
use tenure_mcp::http::HttpOptions;
use tenure_mcp::{Builder, Callers};

use crate::harness::{Reply, Server, soon};
use crate::tools::Tools;

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

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_said_to_be_in_doubt() {
    let (server, store) = server().await;
    let client = server.client();
    let ask = async |method: Method, headers: &[(&'static str, &str)], body: &'static str| {
        let mut request = client.post(body);
        *request.method_mut() = method;
        *request.uri_mut() = "/v1/projects/acme/resources/k/i".parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        client.send(request).await
    };
    ask(Method::PUT, &[], "1").await;
    store.set(Mood::Mute);
    let merge = ("content-type", "application/merge-patch+json");
    for (method, headers, body) in [
        (Method::PUT, &[][..], "2"),
        (Method::PUT, &[("if-none-match", "\"xyz\"")], "3"),
        (Method::PATCH, &[merge], "4"),
    ] {
        let reply = ask(method.clone(), headers, body).await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{method}");
        assert_eq!(reply.headers["content-type"], "application/problem+json");
        // Nothing asks for a repetition that could overwrite what came after.
        assert_eq!(reply.headers.get("retry-after"), None);
        let detail = reply.messages()[0]["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("may or may not have happened"), "{detail}");
        assert!(detail.contains("Tenure-Version"), "{detail}");
        // As it did.
        assert_eq!(ask(Method::GET, &[], "").await.body, body);
    }
}

#[tokio::test]
async fn over_plain_http_a_store_that_takes_no_writes_says_why() {
    let (server, store) = server().await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    for (now, status, detail) in
        [(Mood::ReadOnly, 500, "the store is read-only"), (Mood::Full, 507, "the store is full")]
    {
        store.set(now);
        for (method, path) in [
            (Method::POST, format!("/v1/tasks/{id}/cancel")),
            (Method::PUT, "/v1/projects/acme/resources/k/i".to_owned()),
        ] {
            let mut request = client.plain(method, &path);
            *request.body_mut() = "1".into();
            let reply = client.send(request).await;
            assert_eq!(reply.status, status, "{path}");
            let problem = reply.messages().remove(0);
            assert_eq!(problem["detail"], detail, "{path}");
            assert_eq!(reply.headers.get("retry-after"), None);
        }
    }
}

#[tokio::test]
async fn a_store_that_never_answers_is_503_in_bounded_time_and_streams_hold_their_place_meanwhile()
{
    let (server, store) = server().await;
    let mut options = HttpOptions::default();
    options.streams = 1;
    let server = server.behind(&options);
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    store.set(Mood::Silent);
    let follow = format!("/v1/tasks/{id}/events");
    let mut first = Box::pin(client.send(client.plain(Method::GET, &follow)));
    tokio::select! {
        biased;
        reply = &mut first => panic!("{reply:?}"),
        () = tokio::task::yield_now() => {}
    }
    let second = client.send(client.plain(Method::GET, &follow)).await;
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(second.body.contains("too many"), "{second:?}");
    let health = client.send(client.plain(Method::GET, "/healthz"));
    let (first, health) = at_last(&server.clock, futures::future::join(first, health)).await;
    assert_eq!(first.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(first.body.contains("the store does not answer"), "{first:?}");
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// What comes of a request while time passes.
async fn at_last<T>(clock: &Clock, asked: impl Future<Output = T>) -> T {
    soon(async {
        let mut asked = std::pin::pin!(asked);
        loop {
            tokio::select! {
                biased;
                answer = &mut asked => break answer,
                () = tokio::task::yield_now() => clock.advance_millis(100),
            }
        }
    })
    .await
}

#[tokio::test]
async fn whoever_reads_is_answered_in_bounded_time() {
    let clock = Clock::manual(Timestamp::from_millis(1_785_240_000_000));
    let store = Arc::new(Unsteady::new(clock.clone()));
    let shown = |builder: Builder<Tools>| builder.resources(["acme"]);
    let server = Server::described(store.clone(), clock, Callers::local(), shown).await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    store.set(Mood::Silent);
    for path in [
        "/v1/projects/acme/resources/k/i",
        "/v1/projects/acme/resources/k/i/history",
        "/v1/projects/acme/resources/k/i/history/1",
        "/v1/projects/acme/resources",
        "/v1/projects/acme/resources?values=true",
        "/v1/tasks",
        &format!("/v1/tasks/{id}"),
    ] {
        let asked = client.send(client.plain(Method::GET, path));
        let reply = at_last(&server.clock, asked).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(reply.headers["retry-after"], "1", "{path}");
        assert!(reply.body.contains("the store does not answer"), "{path}: {reply:?}");
    }
    for (method, params) in [
        ("tasks/get", json!({ "taskId": id })),
        ("tasks/update", json!({ "taskId": id, "inputResponses": { "k": {} } })),
        ("resources/list", json!({})),
        ("resources/read", json!({ "uri": "tenure://acme/k/i" })),
    ] {
        let reply = at_last(&server.clock, client.call(method, params)).await;
        assert_eq!(reply.unwrap_err()["data"], json!({ "retryable": true }), "{method}");
    }
}

/// Time enough for whoever writes to be told something, and not much more.
async fn in_the_time_of_a_write<T>(clock: &Clock, asked: impl Future<Output = T>) -> T {
    let begun = clock.now();
    let told = at_last(clock, asked).await;
    let took_ms = clock.now().millis_since(begun);
    assert!((30_000..40_000).contains(&took_ms), "{took_ms}");
    told
}

/// What was written may have happened, and nothing asks for a repetition.
fn is_in_doubt(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{reply:?}");
    assert!(reply.body.contains("may or may not have happened"), "{reply:?}");
    assert_eq!(reply.headers.get("retry-after"), None);
}

#[tokio::test]
async fn who_writes_to_a_task_is_told_in_bounded_time_that_nobody_knows_and_the_write_goes_on() {
    let (server, store) = server().await;
    let client = server.client();
    let [first, second, asked] =
        [client.create("wait").await, client.create("wait").await, client.create("ask").await];
    let task = server.task(&asked, |task| task.pending_inputs().count() > 0).await;
    let question = task.pending_inputs().next().unwrap().0.to_owned();

    store.set(Mood::Stuck);
    let keyed = client.clone().with_meta(json!({ "io.tenure/idempotencyKey": "k1" }));
    let asked_for = futures::future::join5(
        keyed.tool("wait", json!({})),
        keyed.tool("wait", json!({})),
        client.cancel(&first),
        client.update(&asked, json!({ question: { "action": "decline" } })),
        client.send(client.plain(Method::POST, &format!("/v1/tasks/{second}/cancel"))),
    );
    let told = in_the_time_of_a_write(&server.clock, asked_for).await;
    for refused in [told.0, told.1, told.2, told.3] {
        let expected = json!({
            "code": -32603,
            "message": "it is unknown whether the task store did it",
            "data": { "retryable": false },
        });
        assert_eq!(refused.unwrap_err(), expected);
    }
    is_in_doubt(&told.4);
    // What only reads goes on, and so does what needs no store.
    assert_eq!(client.get(&first).await.unwrap()["status"], "working");
    assert!(client.tool("echo", json!({})).await.is_ok());

    store.set(Mood::Well);
    let repeated = keyed.create("wait").await;
    assert_eq!(keyed.create("wait").await, repeated);
    for id in [&first, &second] {
        server.task(id, |task| task.status == Status::Cancelled).await;
    }
    server.task(&asked, |task| task.pending_inputs().count() == 0).await;
    let page = client.send(client.plain(Method::GET, "/v1/tasks")).await.messages().remove(0);
    let mut listed: Vec<_> = page["tasks"].as_array().unwrap().iter().collect();
    listed.retain(|task| ![&first, &second, &asked].iter().any(|id| task["id"] == **id));
    assert_eq!(listed.len(), 1, "{page}");
    assert_eq!(listed[0]["id"], repeated);
}

#[tokio::test]
async fn who_writes_to_a_resource_is_told_in_bounded_time_that_nobody_knows_and_the_write_goes_on()
{
    let (server, store) = server().await;
    let client = server.client();
    let ask = |method: Method, path: &str, body: &'static str| {
        let path = format!("/v1/projects/acme/resources/{path}");
        let mut request = client.plain(method.clone(), &path);
        if method == Method::PATCH {
            let merge = "application/merge-patch+json".parse().unwrap();
            request.headers_mut().insert("content-type", merge);
        }
        *request.body_mut() = body.into();
        client.send(request)
    };
    for path in ["k/put", "k/patch", "k/delete", "k/revert"] {
        for body in ["1", "2"] {
            assert!(ask(Method::PUT, path, body).await.status.is_success());
        }
    }
    store.set(Mood::Stuck);
    let asked_for = futures::future::join4(
        ask(Method::PUT, "k/put", "3"),
        ask(Method::PATCH, "k/patch", "3"),
        ask(Method::DELETE, "k/delete", ""),
        ask(Method::POST, "k/revert/revert", r#"{"version":1}"#),
    );
    let told = in_the_time_of_a_write(&server.clock, asked_for).await;
    for reply in [told.0, told.1, told.2, told.3] {
        is_in_doubt(&reply);
    }
    assert_eq!(ask(Method::GET, "k/put", "").await.body, "2");
    store.set(Mood::Well);
    for (path, now) in
        [("k/put", Some("3")), ("k/patch", Some("3")), ("k/delete", None), ("k/revert", Some("1"))]
    {
        let follows = async {
            loop {
                let reply = ask(Method::GET, path, "").await;
                if reply.status.is_success().then_some(reply.body.as_str()) == now {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        soon(follows).await;
    }
}
