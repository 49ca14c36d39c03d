//! What the suite needs to know of a backend.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::{Clock, Timestamp};
use crate::store::{InMemoryBackend, StorageBackend};

/// No case takes longer, whatever it waits for.
const CASE_TIMEOUT: Duration = Duration::from_secs(600);

/// One empty store of the backend under test, and its time. Every test makes its own.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Opens the store. Called again, it opens another handle onto the same records, as another
    /// process would.
    async fn connect(&self) -> Arc<dyn StorageBackend>;

    /// The clock that decides what has expired. Make it a manual one where the backend lets you,
    /// and [`clock_ahead_of_the_server`] where a server reclaims by its own clock.
    fn clock(&self) -> Clock;

    /// How far the backend may be from [`clock`](Self::clock). 0 where time stands still between
    /// two steps of a case, as on a manual clock; then the suite is exact to the millisecond.
    /// On a real clock, what a few calls may take.
    fn resolution_millis(&self) -> u64 {
        0
    }

    /// True where expired records go away by themselves, so that cleaning up does nothing.
    fn reclaims_by_itself(&self) -> bool {
        false
    }

    /// How many random sequences to compare with the model.
    fn model_sequences(&self) -> u32 {
        64
    }

    /// Lets time pass: at once on a manual clock, by waiting on a real one.
    async fn advance_millis(&self, millis: u64) {
        let clock = self.clock();
        let until = clock.now().plus_millis(millis);
        clock.advance_millis(millis);
        clock.sleep_until(until).await;
    }
}

/// A manual clock an hour ahead of the wall clock. A server that reclaims by its own clock then
/// never does so before the test says that the time has come.
#[must_use]
pub fn clock_ahead_of_the_server() -> Clock {
    Clock::manual(Clock::system().now().plus_millis(3_600_000))
}

/// Runs one case, on several threads and in bounded time.
///
/// # Panics
/// When the case fails or does not end.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime
        .block_on(async { tokio::time::timeout(CASE_TIMEOUT, case).await })
        .expect("the case did not end");
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// [`InMemoryBackend`] on a manual clock.
#[derive(Debug)]
pub struct MemoryHarness {
    clock: Clock,
    store: InMemoryBackend,
}

impl Default for MemoryHarness {
    fn default() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_123));
        Self { store: InMemoryBackend::new(clock.clone()), clock }
    }
}

#[async_trait]
impl Harness for MemoryHarness {
    async fn connect(&self) -> Arc<dyn StorageBackend> {
        Arc::new(self.store.clone())
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }
}
