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

/// What a claim's record says.
#[derive(Serialize, Deserialize)]
struct ClaimRecord<C, W> {
    #[serde(flatten)]
    claim: C,
    /// Whoever settles the claim of an heir that did not come to adopt the task finds whose it is.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    from: Option<W>,
}

fn none<W>() -> Option<W> {
    None
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
    /// From whom the worker adopts the task, or has.
    pub(super) from: Option<WorkerId>,
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
    from: Option<&WorkerId>,
    task_expires_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    let expires_at = task_expires_at.map(|deadline| deadline.plus_millis(CLOCK_SKEW_MS));
    let key = partition(worker)?.key(claim.id.as_str())?;
    let value = serde_json::to_vec(&ClaimRecord { claim, from }).map_err(|error| {
        StoreError::Engine { reason: "encoding a claim".into(), source: Some(error.into()) }
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
    let claims = page.entries.into_iter().map(|entry| {
        let read = serde_json::from_slice(&entry.record.value).ok();
        let (claim, from) = read.map(|ClaimRecord { claim, from }| (claim, from)).unzip();
        StoredClaim {
            key: entry.key,
            claim,
            from: from.flatten(),
            task_expires_at: entry.record.expires_at.map(|it| it.minus_millis(CLOCK_SKEW_MS)),
        }
    });
    Ok(ClaimPage { claims: claims.collect(), next: page.next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_names_a_predecessor_only_if_there_is_one() {
        let claim = Claim { owner: Owner::local(), id: "t".into() };
        let worker = WorkerId::from("w");
        for (from, text) in [
            (None, r#"{"owner":"local","id":"t"}"#),
            (Some(&worker), r#"{"owner":"local","id":"t","from":"w"}"#),
        ] {
            let record = ClaimRecord { claim: &claim, from };
            assert_eq!(serde_json::to_string(&record).unwrap(), text);
            let read: ClaimRecord<Claim, WorkerId> = serde_json::from_str(text).unwrap();
            assert_eq!((read.claim, read.from.as_ref()), (claim.clone(), from));
        }
    }
}
