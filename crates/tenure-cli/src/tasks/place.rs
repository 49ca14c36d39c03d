//! Where the tasks are: in a store, or behind a server.

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use sse_stream::{Sse, SseStream};
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::{Cursor, PageRequest, StoreError};
use tenure::tasks::{TaskEvent, TaskId, TaskRef, TaskStore};
use tenure_mcp::http::Problem;
use tenure_mcp::http::tasks::{TaskDocument, TaskListDocument};

use crate::args::Place;
use crate::client::{client, is_passing};
use crate::error::CliError;

/// What a watch yields.
pub(crate) type States = BoxStream<'static, Result<TaskDocument, CliError>>;

/// A page of a list. A task that cannot be read is a text that says so.
pub(crate) struct Page {
    pub(crate) tasks: Vec<Result<TaskDocument, String>>,
    pub(crate) next: Option<String>,
}

pub(crate) enum Tasks {
    Store { tasks: TaskStore, owner: Owner },
    Server(Server),
}

/// A running server's own interface for its tasks.
pub(crate) struct Server {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Tasks {
    pub(crate) async fn at(place: &Place) -> Result<Self, CliError> {
        if let Some(url) = &place.server {
            let url = url.trim_end_matches('/').trim_end_matches("/mcp").to_owned();
            let http = client();
            return Ok(Self::Server(Server { http, url, token: place.token.clone() }));
        }
        must_exist(&place.store)?;
        let clock = Clock::system();
        let backend = tenure::open(&place.store, clock.clone()).await?;
        let owner = Owner::new(place.owner.as_str())?;
        Ok(Self::Store { tasks: TaskStore::new(backend, clock), owner })
    }

    pub(crate) async fn get(&self, id: &str) -> Result<TaskDocument, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                Ok((&tasks.get(owner, &TaskId::from(id)).await?).into())
            }
            Self::Server(server) => server.json(reqwest::Method::GET, &[id]).await,
        }
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<TaskDocument, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                Ok((&tasks.cancel(&TaskRef::new(owner.clone(), id), None).await?).into())
            }
            Self::Server(server) => server.json(reqwest::Method::POST, &[id, "cancel"]).await,
        }
    }

    pub(crate) async fn page(&self, cursor: Option<String>) -> Result<Page, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                let after = cursor.map(|it| it.parse::<Cursor>()).transpose()?;
                let page = tasks.list(owner, PageRequest { limit: None, after }).await?;
                let document = |task| match task {
                    Ok(task) => Ok(TaskDocument::from(&task)),
                    Err(error) => Err(tenure::tasks::TaskError::to_string(&error)),
                };
                Ok(Page {
                    tasks: page.tasks.into_iter().map(document).collect(),
                    next: page.next.map(|it| it.to_string()),
                })
            }
            Self::Server(server) => {
                let list: TaskListDocument = server.list(cursor).await?;
                let unreadable = list.unreadable.into_iter().map(Err);
                let tasks = list.tasks.into_iter().map(Ok).chain(unreadable).collect();
                Ok(Page { tasks, next: list.next_cursor })
            }
        }
    }

    /// One task, to its end.
    pub(crate) async fn follow(&self, id: &str) -> Result<States, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                // At once, so that an unknown task is an error and not an empty stream.
                tasks.get(owner, &TaskId::from(id)).await?;
                let states = tasks.follow(owner, &TaskId::from(id)).await?;
                Ok(states.map_ok(|task| TaskDocument::from(&task)).map_err(CliError::from).boxed())
            }
            Self::Server(server) => server.events(&[id, "events"]).await,
        }
    }

    /// All tasks, until somebody stops it.
    pub(crate) async fn watch(&self) -> Result<States, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                let events = tasks.watch(owner).await?;
                let document = |event| async {
                    match event {
                        Ok(TaskEvent::Task(task)) => Some(Ok(TaskDocument::from(&*task))),
                        Ok(TaskEvent::Unreadable(_) | TaskEvent::Gone(_)) => None,
                        Err(error) => Some(Err(CliError::from(error))),
                    }
                };
                Ok(events.filter_map(document).boxed())
            }
            Self::Server(server) => server.events(&["events"]).await,
        }
    }
}

/// Looking into a store does not make one.
pub(crate) fn must_exist(store: &str) -> Result<(), CliError> {
    let Some(location) = store.strip_prefix("file:") else { return Ok(()) };
    let path = location.split('?').next().unwrap_or(location);
    if path.is_empty() || std::path::Path::new(path).exists() {
        return Ok(());
    }
    Err(StoreError::InvalidLocation(format!("there is no file {path}")).into())
}

impl Server {
    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        method: reqwest::Method,
        path: &[&str],
    ) -> Result<T, CliError> {
        let response = self.send(self.request(method, path)?).await?;
        response.json().await.map_err(|error| CliError::Answer(error.into()))
    }

    async fn list(&self, cursor: Option<String>) -> Result<TaskListDocument, CliError> {
        let request = self.request(reqwest::Method::GET, &[])?.query(&[("cursor", cursor)]);
        let response = self.send(request).await?;
        response.json().await.map_err(|error| CliError::Answer(error.into()))
    }

    async fn events(&self, path: &[&str]) -> Result<States, CliError> {
        let response = self.send(self.request(reqwest::Method::GET, path)?).await?;
        let events = SseStream::from_bytes_stream(response.bytes_stream());
        let document = |event: Result<Sse, sse_stream::Error>| async {
            let event = match event {
                Ok(event) => event,
                Err(error) => return Some(Err(CliError::Answer(error.into()))),
            };
            let data = event.data?;
            Some(match event.event.as_deref() {
                Some("problem") => Err(refusal(&data)),
                _ => serde_json::from_str(&data).map_err(|error| CliError::Answer(error.into())),
            })
        };
        Ok(events.filter_map(document).boxed())
    }

    fn request(
        &self,
        method: reqwest::Method,
        path: &[&str],
    ) -> Result<reqwest::RequestBuilder, CliError> {
        let malformed = || CliError::Refused(format!("{} is not a server's URL", self.url));
        let mut url = reqwest::Url::parse(&self.url).map_err(|_| malformed())?;
        // Segments are escaped one by one: an id may contain anything.
        url.path_segments_mut()
            .map_err(|()| malformed())?
            .pop_if_empty()
            .extend(["v1", "tasks"])
            .extend(path);
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, CliError> {
        let unreachable = |source| CliError::Unreachable { url: self.url.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            reqwest::StatusCode::NOT_FOUND => Err(CliError::NotFound),
            reqwest::StatusCode::UNAUTHORIZED => Err(CliError::NotAllowed),
            reqwest::StatusCode::CONFLICT => {
                Err(CliError::AlreadyEnded(detail(&response.text().await.map_err(unreachable)?)))
            }
            status if is_passing(status) => {
                Err(CliError::Busy(detail(&response.text().await.map_err(unreachable)?)))
            }
            _ => Err(refusal(&response.text().await.map_err(unreachable)?)),
        }
    }
}

pub(crate) fn refusal(problem: &str) -> CliError {
    CliError::Refused(format!("the server refuses: {}", detail(problem)))
}

/// The detail of a problem document; of anything else, its beginning.
fn detail(text: &str) -> String {
    match serde_json::from_str::<Problem>(text) {
        Ok(problem) => problem.detail,
        Err(_) => text.chars().take(200).collect(),
    }
}
