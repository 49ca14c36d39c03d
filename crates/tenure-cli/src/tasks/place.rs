//! Where the tasks are: in a store, or behind a server.

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::Method;
use tenure::Owner;
use tenure::store::{Cursor, PageRequest};
use tenure::tasks::{TaskError, TaskEvent, TaskId, TaskRef, TaskStore};
use tenure_mcp::http::tasks::{TaskDocument, TaskListDocument};

use crate::args::{StatusFilter, TaskLocation};
use crate::client::{Server, ServerEvent};
use crate::error::CliError;
use crate::location::{IfAbsent, Target};

/// The states of one task.
pub(crate) type States = BoxStream<'static, Result<TaskDocument, CliError>>;

/// What a watch of all tasks yields.
pub(crate) type Sights = BoxStream<'static, Result<Sight, CliError>>;

/// What is seen of a task: how it stands, or a text that says that it cannot be read.
#[derive(Debug, PartialEq)]
pub(crate) enum Sight {
    Task(Box<TaskDocument>),
    Unreadable(String),
}

impl ServerEvent for Sight {
    fn read(name: &str, data: &str) -> serde_json::Result<Self> {
        match name {
            "unreadable" => serde_json::from_str(data).map(Self::Unreadable),
            _ => serde_json::from_str(data).map(Self::Task),
        }
    }

    fn anew() -> Option<Self> {
        // Each task is told as it stands, and none is ever told to be gone.
        None
    }
}

/// A page of a list.
pub(crate) struct Page {
    pub(crate) tasks: Vec<Sight>,
    pub(crate) next: Option<String>,
}

pub(crate) enum Tasks {
    Store { tasks: TaskStore, owner: Owner },
    Server(Server),
}

impl Tasks {
    pub(crate) async fn at(place: &TaskLocation) -> Result<Self, CliError> {
        let for_stores = place.owner.is_some().then_some("--owner");
        let url = match place.location.target(for_stores)? {
            Target::Store(url) => url,
            Target::Server(url) => {
                let token = place.location.token.as_deref();
                return Ok(Self::Server(Server::new(&url, token, "task")?));
            }
        };
        let owner = place.owner.as_deref().map_or_else(|| Ok(Owner::local()), Owner::new)?;
        let (backend, clock) = url.open(IfAbsent::Refuse).await?;
        Ok(Self::Store { tasks: TaskStore::new(backend, clock), owner })
    }

    /// That a list is empty. Others may have tasks in the same store.
    pub(crate) fn none(&self) -> String {
        match self {
            Self::Store { owner, .. } => {
                format!("no tasks of the owner {:?}; --owner names another", owner.as_str())
            }
            Self::Server(_) => "no tasks".into(),
        }
    }

    pub(crate) async fn get(&self, id: &str) -> Result<TaskDocument, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                let task = tasks.get(owner, &TaskId::from(id)).await;
                Ok((&task.map_err(|error| of(owner, error))?).into())
            }
            // There it is the stream of all tasks. Tenure gives no such id.
            Self::Server(_) if id == "events" => Err(CliError::NotFound("task")),
            Self::Server(server) => server.json(server.request(Method::GET, &["tasks", id])?).await,
        }
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<TaskDocument, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                let task = tasks.cancel(&TaskRef::new(owner.clone(), id), None).await;
                Ok((&task.map_err(|error| of(owner, error))?).into())
            }
            Self::Server(server) => {
                server.json(server.request(Method::POST, &["tasks", id, "cancel"])?).await
            }
        }
    }

    pub(crate) async fn page(&self, cursor: Option<String>) -> Result<Page, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                let after = cursor.map(|it| it.parse::<Cursor>()).transpose()?;
                let page = tasks.list(owner, PageRequest { limit: None, after }).await?;
                let document = |task| match task {
                    Ok(task) => Sight::Task(Box::new(TaskDocument::from(&task))),
                    Err(error) => Sight::Unreadable(TaskError::to_string(&error)),
                };
                Ok(Page {
                    tasks: page.tasks.into_iter().map(document).collect(),
                    next: page.next.map(|it| it.to_string()),
                })
            }
            Self::Server(server) => {
                let request = server.request(Method::GET, &["tasks"])?.query(&[("cursor", cursor)]);
                let list: TaskListDocument = server.json(request).await?;
                let unreadable = list.unreadable.into_iter().map(Sight::Unreadable);
                let tasks = list
                    .tasks
                    .into_iter()
                    .map(|it| Sight::Task(it.into()))
                    .chain(unreadable)
                    .collect();
                Ok(Page { tasks, next: list.next_cursor })
            }
        }
    }

    /// One task, to its end.
    pub(crate) async fn follow(&self, id: &str) -> Result<States, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                // At once, so that an unknown task is an error and not an empty stream.
                let task = tasks.get(owner, &TaskId::from(id)).await;
                task.map_err(|error| of(owner, error))?;
                let states = tasks.follow(owner, &TaskId::from(id)).await?;
                Ok(states.map_ok(|task| TaskDocument::from(&task)).map_err(CliError::from).boxed())
            }
            Self::Server(server) => {
                let request = server.request(Method::GET, &["tasks", id, "events"])?;
                let states = server.events(request).await?.try_filter_map(async |it| match it {
                    Sight::Task(task) => Ok(Some(*task)),
                    // That ends the stream of one task, with a problem.
                    Sight::Unreadable(_) => Ok(None),
                });
                Ok(to_its_end(states.boxed()))
            }
        }
    }

    /// All tasks, until somebody stops it.
    pub(crate) async fn watch(&self) -> Result<Sights, CliError> {
        match self {
            Self::Store { tasks, owner } => {
                let events = tasks.watch(owner).await?;
                let document = |event| async {
                    match event {
                        Ok(TaskEvent::Task(task)) => {
                            Some(Ok(Sight::Task(Box::new((&*task).into()))))
                        }
                        Ok(TaskEvent::Unreadable(error)) => {
                            Some(Ok(Sight::Unreadable(error.to_string())))
                        }
                        Ok(TaskEvent::Gone(_)) => None,
                        Err(error) => Some(Err(CliError::from(error))),
                    }
                };
                Ok(events.filter_map(document).boxed())
            }
            Self::Server(server) => {
                server.events(server.request(Method::GET, &["tasks", "events"])?).await
            }
        }
    }
}

/// The error of a look at the tasks of one owner. Another one in the same store may have the task.
fn of(owner: &Owner, error: TaskError) -> CliError {
    match error {
        TaskError::NotFound => CliError::NoTask { owner: owner.as_str().into() },
        error => error.into(),
    }
}

/// The states of one task: each once, though a server that was away tells the latest again, and
/// none after the last.
fn to_its_end(states: States) -> States {
    let ended = |task: &TaskDocument| !StatusFilter::Unfinished.admits(&task.status);
    stream::unfold((states, None), move |(mut states, last)| async move {
        if last.as_ref().is_some_and(ended) {
            return None;
        }
        loop {
            match states.next().await? {
                Ok(task) if last.as_ref() == Some(&task) => {}
                Ok(task) => return Some((Ok(task.clone()), (states, Some(task)))),
                Err(error) => return Some((Err(error), (states, last))),
            }
        }
    })
    .boxed()
}
