//! Tools that show the point: one that resumes, one that waits for a person, one that fails.

use std::time::Duration;

use rmcp::handler::server::tool::InputResponses;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, ElicitRequest, ElicitRequestParams,
    ElicitationSchema, InputRequest, InputRequests, InputRequiredResult, ProgressNotificationParam,
};
use rmcp::schemars::JsonSchema;
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::Value;
use tenure_mcp::{Builder, DurableServer, TaskPolicy};

/// The demonstration tools. They know nothing of tasks but for the checkpoint of `report`.
#[derive(Debug, Clone)]
pub(crate) struct Demo;

/// The tools as durable tasks, on the terms that fit each.
pub(crate) fn durable(demo: Demo) -> Builder<Demo> {
    DurableServer::builder(demo)
        .tool("report", TaskPolicy::optional().rerun_after_crash())
        .tool("approve", TaskPolicy::optional())
        .tool("fail", TaskPolicy::optional())
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ReportArguments {
    /// What the report is about.
    topic: String,
    /// How many sections it has; 12 if not given.
    #[serde(default = "twelve")]
    sections: u32,
    /// How long one section takes, in milliseconds; 5000 if not given.
    #[serde(default = "five_seconds")]
    section_ms: u64,
}

fn twelve() -> u32 {
    12
}

fn five_seconds() -> u64 {
    5_000
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ApproveArguments {
    /// What is to be approved.
    what: String,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Way {
    /// A result that says that the tool failed.
    Result,
    /// A protocol error.
    Error,
    /// A panic.
    Panic,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct FailArguments {
    /// How to fail.
    how: Way,
}

const MAX_SECTIONS: u32 = 1_000;
const MAX_SECTION_MS: u64 = 600_000;

#[tool_router]
impl Demo {
    pub(crate) fn new() -> Self {
        Self
    }

    /// Writes a report, section by section. Each finished section is a checkpoint: after a crash
    /// the next attempt writes the first one that is missing.
    #[tool(
        description = "Write a report, which takes a minute; survives restarts",
        annotations(idempotent_hint = true)
    )]
    async fn report(
        &self,
        Parameters(ReportArguments { topic, sections, section_ms }): Parameters<ReportArguments>,
        cx: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        if sections > MAX_SECTIONS || section_ms > MAX_SECTION_MS {
            let message = format!("at most {MAX_SECTIONS} sections of {MAX_SECTION_MS} ms");
            return Err(ErrorData::invalid_params(message, None));
        }
        let task = tenure_mcp::task(&cx);
        let mut log = match task.and_then(|task| task.variables().remove("log")) {
            Some(Value::Array(lines)) => lines,
            _ => Vec::new(),
        };
        let attempt = task.map_or(1, tenure::runtime::TaskContext::attempt);
        for section in log.len()..sections as usize {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(section_ms)) => {}
                // No result: at a shutdown the next attempt goes on, and a half would be taken for it.
                () = cx.ct.cancelled() => {
                    return Err(ErrorData::internal_error("the report was interrupted", None));
                }
            }
            log.push(
                format!("section {} of {topic}, written in attempt {attempt}", section + 1).into(),
            );
            if let Some(task) = task {
                task.checkpoint("log", log.clone()).await.map_err(|error| {
                    ErrorData::internal_error(format!("no checkpoint: {error}"), None)
                })?;
            }
            progress(&cx, section + 1, sections, &topic).await;
        }
        let lines: Vec<&str> = log.iter().filter_map(Value::as_str).collect();
        Ok(CallToolResult::success(vec![ContentBlock::text(lines.join("\n"))]))
    }

    /// Asks a person, for as long as that takes.
    #[tool(description = "Ask for approval, and wait for the answer however long it takes")]
    async fn approve(
        &self,
        Parameters(ApproveArguments { what }): Parameters<ApproveArguments>,
        InputResponses(responses): InputResponses,
    ) -> Result<CallToolResponse, ErrorData> {
        let answer = responses.as_ref().and_then(|answers| answers.get("approval"));
        let Some(answer) = answer else { return ask(&what) };
        let approved = answer["action"] == "accept" && answer["content"]["approve"] == true;
        let text = format!("{what}: {}", if approved { "approved" } else { "not approved" });
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }

    /// Fails, to see what a client makes of it.
    #[tool(description = "Fail: with an error result, a protocol error or a panic")]
    async fn fail(
        &self,
        Parameters(FailArguments { how }): Parameters<FailArguments>,
    ) -> Result<CallToolResult, ErrorData> {
        match how {
            Way::Result => Ok(CallToolResult::error(vec![ContentBlock::text("failed, as asked")])),
            Way::Error => Err(ErrorData::internal_error("failed, as asked", None)),
            #[allow(clippy::panic)]
            Way::Panic => panic!("failed, as asked"),
        }
    }
}

#[tool_handler(
    name = "tenure",
    instructions = "Demonstration tools whose long calls are durable tasks."
)]
impl ServerHandler for Demo {}

async fn progress(cx: &RequestContext<RoleServer>, done: usize, of: u32, topic: &str) {
    let Some(token) = cx.meta.get_progress_token() else { return };
    #[allow(clippy::cast_precision_loss)]
    let progress = ProgressNotificationParam::new(token, done as f64)
        .with_total(f64::from(of))
        .with_message(format!("{done} of {of} sections on {topic}"));
    // A client that is gone needs no progress.
    let _ = cx.peer.notify_progress(progress).await;
}

fn ask(what: &str) -> Result<CallToolResponse, ErrorData> {
    let unfit = |error: &dyn std::fmt::Display| ErrorData::internal_error(error.to_string(), None);
    let requested_schema = ElicitationSchema::builder()
        .required_bool("approve")
        .build()
        .map_err(|error| unfit(&error))?;
    let question = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: format!("Approve {what}?"),
        requested_schema,
    };
    let requests = InputRequests::from_iter([(
        "approval".into(),
        InputRequest::Elicitation(ElicitRequest::new(question)),
    )]);
    Ok(InputRequiredResult::new(Some(requests), None).into())
}
