//! The same tool on both servers.

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::serve::ListenerExt as _;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult,
    GetTaskParams, GetTaskResult, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskManager, TaskOptions};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, json};
use tenure::Owner;
use tenure::tasks::{Call, NewTask, TaskRef, TaskStore};
use tokio::net::TcpListener;

fn echo() -> Tool {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    Tool::new("echo", "Says what it was told", schema)
}

fn result(request: &CallToolRequestParams) -> CallToolResult {
    let text = request.arguments.as_ref().and_then(|it| it.get("text")?.as_str());
    CallToolResult::success(vec![ContentBlock::text(text.unwrap_or_default())])
}

/// The server that Tenure wraps.
#[derive(Clone)]
pub struct Tools;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        (name == "echo").then(echo)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _cx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(result(&request).into())
    }
}

/// The server that keeps its tasks in rmcp's own manager.
#[derive(Clone, Default)]
pub struct InMemory {
    tasks: TaskManager,
}

impl InMemory {
    /// Tasks that stay live.
    pub fn park(&self, tasks: usize) {
        for _ in 0..tasks {
            self.tasks.spawn(TaskOptions::default(), |_| Box::pin(std::future::pending()));
        }
    }

    pub fn shutdown(&self) {
        self.tasks.shutdown();
    }

    pub async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let service = StreamableHttpService::new(
            move || Ok(self.clone()),
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default(),
        );
        // Without it, Nagle's algorithm and delayed acknowledgements cost 40 ms a response.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, Router::new().nest_service("/mcp", service)).await
    }
}

impl ServerHandler for InMemory {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tasks().build())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        (name == "echo").then(echo)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _cx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let task = self
            .tasks
            .spawn(TaskOptions::default(), move |_| Box::pin(async move { Ok(result(&request)) }));
        Ok(CreateTaskResult::new(task).into())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _cx: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        Ok(GetTaskResult::new(self.tasks.get_task(&request.task_id)?))
    }
}

/// Live tasks of other owners, which wait for input.
pub async fn park(store: &TaskStore, tasks: usize) -> Result<()> {
    const PER_OWNER: usize = 100;
    let mut creating = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let store = store.clone();
        creating.spawn(async move {
            let owner = Owner::new(format!("other-{}", task / PER_OWNER))?;
            let task = store.create(&owner, NewTask::new(Call::new("echo", Map::new()))).await?;
            let mut requests = Map::new();
            requests.insert("confirm".into(), json!({ "method": "elicitation/create" }));
            store.record_input_requests(&TaskRef::new(owner, task.id), requests).await?;
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(created) = creating.join_next().await {
        created??;
    }
    Ok(())
}
