//! A handler as any other: it knows nothing of tasks, but for one tool that keeps a checkpoint.

// Log messages and roots are deprecated, and still to be expected.
#![expect(deprecated)]

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ElicitRequest,
    ElicitRequestParams, InputRequest, InputRequiredResult, ListToolsResult, LoggingLevel,
    PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig,
    SubscriptionFilter, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tenure_mcp::TaskPolicy;
use tokio::sync::{Semaphore, watch};

type Cx = RequestContext<RoleServer>;

/// The policies under which the tests run these tools.
pub(crate) fn policies() -> Vec<(&'static str, TaskPolicy)> {
    vec![
        ("wait", TaskPolicy::optional()),
        ("steps", TaskPolicy::optional()),
        ("last_word", TaskPolicy::optional()),
        ("resumable", TaskPolicy::required().rerun_after_crash()),
        ("ask", TaskPolicy::required().rerun_after_crash()),
        ("rounds", TaskPolicy::required()),
        ("name_first", TaskPolicy::required().input_first()),
        ("broken", TaskPolicy::optional()),
        ("verbose", TaskPolicy::optional()),
        ("flaky", TaskPolicy::optional().retry(3, 1_000)),
        ("startles", TaskPolicy::optional().retry(3, 1_000)),
        ("refuses", TaskPolicy::optional()),
        ("panics", TaskPolicy::optional()),
        ("sample", TaskPolicy::optional()),
        ("whoami", TaskPolicy::optional()),
    ]
}

#[derive(Clone)]
pub(crate) struct Tools {
    /// Tools that wait take a permit each.
    pub(crate) gate: Arc<Semaphore>,
    /// Calls that have begun.
    pub(crate) begun: watch::Sender<usize>,
    /// Calls that were cancelled.
    pub(crate) cancelled: watch::Sender<usize>,
}

impl Tools {
    pub(crate) fn new() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(0)),
            begun: watch::Sender::new(0),
            cancelled: watch::Sender::new(0),
        }
    }

    async fn pass_gate(&self) {
        if let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
    }
}

fn say(text: impl Into<String>) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

fn internal(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

fn question(message: &str) -> ElicitRequestParams {
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string" } },
        "required": ["name"],
    });
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.into(),
        requested_schema: serde_json::from_value(schema).unwrap(),
    }
}

async fn ask(cx: &Cx, message: &str) -> Result<String, ErrorData> {
    let answer = cx.peer.create_elicitation(question(message)).await.map_err(internal)?;
    let name = answer.content.and_then(|content| content.get("name").cloned());
    Ok(name.and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default())
}

