//! A client that speaks the wire format over HTTP, to a server that may be gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tenure_mcp::IDEMPOTENCY_KEY;

const VERSION: &str = "2026-07-28";
/// Every request is answered in this time, or its server is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A method and its parameters.
pub(crate) type Request = (&'static str, Value);

/// Why there is no result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// The request did not reach a server.
    Unsent,
    /// Nobody knows what became of it.
    Lost,
    /// The server said no.
    Error(Value),
}

impl Refusal {
    /// Whether to try again a little later.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Unsent | Self::Lost => true,
            Self::Error(error) => error["data"]["retryable"] == true,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self { http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) fn post(&self, url: &str, (method, params): Request) -> reqwest::RequestBuilder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut params = params;
        let meta = &mut params["_meta"];
        meta["io.modelcontextprotocol/protocolVersion"] = json!(VERSION);
        meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "test", "version": "1" });
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({
            "elicitation": {},
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        });
        let mut request = self
            .http
            .post(url)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", VERSION)
            .header("mcp-method", method);
        if let Some(name) = params.get("taskId").or(params.get("name")).and_then(Value::as_str) {
            request = request.header("mcp-name", name);
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        request.json(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
    }

    pub(crate) async fn call(&self, url: &str, request: Request) -> Result<Value, Refusal> {
        let response =
            self.post(url, request).timeout(PATIENCE).send().await.map_err(|error| {
                if error.is_connect() { Refusal::Unsent } else { Refusal::Lost }
            })?;
        let body = response.text().await.map_err(|_| Refusal::Lost)?;
        // A stream that broke off has no message, or half of one.
        let message = messages(&body).pop().ok_or(Refusal::Lost)?;
        match message.get("result") {
            Some(result) => Ok(result.clone()),
            None => Err(Refusal::Error(message["error"].clone())),
        }
    }
}

/// Calls a tool, as a task.
pub(crate) fn create(tool: &str, arguments: Value, idempotency_key: Option<&str>) -> Request {
    let mut params = json!({ "name": tool, "arguments": arguments, "_meta": {} });
    if let Some(key) = idempotency_key {
        params["_meta"][IDEMPOTENCY_KEY] = json!(key);
    }
    ("tools/call", params)
}

/// The id of the task that a call of a tool became.
pub(crate) fn created(result: &Value) -> String {
    assert_eq!(result["resultType"], "task", "{result}");
    result["taskId"].as_str().unwrap().to_owned()
}

pub(crate) fn get(id: &str) -> Request {
    ("tasks/get", json!({ "taskId": id }))
}

pub(crate) fn cancel(id: &str) -> Request {
    ("tasks/cancel", json!({ "taskId": id }))
}

pub(crate) fn answer(id: &str, key: &str, text: &str) -> Request {
    let answer = json!({ "action": "accept", "content": { "text": text } });
    ("tasks/update", json!({ "taskId": id, "inputResponses": { key: answer } }))
}

/// The messages of a body, whether it is JSON or a stream of events.
fn messages(body: &str) -> Vec<Value> {
    match serde_json::from_str(body) {
        Ok(message) => vec![message],
        Err(_) => body.lines().filter_map(event).collect(),
    }
}

fn event(line: &str) -> Option<Value> {
    serde_json::from_str(line.strip_prefix("data:")?).ok()
}
