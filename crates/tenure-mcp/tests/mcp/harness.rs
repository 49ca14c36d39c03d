//! A server in this process, and a client that speaks the wire format and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures::StreamExt;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tenure::Owner;
use tenure::clock::{Clock, Timestamp};
use tenure::store::{InMemoryBackend, StorageBackend};
use tenure::tasks::{Task, TaskId, TaskStore};
use tenure_mcp::http::{HttpOptions, router};
use tenure_mcp::{Builder, Callers, DurableServer};
use tower::ServiceExt;

use crate::tools::{Tools, policies};

pub(crate) const VERSION: &str = "2026-07-28";
const CALLERS: &str = r#"
    caller = [{ token = "alice's", owner = "alice" }, { token = "bob's", owner = "bob" }]
"#;

/// The callers alice and bob.
pub(crate) fn callers() -> Callers {
    Callers::from_toml(CALLERS).unwrap()
}

/// No test takes this long; one that does hangs.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes too long")
}

pub(crate) struct Server {
    pub(crate) durable: DurableServer<Tools>,
    pub(crate) tools: Tools,
    pub(crate) clock: Clock,
    pub(crate) backend: Arc<dyn StorageBackend>,
    /// What clients reach; nothing once the server has crashed.
    pub(crate) network: Network,
}

pub(crate) type Network = Arc<Mutex<Option<Router>>>;

impl Server {
    /// On an empty store, on a clock that stands still.
    pub(crate) async fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_785_240_000_000));
        let backend = Arc::new(InMemoryBackend::new(clock.clone()));
        Self::on(backend, clock, Callers::local()).await
    }

    /// With the callers alice and bob.
    pub(crate) async fn with_callers() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_785_240_000_000));
        let backend = Arc::new(InMemoryBackend::new(clock.clone()));
        Self::on(backend, clock, callers()).await
    }

    /// The same server on other terms.
    pub(crate) fn behind(self, options: &HttpOptions) -> Self {
        *self.network.lock() = Some(router(&self.durable, options));
        self
    }

    pub(crate) async fn on(
        backend: Arc<dyn StorageBackend>,
        clock: Clock,
        callers: Callers,
    ) -> Self {
        Self::described(backend, clock, callers, |builder| builder).await
    }

    pub(crate) async fn described(
        backend: Arc<dyn StorageBackend>,
        clock: Clock,
        callers: Callers,
        describe: impl FnOnce(Builder<Tools>) -> Builder<Tools>,
    ) -> Self {
        let tools = Tools::new();
        let mut builder = describe(DurableServer::builder(tools.clone()));
        for (name, policy) in policies() {
            builder = builder.tool(name, policy);
        }
        let tasks = TaskStore::new(Arc::clone(&backend), clock.clone());
        let durable = builder.start(tasks).await.unwrap();
        let router = router(&durable, &HttpOptions::new(callers));
        let network = Arc::new(Mutex::new(Some(router)));
        Self { durable, tools, clock, backend, network }
    }

    /// As a crash would end it: nothing is drained, nothing is written, and its clients lose it.
    pub(crate) fn crash(self) -> (Arc<dyn StorageBackend>, Clock) {
        self.network.lock().take();
        (self.backend, self.clock)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Arc::clone(&self.network))
    }

    /// A client of `alice` or `bob`.
    pub(crate) fn client_of(&self, caller: &str) -> Client {
        Client { token: Some(format!("{caller}'s")), ..self.client() }
    }

    /// The task once it is as `wanted`.
    pub(crate) async fn task(&self, id: &str, wanted: impl Fn(&Task) -> bool) -> Task {
        self.task_of(&Owner::local(), id, wanted).await
    }

    pub(crate) async fn task_of(
        &self,
        owner: &Owner,
        id: &str,
        wanted: impl Fn(&Task) -> bool,
    ) -> Task {
        soon(async {
            let states = self.durable.tasks().follow(owner, &TaskId::from(id)).await.unwrap();
            let mut states = std::pin::pin!(states);
            loop {
                let task = states.next().await.expect("the task has ended otherwise").unwrap();
                if wanted(&task) {
                    return task;
                }
            }
        })
        .await
    }

    /// Waits until `count` calls of tools have begun.
    pub(crate) async fn begun(&self, count: usize) {
        soon(self.tools.begun.subscribe().wait_for(|begun| *begun >= count)).await.unwrap();
    }

    /// Lets a tool that waits go on.
    pub(crate) fn open_gate(&self) {
        self.tools.gate.add_permits(1);
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    /// The messages of the body, whether it is JSON or a stream of events.
    pub(crate) fn messages(&self) -> Vec<Value> {
        let events: Vec<Value> = self.body.lines().filter_map(event).collect();
        match serde_json::from_str(&self.body) {
            Ok(message) => vec![message],
            Err(_) => events,
        }
    }

    /// The result, or the error.
    pub(crate) fn outcome(&self) -> Result<Value, Value> {
        let message = self.messages().pop().unwrap_or_else(|| panic!("no message: {self:?}"));
        match message.get("result") {
            Some(result) => Ok(result.clone()),
            None => Err(message["error"].clone()),
        }
    }
}

fn event(line: &str) -> Option<Value> {
    serde_json::from_str(line.strip_prefix("data:")?).ok()
}

