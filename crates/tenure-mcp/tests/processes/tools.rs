//! Tools that keep a ledger.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ElicitRequest,
    ElicitRequestParams, InputRequest, InputRequiredResult, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tenure_mcp::TaskPolicy;
use tokio::time::sleep;

use crate::ledger::{Event, Ledger};

type Cx = RequestContext<RoleServer>;

/// How long a body works where it does not wait for anybody.
const WORK: Duration = Duration::from_millis(60);
/// Steps of the tool that keeps checkpoints.
pub(crate) const STEPS: u64 = 5;

/// The terms of each tool. `rerun_once` breaks the promise of `once`, to see that it is noticed.
pub(crate) fn policies(rerun_once: bool) -> Vec<(&'static str, TaskPolicy)> {
    let polled = || TaskPolicy::required().poll_interval_ms(50);
    let once = if rerun_once { polled().rerun_after_crash() } else { polled().never_rerun() };
    vec![
        ("once", once),
        ("steps", polled().rerun_after_crash()),
        ("ask", polled().rerun_after_crash()),
        ("rounds", polled().never_rerun()),
        ("wait", polled().rerun_after_crash()),
        ("late", polled().rerun_after_crash()),
    ]
}

#[derive(Clone)]
pub(crate) struct Tools(pub(crate) Arc<Ledger>);

/// One call of a tool, as the ledger names it.
struct Page<'a> {
    ledger: &'a Ledger,
    label: String,
    task: &'a tenure::runtime::TaskContext,
}

impl Page<'_> {
    fn note(&self, event: Event) {
        self.ledger.write(&self.label, self.task.id().as_str(), self.task.attempt(), event);
    }
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let schema = serde_json::from_value(json!({ "type": "object" })).unwrap_or_default();
        Some(Tool::new(name.to_owned(), "", Arc::new(schema)))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Cx,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = policies(false).iter().filter_map(|(name, _)| self.get_tool(name)).collect();
        Ok(ListToolsResult { tools, ..Default::default() })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        cx: Cx,
    ) -> Result<CallToolResponse, ErrorData> {
        let argument = |name: &str| request.arguments.as_ref()?.get(name).cloned();
        let label = argument("label").and_then(|label| label.as_str().map(str::to_owned));
        let label = label.ok_or_else(|| ErrorData::invalid_params("no label", None))?;
        let task = tenure_mcp::task(&cx).ok_or_else(|| internal("not a task"))?;
        let page = Page { ledger: &self.0, label, task };
        page.note(Event::Start);
        let response = match request.name.as_ref() {
            "once" => {
                sleep(WORK).await;
                say(page.label.clone())
            }
            "steps" => steps(&page, argument("stuck_at").and_then(|step| step.as_u64())).await,
            "ask" => {
                let first = ask(&cx, "first?").await?;
                page.note(Event::Woke);
                match argument("short") {
                    Some(_) => say(first),
                    None => say(format!("{first} {}", ask(&cx, "second?").await?)),
                }
            }
            "rounds" => rounds(&page, &request).await,
            "late" => late(&page, argument("first"), argument("heir")).await,
            "wait" => {
                cx.ct.cancelled().await;
                page.note(Event::Cancelled);
                Err(internal("stopped"))
            }
            name => Err(ErrorData::invalid_params(format!("unknown tool: {name}"), None)),
        };
        page.note(Event::End);
        response
    }
}

fn say(text: impl Into<String>) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

fn internal(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

/// Goes on after the last step that is known to be saved. The first attempt gets stuck, if asked to.
async fn steps(page: &Page<'_>, stuck_at: Option<u64>) -> Result<CallToolResponse, ErrorData> {
    let done = page.task.variables().get("done").and_then(Value::as_u64).unwrap_or(0);
    for step in done + 1..=STEPS {
        page.note(Event::Step(step));
        sleep(WORK / 2).await;
        if stuck_at == Some(step) && page.task.attempt() == 1 {
            std::future::pending().await
        }
        page.task.checkpoint("done", step).await.map_err(internal)?;
        page.note(Event::Saved(step));
    }
    say(page.label.clone())
}

/// Writes when a file is there: one for the first attempt, and another for those that follow.
async fn late(
    page: &Page<'_>,
    first: Option<Value>,
    heir: Option<Value>,
) -> Result<CallToolResponse, ErrorData> {
    let attempt = page.task.attempt();
    let file = if attempt == 1 { first } else { heir };
    let file = file.as_ref().and_then(Value::as_str).unwrap_or_default();
    while !Path::new(file).exists() {
        sleep(Duration::from_millis(10)).await;
    }
    page.note(match page.task.checkpoint("by", attempt).await {
        Ok(()) => Event::Saved(attempt.into()),
        Err(_) => Event::Refused,
    });
    say(format!("{} in attempt {attempt}", page.label))
}

/// Asks by request, in the middle of its work.
async fn ask(cx: &Cx, message: &str) -> Result<String, ErrorData> {
    let answer = cx.peer.create_elicitation(question(message)).await.map_err(internal)?;
    let text = answer.content.and_then(|content| content.get("text").cloned());
    text.and_then(|text| text.as_str().map(str::to_owned)).ok_or_else(|| internal("no answer"))
}

/// Asks twice by returning, and keeps what it learned in its own state.
async fn rounds(
    page: &Page<'_>,
    request: &CallToolRequestParams,
) -> Result<CallToolResponse, ErrorData> {
    let state = request.request_state.clone().unwrap_or_default();
    let mut answers: Vec<&str> = state.split_whitespace().collect();
    let answer = request.input_responses.as_ref().and_then(|it| it.get("text"));
    answers.extend(answer.and_then(|answer| answer.pointer("/content/text")?.as_str()));
    page.note(Event::Round(answers.len()));
    sleep(WORK / 2).await;
    if answers.len() == 2 {
        return say(answers.join(" "));
    }
    let question = InputRequest::Elicitation(ElicitRequest::new(question("text?")));
    let state = Some(answers.join(" ")).filter(|state| !state.is_empty());
    Ok(InputRequiredResult::new(Some([("text".to_owned(), question)].into()), state).into())
}

fn question(message: &str) -> ElicitRequestParams {
    let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.into(),
        requested_schema: serde_json::from_value(schema).unwrap(),
    }
}
