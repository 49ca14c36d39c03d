//! [`DurableServer`]: a handler of the SDK whose long tools are durable tasks.

use std::collections::HashMap;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, CreateTaskResult, Extensions,
    JsonObject, ServerCapabilities, TASKS_EXTENSION_ID,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;
use tenure::Owner;
use tenure::clock::Clock;
use tenure::resources::{ResourceLimits, ResourceStore};
use tenure::runtime::{TaskContext, Worker, WorkerOptions};
use tenure::store::StoreError;
use tenure::tasks::{Call, NewTask, TaskError, TaskLimits, TaskStore};
use tokio_util::sync::CancellationToken;

use crate::identity::Caller;
use crate::mcp::background::Background;
use crate::mcp::convert::{CallContext, summary};
use crate::mcp::declared::Declared;
use crate::mcp::error;
use crate::mcp::policy::{TaskPolicy, TaskSupport};
use crate::mcp::resources;
use crate::mcp::subscriptions::Subscriptions;
use crate::owner_limiter::OwnerLimiter;
use crate::write_timeout::Writes;

/// The `_meta` key of a `tools/call` that makes creating a task safe to repeat: the same caller
/// with the same key and the same call gets the same task, another call under it is refused.
pub const IDEMPOTENCY_KEY: &str = "io.tenure/idempotencyKey";

/// Streams of `subscriptions/listen` that a server serves to one owner at a time, unless
/// [`Builder::listeners`] says otherwise.
pub const LISTENERS_PER_OWNER: usize = 384;
/// Those that it serves at a time, and those of one owner.
const LISTENERS: (usize, usize) = (4_096, LISTENERS_PER_OWNER);
/// What clients of older revisions follow, whose sessions are bounded by themselves.
const LEGACY_FEEDS: (usize, usize) = (32_768, 8_192);

/// Why a server could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store cannot be opened.
    #[error("the task store cannot be opened")]
    Store(#[from] StoreError),
    /// The worker cannot be started on it.
    #[error("the worker cannot be started")]
    Worker(#[from] TaskError),
}

/// A handler of the SDK whose named tools are durable tasks.
///
/// It is a [`ServerHandler`] itself and passes everything on that is not about tasks. Clones are
/// the same server.
pub struct DurableServer<H> {
    pub(crate) shared: Arc<Shared<H>>,
    /// What the client of this clone has subscribed to: each session is served by its own.
    pub(super) subscriptions: Subscriptions,
}

pub(crate) struct Shared<H> {
    pub(crate) inner: Arc<H>,
    pub(crate) tools: Arc<HashMap<String, TaskPolicy>>,
    pub(super) declared: Declared,
    pub(crate) worker: Worker,
    pub(crate) resources: ResourceStore,
    /// The projects that MCP clients list; `None` if they see no resources of the store.
    pub(crate) shown: Option<Vec<String>>,
    pub(crate) listeners: OwnerLimiter,
    /// What clients of older revisions are told of during their sessions.
    pub(crate) legacy_feeds: OwnerLimiter,
    pub(crate) writes: Writes,
    pub(crate) closing: CancellationToken,
}

impl<H> Clone for DurableServer<H> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), subscriptions: Subscriptions::default() }
    }
}

impl<H> std::fmt::Debug for DurableServer<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DurableServer").field("tools", &self.shared.tools).finish_non_exhaustive()
    }
}

/// Describes a [`DurableServer`].
#[derive(Debug)]
pub struct Builder<H> {
    inner: H,
    tools: HashMap<String, TaskPolicy>,
    limits: TaskLimits,
    resource_limits: ResourceLimits,
    shown: Option<Vec<String>>,
    listeners: (usize, usize),
    worker: WorkerOptions,
}

impl<H: ServerHandler> Builder<H> {
    /// Makes calls of the tool `name` tasks, on these terms. A tool that is not named stays as it
    /// is.
    ///
    /// A handler can have tools that it does not know of yet, so any name is taken. One that is not
    /// among its tools when they are first listed is warned of, once, by `tracing`.
    #[must_use]
    pub fn tool(mut self, name: impl Into<String>, policy: TaskPolicy) -> Self {
        self.tools.insert(name.into(), policy);
        self
    }

