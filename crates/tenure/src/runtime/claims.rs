//! Claims: which tasks are in a worker's care, for those who may have to take over.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::limits::CLOCK_SKEW_MS;
use crate::owner::Owner;
use crate::store::{
    Cursor, Key, PageRequest, Partition, Precondition, StorageBackend, StoreError, Write,
};
use crate::tasks::{TaskId, WorkerId};

/// A task in a worker's care. A claim is a hint where to look, never the truth: that is the
/// `worker` field of the task itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) owner: Owner,
    pub(super) id: TaskId,
}

/// A page of claims.
pub(super) struct ClaimPage {
    pub(super) claims: Vec<StoredClaim>,
    pub(super) next: Option<Cursor>,
}

/// A claim as it is stored.
pub(super) struct StoredClaim {
    pub(super) key: Key,
    /// `None` if it cannot be read: nobody can act on it.
    pub(super) claim: Option<Claim>,
    /// When its task is gone.
    pub(super) task_expires_at: Option<Timestamp>,
}

fn partition(worker: &WorkerId) -> Result<Partition, StoreError> {
    Partition::new(["claims", worker.as_str()])
}

/// Writes a claim. It outlives its task, so that a worker whose clock is ahead finds it: what is gone
/// there may still be at work for everybody else.
pub(super) async fn put(
    backend: &dyn StorageBackend,
    worker: &WorkerId,
    claim: &Claim,
    task_expires_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    let expires_at = task_expires_at.map(|deadline| deadline.plus_millis(CLOCK_SKEW_MS));
    let key = partition(worker)?.key(claim.id.as_str())?;
    let value = serde_json::to_vec(claim).map_err(|error| StoreError::Engine {
        reason: "encoding a claim".into(),
        source: Some(error.into()),
    })?;
    backend.put(&key, Write::new(value).expires_at(expires_at)).await.map(drop)
}

pub(super) async fn remove(
    backend: &dyn StorageBackend,
    worker: &WorkerId,
    id: &TaskId,
) -> Result<(), StoreError> {
    let key = partition(worker)?.key(id.as_str())?;
    backend.delete(&key, Precondition::Any).await.map(drop)
}

/// Lists a page. What is not even a record is nobody's claim, and stays as it is.
pub(super) async fn list(
    backend: &dyn StorageBackend,
    worker: &WorkerId,
    after: Option<Cursor>,
) -> Result<ClaimPage, StoreError> {
    let request = PageRequest { limit: Some(256), after };
    let page = backend.list_by_prefix(&partition(worker)?, "", request).await?;
    let claims = page.entries.into_iter().map(|entry| StoredClaim {
        key: entry.key,
        claim: serde_json::from_slice(&entry.record.value).ok(),
        task_expires_at: entry.record.expires_at.map(|it| it.minus_millis(CLOCK_SKEW_MS)),
    });
    Ok(ClaimPage { claims: claims.collect(), next: page.next })
}