#[derive(Clone)]
pub(crate) struct Client {
    network: Network,
    pub(crate) token: Option<String>,
    pub(crate) capabilities: Value,
    pub(crate) meta: Value,
    ids: Arc<AtomicU64>,
}

impl Client {
    fn new(network: Network) -> Self {
        Self {
            network,
            token: None,
            capabilities: json!({
                "elicitation": {},
                "extensions": { "io.modelcontextprotocol/tasks": {} },
            }),
            meta: json!({}),
            ids: Arc::default(),
        }
    }

    pub(crate) fn with_capabilities(mut self, capabilities: Value) -> Self {
        self.capabilities = capabilities;
        self
    }

    pub(crate) fn with_meta(mut self, meta: Value) -> Self {
        self.meta = meta;
        self
    }

    /// A request as the protocol wants it.
    pub(crate) fn request(&self, method: &str, mut params: Value) -> Request<Body> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut meta = self.meta.clone();
        meta["io.modelcontextprotocol/protocolVersion"] = json!(VERSION);
        meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "test", "version": "1" });
        meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        let name = ["taskId", "name", "uri"].into_iter().find_map(|it| params.get(it));
        let names = ["tasks/", "tools/call", "resources/read"].map(|it| method.starts_with(it));
        let name = name.and_then(Value::as_str).filter(|_| names.contains(&true));
        let name = name.map(str::to_owned);
        params["_meta"] = meta;
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let mut request = self.post(body.to_string());
        let headers = request.headers_mut();
        headers.insert("mcp-protocol-version", VERSION.parse().unwrap());
        headers.insert("mcp-method", method.parse().unwrap());
        if let Some(Ok(name)) = name.map(|name| name.parse()) {
            headers.insert("mcp-name", name);
        }
        request
    }

    /// Any body, with the headers that every request has.
    pub(crate) fn post(&self, body: impl Into<Body>) -> Request<Body> {
        let mut request = Request::post("/mcp")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(body.into()).unwrap()
    }

    /// A request of the plain HTTP interface.
    pub(crate) fn plain(&self, method: Method, path: &str) -> Request<Body> {
        let mut request = self.post("");
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        request
    }

    /// A stream of server-sent events.
    pub(crate) async fn events(&self, path: &str) -> Stream {
        self.stream(self.plain(Method::GET, path)).await
    }

    /// What a request is answered with, piece by piece.
    pub(crate) async fn stream(&self, request: Request<Body>) -> Stream {
        let response = soon(self.router().oneshot(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream { body: response.into_body(), rest: String::new() }
    }

    fn router(&self) -> Router {
        self.network.lock().clone().expect("the server is there")
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        soon(async {
            let response = self.router().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Reply {
                status: parts.status,
                headers: parts.headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            }
        })
        .await
    }

    pub(crate) async fn reply(&self, method: &str, params: Value) -> Reply {
        self.send(self.request(method, params)).await
    }

    pub(crate) async fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        self.reply(method, params).await.outcome()
    }

    pub(crate) async fn tool(&self, name: &str, arguments: Value) -> Result<Value, Value> {
        self.call("tools/call", json!({ "name": name, "arguments": arguments })).await
    }

    /// Calls a tool that becomes a task, and returns its id.
    pub(crate) async fn create(&self, name: &str) -> String {
        let created = self.tool(name, json!({})).await.unwrap();
        assert_eq!(created["resultType"], "task", "{created}");
        created["taskId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn get(&self, id: &str) -> Result<Value, Value> {
        self.call("tasks/get", json!({ "taskId": id })).await
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<Value, Value> {
        self.call("tasks/cancel", json!({ "taskId": id })).await
    }

    pub(crate) async fn update(&self, id: &str, responses: Value) -> Result<Value, Value> {
        self.call("tasks/update", json!({ "taskId": id, "inputResponses": responses })).await
    }

    /// Listens to tasks.
    pub(crate) async fn listen(&self, ids: &[&str]) -> Stream {
        self.listen_with(json!({ "taskIds": ids })).await
    }

    /// Listens to whatever the filter says.
    pub(crate) async fn listen_with(&self, filter: Value) -> Stream {
        let params = json!({ "notifications": filter });
        self.stream(self.request("subscriptions/listen", params)).await
    }
}

/// Messages as they come.
pub(crate) struct Stream {
    body: Body,
    rest: String,
}

impl Stream {
    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        soon(async {
            loop {
                while let Some(end) = self.rest.find('\n') {
                    let line: String = self.rest.drain(..=end).collect();
                    if let Some(message) = event(&line) {
                        return Some(message);
                    }
                }
                let frame = self.body.frame().await?.unwrap();
                self.rest.push_str(std::str::from_utf8(frame.data_ref()?).unwrap());
            }
        })
        .await
    }

    /// The next message, which is about a task.
    pub(crate) async fn task(&mut self) -> Value {
        let message = self.next().await.expect("the stream has ended");
        assert_eq!(message["method"], "notifications/tasks", "{message}");
        message["params"].clone()
    }
}

/// An answer to an elicitation.
pub(crate) fn named(name: &str) -> Value {
    json!({ "action": "accept", "content": { "name": name } })
}

/// The keys of the open questions.
pub(crate) fn open_keys(task: &Task) -> Vec<String> {
    task.pending_inputs().map(|(key, _)| key.to_owned()).collect()
}