fn answered(request: &CallToolRequestParams, key: &str) -> Option<String> {
    let response = request.input_responses.as_ref()?.get(key)?;
    response.pointer("/content/name")?.as_str().map(str::to_owned)
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_prompts();
        ServerConfig::new(capabilities.enable_prompts_list_changed().build())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let schema = serde_json::from_value(json!({ "type": "object" })).unwrap_or_default();
        let tool = Tool::new(name.to_owned(), "", Arc::new(schema));
        Some(match name {
            "reprot" => return None,
            "wait" => tool.with_annotations(ToolAnnotations::new().idempotent(true)),
            _ => tool,
        })
    }

    /// It has subscriptions of its own, to prompts that never change.
    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        requested.prompts_list_changed?;
        let mut accepted = SubscriptionFilter::new();
        accepted.prompts_list_changed = requested.prompts_list_changed;
        Some(accepted)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Cx,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = policies().iter().filter_map(|(name, _)| self.get_tool(name)).collect();
        Ok(ListToolsResult { tools, ..Default::default() })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        cx: Cx,
    ) -> Result<CallToolResponse, ErrorData> {
        self.begun.send_modify(|begun| *begun += 1);
        match request.name.as_ref() {
            "echo" => say(json!(request.arguments).to_string()),
            "whoami" => say(tenure_mcp::owner(&cx)?.as_str()),
            "wait" => {
                tokio::select! {
                    () = self.pass_gate() => say("waited"),
                    () = cx.ct.cancelled() => {
                        self.cancelled.send_modify(|cancelled| *cancelled += 1);
                        Err(internal("stopped"))
                    }
                }
            }
            "steps" => self.steps(&cx).await,
            "last_word" => last_word(&cx).await,
            "resumable" => self.resumable(&cx).await,
            "ask" => {
                let first = ask(&cx, "first?").await?;
                self.pass_gate().await;
                let (second, again) = tokio::try_join!(ask(&cx, "second?"), ask(&cx, "first?"))?;
                say(format!("{first} {second} {again}"))
            }
            "rounds" => rounds(&request),
            "name_first" => match answered(&request, "name") {
                Some(name) => say(format!("Hello, {name}!")),
                None => asked(None),
            },
            "broken" => Err(ErrorData::internal_error("it broke", Some(json!({ "part": 7 })))),
            "verbose" => Err(ErrorData::internal_error("x".repeat(1 << 20), None)),
            tool @ ("flaky" | "startles") => {
                let attempt = tenure_mcp::task(&cx).map_or(0, |task| task.attempt());
                match (attempt, tool) {
                    (3.., _) => say("at last"),
                    (_, "startles") => panic!("not yet"),
                    _ => Err(internal("not yet")),
                }
            }
            "refuses" => Ok(CallToolResult::error(vec![ContentBlock::text("no")]).into()),
            "panics" => panic!("as it must"),
            "sample" => match cx.peer.list_roots().await {
                Ok(roots) => say(format!("{} roots", roots.roots.len())),
                Err(error) => say(error.to_string()),
            },
            name => Err(ErrorData::invalid_params(format!("unknown tool: {name}"), None)),
        }
    }
}

impl Tools {
    /// Reports faster than anybody wants to read, then waits.
    async fn steps(&self, cx: &Cx) -> Result<CallToolResponse, ErrorData> {
        let token = cx.meta.get_progress_token().ok_or_else(|| internal("nobody listens"))?;
        for step in 1..=100 {
            let progress = ProgressNotificationParam::new(token.clone(), f64::from(step))
                .with_message(format!("step {step}"));
            cx.peer.notify_progress(progress).await.map_err(internal)?;
        }
        let log = rmcp::model::LoggingMessageNotificationParam::new(LoggingLevel::Info, json!("x"));
        cx.peer.notify_logging_message(log).await.map_err(internal)?;
        self.pass_gate().await;
        say("stepped")
    }

    /// Counts in its checkpoint, so that a further attempt goes on from there.
    async fn resumable(&self, cx: &Cx) -> Result<CallToolResponse, ErrorData> {
        let task = tenure_mcp::task(cx).ok_or_else(|| internal("not a task"))?;
        let done = task.variables().get("done").and_then(Value::as_u64).unwrap_or(0);
        task.checkpoint("done", done + 1).await.map_err(internal)?;
        self.pass_gate().await;
        say(format!("done {} in attempt {}", done + 1, task.attempt()))
    }
}

/// Reports, and returns at once.
async fn last_word(cx: &Cx) -> Result<CallToolResponse, ErrorData> {
    let token = cx.meta.get_progress_token().ok_or_else(|| internal("nobody listens"))?;
    let progress = ProgressNotificationParam::new(token, 1.0).with_message("the last word");
    cx.peer.notify_progress(progress).await.map_err(internal)?;
    say("said")
}

/// Asks twice under the same key, and keeps what it learned in its own state.
fn rounds(request: &CallToolRequestParams) -> Result<CallToolResponse, ErrorData> {
    match (&request.request_state, answered(request, "name")) {
        (None, _) => asked(Some("")),
        (Some(before), Some(name)) if before.is_empty() => asked(Some(&name)),
        (Some(before), Some(name)) => say(format!("{before} and {name}")),
        (Some(_), None) => Err(internal("an answer is missing")),
    }
}

fn asked(state: Option<&str>) -> Result<CallToolResponse, ErrorData> {
    let request = InputRequest::Elicitation(ElicitRequest::new(question("name?")));
    let requests = [("name".to_owned(), request)].into();
    Ok(InputRequiredResult::new(Some(requests), state.map(str::to_owned)).into())
}
