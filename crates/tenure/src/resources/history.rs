//! The versions of a resource.

use crate::resources::record::{decode_former, untagged};
use crate::resources::{
    Condition, ETag, Effect, ResourceError, ResourceKey, ResourceStore, ResourceVersion, Written,
};
use crate::store::{Current, VersionToken};

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
        self.revert_if(key, version, Condition::Always).await
    }

    /// The same if the condition holds, also where nothing is to be written.
    ///
    /// # Errors
    /// As [`revert`](Self::revert); [`ResourceError::ETagMismatch`],
    /// [`ResourceError::AlreadyExists`].
    pub async fn revert_if(
        &self,
        key: &ResourceKey,
        version: u64,
        condition: Condition,
    ) -> Result<Written, ResourceError> {
        self.revert_checked(key, version, |etag, version| condition.check(etag, version)).await
    }

    /// The same if `check` agrees with the ETag and the version that the resource has now.
    ///
    /// # Errors
    /// What `check` says; as [`revert`](Self::revert).
    pub async fn revert_checked<E: From<ResourceError>>(
        &self,
        key: &ResourceKey,
        version: u64,
        check: impl Fn(ETag, VersionToken) -> Result<(), E>,
    ) -> Result<Written, E> {
        let check = &check;
        self.optimistically(|| async move {
            let (current, wanted) = self.current_and(key, version).await?;
            let Current { token, tag } = current;
            let etag = tag.map(ETag::from_tag).ok_or_else(|| untagged(key))?;
            check(etag, token)?;
            if etag == wanted.etag {
                return Ok(Some(Written { etag, version: token, effect: Effect::Unchanged }));
            }
            let unchanged = Condition::Version(token);
            match self.write(key, &wanted.text, wanted.etag, unchanged).await {
                Err(ResourceError::ETagMismatch { .. }) => Ok(None),
                written => Ok(Some(written?)),
            }
        })
        .await
    }

    /// What the resource is at, and its version of this number, in one look.
    async fn current_and(
        &self,
        key: &ResourceKey,
        version: u64,
    ) -> Result<(Current, ResourceVersion), ResourceError> {
        let versions = self.backend.history(key.stored()).await?;
        let current = versions.first().map(|it| Current { token: it.token, tag: it.tag });
        let wanted = versions.into_iter().find(|it| it.token.version() == version);
        let (Some(current), Some(wanted)) = (current, wanted) else {
            return Err(ResourceError::NotFound);
        };
        Ok((current, decode_former(key, wanted)?))
    }
}
