//! Watching all tasks of an owner.

use std::collections::VecDeque;

use futures::{Stream, StreamExt as _};

use crate::owner::Owner;
use crate::store::{ChangeKind, PageRequest, Watch, WatchEvent, WatchFrom};
use crate::tasks::store::{TaskStore, partition};
use crate::tasks::{Task, TaskError, TaskId};

/// Tasks that a watcher lists at a time.
const PAGE: usize = 100;

/// What happened to one of an owner's tasks.
#[derive(Debug)]
pub enum TaskEvent {
    /// It was there when the watch began, or it changed: this is how it stands.
    Task(Box<Task>),
    /// It is there, but cannot be read.
    Unreadable(TaskError),
    /// It was reclaimed.
    Gone(TaskId),
}

struct Watcher {
    tasks: TaskStore,
    owner: Owner,
    watch: Watch,
    /// The rest of the page that was listed last.
    pending: VecDeque<TaskEvent>,
    /// The page to list next, if what is there has not all been told.
    listing: Option<PageRequest>,
}

/// Every task of `owner` as it stands, then every change. After a gap all are told again.
pub(super) async fn watch(
    tasks: TaskStore,
    owner: Owner,
) -> Result<impl Stream<Item = Result<TaskEvent, TaskError>> + Send + use<>, TaskError> {
    let watch = tasks.backend().watch(&partition(&owner)?, WatchFrom::Now).await?;
    let listing = Some(PageRequest::first(PAGE));
    let watcher = Watcher { tasks, owner, watch, pending: VecDeque::new(), listing };
    // It ends after an error, too.
    Ok(futures::stream::try_unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Ok(event.map(|event| (event, watcher)))
    })
    .boxed())
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<TaskEvent>, TaskError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            if let Some(page) = self.listing.take() {
                self.list(page).await?;
                continue;
            }
            match self.watch.next().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(WatchEvent::Resync(_))) => self.listing = Some(PageRequest::first(PAGE)),
                Some(Ok(WatchEvent::Change(change))) => {
                    let id = TaskId::from(change.key.shared_name());
                    if matches!(change.kind, ChangeKind::Gone) {
                        return Ok(Some(TaskEvent::Gone(id)));
                    }
                    match self.tasks.get(&self.owner, &id).await {
                        Ok(task) => return Ok(Some(TaskEvent::Task(Box::new(task)))),
                        // It has gone since; that is a change of its own, or its expiry.
                        Err(TaskError::NotFound) => {}
                        Err(error @ TaskError::Unreadable { .. }) => {
                            return Ok(Some(TaskEvent::Unreadable(error)));
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Lists one page: however many tasks there are, no more of them are held at a time.
    async fn list(&mut self, page: PageRequest) -> Result<(), TaskError> {
        let page = self.tasks.list(&self.owner, page).await?;
        self.pending.extend(page.tasks.into_iter().map(|task| match task {
            Ok(task) => TaskEvent::Task(Box::new(task)),
            Err(error) => TaskEvent::Unreadable(error),
        }));
        self.listing = page.next.map(|next| PageRequest::after(next, PAGE));
        Ok(())
    }
}
