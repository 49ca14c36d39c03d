//! What the wrapper makes of tools that know nothing of it.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, json};
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::InMemoryBackend;
use tenure::tasks::{Call, NewTask, Rerun, Status};
use tenure_mcp::{Callers, TaskPolicy};
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{Server, named, open_keys, soon};

#[tokio::test]
async fn a_task_can_be_read_the_moment_its_creation_is_answered() {
    let server = Server::new().await;
    let client = server.client();
    let created = client.tool("wait", json!({})).await.unwrap();
    assert_eq!(created["status"], "working");
    assert_eq!(created["createdAt"], "2026-07-28T12:00:00.000Z");
    assert_eq!(
        (&created["ttlMs"], &created["pollIntervalMs"]),
        (&json!(86_400_000), &json!(1_000))
    );
    assert!(client.get(created["taskId"].as_str().unwrap()).await.is_ok());
}

#[tokio::test]
async fn an_optional_tool_runs_inline_for_a_client_without_tasks() {
    let server = Server::new().await;
    let client = server.client().with_capabilities(json!({}));
    let answer = client.tool("refuses", json!({})).await.unwrap();
    assert_eq!(answer["isError"], true);
}

#[tokio::test]
async fn progress_becomes_the_status_message_and_the_last_word_stays() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("steps").await;
    let before = server.task(&id, |task| task.status_message.is_some()).await;
    server.begun(1).await;
    server.open_gate();
    let task = server.task(&id, |task| task.status == Status::Completed).await;
    assert_eq!(task.status_message.as_deref(), Some("step 100"));
    // 100 reports were two or three writes: the clock stands still, so all fell into one interval.
    assert!(task.version - before.version <= 3, "{} writes", task.version - before.version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_tool_reports_as_it_returns_is_its_last_word() {
    let server = Server::new().await;
    let client = server.client();
    // Several times: whether the report or the result is seen first is left to chance.
    for _ in 0..500 {
        let id = client.create("last_word").await;
        let task = server.task(&id, |task| task.status == Status::Completed).await;
        assert_eq!(task.status_message.as_deref(), Some("the last word"));
    }
}

#[tokio::test]
async fn a_repeated_create_with_the_same_key_finds_the_same_task() {
    let server = Server::new().await;
    let client = server.client().with_meta(json!({ "io.tenure/idempotencyKey": "k1" }));
    let id = client.create("wait").await;
    assert_eq!(client.create("wait").await, id);
    let other = client.tool("wait", json!({ "other": true })).await.unwrap_err();
    assert_eq!(other["code"], -32602);
    server.begun(1).await;
    server.open_gate();
    server.task(&id, |task| task.status == Status::Completed).await;
    assert_eq!(client.create("wait").await, id);
    assert_eq!(*server.tools.begun.borrow(), 1, "it ran twice");
}

#[tokio::test]
async fn a_create_over_the_quota_is_refused_until_a_task_ends() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    let (tasks, owner) = (server.durable.tasks(), Owner::local());
    for _ in 1..tasks.limits().unfinished_per_owner {
        tasks.create(&owner, NewTask::new(Call::new("elsewhere", Map::new()))).await.unwrap();
    }
    let refused = client.tool("wait", json!({})).await.unwrap_err();
    assert_eq!(
        (&refused["code"], &refused["data"]),
        (&json!(-32600), &json!({ "retryable": true }))
    );
    assert_eq!(refused["message"], "the limit of 1000 unfinished tasks is reached");
    client.cancel(&id).await.unwrap();
    client.create("wait").await;
}

#[tokio::test]
async fn input_first_asks_before_there_is_a_task() {
    let server = Server::new().await;
    let client = server.client();
    let asked = client.tool("name_first", json!({})).await.unwrap();
    assert_eq!(asked["resultType"], "input_required");
    let params = json!({
        "name": "name_first", "arguments": {}, "inputResponses": { "name": named("Ada") },
    });
    let created = client.call("tools/call", params).await.unwrap();
    let id = created["taskId"].as_str().unwrap();
    server.task(id, |task| task.status == Status::Completed).await;
    let task = client.get(id).await.unwrap();
    assert_eq!(task["result"]["content"][0]["text"], "Hello, Ada!");
}

