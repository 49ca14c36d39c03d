//! The requirements of SEP-2663 that the conformance suite has no check for, each by its name in
//! the suite's manifest. Two are for clients only: `client-handles-polymorphic-result` and
//! `client-rejects-task-result-on-unsupported`.

use serde_json::{Value, json};
use tenure::tasks::Status;

use crate::harness::{Server, VERSION, named, open_keys};

const TASKS: &str = "io.modelcontextprotocol/tasks";

fn without_tasks() -> Value {
    json!({ "elicitation": {} })
}

#[tokio::test]
async fn no_task_result_type_on_others() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    let others = [
        client.get(&id).await,
        client.update(&id, json!({})).await,
        client.cancel(&id).await,
        client.tool("echo", json!({})).await,
        client.call("tools/list", json!({})).await,
        client.call("server/discover", json!({})).await,
    ];
    for other in others {
        assert_ne!(other.unwrap()["resultType"], "task");
    }
}

#[tokio::test]
async fn failed_status_jsonrpc_only() {
    let server = Server::new().await;
    let client = server.client();
    let refused = client.create("refuses").await;
    server.task(&refused, |task| task.status.is_terminal()).await;
    let refused = client.get(&refused).await.unwrap();
    assert_eq!(
        (&refused["status"], &refused["result"]["isError"]),
        (&json!("completed"), &json!(true))
    );

    let broken = client.create("broken").await;
    server.task(&broken, |task| task.status.is_terminal()).await;
    let broken = client.get(&broken).await.unwrap();
    assert_eq!(broken["status"], "failed");
    let error = json!({ "code": -32603, "message": "it broke", "data": { "part": 7 } });
    assert_eq!(broken["error"], error);
    assert_eq!(broken.get("result"), None);
}

#[tokio::test]
async fn failed_includes_statusmessage() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("broken").await;
    server.task(&id, |task| task.status == Status::Failed).await;
    assert_eq!(client.get(&id).await.unwrap()["statusMessage"], "it broke");
}

#[tokio::test]
async fn tasks_get_status_cancelled() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    client.cancel(&id).await.unwrap();
    let task = client.get(&id).await.unwrap();
    assert_eq!(task["status"], "cancelled");
    assert_eq!((task.get("result"), task.get("error")), (None, None));
}

#[tokio::test]
async fn result_type_complete_on_tasks_get() {
    let server = Server::new().await;
    let client = server.client();
    let ids = [
        (client.create("wait").await, Status::Working),
        (client.create("rounds").await, Status::InputRequired),
        (client.create("refuses").await, Status::Completed),
        (client.create("broken").await, Status::Failed),
        (client.create("wait").await, Status::Cancelled),
    ];
    client.cancel(&ids[4].0).await.unwrap();
    for (id, status) in ids {
        server.task(&id, |task| task.status == status).await;
        let task = client.get(&id).await.unwrap();
        assert_eq!(task["resultType"], "complete");
        assert_eq!(task["status"], status.as_str());
        for time in ["createdAt", "lastUpdatedAt"] {
            assert_eq!(task[time], "2026-07-28T12:00:00.000Z");
        }
    }
}

#[tokio::test]
async fn input_request_key_unique_per_task() {
    let server = Server::new().await;
    let client = server.client();
    // The tool calls both of its questions the same.
    let id = client.create("rounds").await;
    let first = server.task(&id, |task| task.status == Status::InputRequired).await;
    let [first] = &open_keys(&first)[..] else { panic!("one question") };
    client.update(&id, json!({ first: named("Ada") })).await.unwrap();
    let second = server.task(&id, |task| open_keys(task).iter().any(|key| key != first)).await;
    let [second] = &open_keys(&second)[..] else { panic!("one question") };
    client.update(&id, json!({ second: named("Bo") })).await.unwrap();
    server.task(&id, |task| task.status == Status::Completed).await;
    let result = client.get(&id).await.unwrap()["result"].clone();
    assert_eq!(result["content"][0]["text"], "Ada and Bo");
}

