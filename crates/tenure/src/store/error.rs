//! Why a storage call did not happen.

use crate::store::{Current, Key};

/// The cause behind a backend's failure, kept for logs.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a storage call did not happen. Unless it says otherwise, nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The precondition did not hold.
    #[error("version conflict: {}", describe(.current.as_ref()))]
    VersionConflict {
        /// What is really there: nothing, or a record in this state.
        current: Option<Current>,
    },
    /// The partition already has as many counted records as the write allows.
    #[error("the partition already holds {limit} counted records")]
    PartitionFull {
        /// The limit that the write named.
        limit: u32,
    },
    /// Something exceeds its bound.
    #[error("{what} of {actual} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The bound.
        limit: usize,
        /// What was given.
        actual: usize,
    },
    /// The text is not a cursor of this listing.
    #[error("the cursor does not belong to this listing")]
    InvalidCursor,
    /// The text is not a version token.
    #[error("not a version token")]
    InvalidToken,
    /// The text is not a revision.
    #[error("not a revision")]
    InvalidRevision,
    /// The store's location cannot be used: unknown scheme, missing part, feature not built in.
    #[error("store location: {0}")]
    InvalidLocation(String),
    /// What is stored is not what Tenure wrote. It was left as it is.
    #[error("damaged record {key:?}: {reason}")]
    Damaged {
        /// Where it lives.
        key: Key,
        /// What is wrong with it.
        reason: String,
    },
    /// The file or database is somebody else's, damaged as a whole, or of a newer format.
    /// It was left as it is.
    #[error("unusable store: {0}")]
    Foreign(String),
    /// The store takes reads but no writes: a read-only file, a replica.
    #[error("the store is read-only")]
    ReadOnly(#[source] Option<Cause>),
    /// The disk or the server's memory is full.
    #[error("the store is full")]
    Full(#[source] Option<Cause>),
    /// The store cannot be reached, or is too busy, at the moment.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What was tried.
        reason: String,
        /// Why it failed.
        #[source]
        source: Option<Cause>,
    },
    /// The write may or may not have happened; reading will tell, unless it is still on its way.
    #[error("the outcome of the write is unknown")]
    OutcomeUnknown(#[source] Option<Cause>),
    /// Anything else that the engine reports.
    #[error("storage engine: {reason}")]
    Engine {
        /// What was tried.
        reason: String,
        /// Why it failed.
        #[source]
        source: Option<Cause>,
    },
}

impl StoreError {
    /// True when the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// True when the write may have happened all the same.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::OutcomeUnknown(_))
    }
}

fn describe(current: Option<&Current>) -> String {
    match current {
        None => "there is no record".into(),
        Some(Current { token, .. }) => format!("the record is at {token}"),
    }
}
