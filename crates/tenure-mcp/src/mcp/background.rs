//! Runs a wrapped tool as a task.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorCode, InputRequest, ProgressNotificationParam,
};
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Map, Value};
use tenure::clock::Clock;
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext};
use tenure::tasks::TaskError;
use tokio::sync::{mpsc, watch};

use crate::mcp::convert::{CallContext, can_answer, stored_request};
use crate::mcp::error;
use crate::mcp::peer::{PeerEvent, TaskPeer};
use crate::mcp::policy::{TaskPolicy, TaskSupport};
use crate::mcp::rounds::{Round, cannot_ask};

/// Between two writes of a status message, however fast the tool reports.
const STATUS_INTERVAL_MS: u64 = 200;
/// Questions by request that one run may have open at a time.
const OPEN_QUESTIONS: usize = 64;

/// The wrapped handler as the runtime sees it.
pub(crate) struct Background<H> {
    pub(crate) inner: Arc<H>,
    pub(crate) tools: Arc<HashMap<String, TaskPolicy>>,
    pub(crate) clock: Clock,
    pub(crate) message_bytes: usize,
}

#[async_trait]
impl<H: ServerHandler> Handler for Background<H> {
    fn policy(&self, tool: &str) -> Option<Policy> {
        let policy = self.tools.get(tool).filter(|policy| policy.support != TaskSupport::Never)?;
        Some(policy.execution(self.inner.get_tool(tool).as_ref()))
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        let exit = self.rounds(&task).await;
        exit.map_err(|error| self.failure(&task.call().tool, error))
    }
}

impl<H: ServerHandler> Background<H> {
    /// Calls the tool until it has a result, or until somebody has to answer first.
    async fn rounds(&self, task: &TaskContext) -> Result<Exit, ErrorData> {
        let context = CallContext::restore(&task.call().context)?;
        let mut round = Round::restore(&task.task())?;
        loop {
            let request = round.request(&task.task(), &context);
            let asked = match self.call(task, &context, request).await? {
                CallToolResponse::Complete(result) => {
                    let result = serde_json::to_value(result)
                        .map_err(|error| error::unfit("the result of the tool", error))?;
                    return Ok(Exit::Complete(result));
                }
                CallToolResponse::InputRequired(asked) => asked,
                _ => {
                    return Err(ErrorData::internal_error(
                        "a tool that runs as a task cannot create another",
                        None,
                    ));
                }
            };
            let questions = round.end(asked, &context.client_capabilities)?;
            if !questions.requests.is_empty() {
                let (requests, variables) = (questions.requests, questions.variables);
                return Ok(Exit::Park { requests, variables });
            }
            task.set_variables(questions.variables).await.map_err(error::of_call)?;
            self.clock.sleep_millis(round.pause_ms()).await;
        }
    }

    /// One call of the tool, with a peer that leads to the task.
    async fn call(
        &self,
        task: &TaskContext,
        context: &CallContext,
        request: CallToolRequestParams,
    ) -> Result<CallToolResponse, ErrorData> {
        let (peer, mut events) = TaskPeer::new(context.client_capabilities.clone());
        let (message, messages) = watch::channel(None);
        let mut latest = messages.clone();
        let response = tokio::select! {
            response = self.inner.call_tool(request, peer.context(task)) => response,
            () = self.serve_peer(task, context, &peer, &mut events, &message) => Err(gone()),
            () = self.report(task, messages) => Err(gone()),
        };
        // Sent before the tool returned, and not taken in before it was seen to return.
        while let Ok(event) = events.try_recv() {
            if let PeerEvent::Progress(progress) = event {
                message.send_replace(Some(progress_text(progress)));
            }
        }
        // What the tool said last is the last word, even if it was too soon after the one before.
        if response.is_ok() && latest.has_changed().unwrap_or(false) {
            let last = latest.borrow_and_update().clone();
            if last != task.task().status_message
                && let Some(last) = last
            {
                let _ = task.set_status(last).await;
            }
        }
        response
    }

