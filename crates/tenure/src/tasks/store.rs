//! [`TaskStore`]: tasks on any backend.

use std::sync::Arc;

use futures::Stream;
use serde_json::{Map, Value};

use crate::clock::Clock;
use crate::limits::{self, ID_BYTES};
use crate::owner::Owner;
use crate::store::{
    Cursor, Key, PageRequest, Partition, Precondition, Record, StorageBackend, StoreError, Write,
};
use crate::tasks::doubt::DOUBTFUL_ROUNDS;
use crate::tasks::follow::{Feeds, OnLasting, follow};
use crate::tasks::recent::Recent;
use crate::tasks::state::Transition;
use crate::tasks::watch::{TaskEvent, watch};
use crate::tasks::{
    NewTask, Phase, Status, Task, TaskError, TaskId, TaskLimits, TaskRef, WorkerId, record,
};

/// Keeps tasks on a [`StorageBackend`].
///
/// Every method names the owner, and an owner reaches nothing but its own tasks: unknown, expired
/// and somebody else's are the same [`TaskError::NotFound`]. Every change is one atomic
/// transition; a task that has ended never changes again. Clones share everything.
#[derive(Debug, Clone)]
pub struct TaskStore {
    pub(super) backend: Arc<dyn StorageBackend>,
    pub(super) clock: Clock,
    pub(super) limits: TaskLimits,
    feeds: Feeds,
    pub(super) recent: Arc<Recent>,
}

/// Who takes care of a new task, and whether its handler starts at once.
#[derive(Default)]
pub(crate) struct Assignment {
    pub(crate) worker: Option<WorkerId>,
    pub(crate) started: bool,
}

/// A page of tasks, in the order of [`TaskStore::list`].
#[derive(Debug)]
pub struct TaskPage {
    /// The tasks. One that cannot be read is an error in its place and hides no other.
    pub tasks: Vec<Result<Task, TaskError>>,
    /// Where the next page begins.
    pub next: Option<Cursor>,
}

impl TaskStore {
    /// Tasks on `backend`, which must live by the same `clock`.
    #[must_use]
    pub fn new(backend: Arc<dyn StorageBackend>, clock: Clock) -> Self {
        Self {
            feeds: Feeds::new(Arc::clone(&backend)),
            backend,
            clock,
            limits: TaskLimits::default(),
            recent: Arc::default(),
        }
    }

    /// The same tasks under other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: TaskLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The limits that apply.
    #[must_use]
    pub fn limits(&self) -> &TaskLimits {
        &self.limits
    }

