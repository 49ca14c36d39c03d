//! A client that speaks the wire format over HTTP, to a server that may be gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use tenure_mcp::IDEMPOTENCY_KEY;

const VERSION: &str = "2026-07-28";
/// Every request is answered in this time, or never.
const PATIENCE: Duration = Duration::from_secs(60);

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

    /// Listens to tasks.
    pub(crate) async fn listen(&self, url: &str, ids: &[String]) -> Stream {
        let params = json!({ "notifications": { "taskIds": ids } });
        let response = self.post(url, ("subscriptions/listen", params)).send().await.unwrap();
        let mut stream = Stream { body: response.bytes_stream().boxed(), rest: String::new() };
        let acknowledged = stream.next().await.unwrap();
        assert_eq!(acknowledged["params"]["notifications"]["taskIds"], json!(ids));
        stream
    }
}

/// Messages as they come.
pub(crate) struct Stream {
    body: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    rest: String,
}

impl Stream {
    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.rest.find('\n') {
                let line: String = self.rest.drain(..=end).collect();
                if let Some(message) = event(&line) {
                    return Some(message);
                }
            }
            self.rest.push_str(std::str::from_utf8(&self.body.next().await?.unwrap()).unwrap());
        }
    }

    /// The next state of a task that is `status`.
    pub(crate) async fn task(&mut self, status: &str) -> Value {
        loop {
            let message = self.next().await.expect("the stream has ended");
            if message["params"]["status"] == status {
                return message["params"].clone();
            }
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
