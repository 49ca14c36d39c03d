//! What a watch looks at: a project, some of its kinds, or one resource.

use std::sync::Arc;

use crate::resources::key::{partition, prefix};
use crate::resources::{ResourceError, ResourceKey};
use crate::store::{Partition, StoreError};

/// What a watch looks at.
#[derive(Debug, Clone)]
pub struct Scope {
    pub(super) project: Arc<str>,
    pub(super) partition: Partition,
    /// What the stored names of all that is in the scope begin with.
    pub(super) prefix: String,
    filter: Filter,
}

#[derive(Debug, Clone)]
enum Filter {
    Everything,
    Kinds(Vec<KindPattern>),
    One(ResourceKey),
}

impl Scope {
    /// All resources of a project.
    ///
    /// # Errors
    /// [`ResourceError::Invalid`] for a project that is too long.
    pub fn project(project: impl Into<Arc<str>>) -> Result<Self, ResourceError> {
        let project = project.into();
        let partition = partition(&project)?;
        Ok(Self { project, partition, prefix: String::new(), filter: Filter::Everything })
    }

    /// The resources of one kind.
    ///
    /// # Errors
    /// [`ResourceError::Invalid`] for a project or kind that is too long.
    pub fn kind(project: impl Into<Arc<str>>, kind: &str) -> Result<Self, ResourceError> {
        Ok(Self { prefix: prefix(kind)?, ..Self::project(project)? })
    }

    /// The resources whose kinds match at least one of the patterns.
    ///
    /// # Errors
    /// [`ResourceError::Invalid`] for a project that is too long.
    pub fn kinds(
        project: impl Into<Arc<str>>,
        patterns: impl IntoIterator<Item = KindPattern>,
    ) -> Result<Self, ResourceError> {
        let filter = Filter::Kinds(patterns.into_iter().collect());
        Ok(Self { filter, ..Self::project(project)? })
    }

    /// One resource.
    #[must_use]
    pub fn resource(key: &ResourceKey) -> Self {
        Self {
            project: key.project().into(),
            partition: key.stored().partition().clone(),
            prefix: key.stored().name().to_owned(),
            filter: Filter::One(key.clone()),
        }
    }

    /// The most that a listing of the scope can tell; `None` where nothing says.
    pub(super) fn at_most(&self) -> Option<usize> {
        // The resource itself is the first of the names that begin with its own.
        matches!(self.filter, Filter::One(_)).then_some(1)
    }

    /// The resource that is stored under this key, if it is in the scope.
    pub(super) fn find(&self, key: &crate::store::Key) -> Option<ResourceKey> {
        if !key.name().starts_with(&self.prefix) {
            return None;
        }
        let Some(found) = ResourceKey::from_stored(&self.project, key) else {
            tracing::warn!(?key, "a record among the resources is not one");
            return None;
        };
        let selected = match &self.filter {
            Filter::Everything => true,
            Filter::Kinds(patterns) => patterns.iter().any(|it| it.matches(found.kind())),
            Filter::One(key) => found == *key,
        };
        selected.then_some(found)
    }
}

/// A pattern over kinds: `*` stands for any characters, and for none; all else is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindPattern(Arc<str>);

impl KindPattern {
    /// A pattern.
    ///
    /// # Errors
    /// [`ResourceError::Invalid`] when it is longer than any kind.
    pub fn new(pattern: impl Into<Arc<str>>) -> Result<Self, ResourceError> {
        let pattern = pattern.into();
        crate::limits::check("pattern", pattern.len(), crate::limits::KIND_BYTES)
            .map_err(|error: StoreError| ResourceError::from(error))?;
        Ok(Self(pattern))
    }

    /// Whether a kind matches.
    #[must_use]
    pub fn matches(&self, kind: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return *self.0 == *kind };
        let Some(mut kind) = kind.strip_prefix(first) else { return false };
        let mut parts: Vec<_> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        // Each part where it first fits leaves the most to those after it.
        for part in parts {
            match kind.split_once(part) {
                Some((_, after)) => kind = after,
                None => return false,
            }
        }
        kind.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_is_special() {
        for (pattern, kind, matches) in [
            ("agent", "agent", true),
            ("agent", "agents", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "a/b", true),
            ("agent*", "agent", true),
            ("agent*", "my-agent", false),
            ("*-v1", "agent-v1", true),
            ("*-v1", "agent-v1-v2", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("a?[c]", "a?[c]", true),
            ("a?c", "abc", false),
            ("**", "x", true),
            ("*é*", "caféx", true),
        ] {
            assert_eq!(
                KindPattern::new(pattern).unwrap().matches(kind),
                matches,
                "{pattern} {kind}"
            );
        }
    }
}
