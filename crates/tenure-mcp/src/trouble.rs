//! What clients are told of a store that fails, on whatever protocol. The causes are for the log: keys,
//! paths and owners are nobody else's business.

use tenure::store::StoreError;

/// What a client can know of a store's failure, and act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// What was asked for is at fault, and the error's own text says how.
    Invalid,
    /// It takes no writes.
    ReadOnly,
    /// It has no room.
    Full,
    /// The write may or may not have happened.
    InDoubt,
    /// The same may go well in a moment.
    Unavailable,
    /// Nothing that a client could do anything about.
    Failed,
}

impl Trouble {
    pub(crate) fn of(error: &StoreError) -> Self {
        match error {
            StoreError::InvalidCursor
            | StoreError::InvalidRevision
            | StoreError::TooLarge { .. } => Self::Invalid,
            StoreError::ReadOnly(_) => Self::ReadOnly,
            StoreError::Full(_) => Self::Full,
            error if error.is_in_doubt() => Self::InDoubt,
            error if error.is_retryable() => Self::Unavailable,
            _ => Self::Failed,
        }
    }

    /// In words. `store` is what the client knows it by.
    pub(crate) fn message(self, store: &str) -> String {
        match self {
            Self::ReadOnly => format!("{store} is read-only"),
            Self::Full => format!("{store} is full"),
            Self::InDoubt => format!("it is unknown whether {store} did it"),
            Self::Unavailable => format!("{store} is unavailable"),
            Self::Invalid | Self::Failed => format!("{store} failed"),
        }
    }
}