#[tokio::test]
async fn no_key_reuse_after_response() {
    let server = Server::new().await;
    let client = server.client();
    // The tool asks "first?" again after it was answered.
    let id = client.create("ask").await;
    let task = server.task(&id, |task| task.status == Status::InputRequired).await;
    let answered = open_keys(&task);
    assert_eq!(answered.len(), 1);
    client.update(&id, json!({ &answered[0]: named("Ada") })).await.unwrap();
    server.open_gate();
    let task = server.task(&id, |task| open_keys(task).len() == 2).await;
    assert!(!open_keys(&task).contains(&answered[0]));
    assert_eq!(task.inputs[&answered[0]].response, Some(named("Ada")));
}

#[tokio::test]
async fn update_ack_empty_result_and_result_type_complete_on_tasks_update() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("rounds").await;
    let task = server.task(&id, |task| task.status == Status::InputRequired).await;
    let key = open_keys(&task).remove(0);
    let acknowledged = client.update(&id, json!({ key: named("Ada") })).await.unwrap();
    assert_eq!(acknowledged, json!({ "resultType": "complete" }));
}

#[tokio::test]
async fn result_type_complete_on_tasks_cancel() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    for _ in ["while it runs", "after it ended"] {
        let acknowledged = client.cancel(&id).await.unwrap();
        assert_eq!(acknowledged, json!({ "resultType": "complete" }));
    }
}

#[tokio::test]
async fn update_and_cancel_error_unknown_task_id_32602() {
    let server = Server::new().await;
    let client = server.client();
    let unknown = json!({ "code": -32602, "message": "unknown task: nope" });
    assert_eq!(client.update("nope", json!({})).await, Err(unknown.clone()));
    assert_eq!(client.update("nope", json!({ "k": 1 })).await, Err(unknown.clone()));
    assert_eq!(client.cancel("nope").await, Err(unknown.clone()));
    assert_eq!(client.get("nope").await, Err(unknown));
}

#[tokio::test]
async fn update_ignore_unknown_keys() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("rounds").await;
    let task = server.task(&id, |task| task.status == Status::InputRequired).await;
    let key = open_keys(&task).remove(0);
    // Never issued, and of no form at all.
    client.update(&id, json!({ "other": 7 })).await.unwrap();
    let unchanged = server.task(&id, |_| true).await;
    assert_eq!(unchanged, task);
    // Issued, beside one that was not: the answer counts.
    client.update(&id, json!({ "other": 7, &key: named("Ada") })).await.unwrap();
    let task = server.task(&id, |task| open_keys(task).iter().any(|open| *open != key)).await;
    // Answered already: the first answer stands.
    client.update(&id, json!({ &key: named("Mallory") })).await.unwrap();
    let after = server.task(&id, |_| true).await;
    assert_eq!(after.inputs[&key].response, Some(named("Ada")));
    assert_eq!(after, task);
    // Nothing waits in a task that has ended.
    client.cancel(&id).await.unwrap();
    client.update(&id, json!({ &key: named("Mallory") })).await.unwrap();
}

#[tokio::test]
async fn cancel_not_via_cancelled_notification() {
    let server = Server::new().await;
    let client = server.client();
    let request = client.request("tools/call", json!({ "name": "wait", "arguments": {} }));
    let reply = client.send(request).await;
    let message = reply.messages().pop().unwrap();
    let id = message["result"]["taskId"].as_str().unwrap().to_owned();
    let notification = json!({
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": { "requestId": message["id"], "reason": "changed my mind" },
    });
    let mut request = client.post(notification.to_string());
    request.headers_mut().insert("mcp-protocol-version", VERSION.parse().unwrap());
    request.headers_mut().insert("mcp-method", "notifications/cancelled".parse().unwrap());
    assert!(client.send(request).await.status.is_success());
    server.begun(1).await;
    server.open_gate();
    server.task(&id, |task| task.status == Status::Completed).await;
}