    /// Bounds of tasks other than the default. They apply to [`open`](Self::open).
    #[must_use]
    pub fn limits(mut self, limits: TaskLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Bounds of resources other than the default.
    #[must_use]
    pub fn resource_limits(mut self, limits: ResourceLimits) -> Self {
        self.resource_limits = limits;
        self
    }

    /// Shows the store's resources to MCP clients, beside those of the handler inside, as
    /// `tenure://project/kind/id`. A caller lists the projects that its rights name; one with rights
    /// on all projects lists `listed`.
    #[must_use]
    pub fn resources(mut self, listed: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.shown = Some(listed.into_iter().map(Into::into).collect());
        self
    }

    /// Serves `all` streams of `subscriptions/listen` at a time, and `per_owner` of them to one
    /// owner; 4,096 and [`LISTENERS_PER_OWNER`] by default.
    #[must_use]
    pub fn listeners(mut self, all: usize, per_owner: usize) -> Self {
        self.listeners = (all, per_owner);
        self
    }

    /// Bounds and times of the worker other than the default. All servers of a store need the same
    /// `heartbeat_timeout_ms`.
    #[must_use]
    pub fn worker(mut self, options: WorkerOptions) -> Self {
        self.worker = options;
        self
    }

    /// Opens the store at `url` (see [`tenure::open`]) and starts to work on its tasks, those that
    /// a crash has left behind included.
    ///
    /// # Errors
    /// When the store cannot be opened, or the worker cannot be registered with it.
    pub async fn open(self, url: &str) -> Result<DurableServer<H>, OpenError> {
        let clock = Clock::system();
        let backend = tenure::open(url, clock.clone()).await?;
        let tasks = TaskStore::new(backend, clock).with_limits(self.limits);
        Ok(self.start(tasks).await?)
    }

    /// Starts to work on the tasks of a store that is already open.
    ///
    /// # Errors
    /// When the worker cannot be registered with the store.
    pub async fn start(self, tasks: TaskStore) -> Result<DurableServer<H>, TaskError> {
        let (inner, tools) = (Arc::new(self.inner), Arc::new(self.tools));
        let background = Background {
            inner: Arc::clone(&inner),
            tools: Arc::clone(&tools),
            clock: tasks.clock().clone(),
            message_bytes: tasks.limits().message_bytes,
        };
        let resources = ResourceStore::new(Arc::clone(tasks.backend()), tasks.clock().clone())
            .with_limits(self.resource_limits);
        let writes = Writes::new(tasks.clock().clone());
        let worker = Worker::start(tasks, Arc::new(background), self.worker).await?;
        Ok(DurableServer {
            shared: Arc::new(Shared {
                inner,
                declared: Declared::new(&tools),
                tools,
                worker,
                resources,
                shown: self.shown,
                listeners: OwnerLimiter::new("listeners", self.listeners.0, self.listeners.1),
                legacy_feeds: OwnerLimiter::new("subscriptions", LEGACY_FEEDS.0, LEGACY_FEEDS.1),
                writes,
                closing: CancellationToken::new(),
            }),
            subscriptions: Subscriptions::default(),
        })
    }
}

impl<H: ServerHandler> DurableServer<H> {
    /// Wraps a handler.
    pub fn builder(inner: H) -> Builder<H> {
        Builder {
            inner,
            tools: HashMap::new(),
            limits: TaskLimits::default(),
            resource_limits: ResourceLimits::default(),
            shown: None,
            listeners: LISTENERS,
            worker: WorkerOptions::default(),
        }
    }

    /// The tasks of this server.
    #[must_use]
    pub fn tasks(&self) -> &TaskStore {
        self.shared.worker.tasks()
    }

    /// Who runs them.
    #[must_use]
    pub fn worker(&self) -> &Worker {
        &self.shared.worker
    }

    /// The resources beside them, on the same store.
    #[must_use]
    pub fn resources(&self) -> &ResourceStore {
        &self.shared.resources
    }

    /// Ends the streams of listening clients, gives running tools `drain_ms` to finish, and leaves
    /// what remains to the next start, or to another server on the same store.
    ///
    /// After [`http::serve`](crate::http::serve), which ends the streams itself; with an axum server
    /// of your own, in the future that begins its graceful shutdown: see
    /// [`http::router`](crate::http::router).
    pub async fn shutdown(&self, drain_ms: u64) {
        self.close_listeners();
        self.shared.worker.shutdown(drain_ms).await;
    }

    pub(crate) fn close_listeners(&self) {
        self.shared.closing.cancel();
    }