    /// Passes on what the tool sends. Ends only with the peer.
    async fn serve_peer(
        &self,
        task: &TaskContext,
        context: &CallContext,
        peer: &TaskPeer,
        events: &mut mpsc::Receiver<PeerEvent>,
        message: &watch::Sender<Option<String>>,
    ) {
        let asked = Asked::default();
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(PeerEvent::Progress(progress)) => {
                        message.send_replace(Some(progress_text(progress)));
                    }
                    Some(PeerEvent::Ask { id, request }) => {
                        let allowed = can_answer(&context.client_capabilities, &request)
                            && open.len() < OPEN_QUESTIONS;
                        let asked = &asked;
                        open.push(async move {
                            let answer = if allowed {
                                ask(task, asked, &request).await
                            } else {
                                Err(cannot_ask())
                            };
                            peer.answer(id, &request, answer).await;
                        });
                    }
                    None => return,
                },
                Some(()) = open.next() => {}
            }
        }
    }

    /// Writes the latest message, at most one per interval. Never ends by itself.
    async fn report(&self, task: &TaskContext, mut messages: watch::Receiver<Option<String>>) {
        while messages.changed().await.is_ok() {
            let message = messages.borrow_and_update().clone();
            if let Some(message) = message
                && let Err(error) = task.set_status(message).await
            {
                // Progress is not worth failing for: if the task is no longer ours, or the store
                // is gone, the next write that matters will say so.
                tracing::debug!(task = %task.id(), %error, "a status message was not written");
            }
            self.clock.sleep_millis(STATUS_INTERVAL_MS).await;
        }
        std::future::pending().await
    }

    fn failure(&self, tool: &str, error: ErrorData) -> Failure {
        let again = self.tools.get(tool).is_some_and(|policy| policy.max_attempts > 1)
            && error.code == ErrorCode::INTERNAL_ERROR;
        let message = error::cut(&error.message, self.message_bytes).to_owned();
        let error = serde_json::to_value(error).unwrap_or_default();
        if again { Failure::retryable(error, message) } else { Failure::new(error, message) }
    }
}

/// The keys that this run has asked under.
#[derive(Default)]
struct Asked(Mutex<HashSet<String>>);

impl Asked {
    /// The key of a question: that of an equal one of an earlier run that this run has not come to
    /// yet, so that the answer given then is found; else the next free one.
    fn key(&self, task: &TaskContext, request: &Value) -> String {
        let mut asked = self.0.lock();
        let inputs = task.task().inputs;
        let key = |number: usize| format!("in-{number}");
        let earlier = (1..=inputs.len())
            .map(key)
            .filter(|key| !asked.contains(key))
            .find(|key| inputs.get(key).is_some_and(|input| input.request == *request));
        let key = earlier.unwrap_or_else(|| {
            let free = |key: &String| !asked.contains(key) && !inputs.contains_key(key);
            (1..).map(key).find(free).unwrap_or_default()
        });
        asked.insert(key.clone());
        key
    }
}

/// Asks the owner of the task, and waits for the answer.
async fn ask(
    task: &TaskContext,
    asked: &Asked,
    request: &InputRequest,
) -> Result<Value, ErrorData> {
    let request = stored_request(request)?;
    let key = asked.key(task, &request);
    let requests = Map::from_iter([(key.clone(), request)]);
    let answers = task.request_inputs(requests).await;
    let mut answers = answers.map_err(|error: TaskError| error::of_call(error))?;
    answers.remove(&key).ok_or_else(|| error::unfit("an answer", "it is missing"))
}

fn gone() -> ErrorData {
    ErrorData::internal_error("the task has no client any more", None)
}

/// Progress as words: the tool's own if it has any.
fn progress_text(progress: ProgressNotificationParam) -> String {
    match (progress.message, progress.total) {
        (Some(message), _) => message,
        (None, Some(total)) => format!("{} of {total}", progress.progress),
        (None, None) => progress.progress.to_string(),
    }
}
