//! The documents of this interface.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenure::resources::{
    Effect, Metadata, Resource, ResourceError, ResourceEvent, ResourceKey, ResourcePage,
    ResourceVersion, Summary, Written,
};
use utoipa::ToSchema;

use crate::mcp::rfc3339;

/// A resource in a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceDocument {
    /// Its kind.
    pub kind: String,
    /// Its id, unique within the kind.
    pub id: String,
    /// The name of its value.
    pub etag: String,
    /// The name of the write that left it. The number in front counts the writes.
    pub version: String,
    /// When its first version was written, as `2026-07-28T12:00:00.123Z` (RFC 3339, UTC,
    /// milliseconds).
    pub created_at: String,
    /// When this value was written, in the same format.
    pub updated_at: String,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_by: Option<String>,
    /// The value, if values were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub value: Option<Value>,
}

/// A value that is there, if only as `null`.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

impl ResourceDocument {
    /// What a listing tells of a resource.
    #[must_use]
    pub fn new(key: &ResourceKey, meta: &Metadata) -> Self {
        Self {
            kind: key.kind().into(),
            id: key.id().into(),
            etag: meta.etag.to_string(),
            version: meta.version.to_string(),
            created_at: rfc3339(meta.created_at),
            updated_at: rfc3339(meta.updated_at),
            updated_by: meta.updated_by.as_deref().map(Into::into),
            value: None,
        }
    }

    /// The same with the value.
    ///
    /// # Errors
    /// [`ResourceError::Unreadable`].
    pub fn with_value(resource: &Resource) -> Result<Self, ResourceError> {
        let value = Some(resource.value()?);
        Ok(Self { value, ..Self::new(&resource.key, &resource.meta) })
    }
}

/// A page of resources, by kind and id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceListDocument {
    /// The resources.
    pub resources: Vec<ResourceDocument>,
    /// What is wrong with those of the page that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// The `cursor` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// How many resources the project has; on the first page of all its kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Event streams that go on after the first page's (as `Last-Event-ID`) miss no change.
    pub revision: String,
}

impl From<ResourcePage<Summary>> for ResourceListDocument {
    fn from(page: ResourcePage<Summary>) -> Self {
        Self::of(page, |it| Ok(ResourceDocument::new(&it.key, &it.meta)))
    }
}

/// With the values.
impl From<ResourcePage<Resource>> for ResourceListDocument {
    fn from(page: ResourcePage<Resource>) -> Self {
        Self::of(page, ResourceDocument::with_value)
    }
}

impl ResourceListDocument {
    fn of<T>(
        page: ResourcePage<T>,
        document: impl Fn(&T) -> Result<ResourceDocument, ResourceError>,
    ) -> Self {
        let documents = page.items.into_iter().map(|item| item.and_then(|item| document(&item)));
        let (resources, unreadable) = parted(documents);
        Self {
            resources,
            unreadable,
            next_cursor: page.next.map(|cursor| cursor.to_string()),
            total: None,
            revision: page.revision.to_string(),
        }
    }
}

/// What can be read, and what is wrong with the rest.
fn parted<T>(items: impl Iterator<Item = Result<T, ResourceError>>) -> (Vec<T>, Vec<String>) {
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            Ok(item) => readable.push(item),
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    (readable, unreadable)
}

/// A version of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionDocument {
    /// Its number.
    pub number: u64,
    /// The name of its value.
    pub etag: String,
    /// The name of the write.
    pub version: String,
    /// When it was written, as `2026-07-28T12:00:00.123Z` (RFC 3339, UTC, milliseconds).
    pub written_at: String,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_by: Option<String>,
}

impl From<&ResourceVersion> for VersionDocument {
    fn from(version: &ResourceVersion) -> Self {
        Self {
            number: version.version.version(),
            etag: version.etag.to_string(),
            version: version.version.to_string(),
            written_at: rfc3339(version.written_at),
            written_by: version.written_by.as_deref().map(Into::into),
        }
    }
}

/// The versions of a resource that are kept, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryDocument {
    /// The versions.
    pub versions: Vec<VersionDocument>,
    /// What is wrong with those that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

impl From<Vec<Result<ResourceVersion, ResourceError>>> for HistoryDocument {
    fn from(history: Vec<Result<ResourceVersion, ResourceError>>) -> Self {
        let documents = history.into_iter().map(|it| it.map(|it| VersionDocument::from(&it)));
        let (versions, unreadable) = parted(documents);
        Self { versions, unreadable }
    }
}

/// A write that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrittenDocument {
    /// The ETag of the resource now.
    pub etag: String,
    /// The name of the write that left it.
    pub version: String,
    /// created, replaced or unchanged.
    pub effect: String,
}

impl From<Written> for WrittenDocument {
    fn from(written: Written) -> Self {
        let effect = match written.effect {
            Effect::Created => "created",
            Effect::Replaced => "replaced",
            Effect::Unchanged => "unchanged",
        };
        Self {
            etag: written.etag.to_string(),
            version: written.version.to_string(),
            effect: effect.into(),
        }
    }
}

/// To which version a resource shall go back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevertDocument {
    /// The number of the version.
    pub version: u64,
}

/// What a watcher is told. The name of the event says what of it; see
/// [`ResourceEvent`](tenure::resources::ResourceEvent).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventDocument {
    /// It is there.
    Present(ChangedDocument),
    /// The state is complete.
    Primed,
    /// It was written.
    Put(ChangedDocument),
    /// It was deleted.
    Deleted {
        /// Its kind.
        kind: String,
        /// Its id.
        id: String,
    },
    /// Changes may have been missed. The state follows, as at the beginning.
    Resync,
}

/// A resource that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangedDocument {
    /// Its kind.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// The name of its value.
    pub etag: String,
    /// The name of the write.
    pub version: String,
}

impl EventDocument {
    /// The name of the event.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Present(_) => "present",
            Self::Primed => "primed",
            Self::Put(_) => "put",
            Self::Deleted { .. } => "deleted",
            Self::Resync => "resync",
        }
    }
}

impl From<&ResourceEvent> for EventDocument {
    fn from(event: &ResourceEvent) -> Self {
        match event {
            ResourceEvent::Primed(_) => Self::Primed,
            ResourceEvent::Resync => Self::Resync,
            ResourceEvent::Deleted { key, .. } => {
                Self::Deleted { kind: key.kind().into(), id: key.id().into() }
            }
            ResourceEvent::Present { key, etag, version } => {
                Self::Present(ChangedDocument::new(key, etag, version))
            }
            ResourceEvent::Put { key, etag, version, .. } => {
                Self::Put(ChangedDocument::new(key, etag, version))
            }
        }
    }
}

impl ChangedDocument {
    fn new(key: &ResourceKey, etag: &impl ToString, version: &impl ToString) -> Self {
        Self {
            kind: key.kind().into(),
            id: key.id().into(),
            etag: etag.to_string(),
            version: version.to_string(),
        }
    }
}
