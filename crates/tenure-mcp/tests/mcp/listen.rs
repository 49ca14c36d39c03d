//! `subscriptions/listen` with task ids.

use std::sync::Arc;

use serde_json::{Value, json};
use tenure::clock::{Clock, Timestamp};
use tenure::resources::{Document, ResourceKey};
use tenure::store::contract::{Mood, Unsteady};
use tenure::tasks::Status;
use tenure_mcp::Callers;

use crate::harness::{Server, named, soon};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

#[tokio::test]
async fn a_listener_is_told_how_it_is_and_how_it_becomes() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("rounds").await;
    server.task(&id, |task| task.status == Status::InputRequired).await;

    let mut stream = client.listen(&[&id]).await;
    let acknowledged = stream.next().await.unwrap();
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(acknowledged["params"]["notifications"], json!({ "taskIds": [id] }));
    let subscription = acknowledged["params"]["_meta"][SUBSCRIPTION].clone();

    let now = stream.task().await;
    assert_eq!((&now["taskId"], &now["status"]), (&json!(id), &json!("input_required")));
    assert_eq!(now["_meta"][SUBSCRIPTION], subscription);
    assert_eq!(now["inputRequests"]["r1.name"]["method"], "elicitation/create");
    assert_eq!(now.get("resultType"), None);

    client.update(&id, json!({ "r1.name": named("Ada") })).await.unwrap();
    // States may be skipped, but not the one that stays.
    while stream.task().await["inputRequests"].get("r2.name").is_none() {}
    client.update(&id, json!({ "r2.name": named("Bo") })).await.unwrap();
    let last = loop {
        let task = stream.task().await;
        if task["status"] == "completed" {
            break task;
        }
    };
    assert_eq!(last["result"]["content"][0]["text"], "Ada and Bo");

    let end = stream.next().await.unwrap();
    assert_eq!(end["id"], subscription);
    assert_eq!(end["result"]["resultType"], "complete");
    assert_eq!(end["result"]["_meta"][SUBSCRIPTION], subscription);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn only_tasks_that_are_there_are_acknowledged() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    client.cancel(&id).await.unwrap();
    let mut stream = client.listen(&["unknown", &id, &id]).await;
    let acknowledged = stream.next().await.unwrap();
    assert_eq!(acknowledged["params"]["notifications"], json!({ "taskIds": [id] }));
    assert_eq!(stream.task().await["status"], "cancelled");
    assert!(stream.next().await.unwrap().get("result").is_some());

    let mut stream = client.listen(&["unknown"]).await;
    let acknowledged = stream.next().await.unwrap();
    assert_eq!(acknowledged["params"]["notifications"], json!({ "taskIds": [] }));
    assert!(stream.next().await.unwrap().get("result").is_some());
}

#[tokio::test]
async fn a_change_right_after_the_acknowledgement_is_not_lost() {
    let server = Server::new().await;
    let client = server.client();
    for _ in 0..50 {
        let id = client.create("wait").await;
        let mut stream = client.listen(&[&id]).await;
        stream.next().await.unwrap();
        client.cancel(&id).await.unwrap();
        while stream.task().await["status"] != "cancelled" {}
        assert!(stream.next().await.unwrap().get("result").is_some());
    }
}

#[tokio::test]
async fn a_stream_ends_when_the_server_closes() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    let mut stream = client.listen(&[&id]).await;
    stream.next().await.unwrap();
    stream.task().await;
    server.begun(1).await;
    server.open_gate();
    server.durable.shutdown(60_000).await;
    while let Some(message) = stream.next().await {
        assert_eq!(message.get("error"), None);
    }
}

#[tokio::test]
async fn a_filter_that_also_asks_for_list_changes_gets_the_tasks() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    let params = json!({ "notifications": { "taskIds": [id], "toolsListChanged": true } });
    client.cancel(&id).await.unwrap();
    let reply = client.reply("subscriptions/listen", params).await;
    let messages = reply.messages();
    assert_eq!(messages[0]["params"]["notifications"], json!({ "taskIds": [id] }));
    assert_eq!(messages[1]["params"]["status"], "cancelled");
}