    /// The clock that decides what has expired.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The backend underneath.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn StorageBackend> {
        &self.backend
    }

    /// Creates a task in one write, however many tasks the owner has. When this returns, any
    /// process on the same store can read it.
    ///
    /// # Errors
    /// [`TaskError::QuotaExceeded`], exactly at the limit; [`TaskError::Invalid`];
    /// [`TaskError::IdempotencyMismatch`].
    pub async fn create(&self, owner: &Owner, new: NewTask) -> Result<Task, TaskError> {
        let id = Self::id_for(owner, &new)?;
        Ok(self.create_for(owner, id, new, Assignment::default()).await?.0)
    }

    /// The id that `create` would give: random, or the one that the idempotency key stands for.
    pub(crate) fn id_for(owner: &Owner, new: &NewTask) -> Result<TaskId, TaskError> {
        let Some(key) = &new.idempotency_key else { return Ok(TaskId::random()) };
        limits::check("idempotency key", key.len(), ID_BYTES)?;
        let owner = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, owner.as_str().as_bytes());
        Ok(uuid::Uuid::new_v5(&owner, key.as_bytes()).to_string().into())
    }

    /// Creates a task in somebody's care. Tells whether it is new; if not, it is what an earlier
    /// create with the same idempotency key made.
    pub(crate) async fn create_for(
        &self,
        owner: &Owner,
        id: TaskId,
        new: NewTask,
        assignment: Assignment,
    ) -> Result<(Task, bool), TaskError> {
        let repeatable = new.idempotency_key.is_some();
        let task = self.initial(owner, id, new, assignment);
        self.limits.check(&task)?;
        let key = key(owner, &task.id)?;
        let write = self.write_of(&task)?;
        let mut in_doubt = false;
        for round in 0..DOUBTFUL_ROUNDS {
            match self.backend.put_if_version(&key, write.clone(), Precondition::Absent).await {
                Ok(token) => {
                    self.remember(key, write, token, &task);
                    return Ok((task, true));
                }
                Err(StoreError::PartitionFull { limit }) => {
                    return Err(TaskError::QuotaExceeded { limit });
                }
                Err(StoreError::VersionConflict { .. }) if repeatable || in_doubt => {
                    let existing = match self.get(owner, &task.id).await {
                        Err(TaskError::Store(error)) if in_doubt && error.is_retryable() => {
                            self.clock.back_off_long(round).await;
                            continue;
                        }
                        read => read?,
                    };
                    let ours = in_doubt
                        && existing.created_at == task.created_at
                        && existing.worker == task.worker;
                    return if existing.call == task.call {
                        Ok((existing, ours))
                    } else {
                        Err(TaskError::IdempotencyMismatch)
                    };
                }
                Err(error) if error.is_in_doubt() || (in_doubt && error.is_retryable()) => {
                    in_doubt = true;
                    self.clock.back_off_long(round).await;
                }
                Err(error) if in_doubt => {
                    return Err(StoreError::OutcomeUnknown(Some(error.into())).into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::OutcomeUnknown(None).into())
    }

    fn initial(&self, owner: &Owner, id: TaskId, new: NewTask, assignment: Assignment) -> Task {
        let now = self.clock.now();
        Task {
            id,
            version: 1,
            owner: owner.clone(),
            status: Status::Working,
            status_message: new.status_message,
            created_at: now,
            updated_at: now,
            ttl_ms: Some(self.limits.ttl_ms(new.ttl_ms)),
            poll_interval_ms: new.poll_interval_ms,
            call: new.call,
            rerun: new.rerun,
            phase: if assignment.started { Phase::Running } else { Phase::Queued },
            attempt: u32::from(assignment.started),
            worker: assignment.worker,
            variables: Map::new(),
            inputs: std::collections::BTreeMap::new(),
            outcome: None,
        }
    }

    /// Reads a task: one read of the store, no write.
    ///
    /// # Errors
    /// [`TaskError::NotFound`], [`TaskError::Unreadable`].
    pub async fn get(&self, owner: &Owner, id: &TaskId) -> Result<Task, TaskError> {
        Ok(self.read(owner, id).await?.0)
    }

    pub(crate) async fn read(
        &self,
        owner: &Owner,
        id: &TaskId,
    ) -> Result<(Task, Record), TaskError> {
        // A name that is too long to be stored is one that nobody has.
        let key = key(owner, id).map_err(|_| TaskError::NotFound)?;
        let record = self.backend.get(&key).await?.ok_or(TaskError::NotFound)?;
        Ok((record::decode(owner, id, &record)?, record))
    }

    /// Lists the tasks of an owner in the order of their ids: oldest first, but for tasks with an
    /// idempotency key, whose ids say nothing of when and which lie in between. Tasks of one moment
    /// are in the order of their creation if one process made them.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] for a cursor that is not from this owner's list.
    pub async fn list(&self, owner: &Owner, page: PageRequest) -> Result<TaskPage, TaskError> {
        let page = self.backend.list_by_prefix(&partition(owner)?, "", page).await?;
        let tasks = page.items().into_iter().map(|item| match item {
            Ok(entry) => {
                record::decode(owner, &TaskId::from(entry.key.shared_name()), &entry.record)
            }
            Err(damaged) => Err(TaskError::Unreadable {
                id: TaskId::from(damaged.key.shared_name()),
                reason: damaged.reason.clone(),
            }),
        });
        let tasks = tasks.collect();
        Ok(TaskPage { tasks, next: page.next })
    }

    /// Follows a task: its state now, then every later one, though not every one in between. Ends
    /// after a terminal state, or with [`TaskError::NotFound`] when the task expires. While the store
    /// is unavailable it waits, and warns in the log; any other trouble of the store, such as a right
    /// that was withdrawn, is the last item.
    ///
    /// # Errors
    /// The store's own trouble in setting up the watch, and in the first read.
    pub async fn follow(
        &self,
        owner: &Owner,
        id: &TaskId,
    ) -> Result<impl Stream<Item = Result<Task, TaskError>> + Send + use<>, TaskError> {
        follow(self.clone(), &self.feeds, owner, id, OnLasting::End).await
    }

    /// As [`follow`](Self::follow), but waits for as long as any trouble of the store lasts: for a
    /// worker, whose running tool is not to be stopped because nobody can tell it of a cancel.
    pub(crate) async fn follow_patiently(
        &self,
        owner: &Owner,
        id: &TaskId,
    ) -> Result<impl Stream<Item = Result<Task, TaskError>> + Send + use<>, TaskError> {
        follow(self.clone(), &self.feeds, owner, id, OnLasting::Wait).await
    }

    /// Watches all tasks of an owner: each as it stands, then every change, though not every one
    /// in between. After a gap all are told again.
    ///
    /// # Errors
    /// The store's own trouble.
    pub async fn watch(
        &self,
        owner: &Owner,
    ) -> Result<impl Stream<Item = Result<TaskEvent, TaskError>> + Send + use<>, TaskError> {
        watch(self.clone(), owner.clone()).await
    }

    /// Replaces the status message.
    ///
    /// # Errors
    /// As every change: [`TaskError::NotFound`], [`TaskError::Finished`], and
    /// [`TaskError::Superseded`] if the reference names an attempt that is over.
    pub async fn update_status(
        &self,
        task: &TaskRef,
        message: Option<String>,
    ) -> Result<Task, TaskError> {
        self.change(task, &Transition::Progress { message }).await
    }

    /// Merges into the variables, the task's checkpoint. A null deletes.
    ///
    /// # Errors
    /// As every change, and [`TaskError::Invalid`] beyond the limits.
    pub async fn set_variables(
        &self,
        task: &TaskRef,
        changes: Map<String, Value>,
    ) -> Result<Task, TaskError> {
        self.change(task, &Transition::SetVariables { changes }).await
    }

    /// Asks the owner for input. A key is unique for the life of the task: asking again under the
    /// same key changes nothing, so a handler that runs again finds the answer it was given; only what
    /// was withdrawn is open again.
    ///
    /// A request is an object with a string `method`. Clients of MCP are told of it as an
    /// `InputRequest`, so for them it has to be one: `elicitation/create` and the like.
    ///
    /// # Errors
    /// As every change, and [`TaskError::Invalid`] beyond the limits or for a request of another
    /// form.
    pub async fn record_input_requests(
        &self,
        task: &TaskRef,
        requests: Map<String, Value>,
    ) -> Result<Task, TaskError> {
        self.change(task, &Transition::RequestInputs { requests }).await
    }

    /// Answers input requests. Keys that are unknown, answered or withdrawn are ignored; the task works
    /// on once none is open.
    ///
    /// # Errors
    /// As every change, and [`TaskError::Invalid`] beyond the limits.
    pub async fn deliver_inputs(
        &self,
        task: &TaskRef,
        responses: Map<String, Value>,
    ) -> Result<Task, TaskError> {
        self.change(task, &Transition::DeliverInputs { responses }).await
    }

    /// Ends the task with its result, an object, both in one write.
    ///
    /// # Errors
    /// As every change, and [`TaskError::Invalid`] beyond the limits or for what is no object.
    pub async fn complete(&self, task: &TaskRef, result: Value) -> Result<Task, TaskError> {
        self.change(task, &Transition::Complete { result }).await
    }

    /// Ends the task with an error, both in one write. As in JSON-RPC it is an object with an integer
    /// `code` and a string `message`.
    ///
    /// # Errors
    /// As every change, and [`TaskError::Invalid`] beyond the limits or for an error of another form.
    pub async fn fail(
        &self,
        task: &TaskRef,
        error: Value,
        message: Option<String>,
    ) -> Result<Task, TaskError> {
        self.change(task, &Transition::Fail { error, message }).await
    }

    /// Calls the task off. Whatever its handler writes meanwhile, the cancel wins; only a result
    /// that is already there stands.
    ///
    /// # Errors
    /// As every change: [`TaskError::Finished`] tells how the task ended instead.
    pub async fn cancel(&self, task: &TaskRef, message: Option<String>) -> Result<Task, TaskError> {
        self.change(task, &Transition::Cancel { message }).await
    }

    /// Reclaims up to `limit` expired records. Nothing depends on it but the space. A
    /// [`Worker`](crate::runtime::Worker) does so by itself; a store without one wants it.
    ///
    /// # Errors
    /// The backend's own trouble.
    pub async fn cleanup(&self, limit: usize) -> Result<usize, TaskError> {
        Ok(self.backend.cleanup_expired(limit).await?)
    }

    /// Unfinished tasks count against the owner's quota, finished ones do not.
    pub(super) fn write_of(&self, task: &Task) -> Result<Write, TaskError> {
        let write = Write::new(record::encode(task)?).expires_at(task.expires_at());
        Ok(if task.status.is_terminal() {
            write
        } else {
            write.counted_within(self.limits.unfinished_per_owner)
        })
    }
}

/// The partition of an owner's tasks.
pub(crate) fn partition(owner: &Owner) -> Result<Partition, StoreError> {
    Partition::new(["tasks", owner.as_str()])
}

/// Whether a key is in the partition of an owner's tasks.
pub(super) fn is_task(key: &Key) -> bool {
    key.partition().as_str().starts_with("tasks/")
}

pub(crate) fn key(owner: &Owner, id: &TaskId) -> Result<Key, StoreError> {
    partition(owner)?.key(id.shared())
}
