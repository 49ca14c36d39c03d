//! `subscriptions/listen` with task ids.

use serde_json::json;
use tenure::tasks::Status;

use crate::harness::{Server, named};

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
