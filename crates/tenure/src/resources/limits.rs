//! What a project may weigh.

use crate::limits::{KEPT_VERSIONS, VALUE_BYTES};
use crate::resources::{Document, ResourceError};

/// Keys of one `get_many`.
pub(super) const GET_MANY: usize = 100;
/// What the line in front of a value takes at most.
const HEADER_BYTES: usize = 1_024;

/// Bounds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Bytes of a value's canonical text; at most 383 KiB count.
    pub value_bytes: usize,
    /// Nesting of a value; at most 128 counts.
    pub depth: usize,
    /// Resources of one project.
    pub resources_per_project: u32,
    /// Versions of a resource that its history tells, the current one included; 1 to 33 count.
    pub history_versions: u32,
}

impl Default for ResourceLimits {
    fn default() -> Self {
        Self {
            value_bytes: 256 * 1_024,
            depth: 64,
            resources_per_project: 100_000,
            history_versions: 10,
        }
    }
}

impl ResourceLimits {
    pub(super) fn check(&self, document: &Document) -> Result<(), ResourceError> {
        let limit = self.value_bytes.min(VALUE_BYTES - HEADER_BYTES);
        let refused = if document.text().len() > limit {
            format!("{} bytes exceed the limit of {limit}", document.text().len())
        } else if document.depth() > self.depth {
            format!("it nests deeper than {}", self.depth)
        } else {
            return Ok(());
        };
        Err(ResourceError::Invalid { what: "value", reason: refused })
    }

    /// The versions beside the current one.
    pub(super) fn former_versions(&self) -> u32 {
        self.history_versions.saturating_sub(1).min(KEPT_VERSIONS)
    }
}
