//! Claims: which tasks are in a worker's care, for those who may have to take over.

use serde::{Deserialize, Serialize};

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

/// A page of claims, with the keys under which they are stored.
pub(super) struct ClaimPage {
    pub(super) claims: Vec<(Key, Option<Claim>)>,
    pub(super) next: Option<Cursor>,
}

fn partition(worker: &WorkerId) -> Result<Partition, StoreError> {
    Partition::new(["claims", worker.as_str()])
}

pub(super) async fn put(
    backend: &dyn StorageBackend,
    worker: &WorkerId,
    claim: &Claim,
    expires_at: Option<crate::clock::Timestamp>,
) -> Result<(), StoreError> {
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

/// Lists a page. A claim that cannot be read is `None`: nobody can act on it. What is not even a
/// record is nobody's claim, and stays as it is.
pub(super) async fn list(
    backend: &dyn StorageBackend,
    worker: &WorkerId,
    after: Option<Cursor>,
) -> Result<ClaimPage, StoreError> {
    let request = PageRequest { limit: Some(256), after };
    let page = backend.list_by_prefix(&partition(worker)?, "", request).await?;
    let decode = |value: &[u8]| serde_json::from_slice(value).ok();
    let claims =
        page.entries.into_iter().map(|entry| (entry.key, decode(&entry.record.value))).collect();
    Ok(ClaimPage { claims, next: page.next })
}