#[tokio::test]
async fn two_questions_are_open_at_once_and_answered_one_by_one() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("ask").await;
    let task = server.task(&id, |task| task.status == Status::InputRequired).await;
    let request = task.pending_inputs().next().unwrap().1.clone();
    assert_eq!(request["params"].get("_meta"), None, "a token of one session was stored");
    client.update(&id, json!({ open_keys(&task).remove(0): named("Ada") })).await.unwrap();
    server.open_gate();
    let task = server.task(&id, |task| open_keys(task).len() == 2).await;
    for (left, (key, _)) in [1, 0].into_iter().zip(task.pending_inputs()) {
        client.update(&id, json!({ key: named("Bo") })).await.unwrap();
        server.task(&id, |task| open_keys(task).len() == left).await;
    }
    server.task(&id, |task| task.status == Status::Completed).await;
}

#[tokio::test]
async fn a_client_is_not_asked_for_what_it_did_not_declare() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("sample").await;
    let task = server.task(&id, |task| task.status == Status::Completed).await;
    assert!(task.inputs.is_empty());
    let said = client.get(&id).await.unwrap()["result"]["content"][0]["text"].clone();
    assert!(said.as_str().unwrap().contains("did not declare"), "{said}");

    let capabilities = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let mute = server.client().with_capabilities(capabilities);
    for tool in ["ask", "rounds"] {
        let id = mute.create(tool).await;
        server.task(&id, |task| task.status == Status::Failed).await;
    }
}

#[tokio::test]
async fn a_panic_is_an_honest_failure() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("panics").await;
    server.task(&id, |task| task.status == Status::Failed).await;
    let task = client.get(&id).await.unwrap();
    assert_eq!(task["error"]["code"], -32603);
    assert_eq!(task["statusMessage"], "the tool panicked");
}

#[tokio::test]
async fn an_error_that_is_too_large_to_keep_is_still_a_failure() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("verbose").await;
    server.task(&id, |task| task.status == Status::Failed).await;
    let task = client.get(&id).await.unwrap();
    assert_eq!(task["error"]["code"], -32603);
    assert!(task.to_string().len() < 5_000);
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again() {
    tried_again("flaky", "not yet").await;
}

#[tokio::test]
async fn a_panic_that_may_pass_is_tried_again() {
    tried_again("startles", "the tool panicked").await;
}

async fn tried_again(tool: &str, message: &str) {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create(tool).await;
    for attempt in 1..=2 {
        server.begun(attempt).await;
        server.task(&id, |task| task.status_message.as_deref() == Some(message)).await;
        let clock = server.clock.clone();
        let driver = tokio::spawn(async move {
            loop {
                clock.advance_millis(500);
                tokio::task::yield_now().await;
            }
        });
        server.begun(attempt + 1).await;
        driver.abort();
    }
    server.task(&id, |task| task.status == Status::Completed).await;
}

#[tokio::test]
async fn a_cancel_reaches_the_tool() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("wait").await;
    server.begun(1).await;
    client.cancel(&id).await.unwrap();
    soon(server.tools.cancelled.subscribe().wait_for(|count| *count == 1)).await.unwrap();
    assert_eq!(client.get(&id).await.unwrap()["status"], "cancelled");
}

#[tokio::test]
async fn annotations_and_policies_decide_what_may_run_again() {
    let server = Server::new().await;
    let client = server.client();
    for (tool, rerun) in
        [("wait", Rerun::AfterCrash), ("steps", Rerun::Never), ("resumable", Rerun::AfterCrash)]
    {
        let id = client.create(tool).await;
        assert_eq!(server.task(&id, |_| true).await.rerun, rerun, "{tool}");
    }
}

#[tokio::test]
async fn after_the_shutdown_no_task_is_taken() {
    let server = Server::new().await;
    let client = server.client();
    server.durable.shutdown(0).await;
    let refused = client.tool("wait", json!({})).await.unwrap_err();
    assert_eq!(refused["code"], -32603);
    assert_eq!(refused["data"], json!({ "retryable": true }));
}

#[tokio::test]
async fn local_callers_are_served_on_loopback_only() {
    let server = Server::new().await;
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let options = tenure_mcp::http::HttpOptions::default();
    let served = tenure_mcp::http::serve(&server.durable, listener, &options, Default::default());
    let refused = soon(served).await.unwrap_err();
    assert!(matches!(refused, tenure_mcp::http::ServeError::Exposed { .. }), "{refused}");
}

#[tokio::test]
async fn a_declared_name_that_no_tool_has_is_warned_of_once() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let clock = Clock::system();
    let backend = Arc::new(InMemoryBackend::new(clock.clone()));
    let server = Server::described(backend, clock, Callers::local(), |builder| {
        // The handler's `get_tool` answers to any name, but this.
        builder.tool("reprot", TaskPolicy::optional())
    })
    .await;
    for _ in 0..2 {
        server.client().call("tools/list", json!({})).await.unwrap();
    }
    let log = String::from_utf8(log.0.lock().clone()).unwrap();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("reprot"), "{log}");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
