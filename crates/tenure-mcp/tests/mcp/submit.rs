//! Tasks that the server itself starts.

use serde_json::{Map, json};
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::InMemoryBackend;
use tenure::tasks::{Call, NewTask, Rerun, Status, TaskError};
use tenure_mcp::{Callers, TaskPolicy};

use crate::harness::{Server, named, open_keys};

#[tokio::test]
async fn a_tool_that_the_server_starts_waits_for_whoever_answers() {
    let server = Server::new().await;
    let arguments = Map::from_iter([("a".to_owned(), json!(1))]);
    let submitted = server.durable.submit(&Owner::local(), "rounds", arguments).await.unwrap();
    assert_eq!(submitted.call.arguments["a"], 1);
    let (id, client) = (submitted.id.as_str(), server.client());
    for name in ["Ada", "Bo"] {
        let task = server.task(id, |task| task.status == Status::InputRequired).await;
        client.update(id, json!({ open_keys(&task).remove(0): named(name) })).await.unwrap();
    }
    server.task(id, |task| task.status == Status::Completed).await;
    let text = client.get(id).await.unwrap()["result"]["content"][0]["text"].clone();
    assert_eq!(text, "Ada and Bo");

    let asking = server.durable.submit(&Owner::local(), "ask", Map::new()).await.unwrap();
    server.task(asking.id.as_str(), |task| task.status == Status::InputRequired).await;
}

#[tokio::test]
async fn a_tool_that_the_server_starts_runs_on_the_terms_that_were_declared() {
    let clock = Clock::system();
    let backend = std::sync::Arc::new(InMemoryBackend::new(clock.clone()));
    let terms = TaskPolicy::optional().ttl_ms(60_000).poll_interval_ms(50).rerun_after_crash();
    let server = Server::described(backend, clock, Callers::local(), |builder| {
        builder.tool("echo", terms).tool("never", TaskPolicy::never())
    })
    .await;
    let owner = Owner::new("alice").unwrap();
    let task = server.durable.submit(&owner, "echo", Map::new()).await.unwrap();
    let told = (task.ttl_ms, task.poll_interval_ms, task.rerun);
    assert_eq!(told, (Some(60_000), Some(50), Rerun::AfterCrash));
    server.task_of(&owner, task.id.as_str(), |task| task.status == Status::Completed).await;
    for tool in ["never", "unheard-of"] {
        let refused = server.durable.submit(&owner, tool, Map::new()).await.unwrap_err();
        assert!(matches!(refused, TaskError::Invalid { .. }), "{refused}");
        assert!(refused.to_string().contains(tool), "{refused}");
    }
}

#[tokio::test]
async fn a_task_without_a_context_runs() {
    let server = Server::new().await;
    let new = NewTask::new(Call::new("refuses", Map::new()));
    let task = server.durable.worker().submit(&Owner::local(), new).await.unwrap();
    let task = server.task(task.id.as_str(), |task| task.status.is_terminal()).await;
    assert_eq!((task.status, task.status_message), (Status::Completed, None));
}
