//! [`ResourceStore`]: resources on any backend.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use futures::{Stream, StreamExt as _};

use crate::clock::Clock;
use crate::limits::{self as bounds, OWNER_BYTES};
use crate::resources::key::{partition, prefix};
use crate::resources::limits::GET_MANY;
use crate::resources::record::{self, untagged};
use crate::resources::watch::{ResourceEvent, watch};
use crate::resources::{
    Document, ETag, Resource, ResourceError, ResourceKey, ResourceLimits, Scope, Summary,
};
use crate::store::{
    Current, Cursor, PageRequest, Precondition, Revision, StorageBackend, StoreError, VersionToken,
    Write,
};

/// Reads of a `get_many` that are under way at the same time.
const PARALLEL_READS: usize = 16;

/// Keeps resources on a [`StorageBackend`]. Clones share everything.
///
/// An operation whose answer was lost ([`StoreError::OutcomeUnknown`]) may have happened; a read
/// tells. Repeated under [`Condition::Version`] it cannot happen twice: it is refused if it had
/// happened, or if anybody else was faster, and the ETag in the refusal tells which. Under
/// [`Condition::ETag`] it can, if somebody has meanwhile put the former value back.
#[derive(Debug, Clone)]
pub struct ResourceStore {
    pub(super) backend: Arc<dyn StorageBackend>,
    pub(super) clock: Clock,
    limits: ResourceLimits,
    by: Option<Arc<str>>,
}

/// What must hold for a write or a delete to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// There is no such resource.
    Absent,
    /// There is one.
    Present,
    /// Its value is this one, whichever write left it.
    ETag(ETag),
    /// It is as this write left it: tells A from A after B.
    Version(VersionToken),
}

impl Condition {
    /// Whether it holds for a resource that is there.
    pub(super) fn check(self, current: ETag, version: VersionToken) -> Result<(), ResourceError> {
        match self {
            Self::Absent => Err(ResourceError::AlreadyExists { current, version }),
            Self::ETag(wanted) if wanted != current => {
                Err(ResourceError::ETagMismatch { current, version })
            }
            Self::Version(wanted) if wanted != version => {
                Err(ResourceError::ETagMismatch { current, version })
            }
            _ => Ok(()),
        }
    }
}

impl From<Condition> for Precondition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Always => Self::Any,
            Condition::Absent => Self::Absent,
            Condition::Present => Self::Present,
            Condition::ETag(etag) => Self::Tagged(etag.tag()),
            Condition::Version(version) => Self::Matches(version),
        }
    }
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// There was no such resource.
    Created,
    /// There was one.
    Replaced,
    /// The value was there already, and nothing was written. Only `update` and `revert` look.
    Unchanged,
}

/// A write that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The ETag of the resource now.
    pub etag: ETag,
    /// The name of the write that left it.
    pub version: VersionToken,
    /// What became of the resource.
    pub effect: Effect,
}

/// A page of a listing, by kind and id.
#[derive(Debug)]
pub struct ResourcePage<T> {
    /// The resources. One that cannot be read is an error in its place and hides no other.
    pub items: Vec<Result<T, ResourceError>>,
    /// Where the next page begins.
    pub next: Option<Cursor>,
    /// A watch that resumes after the first page's position misses no change to what was listed.
    pub revision: Revision,
}

impl ResourceStore {
    /// Resources on `backend`, which must live by the same `clock`.
    #[must_use]
    pub fn new(backend: Arc<dyn StorageBackend>, clock: Clock) -> Self {
        Self { backend, clock, limits: ResourceLimits::default(), by: None }
    }

    /// The same resources under other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: ResourceLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The limits that apply.
    #[must_use]
    pub fn limits(&self) -> &ResourceLimits {
        &self.limits
    }

    /// The same resources, written in the name of `author`.
    ///
    /// # Errors
    /// [`ResourceError::Invalid`] beyond [`OWNER_BYTES`].
    pub fn by(&self, author: impl Into<Arc<str>>) -> Result<Self, ResourceError> {
        let author = author.into();
        bounds::check("author", author.len(), OWNER_BYTES)?;
        Ok(Self { by: Some(author), ..self.clone() })
    }

