//! The task store on every backend: one line each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod task_cases;

use tenure::clock::{Clock, Timestamp};
use tenure::store::InMemoryBackend;

/// A backend that lives by a clock which the test owns.
macro_rules! task_store_tests {
    ($backend:ident, $open:expr) => {
        mod $backend {
            use super::*;
            task_cases::for_each_case!($open);
        }
    };
}

task_store_tests!(memory, async |clock: Clock| {
    std::sync::Arc::new(InMemoryBackend::new(clock))
        as std::sync::Arc<dyn tenure::store::StorageBackend>
});

#[cfg(feature = "file")]
task_store_tests!(file, async |clock: Clock| {
    // The store outlives this expression, so its folder stays; it is cargo's to clean.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    let backend = tenure::store::FileBackend::open(folder.join("store.db"), clock).await;
    std::sync::Arc::new(backend.unwrap()) as std::sync::Arc<dyn tenure::store::StorageBackend>
});

fn new_clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_000_000))
}