    /// A call of a tool: a task, if its policy and the client say so.
    pub(crate) async fn call(
        &self,
        request: CallToolRequestParams,
        cx: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(policy) = self.shared.tools.get(request.name.as_ref()) else {
            return self.shared.inner.call_tool(request, cx).await;
        };
        let capabilities = cx.client_capabilities().unwrap_or_default();
        let inline = match (policy.support, capabilities.supports_tasks()) {
            (TaskSupport::Never, _) | (TaskSupport::Optional, false) => true,
            (TaskSupport::Required, false) => return Err(error::tasks_not_declared()),
            (_, true) => policy.input_first && request.input_responses.is_none(),
        };
        if inline {
            return self.shared.inner.call_tool(request, cx).await;
        }
        let owner = caller(&cx.extensions)?;
        let new = self.new_task(policy, request, capabilities, &cx)?;
        let submission = self.shared.worker.submit(&owner, new);
        let task = self.shared.writes.answered(submission).await.map_err(error::of_call)?;
        Ok(CreateTaskResult::new(summary(&task)).into())
    }

    fn new_task(
        &self,
        policy: &TaskPolicy,
        request: CallToolRequestParams,
        client_capabilities: ClientCapabilities,
        cx: &RequestContext<RoleServer>,
    ) -> Result<NewTask, ErrorData> {
        let context = CallContext {
            client_capabilities,
            input_responses: request.input_responses,
            request_state: request.request_state,
        };
        let mut call = Call::new(request.name, request.arguments.unwrap_or_default());
        call.context = serde_json::to_value(context)
            .map_err(|error| error::unfit("the context of the call", error))?;
        let mut new = self.on_terms(policy, call);
        new.idempotency_key = match cx.meta.get(IDEMPOTENCY_KEY) {
            None => None,
            Some(Value::String(key)) if !key.is_empty() => Some(key.clone()),
            Some(_) => {
                let message = format!("{IDEMPOTENCY_KEY} must be a text that is not empty");
                return Err(ErrorData::invalid_params(message, None));
            }
        };
        Ok(new)
    }
}

/// The task that a tool runs as; `None` when it was called inline.
///
/// Through it a tool keeps its checkpoint in [variables](TaskContext::variables), so that a further
/// attempt resumes where the last one was.
///
/// Within a task `cx.ct` fires when the task is cancelled, has expired or has been taken over, and
/// when the server shuts down and the time to finish is over. A tool that waits for an answer and
/// may run again gets none, and one that waits has 250 ms to return. At a shutdown an `Err` means that a
/// tool that may run again carries on later, as do a panic and a tool that does not return; one that
/// may not run again fails. An `Ok` is the tool's result, a `CallToolResult::error` included, and
/// ends the task for good. `cx.peer.peer_info()` is Tenure's own, for the client may be gone.
///
/// A question to the client that the tool gives up by a timeout of the SDK (`elicit_with_timeout`, for
/// one) is withdrawn from the task, and the tool goes on when it has its slot again. Of a call that is
/// merely dropped, as by a `select!`, the SDK tells nobody: its question stays open until the tool
/// returns. [`TaskContext::request_inputs`] is withdrawn however it is dropped.
#[must_use]
pub fn task(cx: &RequestContext<RoleServer>) -> Option<&TaskContext> {
    cx.extensions.get()
}

/// On whose behalf a request is made, or was made when the task was created.
///
/// # Errors
/// When the request came over HTTP past this crate's authentication, so that nobody knows.
pub fn owner(cx: &RequestContext<RoleServer>) -> Result<Owner, ErrorData> {
    match task(cx) {
        Some(task) => Ok(task.owner().clone()),
        None => caller(&cx.extensions),
    }
}

/// Whose tasks a request reaches.
pub(crate) fn caller(extensions: &Extensions) -> Result<Owner, ErrorData> {
    party(extensions).map(|party| party.owner().clone())
}

/// Who makes a request. Over HTTP somebody must have said so; a process that talks to its parent
/// over a pipe has one party, which may do everything.
pub(crate) fn party(extensions: &Extensions) -> Result<Caller, ErrorData> {
    let http = extensions.get::<axum::http::request::Parts>();
    match http.map(|parts| parts.extensions.get::<Caller>()) {
        None => Ok(Caller::local()),
        Some(Some(caller)) => Ok(caller.clone()),
        Some(None) => Err(ErrorData::internal_error("the request has no verified caller", None)),
    }
}

impl<H: ServerHandler> DurableServer<H> {
    /// Declares what the wrapper adds to the handler inside.
    pub(crate) fn declare(&self, capabilities: &mut ServerCapabilities) {
        declare_tasks(capabilities);
        if self.shared.shown.is_some() {
            resources::declare(capabilities);
        }
    }
}

/// Declares the extension. Clients take any settings in it for "no tasks", so it has none.
fn declare_tasks(capabilities: &mut ServerCapabilities) {
    let extensions = capabilities.extensions.get_or_insert_default();
    extensions.insert(TASKS_EXTENSION_ID.into(), JsonObject::new());
}
