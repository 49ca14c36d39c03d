//! The bounds that hold on every backend, for everybody. Nothing that a caller can reach is without a
//! bound; those that can be chosen are with what they bound:
//! [`TaskLimits`](crate::tasks::TaskLimits), [`ResourceLimits`](crate::resources::ResourceLimits),
//! [`WorkerOptions`](crate::runtime::WorkerOptions).

use crate::store::StoreError;

/// Bytes of an encoded partition. DynamoDB allows 2,048 for a partition key.
pub const PARTITION_BYTES: usize = 1_024;
/// Bytes of a record's name. DynamoDB allows 1,024 for a sort key.
pub const NAME_BYTES: usize = 512;
/// Bytes of a record's value. DynamoDB caps an item at 400 KB, key and attributes included.
pub const VALUE_BYTES: usize = 384 * 1_024;
/// Former versions that a record keeps.
pub const KEPT_VERSIONS: u32 = 32;
/// Records of one page.
pub const PAGE_RECORDS: usize = 1_000;
/// Bytes of values after which a page ends: the one that reaches them is its last.
pub const PAGE_BYTES: usize = 4 * 1_024 * 1_024;
/// Changes of a partition that a backend remembers for watchers to resume from.
pub const WATCH_BACKLOG: usize = 256;

/// How far apart the clocks of the processes on one store may be before one takes for gone what
/// another still needs.
pub const CLOCK_SKEW_MS: u64 = 5 * 60 * 1_000;

/// Bytes of an owner or a project. Escaped threefold it still fits a partition.
pub const OWNER_BYTES: usize = 256;
/// Bytes of a resource's kind. Escaped threefold it fits a name, together with an id.
pub const KIND_BYTES: usize = 64;
/// Bytes of a resource's id.
pub const RESOURCE_ID_BYTES: usize = 256;
/// Bytes of a task id, an idempotency key or the name of a tool.
pub const ID_BYTES: usize = 128;
/// Attempts of one task, after which it is not started again when a server stopped during the last.
pub const ATTEMPTS: u32 = 100;

/// Refuses what exceeds its bound.
pub(crate) fn check(what: &'static str, actual: usize, limit: usize) -> Result<(), StoreError> {
    if actual > limit {
        return Err(StoreError::TooLarge { what, limit, actual });
    }
    Ok(())
}
