//! Why a resource operation did not happen.

use crate::resources::{ETag, ResourceKey};
use crate::store::{StoreError, VersionToken};

/// Why a resource operation did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// There is no such resource, or no such version of it.
    #[error("resource not found")]
    NotFound,
    /// The resource is not the one that the condition names.
    #[error("the resource has changed: its ETag is {current}")]
    ETagMismatch {
        /// The ETag that it has.
        current: ETag,
        /// The write that left it.
        version: VersionToken,
    },
    /// There is already such a resource.
    #[error("the resource exists: its ETag is {current}")]
    AlreadyExists {
        /// The ETag that it has.
        current: ETag,
        /// The write that left it.
        version: VersionToken,
    },
    /// What was passed in is malformed or exceeds a limit.
    #[error("{what}: {reason}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What was passed in is no JSON text.
    #[error("not JSON: {reason}")]
    NotJson {
        /// What is wrong with it, and where.
        reason: String,
    },
    /// The project, or the request, has as many of these as allowed.
    #[error("the limit of {limit} {what} is reached")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// What is stored under this key cannot be read. It is left as it is.
    #[error("resource {} of kind {} cannot be read: {reason}", .key.id(), .key.kind())]
    Unreadable {
        /// Which resource.
        key: Box<ResourceKey>,
        /// What is wrong with the record.
        reason: String,
    },
    /// So many writers changed the resource at the same time that this one gave up.
    #[error("the resource is too contended")]
    Contended,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ResourceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::PartitionFull { limit } => {
                Self::TooMany { what: "resources of the project", limit: limit as usize }
            }
            StoreError::TooLarge { what, limit, actual } => Self::Invalid {
                what,
                reason: format!("{actual} bytes exceed the limit of {limit}"),
            },
            error => Self::Store(error),
        }
    }
}

impl ResourceError {
    /// True when the caller is at fault, false when the server is.
    #[must_use]
    pub fn is_client_fault(&self) -> bool {
        match self {
            Self::NotFound
            | Self::ETagMismatch { .. }
            | Self::AlreadyExists { .. }
            | Self::Invalid { .. }
            | Self::NotJson { .. }
            | Self::TooMany { .. }
            | Self::Store(StoreError::InvalidCursor) => true,
            Self::Unreadable { .. } | Self::Contended | Self::Store(_) => false,
        }
    }

    /// True when the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Contended => true,
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }
}
