//! How a task changes: the one place where the table of `state.rs` meets the store.

use crate::store::{Key, Precondition, Record, StoreError, VersionToken, Write};
use crate::tasks::doubt::{DOUBTFUL_ROUNDS, Doubt};
use crate::tasks::state::{Transition, apply};
use crate::tasks::store::key;
use crate::tasks::{Task, TaskError, TaskRef, TaskStore, record};

/// Rounds of read, apply, write before a change gives up. Each lost round means that somebody
/// else's change landed, so even 64 writers on one task are all through long before.
const MAX_ROUNDS: u32 = 256;

impl TaskStore {
    /// Changes a task: read, apply, write if nobody was faster, else again.
    ///
    /// Who wrote the task last need not read it: the write names the version that it builds on, and
    /// fails if that is no longer there. Only a write is decided so; a refusal is always read.
    pub(crate) async fn change(
        &self,
        task: &TaskRef,
        transition: &Transition,
    ) -> Result<Task, TaskError> {
        // A name that is too long to be stored is one that nobody has.
        let key = key(&task.owner, &task.id).map_err(|_| TaskError::NotFound)?;
        let mut recent = self.recent.take(&key);
        let mut doubt = Doubt::default();
        for round in 0..MAX_ROUNDS {
            let guessed = recent.is_some();
            let read = self.guess_or_read(task, recent.take()).await;
            let (mut current, record) = match read {
                Err(_) if guessed => continue,
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
            match self.advance(&mut current, task, transition) {
                Ok(true) => {}
                _ if guessed => continue,
                Ok(false) => return Ok(current),
                Err(error) => return Err(error),
            }
            let write = self.write_of(&current)?;
            let precondition = Precondition::Matches(record.token);
            match self.backend.put_if_version(&key, write.clone(), precondition).await {
                Ok(token) => {
                    current.version = token.version();
                    self.remember(key, write, token, &current);
                    return Ok(current);
                }
                // It expired, or was deleted, between the read and the write.
                Err(StoreError::VersionConflict { current: None }) => {
                    return Err(TaskError::NotFound);
                }
                // A refusal is not believed before the task was read, whatever the reason.
                Err(error) if guessed && !error.is_in_doubt() => {}
                Err(StoreError::VersionConflict { .. }) => self.clock.back_off(round).await,
                Err(error) if doubt.outlasts(&error) => {
                    self.clock.back_off_long(doubt.rounds).await;
                }
                Err(error) if error.is_in_doubt() => {
                    current.version = record.token.version() + 1;
                    doubt.arises(current, &before);
                    if doubt.rounds >= DOUBTFUL_ROUNDS {
                        return Err(error.into());
                    }
                    self.clock.back_off_long(doubt.rounds).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(TaskError::Contended)
    }

    /// The task as this process wrote it last, or else as it is.
    async fn guess_or_read(
        &self,
        task: &TaskRef,
        recent: Option<Record>,
    ) -> Result<(Task, Record), TaskError> {
        match recent {
            Some(record) => Ok((record::decode(&task.owner, &task.id, &record)?, record)),
            None => self.read(&task.owner, &task.id).await,
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