#[tokio::test]
async fn the_tasks_of_one_stream_are_bounded() {
    let server = Server::new().await;
    let client = server.client();
    let ids: Vec<String> = (0..101).map(|id| id.to_string()).collect();
    let params = json!({ "notifications": { "taskIds": ids } });
    let refused = client.call("subscriptions/listen", params).await.unwrap_err();
    assert_eq!(refused["code"], -32602);
}

/// A server that shows the project `acme`, on a store that fails when it is told to.
async fn unsteady() -> (Server, Arc<Unsteady>) {
    let clock = Clock::manual(Timestamp::from_millis(1_785_240_000_000));
    let store = Arc::new(Unsteady::new(clock.clone()));
    let server = Server::described(store.clone(), clock, Callers::local(), |builder| {
        builder.resources(["acme"]).listeners(3, 2)
    });
    (server.await, store)
}

async fn write(server: &Server, id: &str, value: Value) -> String {
    let key = ResourceKey::new("acme", "agent", id).unwrap();
    let document = Document::from_value(&value).unwrap();
    server.durable.resources().put(&key, &document).await.unwrap();
    format!("tenure://acme/agent/{id}")
}

fn assert_retryable(error: &Value) {
    assert_eq!((&error["code"], &error["data"]["retryable"]), (&json!(-32603), &json!(true)));
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_store_that_fails_once_the_watch_is_set_is_a_retryable_error() {
    let (server, store) = unsteady().await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    store.set(Mood::Blind);
    let mut stream = client.listen(&[&id]).await;
    assert_retryable(&stream.next().await.unwrap()["error"]);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_store_that_refuses_for_good_to_be_watched_ends_the_stream_in_an_error() {
    let (server, store) = unsteady().await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    let mut stream = client.listen(&[&id]).await;
    for method in ["notifications/subscriptions/acknowledged", "notifications/tasks"] {
        assert_eq!(stream.next().await.unwrap()["method"], method);
    }
    store.set(Mood::Refusing);
    store.break_watches();
    let error = soon(stream.next()).await.unwrap()["error"].clone();
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!(-32603), &json!("the task store failed"))
    );
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_store_that_never_answers_is_a_retryable_error_in_bounded_time() {
    let (server, store) = unsteady().await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    store.set(Mood::Silent);
    let mut answer = Box::pin(async { client.listen(&[&id]).await.next().await });
    let answer = soon(async {
        loop {
            tokio::select! {
                answer = &mut answer => break answer,
                () = tokio::task::yield_now() => server.clock.advance_millis(100),
            }
        }
    })
    .await;
    assert_retryable(&answer.unwrap()["error"]);
}

#[tokio::test]
async fn a_subscription_whose_watch_fails_ends_so_that_the_client_listens_again() {
    let (server, store) = unsteady().await;
    let client = server.client();
    let uri = write(&server, "a", json!(1)).await;
    for filter in
        [json!({ "resourceSubscriptions": [uri] }), json!({ "resourcesListChanged": true })]
    {
        let mut stream = client.listen_with(filter).await;
        let method = "notifications/subscriptions/acknowledged";
        assert_eq!(stream.next().await.unwrap()["method"], method);
        // Until a change is told, nobody knows that the watch is in place.
        let mut told = Box::pin(stream.next());
        for number in 2.. {
            write(&server, "a", json!(number)).await;
            if futures::poll!(&mut told).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(told);
        store.break_watches();
        let error = loop {
            let message = stream.next().await.expect("an error before the end");
            if let Some(error) = message.get("error") {
                break error.clone();
            }
        };
        assert_eq!(error["code"], -32603);
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(stream.next().await, None);
    }
}

#[tokio::test]
async fn one_subscription_tells_of_tasks_resources_and_lists() {
    let (server, _store) = unsteady().await;
    let client = server.client();
    let id = client.create("wait").await;
    let uri = write(&server, "a", json!(1)).await;
    let foreign = "other://x";
    let mut stream = client
        .listen_with(json!({
            "taskIds": [id],
            "toolsListChanged": true,
            "resourcesListChanged": true,
            "resourceSubscriptions": [uri, foreign],
        }))
        .await;
    let acknowledged = stream.next().await.unwrap();
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    let accepted = json!({
        "taskIds": [id],
        "resourcesListChanged": true,
        "resourceSubscriptions": [uri],
    });
    assert_eq!(acknowledged["params"]["notifications"], accepted);
    let subscription = acknowledged["params"]["_meta"][SUBSCRIPTION].clone();
    assert_ne!(subscription, Value::Null);

    let mut told = Vec::new();
    let mut until = async |method: &str| {
        while !told.iter().any(|it| it == method) {
            let message = stream.next().await.expect("more");
            assert_eq!(message["params"]["_meta"][SUBSCRIPTION], subscription, "{message}");
            told.push(message["method"].as_str().unwrap_or_default().to_owned());
        }
    };
    until("notifications/tasks").await;
    until("notifications/resources/updated").await;
    write(&server, "b", json!(1)).await;
    until("notifications/resources/list_changed").await;
    // The end of the tasks is not the end of the rest.
    client.cancel(&id).await.unwrap();
    while stream.task().await["status"] != "cancelled" {}
    write(&server, "a", json!(2)).await;
    while stream.next().await.unwrap()["method"] != "notifications/resources/updated" {}
    server.open_gate();
    server.durable.shutdown(60_000).await;
    let end = loop {
        let message = stream.next().await.expect("a result");
        if message.get("result").is_some() {
            break message;
        }
    };
    assert_eq!(end["id"], subscription);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn one_owner_takes_no_more_than_its_share_of_the_listeners() {
    let (server, _store) = unsteady().await;
    let client = server.client();
    let id = client.create("wait").await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = client.listen(&[&id]).await;
        stream.next().await.unwrap();
        open.push(stream);
    }
    let refused = client.listen(&[&id]).await.next().await.unwrap();
    assert_retryable(&refused["error"]);
    let refused = client.listen_with(json!({ "resourcesListChanged": true })).await;
    let mut refused = refused;
    refused.next().await.unwrap();
    assert_retryable(&refused.next().await.unwrap()["error"]);
    // Who leaves makes room.
    drop(open);
    soon(async {
        while client.listen(&[&id]).await.next().await.unwrap().get("error").is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_subscription_is_one_however_many_parts_it_has() {
    let clock = Clock::manual(Timestamp::from_millis(1_785_240_000_000));
    let store = Arc::new(Unsteady::new(clock.clone()));
    let server = Server::described(store, clock, Callers::local(), |builder| {
        builder.resources(["acme"]).listeners(1, 1)
    });
    let server = server.await;
    let client = server.client();
    let id = client.create("wait").await;
    let uri = write(&server, "a", json!(1)).await;
    let filter = json!({ "taskIds": [id], "resourceSubscriptions": [uri] });
    let mut stream = client.listen_with(filter).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let message = stream.next().await.expect("more");
        assert_eq!(message.get("error"), None, "{message}");
        told.push(message["method"].as_str().unwrap_or_default().to_owned());
    }
    assert!(told.contains(&"notifications/resources/updated".to_owned()), "{told:?}");
}

#[tokio::test]
async fn what_the_handler_inside_tells_takes_a_place_and_ends_when_the_server_closes() {
    let clock = Clock::manual(Timestamp::from_millis(1_785_240_000_000));
    let store = Arc::new(Unsteady::new(clock.clone()));
    let server = Server::described(store, clock, Callers::local(), |it| it.listeners(1, 1)).await;
    let client = server.client();
    let filter = json!({ "promptsListChanged": true });
    let mut stream = client.listen_with(filter.clone()).await;
    let acknowledged = stream.next().await.unwrap();
    assert_eq!(acknowledged["params"]["notifications"], filter);
    let mut refused = client.listen_with(filter).await;
    refused.next().await.unwrap();
    assert_retryable(&refused.next().await.unwrap()["error"]);
    server.durable.shutdown(60_000).await;
    assert_eq!(stream.next().await.unwrap()["result"]["resultType"], "complete");
    assert_eq!(stream.next().await, None);
}
