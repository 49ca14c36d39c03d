//! Waits for the store before an answer.

use std::future::Future;

use tenure::clock::Clock;

/// How long it may take until whoever listens is told what it listens to.
const SETUP_MS: u64 = 10_000;

/// What `setup` comes to; `None` if the store does not answer in time.
pub(crate) async fn in_time<T>(clock: &Clock, setup: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // First: what is there when the time is over has come in time.
        biased;
        done = setup => Some(done),
        () = clock.sleep_millis(SETUP_MS) => {
            tracing::error!("the store does not answer in {SETUP_MS} ms");
            None
        }
    }
}