#[tokio::test]
async fn subscribe_missing_capability_non_declaring() {
    let server = Server::new().await;
    let client = server.client().with_capabilities(without_tasks());
    let params = json!({ "notifications": { "taskIds": ["x"] } });
    let reply = client.reply("subscriptions/listen", params).await;
    assert_eq!(reply.status, 400);
    let error = reply.outcome().unwrap_err();
    assert_eq!(error["code"], -32021);
    assert_eq!(error["data"]["requiredCapabilities"]["extensions"][TASKS], json!({}));
}

#[tokio::test]
async fn no_progress_or_message_on_task_stream() {
    let server = Server::new().await;
    let client = server.client();
    // The tool sends 100 progress notifications and a log message.
    let id = client.create("steps").await;
    let mut stream = client.listen(&[&id]).await;
    server.begun(1).await;
    server.open_gate();
    let mut methods = Vec::new();
    while let Some(message) = stream.next().await {
        methods.extend(message.get("method").and_then(Value::as_str).map(str::to_owned));
    }
    assert_eq!(methods.remove(0), "notifications/subscriptions/acknowledged");
    assert!(!methods.is_empty());
    assert!(methods.iter().all(|method| method == "notifications/tasks"), "{methods:?}");
}

/// The client's side of `client-emits-mcp-name-on-tasks-methods`, held against it.
#[tokio::test]
async fn mcp_name_on_tasks_methods_must_be_the_task_id() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let params = json!({ "taskId": id, "inputResponses": {} });
        let mut request = client.request(method, params);
        request.headers_mut().insert("mcp-name", "another".parse().unwrap());
        let reply = client.send(request).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.outcome().unwrap_err()["code"]),
            (400, &json!(-32020))
        );
    }
    assert_eq!(client.get(&id).await.unwrap()["status"], "working");
}

#[tokio::test]
async fn migrate_from_legacy_capabilities() {
    let server = Server::new().await;
    let client = server.client();
    let discovered = client.call("server/discover", json!({})).await.unwrap();
    assert_eq!(discovered["capabilities"]["extensions"][TASKS], json!({}));
    assert_eq!(discovered["capabilities"].get("tasks"), None);
    let tools = client.call("tools/list", json!({})).await.unwrap();
    assert!(tools["tools"].as_array().unwrap().iter().all(|tool| tool.get("execution").is_none()));
}

#[tokio::test]
async fn legacy_capability_treated_as_non_declaring() {
    let server = Server::new().await;
    let legacy = json!({ "elicitation": {}, "tasks": { "requests": { "tools": { "call": {} } } } });
    let client = server.client().with_capabilities(legacy);
    let refused = client.tool("rounds", json!({})).await.unwrap_err();
    assert_eq!(refused["code"], -32021);
    assert_eq!(*server.tools.begun.borrow(), 0, "the tool ran before it was refused");
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let params = json!({ "taskId": "x", "inputResponses": {} });
        assert_eq!(client.call(method, params).await.unwrap_err()["code"], -32021, "{method}");
    }
    let inline = client.tool("refuses", json!({})).await.unwrap();
    assert_eq!(inline["isError"], true);
}

/// "Servers MUST generate them with sufficient entropy": 122 bits of a UUID less its 48 of time.
#[tokio::test]
async fn task_ids_cannot_be_guessed_from_one_another() {
    let server = Server::new().await;
    let client = server.client();
    let mut tails = std::collections::HashSet::new();
    for _ in 0..32 {
        let id = client.create("refuses").await;
        assert_eq!(id.len(), 36);
        // Everything after the timestamp, the version digit and the variant digit.
        tails.insert(format!("{}{}", &id[15..18], &id[20..]));
    }
    assert_eq!(tails.len(), 32);
}
