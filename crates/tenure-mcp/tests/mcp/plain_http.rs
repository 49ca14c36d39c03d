//! `/v1/tasks`: a caller's tasks for operators and their scripts.

use axum::http::Method;
use serde_json::{Value, json};
use tenure::store::{Partition, Write};
use tenure_mcp::http::HttpOptions;

use crate::harness::{Client, Reply, Server, callers};

async fn get(client: &Client, path: &str) -> Reply {
    client.send(client.plain(Method::GET, path)).await
}

async fn cancel(client: &Client, id: &str) -> Reply {
    client.send(client.plain(Method::POST, &format!("/v1/tasks/{id}/cancel"))).await
}

fn document(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{reply:?}"))
}

#[tokio::test]
async fn tasks_are_listed_read_and_cancelled_by_their_owner_alone() {
    let server = Server::with_callers().await;
    let (alice, bob) = (server.client_of("alice"), server.client_of("bob"));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(alice.create("wait").await);
    }
    let first = document(&get(&alice, "/v1/tasks?limit=2").await);
    let cursor = first["nextCursor"].as_str().unwrap();
    let second = document(&get(&alice, &format!("/v1/tasks?limit=2&cursor={cursor}")).await);
    let listed = [&first["tasks"], &second["tasks"]].map(|it| it.as_array().unwrap().clone());
    let mut listed: Vec<_> = listed.concat().iter().map(|it| it["id"].clone()).collect();
    listed.sort_by_key(ToString::to_string);
    ids.sort();
    assert_eq!(json!(listed), json!(ids));
    assert_eq!(second.get("nextCursor"), None);
    assert_eq!(document(&get(&bob, "/v1/tasks").await)["tasks"], json!([]));

    let path = format!("/v1/tasks/{}", ids[0]);
    assert_eq!(document(&get(&alice, &path).await)["status"], "working");
    let (foreign, unknown) = (get(&bob, &path).await, get(&bob, "/v1/tasks/unknown").await);
    assert_eq!((foreign.status.as_u16(), foreign), (404, unknown));
    assert_eq!(cancel(&bob, &ids[0]).await.status, 404);
    assert_eq!(document(&cancel(&alice, &ids[0]).await)["status"], "cancelled");
    let done = alice.tool("refuses", json!({})).await.unwrap();
    let done = done["taskId"].as_str().unwrap();
    let alice_owns = tenure::Owner::new("alice").unwrap();
    server.task_of(&alice_owns, done, |task| task.status.is_terminal()).await;
    assert_eq!(cancel(&alice, done).await.status, 409);
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let server = Server::with_callers().await;
    let alice = server.client_of("alice");
    for (client, method, path, status) in [
        (&alice, Method::GET, "/v1/tasks/unknown", 404),
        (&alice, Method::GET, "/v1/tasks/%FF", 404),
        (&alice, Method::GET, "/v1/tasks/a/b", 404),
        (&alice, Method::GET, "/v1/tasks/unknown/events", 404),
        (&alice, Method::GET, "/v1/tasks?cursor=x", 400),
        (&alice, Method::GET, "/v1/tasks?limit=x", 400),
        (&alice, Method::GET, "/v1/tasks?unknown=1", 400),
        (&alice, Method::DELETE, "/v1/tasks", 405),
        (&alice, Method::GET, "/v1/tasks/x/cancel", 405),
        (&server.client(), Method::GET, "/v1/tasks", 401),
        (&server.client(), Method::GET, "/v1/tasks/a/b", 401),
        (&server.client_of("mallory"), Method::GET, "/v1/tasks", 401),
    ] {
        let reply = client.send(client.plain(method.clone(), path)).await;
        assert_eq!(reply.status, status, "{method} {path}");
        assert_eq!(reply.headers["content-type"], "application/problem+json", "{method} {path}");
        assert_eq!(document(&reply)["status"], status);
    }
}

#[tokio::test]
async fn a_task_is_followed_to_its_end() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    let mut one = client.events(&format!("/v1/tasks/{id}/events")).await;
    let mut all = client.events("/v1/tasks/events").await;
    assert_eq!(one.next().await.unwrap()["id"], id);
    client.cancel(&id).await.unwrap();
    while one.next().await.unwrap()["status"] != "cancelled" {}
    assert_eq!(one.next().await, None);
    while all.next().await.unwrap()["status"] != "cancelled" {}
    server.open_gate();
    server.durable.shutdown(60_000).await;
    while all.next().await.is_some() {}
}

#[tokio::test]
async fn a_task_that_cannot_be_read_is_told_by_a_watch_as_by_the_list() {
    let server = Server::with_callers().await;
    let alice = server.client_of("alice");
    let hers = Partition::new(["tasks", "alice"]).unwrap();
    let spoil = async |id: &str| {
        server.backend.put(&hers.key(id).unwrap(), Write::new("no task")).await.unwrap();
    };
    spoil("before").await;
    let listed = document(&get(&alice, "/v1/tasks").await)["unreadable"][0].clone();
    assert!(listed.as_str().unwrap().starts_with("task before cannot be read"), "{listed}");
    let mut all = alice.events("/v1/tasks/events").await;
    assert_eq!(all.next().await.unwrap(), listed);
    spoil("meanwhile").await;
    let told = all.next().await.unwrap();
    assert!(told.as_str().unwrap().starts_with("task meanwhile cannot be read"), "{told}");
}

#[tokio::test]
async fn streams_of_tasks_and_of_resources_have_their_bound_in_common() {
    let mut options = HttpOptions::new(callers());
    options.streams = 2;
    options.streams_per_owner = 1;
    let server = Server::with_callers().await.behind(&options);
    let (alice, bob) = (server.client_of("alice"), server.client_of("bob"));
    let _hers = alice.events("/v1/tasks/events").await;
    let refused = get(&alice, "/v1/tasks/events").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.headers["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    let _his = bob.events("/v1/tasks/events").await;
    let refused = get(&bob, "/v1/tasks/events").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.headers["retry-after"]),
        (503, &"1".parse().unwrap())
    );
}
