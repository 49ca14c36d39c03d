//! `/v1/tasks`: a caller's tasks over plain HTTP, for operators and their scripts. MCP has no
//! list of tasks since the revision 2026-07-28.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/tasks?limit=N&cursor=C` | a [`TaskListDocument`], oldest first but for tasks with an idempotency key |
//! | `GET /v1/tasks/{id}` | a [`TaskDocument`] |
//! | `POST /v1/tasks/{id}/cancel` | the cancelled task; 409 if it has ended otherwise |
//! | `GET /v1/tasks/{id}/events` | server-sent events, a document each, until the task ends |
//! | `GET /v1/tasks/events` | the same for all tasks, until the client leaves; `unreadable` says what is wrong with one |
//!
//! Errors are problem details (RFC 9457). Callers prove themselves as at `/mcp`, and reach what
//! they reach there.

use std::collections::BTreeMap;
use std::future::ready;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::Event;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures::StreamExt as _;
use rmcp::ServerHandler;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tenure::store::{Cursor, PageRequest};
use tenure::tasks::{Outcome, Phase, Task, TaskError, TaskEvent, TaskId, TaskRef};
use utoipa::ToSchema;

use crate::DurableServer;
use crate::http::events::EventStreams;
use crate::http::openapi::{Refused, TaskPath, TooManyStreams};
use crate::http::problem::{not_possible_here, nothing_here};
use crate::http::{HttpOptions, Problem, gate};
use crate::identity::Caller;
use crate::mcp::rfc3339;

const DEFAULT_PAGE: usize = 100;

/// A task, as this interface and `tenure tasks --json` show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskDocument {
    /// Its name.
    pub id: String,
    /// working, `input_required`, completed, failed or cancelled.
    pub status: String,
    /// The latest word on its progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// The tool that it runs.
    pub tool: String,
    /// What the tool is called with.
    #[schema(value_type = Object)]
    pub arguments: Map<String, Value>,
    /// How often it was started.
    pub attempt: u32,
    /// What its execution is up to until it ends: queued, running, retrying after a failure, or parked
    /// until its input is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The worker that has it in its care.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// When it was created, as `2026-07-28T12:00:00.123Z` (RFC 3339, UTC, milliseconds).
    pub created_at: String,
    /// When it last changed, in the same format.
    pub updated_at: String,
    /// When it will be gone, finished or not, in the same format. Absent if it is kept for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Its checkpoint.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub variables: Map<String, Value>,
    /// What it waits for, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub input_requests: BTreeMap<String, Value>,
    /// The result of a completed task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// The error of a failed task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

impl From<&Task> for TaskDocument {
    fn from(task: &Task) -> Self {
        let (result, error) = match &task.outcome {
            Some(Outcome::Result(value)) => (Some(value.clone()), None),
            Some(Outcome::Error(value)) => (None, Some(value.clone())),
            None => (None, None),
        };
        let asked = task.pending_inputs().map(|(key, request)| (key.to_owned(), request.clone()));
        Self {
            id: task.id.to_string(),
            status: task.status.to_string(),
            status_message: task.status_message.clone(),
            tool: task.call.tool.clone(),
            arguments: task.call.arguments.clone(),
            attempt: task.attempt,
            phase: (!task.status.is_terminal()).then(|| phase(task.phase).into()),
            worker: task.worker.as_ref().map(|worker| worker.as_str().into()),
            created_at: rfc3339(task.created_at),
            updated_at: rfc3339(task.updated_at),
            expires_at: task.expires_at().map(rfc3339),
            variables: task.variables.clone(),
            input_requests: if task.status.is_terminal() {
                BTreeMap::new()
            } else {
                asked.collect()
            },
            result,
            error,
        }
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued => "queued",
        Phase::Retrying => "retrying",
        Phase::Running => "running",
        Phase::Parked => "parked",
    }
}

/// A page of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskListDocument {
    /// The tasks, oldest first. Those with an idempotency key have a fixed place in between, which
    /// says nothing of when they were created.
    pub tasks: Vec<TaskDocument>,
    /// What is wrong with those of the page that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// The `cursor` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

pub(super) struct Api<H> {
    server: DurableServer<H>,
    streams: EventStreams,
}

impl<H> Clone for Api<H> {
    fn clone(&self) -> Self {
        Self { server: self.server.clone(), streams: self.streams.clone() }
    }
}

impl<H: ServerHandler> Api<H> {
    /// What a read comes to, in bounded time.
    async fn answered<T>(
        &self,
        read: impl Future<Output = Result<T, TaskError>>,
    ) -> Result<T, Problem> {
        let read = async { Ok(read.await?) };
        Problem::unless_answered(self.server.tasks().clock(), read).await
    }
}

/// The routes.
pub(super) fn routes<H: ServerHandler>(
    server: &DurableServer<H>,
    options: &HttpOptions,
    streams: EventStreams,
) -> Router {
    let routes = Router::new()
        .route("/", get(list::<H>))
        .route("/events", get(watch::<H>))
        .route("/{id}", get(show::<H>))
        .route("/{id}/cancel", post(cancel::<H>))
        .route("/{id}/events", get(follow::<H>))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_possible_here);
    gate::guard(routes, options).with_state(Api { server: server.clone(), streams })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Lists the caller's tasks, oldest first but for those with an idempotency key.
