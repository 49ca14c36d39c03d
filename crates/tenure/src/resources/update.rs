//! Changes that read before they write, and begin anew when somebody was faster.

use crate::resources::{
    Condition, Document, Effect, Resource, ResourceError, ResourceKey, ResourceStore, Written,
};

/// Rounds of read, change, write before an update gives up. Each lost round means that somebody
/// else's change landed.
const MAX_ROUNDS: u32 = 256;

impl ResourceStore {
    /// Changes a resource: read, change, write if nobody was faster, else again. Nothing is written
    /// when the value stays the same. No change of anybody is lost.
    ///
    /// # Errors
    /// What `change` says; as [`get`](Self::get) and [`put`](Self::put);
    /// [`ResourceError::Contended`].
    pub async fn update<E: From<ResourceError>>(
        &self,
        key: &ResourceKey,
        mut change: impl FnMut(&Resource) -> Result<Document, E>,
    ) -> Result<Written, E> {
        for round in 0..MAX_ROUNDS {
            let current = self.get(key).await?;
            let document = change(&current)?;
            let (etag, version) = (document.etag(), current.meta.version);
            if etag == current.meta.etag {
                return Ok(Written { etag, version, effect: Effect::Unchanged });
            }
            match self.put_if(key, &document, Condition::Version(version)).await {
                Err(ResourceError::ETagMismatch { .. }) => self.clock.back_off(round).await,
                written => return Ok(written?),
            }
        }
        Err(ResourceError::Contended.into())
    }

    /// Repeats `attempt`, which reads and then writes on condition that nothing has changed since,
    /// as long as it tells `None`: somebody else's change landed in between. After each lost round
    /// it waits a little longer.
    ///
    /// # Errors
    /// What `attempt` says; [`ResourceError::Contended`].
    pub async fn optimistically<T, E, Attempt>(
        &self,
        mut attempt: impl FnMut() -> Attempt,
    ) -> Result<T, E>
    where
        E: From<ResourceError>,
        Attempt: Future<Output = Result<Option<T>, E>>,
    {
        for round in 0..MAX_ROUNDS {
            if let Some(done) = attempt().await? {
                return Ok(done);
            }
            self.clock.back_off(round).await;
        }
        Err(ResourceError::Contended.into())
    }
}