    /// Reads a resource: one read of the store.
    ///
    /// # Errors
    /// [`ResourceError::NotFound`], [`ResourceError::Unreadable`].
    pub fn get<'a>(
        &'a self,
        key: &'a ResourceKey,
    ) -> impl Future<Output = Result<Resource, ResourceError>> + Send + 'a {
        // Written out, so that the record stays where the backend puts it: a move of what was stored
        // a moment ago waits for it.
        let mut reading = self.backend.get(key.stored());
        poll_fn(move |context| match reading.as_mut().poll(context) {
            Poll::Ready(Ok(Some(ref mut record))) => Poll::Ready(record::decode(key, record)),
            Poll::Ready(Ok(None)) => Poll::Ready(Err(ResourceError::NotFound)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => Poll::Pending,
        })
    }

    /// Reads up to 100 resources, each as [`get`](Self::get) would, in the order of the keys.
    ///
    /// # Errors
    /// [`ResourceError::TooMany`].
    pub async fn get_many(
        &self,
        keys: &[ResourceKey],
    ) -> Result<Vec<Result<Resource, ResourceError>>, ResourceError> {
        if keys.len() > GET_MANY {
            return Err(ResourceError::TooMany { what: "keys at once", limit: GET_MANY });
        }
        let reads: Vec<_> = keys.iter().map(|key| self.get(key)).collect();
        Ok(futures::stream::iter(reads).buffered(PARALLEL_READS).collect().await)
    }

    /// Writes a resource, whatever was there. Always one write, and a new version, even of an
    /// equal value: without a read nobody can know. [`update`](Self::update) looks first.
    ///
    /// # Errors
    /// [`ResourceError::Invalid`], [`ResourceError::TooMany`].
    pub async fn put(
        &self,
        key: &ResourceKey,
        document: &Document,
    ) -> Result<Written, ResourceError> {
        self.put_if(key, document, Condition::Always).await
    }

    /// Replaces a resource if its value is still the one that `etag` names: one write, no read.
    ///
    /// # Errors
    /// As [`put`](Self::put); [`ResourceError::NotFound`]; [`ResourceError::ETagMismatch`].
    pub async fn put_if_match(
        &self,
        key: &ResourceKey,
        document: &Document,
        etag: ETag,
    ) -> Result<Written, ResourceError> {
        self.put_if(key, document, Condition::ETag(etag)).await
    }

    /// Writes a resource if there is none.
    ///
    /// # Errors
    /// As [`put`](Self::put), and [`ResourceError::AlreadyExists`].
    pub async fn create(
        &self,
        key: &ResourceKey,
        document: &Document,
    ) -> Result<Written, ResourceError> {
        self.put_if(key, document, Condition::Absent).await
    }

    /// Writes a resource if the condition holds: one write, no read.
    ///
    /// # Errors
    /// As [`put`](Self::put); what does not hold is [`ResourceError::NotFound`],
    /// [`ResourceError::AlreadyExists`] or [`ResourceError::ETagMismatch`].
    pub async fn put_if(
        &self,
        key: &ResourceKey,
        document: &Document,
        condition: Condition,
    ) -> Result<Written, ResourceError> {
        self.limits.check(document)?;
        self.write(key, document.text(), document.etag(), condition).await
    }

    pub(super) async fn write(
        &self,
        key: &ResourceKey,
        text: &[u8],
        etag: ETag,
        condition: Condition,
    ) -> Result<Written, ResourceError> {
        let write = Write::new(record::encode(text, self.clock.now(), self.by.as_deref()))
            .tagged(etag.tag())
            .keeping(self.limits.former_versions())
            .counted_within(self.limits.resources_per_project);
        match self.backend.put_if_version(key.stored(), write, condition.into()).await {
            Ok(version) => {
                let created = version.version() == 1;
                let effect = if created { Effect::Created } else { Effect::Replaced };
                Ok(Written { etag, version, effect })
            }
            Err(error) => Err(refused(key, condition, error)),
        }
    }

    /// Deletes a resource with its history. Tells whether there was one.
    ///
    /// # Errors
    /// The store's own trouble.
    pub async fn delete(&self, key: &ResourceKey) -> Result<bool, ResourceError> {
        self.delete_if(key, Condition::Always).await
    }

    /// Deletes a resource if its value is still the one that `etag` names.
    ///
    /// # Errors
    /// [`ResourceError::NotFound`]; [`ResourceError::ETagMismatch`].
    pub async fn delete_if_match(
        &self,
        key: &ResourceKey,
        etag: ETag,
    ) -> Result<(), ResourceError> {
        self.delete_if(key, Condition::ETag(etag)).await.map(|_| ())
    }

    /// Deletes a resource if the condition holds. Tells whether there was one.
    ///
    /// # Errors
    /// As the conditional writes.
    pub async fn delete_if(
        &self,
        key: &ResourceKey,
        condition: Condition,
    ) -> Result<bool, ResourceError> {
        let deleted = self.backend.delete(key.stored(), condition.into()).await;
        deleted.map_err(|error| refused(key, condition, error))
    }

    /// Lists the resources of a project, or of one kind, without their values.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] for a cursor of another listing.
    pub async fn list(
        &self,
        project: &str,
        kind: Option<&str>,
        page: PageRequest,
    ) -> Result<ResourcePage<Summary>, ResourceError> {
        let ResourcePage { items, next, revision } =
            self.list_with_values(project, kind, page).await?;
        let summary = |it: Resource| Summary { key: it.key, meta: it.meta };
        let items = items.into_iter().map(|item| item.map(summary)).collect();
        Ok(ResourcePage { items, next, revision })
    }

    /// Lists the resources of a project, or of one kind.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] for a cursor of another listing.
    pub async fn list_with_values(
        &self,
        project: &str,
        kind: Option<&str>,
        page: PageRequest,
    ) -> Result<ResourcePage<Resource>, ResourceError> {
        let partition = partition(project)?;
        let prefix = kind.map(prefix).transpose()?.unwrap_or_default();
        let page = self.backend.list_by_prefix(&partition, &prefix, page).await?;
        let project = Arc::from(project);
        let items = page.items().into_iter().map(|item| {
            let entry = item.map_err(|damaged| StoreError::from(damaged.clone()))?;
            let key = ResourceKey::from_stored(&project, &entry.key).ok_or_else(|| {
                let reason = "its name is not one of ours".into();
                ResourceError::Store(StoreError::Damaged { key: entry.key.clone(), reason })
            })?;
            record::decode(&key, &mut entry.record.clone())
        });
        Ok(ResourcePage { items: items.collect(), next: page.next, revision: page.revision })
    }

    /// How many resources a project has: what its limit counts, told without a listing.
    ///
    /// # Errors
    /// The store's own trouble.
    pub async fn total(&self, project: &str) -> Result<u64, ResourceError> {
        Ok(self.backend.counted(&partition(project)?).await?)
    }

    /// Watches what is in the scope: the state as it is, a marker, then every change. Given the
    /// position of an earlier event, it goes on after that instead. See [`ResourceEvent`].
    ///
    /// While the store is unavailable it waits. It ends with the store, or after an error.
    pub fn watch(
        &self,
        scope: Scope,
        after: Option<Revision>,
    ) -> impl Stream<Item = Result<ResourceEvent, ResourceError>> + Send + use<> {
        watch(self.clone(), scope, after)
    }
}

/// What a refused write or delete means.
fn refused(key: &ResourceKey, condition: Condition, error: StoreError) -> ResourceError {
    let StoreError::VersionConflict { current } = error else { return error.into() };
    match current {
        None => ResourceError::NotFound,
        Some(Current { tag: None, .. }) => untagged(key),
        Some(Current { token: version, tag: Some(tag) }) => {
            let current = ETag::from_tag(tag);
            match condition {
                Condition::Absent => ResourceError::AlreadyExists { current, version },
                _ => ResourceError::ETagMismatch { current, version },
            }
        }
    }
}