#[utoipa::path(
    get,
    path = "/v1/tasks",
    operation_id = "list_tasks",
    tag = "tasks",
    params(
        ("limit" = Option<u64>, Query, description = "At most so many, 100 if it is not said; fewer where they come to 4 MiB"),
        ("cursor" = Option<String>, Query, description = "The page that follows this one's"),
    ),
    responses((status = 200, description = "A page", body = TaskListDocument), Refused),
)]
pub(super) async fn list<H: ServerHandler>(
    State(api): State<Api<H>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<TaskListDocument>, Problem> {
    let Query(query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let after = query.cursor.map(|it| it.parse::<Cursor>()).transpose().map_err(TaskError::from)?;
    let request = PageRequest { limit: Some(query.limit.unwrap_or(DEFAULT_PAGE)), after };
    let page = api.server.tasks().list(caller.owner(), request);
    let page = api.answered(page).await?;
    let (mut tasks, mut unreadable) = (Vec::new(), Vec::new());
    for task in page.tasks {
        match task {
            Ok(task) => tasks.push(TaskDocument::from(&task)),
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    let next_cursor = page.next.map(|cursor| cursor.to_string());
    Ok(Json(TaskListDocument { tasks, unreadable, next_cursor }))
}

/// The task that a path names; what is no text names none.
fn named(id: Result<Path<String>, PathRejection>) -> Result<TaskId, TaskError> {
    id.map(|Path(id)| TaskId::from(id)).map_err(|_| TaskError::NotFound)
}

/// Reads a task.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}",
    tag = "tasks",
    params(TaskPath),
    responses((status = 200, description = "The task", body = TaskDocument), Refused),
)]
pub(super) async fn show<H: ServerHandler>(
    State(api): State<Api<H>>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskDocument>, Problem> {
    let id = named(id)?;
    let task = api.answered(api.server.tasks().get(caller.owner(), &id)).await?;
    Ok(Json(TaskDocument::from(&task)))
}

/// Cancels a task.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/cancel",
    tag = "tasks",
    params(TaskPath),
    responses(
        (status = 200, description = "The cancelled task", body = TaskDocument),
        (status = 409, description = "It has ended otherwise", body = Problem,
            content_type = "application/problem+json"),
        Refused,
    ),
)]
pub(super) async fn cancel<H: ServerHandler>(
    State(api): State<Api<H>>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<TaskDocument>, Problem> {
    let task = TaskRef::new(caller.owner().clone(), named(id)?);
    let tasks = api.server.tasks().clone();
    let writing = async move { tasks.cancel(&task, None).await };
    Ok(Json(TaskDocument::from(&api.server.shared.writes.carry_out(Box::pin(writing)).await?)))
}

/// Follows a task: server-sent events named task, a document each, until it ends.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}/events",
    tag = "tasks",
    params(TaskPath),
    responses(
        (status = 200, description = "The events", body = TaskDocument,
            content_type = "text/event-stream"),
        Refused, TooManyStreams,
    ),
)]
pub(super) async fn follow<H: ServerHandler>(
    State(api): State<Api<H>>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (tasks, id) = (api.server.tasks(), named(id)?);
    let events = async {
        // An unknown task is an answer, not an empty stream.
        tasks.get(caller.owner(), &id).await?;
        let states = tasks.follow(caller.owner(), &id).await?;
        Ok(states.map(|state| event(state.map(|task| TaskDocument::from(&task)))))
    };
    api.streams.open(&caller, events).await
}

/// Watches the caller's tasks: each as it stands, then every change. The events are named task;
/// unreadable says what is wrong with a task that cannot be read, as the list does; problem is the
/// last one.
#[utoipa::path(
    get,
    path = "/v1/tasks/events",
    operation_id = "watch_tasks",
    tag = "tasks",
    responses(
        (status = 200, description = "The events", body = TaskDocument,
            content_type = "text/event-stream"),
        Refused, TooManyStreams,
    ),
)]
pub(super) async fn watch<H: ServerHandler>(
    State(api): State<Api<H>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    let events = async {
        let events = api.server.tasks().watch(caller.owner()).await?;
        Ok(events.filter_map(|it| {
            ready(match it {
                Ok(TaskEvent::Task(task)) => Some(event(Ok(TaskDocument::from(&*task)))),
                Ok(TaskEvent::Unreadable(error)) => Some(unreadable(&error)),
                Ok(TaskEvent::Gone(_)) => None,
                Err(error) => Some(event(Err(error))),
            })
        }))
    };
    api.streams.open(&caller, events).await
}

/// A document as an event; an error is the last one.
fn event(document: Result<TaskDocument, TaskError>) -> Event {
    let event = match document {
        Ok(task) => Event::default().event("task").json_data(task),
        Err(error) => Event::default().event("problem").json_data(Problem::from(error)),
    };
    // Neither document can fail to serialise.
    event.unwrap_or_default()
}

/// What is wrong with a task, as an event.
fn unreadable(error: &TaskError) -> Event {
    // A text cannot fail to serialise.
    Event::default().event("unreadable").json_data(error.to_string()).unwrap_or_default()
}
