//! Where a resource lives: project, kind and id.

use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::limits::{self, KIND_BYTES, OWNER_BYTES, RESOURCE_ID_BYTES};
use crate::resources::ResourceError;
use crate::store::{Key, Partition, StoreError};

/// What is escaped in a kind, so that the first slash of a name is where its id begins.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'/').add(b'%');

/// The address of a resource. Any strings are valid, the empty ones included, and none is special.
/// Clones share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey(Arc<Address>);

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Address {
    project: Arc<str>,
    kind: Arc<str>,
    id: Arc<str>,
    stored: Key,
}

impl ResourceKey {
    /// The address of a resource.
    ///
    /// # Errors
    /// [`ResourceError::Invalid`] beyond [`OWNER_BYTES`], [`KIND_BYTES`] and [`RESOURCE_ID_BYTES`].
    pub fn new(
        project: impl Into<Arc<str>>,
        kind: impl Into<Arc<str>>,
        id: impl Into<Arc<str>>,
    ) -> Result<Self, ResourceError> {
        let (project, kind, id) = (project.into(), kind.into(), id.into());
        limits::check("id", id.len(), RESOURCE_ID_BYTES)?;
        let stored = partition(&project)?.key(prefix(&kind)? + &id)?;
        Ok(Self(Arc::new(Address { project, kind, id, stored })))
    }

    /// The resource that is stored under `key`, if one of ours is.
    pub(super) fn from_stored(project: &Arc<str>, key: &Key) -> Option<Self> {
        let (kind, id) = key.name().split_once('/')?;
        let kind = percent_decode_str(kind).decode_utf8().ok()?;
        Self::new(Arc::clone(project), &*kind, id).ok().filter(|ours| ours.0.stored == *key)
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.0.project
    }

    /// The kind, such as `agent` or `workflow`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The id, unique within its kind.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    pub(super) fn stored(&self) -> &Key {
        &self.0.stored
    }
}

impl fmt::Debug for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceKey({:?}, {:?}, {:?})", self.project(), self.kind(), self.id())
    }
}

/// The partition of a project's resources.
pub(super) fn partition(project: &str) -> Result<Partition, StoreError> {
    limits::check("project", project.len(), OWNER_BYTES)?;
    Partition::new(["resources", project])
}

/// What the names of a kind's resources begin with, and no others do.
pub(super) fn prefix(kind: &str) -> Result<String, StoreError> {
    limits::check("kind", kind.len(), KIND_BYTES)?;
    let mut prefix: String = utf8_percent_encode(kind, ESCAPED).collect();
    prefix.push('/');
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: [&str; 14] =
        ["", "/", "//", "%", "%2F", "a", "a/", "a/b", "\0", "*", ":", "..", "é", "{}"];

    #[test]
    fn different_kinds_and_ids_are_different_keys_and_come_back() {
        let mut seen = std::collections::HashSet::new();
        for kind in HOSTILE {
            for id in HOSTILE {
                let key = ResourceKey::new("p", kind, id).unwrap();
                assert_eq!(ResourceKey::from_stored(&"p".into(), key.stored()).unwrap(), key);
                assert!(seen.insert(key.stored().clone()), "{key:?}");
            }
        }
    }

    #[test]
    fn the_prefix_of_a_kind_is_that_of_no_other() {
        for kind in HOSTILE {
            for other in HOSTILE.into_iter().filter(|other| *other != kind) {
                let key = ResourceKey::new("p", other, "/x").unwrap();
                assert!(!key.stored().name().starts_with(&prefix(kind).unwrap()));
            }
        }
    }

    #[test]
    fn the_longest_parts_fit_and_longer_ones_are_refused() {
        let (kind, id) = ("é".repeat(KIND_BYTES / 2), "x".repeat(RESOURCE_ID_BYTES));
        let project = "/".repeat(OWNER_BYTES);
        assert!(ResourceKey::new(&*project, &*kind, &*id).is_ok());
        for (project, kind, id) in [
            (format!("{project}x"), kind.clone(), id.clone()),
            (project.clone(), format!("{kind}x"), id.clone()),
            (project, kind, format!("{id}x")),
        ] {
            let refused = ResourceKey::new(project, kind, id);
            assert!(matches!(refused, Err(ResourceError::Invalid { .. })));
        }
    }

    #[test]
    fn a_name_that_is_not_ours_is_no_resource() {
        for name in ["", "agent", "a%2/x", "%41/x"] {
            let key = partition("p").unwrap().key(name).unwrap();
            assert_eq!(ResourceKey::from_stored(&"p".into(), &key), None, "{name}");
        }
    }
}
