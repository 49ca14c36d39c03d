//! A server that dies leaves its tasks to the next one on the same store.

use serde_json::json;
use tenure::tasks::{Phase, Status};
use tenure_mcp::Callers;

use crate::harness::{Server, named, open_keys};

/// Longer than a worker may be silent.
const DEATH_MS: u64 = 60_000;

/// The next server, once it takes the former one for dead.
async fn after_a_crash(server: Server) -> Server {
    let (backend, clock) = server.crash();
    let next = Server::on(backend, clock.clone(), Callers::local()).await;
    tokio::spawn(async move {
        loop {
            clock.advance_millis(DEATH_MS / 20);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
    });
    next
}

#[tokio::test]
async fn a_tool_that_may_run_again_goes_on_from_its_checkpoint() {
    let server = Server::new().await;
    let id = server.client().create("resumable").await;
    server.task(&id, |task| task.variables.contains_key("done")).await;

    let server = after_a_crash(server).await;
    server.open_gate();
    server.task(&id, |task| task.status == Status::Completed).await;
    let task = server.client().get(&id).await.unwrap();
    assert_eq!(task["result"]["content"][0]["text"], "done 2 in attempt 2");
}

#[tokio::test]
async fn a_tool_that_may_not_run_again_fails_and_says_why() {
    let server = Server::new().await;
    let id = server.client().create("steps").await;
    server.begun(1).await;
    let server = after_a_crash(server).await;
    server.task(&id, |task| task.status == Status::Failed).await;
    let task = server.client().get(&id).await.unwrap();
    assert_eq!(task["error"]["code"], -32603);
    assert!(!task["statusMessage"].as_str().unwrap().is_empty());
    assert_eq!(*server.tools.begun.borrow(), 0, "it was run again");
}

#[tokio::test]
async fn an_answer_that_was_given_before_the_crash_is_not_asked_for_again() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("ask").await;
    let task = server.task(&id, |task| task.status == Status::InputRequired).await;
    let key = open_keys(&task).remove(0);
    client.update(&id, json!({ &key: named("Ada") })).await.unwrap();
    server.task(&id, |task| task.status == Status::Working).await;

    let server = after_a_crash(server).await;
    let client = server.client();
    server.open_gate();
    let task = server.task(&id, |task| task.attempt == 2 && open_keys(task).len() == 2).await;
    assert_eq!(task.inputs.len(), 3);
    // It went straight to its second question, and to the first one once more.
    let answers = task.pending_inputs().map(|(key, request)| {
        let second = request["params"]["message"] == "second?";
        (key.to_owned(), named(if second { "Bo" } else { "Cy" }))
    });
    client.update(&id, answers.collect()).await.unwrap();
    server.task(&id, |task| task.status == Status::Completed).await;
    let task = client.get(&id).await.unwrap();
    assert_eq!(task["result"]["content"][0]["text"], "Ada Bo Cy");
}

#[tokio::test]
async fn a_tool_that_waits_between_rounds_survives_although_it_may_not_run_again() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("rounds").await;
    server.task(&id, |task| task.phase == Phase::Parked).await;
    client.update(&id, json!({ "r1.name": named("Ada") })).await.unwrap();
    server.task(&id, |task| task.inputs.contains_key("r2.name")).await;

    let server = after_a_crash(server).await;
    let client = server.client();
    client.update(&id, json!({ "r2.name": named("Bo") })).await.unwrap();
    server.task(&id, |task| task.status == Status::Completed).await;
    let task = client.get(&id).await.unwrap();
    assert_eq!(task["result"]["content"][0]["text"], "Ada and Bo");
}

#[tokio::test]
async fn a_second_server_on_the_store_answers_for_the_first() {
    let first = Server::new().await;
    let id = first.client().create("wait").await;
    let second = Server::on(first.backend.clone(), first.clock.clone(), Callers::local()).await;
    assert_eq!(second.client().get(&id).await.unwrap()["status"], "working");
    // And its cancel reaches the tool in the first.
    first.begun(1).await;
    second.client().cancel(&id).await.unwrap();
    crate::harness::soon(first.tools.cancelled.subscribe().wait_for(|count| *count == 1))
        .await
        .unwrap();
}
