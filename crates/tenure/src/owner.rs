//! Who a task belongs to.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::store::StoreError;

/// The party that a task belongs to: what a verified credential stands for.
///
/// Any string is an owner, the empty one included, and none is special. Isolation is by equality:
/// `a` and `a:b` have nothing in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(Arc<str>);

impl Owner {
    /// An owner by name.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] beyond [`limits::OWNER_BYTES`].
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, StoreError> {
        let name = name.into();
        limits::check("owner", name.len(), limits::OWNER_BYTES)?;
        Ok(Self(name))
    }

    /// The one owner of a server that only its own machine can reach.
    #[must_use]
    pub fn local() -> Self {
        Self("local".into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name, shared instead of copied.
impl From<&Owner> for Arc<str> {
    fn from(owner: &Owner) -> Self {
        Self::clone(&owner.0)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({:?})", self.0)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
