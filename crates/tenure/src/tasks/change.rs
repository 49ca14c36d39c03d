//! How a task changes: the one place where the table of `state.rs` meets the store.

use crate::store::{Key, Precondition, Record, StoreError, VersionToken, Write};
use crate::tasks::doubt::{DOUBTFUL_ROUNDS, Doubt};
use crate::tasks::state::{Transition, apply};
use crate::tasks::store::key;
use crate::tasks::{Task, TaskError, TaskRef, TaskStore, WorkerId, record};

/// Rounds of read, apply, write before a change gives up. Each lost round means that somebody
/// else's change landed, so even 64 writers on one task are all through long before.
const MAX_ROUNDS: u32 = 256;

/// Why a write that builds on a record has not, or may not have, happened.
enum NotWritten {
    /// Somebody was faster.
    Conflict,
    /// It may have happened: the doubt remembers what was written.
    InDoubt(StoreError),
    /// The store says no, as it stands.
    Refused(StoreError),
    /// No read changes that.
    Final(TaskError),
}

impl TaskStore {
    /// Changes a task: read, apply, write if nobody was faster, else again.
    ///
    /// If this process wrote the task last, the record that it wrote is tried first, without reading.
    /// Such a record may be out of date. A write that builds on it fails if it is; a refusal could be
    /// wrong, so every refusal but that there is nothing is preceded by a read.
    pub(crate) async fn change(
        &self,
        task: &TaskRef,
        transition: &Transition,
    ) -> Result<Task, TaskError> {
        // A name that is too long to be stored is one that nobody has.
        let key = key(&task.owner, &task.id).map_err(|_| TaskError::NotFound)?;
        let mut doubt = Doubt::default();
        if let Some(record) = self.recent.take(&key)
            && let Some(changed) =
                self.change_recent(&key, task, transition, &record, &mut doubt).await?
        {
            return Ok(changed);
        }
        for round in 0..MAX_ROUNDS {
            let (mut current, record) = match self.read(&task.owner, &task.id).await {
                Err(TaskError::Store(error)) if doubt.outlasts(&error) => {
                    self.clock.back_off_long(doubt.rounds).await;
                    continue;
                }
                read => read?,
            };
            if doubt.is_settled_by(&current) {
                return Ok(current);
            }
            let before = (current.worker.clone(), current.attempt);
            if !self.advance(&mut current, task, transition)? {
                return Ok(current);
            }
            match self.write_over(&key, current, &before, record.token, &mut doubt).await {
                Ok(changed) => return Ok(changed),
                Err(NotWritten::Conflict) => self.clock.back_off(round).await,
                Err(NotWritten::InDoubt(error)) if doubt.rounds >= DOUBTFUL_ROUNDS => {
                    return Err(error.into());
                }
                Err(NotWritten::InDoubt(_)) => self.clock.back_off_long(doubt.rounds).await,
                Err(NotWritten::Refused(error)) if doubt.outlasts(&error) => {
                    self.clock.back_off_long(doubt.rounds).await;
                }
                Err(NotWritten::Refused(error)) => return Err(error.into()),
                Err(NotWritten::Final(error)) => return Err(error),
            }
        }
        Err(TaskError::Contended)
    }

    /// Changes a task without reading it. `None` if that takes a read.
    async fn change_recent(
        &self,
        key: &Key,
        task: &TaskRef,
        transition: &Transition,
        record: &Record,
        doubt: &mut Doubt,
    ) -> Result<Option<Task>, TaskError> {
        let Ok(mut current) = record::decode(&task.owner, &task.id, record) else {
            return Ok(None);
        };
        let before = (current.worker.clone(), current.attempt);
        if !self.advance(&mut current, task, transition).unwrap_or(false) {
            return Ok(None);
        }
        match self.write_over(key, current, &before, record.token, doubt).await {
            Ok(changed) => return Ok(Some(changed)),
            Err(NotWritten::InDoubt(_)) => self.clock.back_off_long(doubt.rounds).await,
            Err(NotWritten::Conflict | NotWritten::Refused(_)) => {}
            Err(NotWritten::Final(error)) => return Err(error),
        }
        Ok(None)
    }

    /// Writes a changed task over the record with this token. `before` is its fence in that record.
    async fn write_over(
        &self,
        key: &Key,
        mut changed: Task,
        before: &(Option<WorkerId>, u32),
        token: VersionToken,
        doubt: &mut Doubt,
    ) -> Result<Task, NotWritten> {
        let write = self.write_of(&changed).map_err(NotWritten::Final)?;
        let precondition = Precondition::Matches(token);
        match self.backend.put_if_version(key, write.clone(), precondition).await {
            Ok(token) => {
                changed.version = token.version();
                self.remember(key.clone(), write, token, &changed);
                Ok(changed)
            }
            // It expired, or was deleted, between the read and the write.
            Err(StoreError::VersionConflict { current: None }) => {
                Err(NotWritten::Final(TaskError::NotFound))
            }
            Err(StoreError::VersionConflict { .. }) => Err(NotWritten::Conflict),
            Err(error) if error.is_in_doubt() => {
                changed.version = token.version() + 1;
                doubt.arises(changed, before);
                Err(NotWritten::InDoubt(error))
            }
            Err(error) => Err(NotWritten::Refused(error)),
        }
    }

    /// Applies a transition to the task as it stands. Tells whether it changes anything.
    fn advance(
        &self,
        current: &mut Task,
        task: &TaskRef,
        transition: &Transition,
    ) -> Result<bool, TaskError> {
        let fenced_off = task.fence.as_ref().is_some_and(|fence| !fence.admits(current));
        if fenced_off && !current.status.is_terminal() {
            return Err(TaskError::Superseded { attempt: current.attempt });
        }
        let before = apply(current, transition, self.clock.now())?;
        if let Some(before) = &before {
            self.limits.check_change(before, current)?;
        }
        Ok(before.is_some())
    }

    /// Keeps what was written for the next change. A task that has ended sees none.
    pub(super) fn remember(&self, key: Key, write: Write, token: VersionToken, task: &Task) {
        if !task.status.is_terminal() {
            let Write { value, expires_at, tag, .. } = write;
            let created_at = task.created_at;
            self.recent.put(key, Record { value, token, tag, created_at, expires_at });
        }
    }
}
