//! Why a task operation did not happen.

use crate::store::StoreError;
use crate::tasks::store::is_task;
use crate::tasks::{Status, TaskId};

/// Why a task operation did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// There is no such task for this owner. Unknown, expired and somebody else's are one answer.
    #[error("task not found")]
    NotFound,
    /// The task has ended, and what has ended does not change.
    #[error("the task is already {status}")]
    Finished {
        /// How it ended.
        status: Status,
    },
    /// Another attempt has taken the task over.
    #[error("the task was taken over by attempt {attempt}")]
    Superseded {
        /// The attempt that has it now.
        attempt: u32,
    },
    /// The owner has as many unfinished tasks as allowed.
    #[error("the limit of {limit} unfinished tasks is reached")]
    QuotaExceeded {
        /// The limit.
        limit: u32,
    },
    /// The idempotency key was already used for another call.
    #[error("the idempotency key belongs to a task with another call")]
    IdempotencyMismatch,
    /// What was passed in exceeds a limit, has not the form that clients rely on, or names what is not
    /// there.
    #[error("{what}: {reason}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What is stored under this id cannot be read. It is left as it is.
    #[error("task {id} cannot be read: {reason}")]
    Unreadable {
        /// Which task.
        id: TaskId,
        /// What is wrong with the record.
        reason: String,
    },
    /// So many writers changed the task at the same time that this one gave up.
    #[error("the task is too contended")]
    Contended,
    /// The worker has as many tasks in its queue as it takes, in all or of this owner.
    #[error("the queue of {limit} tasks is full")]
    QueueFull {
        /// The bound that is reached: that of the queue, or of an owner's share of it.
        limit: usize,
    },
    /// The worker is shutting down and takes no more tasks.
    #[error("the worker is shutting down")]
    ShuttingDown,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for TaskError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::PartitionFull { limit } => Self::QuotaExceeded { limit },
            StoreError::TooLarge { what, limit, actual } => Self::Invalid {
                what,
                reason: format!("{actual} bytes exceed the limit of {limit}"),
            },
            // A worker's own records may be damaged, too, and are no tasks.
            StoreError::Damaged { key, reason } if is_task(&key) => {
                Self::Unreadable { id: TaskId::from(key.shared_name()), reason }
            }
            error => Self::Store(error),
        }
    }
}

impl TaskError {
    /// True when the caller is at fault, false when the server is.
    #[must_use]
    pub fn is_client_fault(&self) -> bool {
        match self {
            Self::NotFound
            | Self::Finished { .. }
            | Self::QuotaExceeded { .. }
            | Self::IdempotencyMismatch
            | Self::Invalid { .. }
            | Self::Store(StoreError::InvalidCursor) => true,
            Self::Superseded { .. }
            | Self::Unreadable { .. }
            | Self::Contended
            | Self::QueueFull { .. }
            | Self::ShuttingDown
            | Self::Store(_) => false,
        }
    }

    /// True when a worker waits and tries again: what is wrong is the store's state, which passes or
    /// is put right, and not the call. Unlike [`is_retryable`](Self::is_retryable), which is what
    /// a caller is told who may have better things to do, it takes in a disk that is full, a
    /// replica that is not yet a primary, and a write whose outcome is unknown.
    pub(crate) fn is_waited_out(&self) -> bool {
        match self {
            Self::Contended => true,
            Self::Store(error) => matches!(
                error,
                StoreError::Unavailable { .. }
                    | StoreError::OutcomeUnknown(_)
                    | StoreError::ReadOnly(_)
                    | StoreError::Full(_)
                    | StoreError::Engine { .. }
            ),
            _ => false,
        }
    }

    /// True when the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::QuotaExceeded { .. }
            | Self::Contended
            | Self::QueueFull { .. }
            | Self::ShuttingDown => true,
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Partition;

    fn damaged(partition: &[&str]) -> TaskError {
        let partition = Partition::new(partition.iter().copied()).unwrap();
        let key = partition.key("17").unwrap();
        StoreError::Damaged { key, reason: "torn".into() }.into()
    }

    #[test]
    fn a_damaged_task_is_unreadable_and_any_other_damage_the_stores() {
        let told = damaged(&["tasks", "alice"]).to_string();
        assert_eq!(told, "task 17 cannot be read: torn");
        for other in [["claims", "alice"], ["tasks-", "alice"]] {
            assert!(matches!(damaged(&other), TaskError::Store(StoreError::Damaged { .. })));
        }
    }

    #[test]
    fn what_the_caller_is_at_fault_for_is_no_failure_of_the_store() {
        let full = TaskError::from(StoreError::PartitionFull { limit: 3 });
        assert!(matches!(full, TaskError::QuotaExceeded { limit: 3 }));
        let large = StoreError::TooLarge { what: "idempotency key", limit: 2, actual: 3 };
        let large = TaskError::from(large);
        assert_eq!(large.to_string(), "idempotency key: 3 bytes exceed the limit of 2");
        assert!(large.is_client_fault());
    }
}
