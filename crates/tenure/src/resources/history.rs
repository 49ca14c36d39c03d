//! The versions of a resource.

use crate::resources::record::decode_former;
use crate::resources::store::MAX_ROUNDS;
use crate::resources::{
    Condition, Effect, ResourceError, ResourceKey, ResourceStore, ResourceVersion, Written,
};

impl ResourceStore {
    /// The last versions of a resource, newest first: the current one, then those before it, as
    /// many as the limits keep. One that cannot be read is an error in its place.
    ///
    /// # Errors
    /// [`ResourceError::NotFound`].
    pub async fn history(
        &self,
        key: &ResourceKey,
    ) -> Result<Vec<Result<ResourceVersion, ResourceError>>, ResourceError> {
        let versions = self.backend.history(key.stored()).await?;
        if versions.is_empty() {
            return Err(ResourceError::NotFound);
        }
        Ok(versions.into_iter().map(|version| decode_former(key, version)).collect())
    }

    /// The version of a resource that has this number.
    ///
    /// # Errors
    /// [`ResourceError::NotFound`] if there is no such resource, or the version is no longer, or
    /// not yet, among those that are kept; [`ResourceError::Unreadable`].
    pub async fn get_at_version(
        &self,
        key: &ResourceKey,
        version: u64,
    ) -> Result<ResourceVersion, ResourceError> {
        let versions = self.backend.history(key.stored()).await?;
        let found = versions.into_iter().find(|it| it.token.version() == version);
        decode_former(key, found.ok_or(ResourceError::NotFound)?)
    }

    /// Writes the value of an earlier version again, as a new version. Nothing is written when it
    /// is the current value.
    ///
    /// # Errors
    /// As [`get_at_version`](Self::get_at_version) and [`put`](Self::put);
    /// [`ResourceError::Contended`].
    pub async fn revert(&self, key: &ResourceKey, version: u64) -> Result<Written, ResourceError> {
        for round in 0..MAX_ROUNDS {
            let versions = self.backend.history(key.stored()).await?;
            let current = versions.first().map(|it| (it.token, it.tag));
            let (token, tag) = current.ok_or(ResourceError::NotFound)?;
            let wanted = versions.into_iter().find(|it| it.token.version() == version);
            let wanted = decode_former(key, wanted.ok_or(ResourceError::NotFound)?)?;
            if tag == Some(wanted.etag.tag()) {
                let (etag, version) = (wanted.etag, token);
                return Ok(Written { etag, version, effect: Effect::Unchanged });
            }
            let condition = Condition::Version(token);
            match self.write(key, &wanted.text, wanted.etag, condition).await {
                Err(ResourceError::ETagMismatch { .. }) => self.clock.back_off(round).await,
                written => return written,
            }
        }
        Err(ResourceError::Contended)
    }
}
