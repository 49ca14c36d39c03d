//! How long a client waits for what is read from the store.

use std::future::Future;

use rmcp::{ErrorData, ServerHandler};
use tenure::clock::Clock;

use crate::DurableServer;
use crate::mcp::unavailable;

/// How long it may take until whoever reads is answered, or whoever listens is told what it listens
/// to. Writes have a bound of their own, and what is said after it is another matter.
const ANSWER_MS: u64 = 10_000;

/// What `reading` comes to; `None` if the store does not answer in time.
pub(crate) async fn in_time<T>(clock: &Clock, reading: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // `biased`: if the process was suspended, both the result and the timer are ready; prefer the
        // result.
        biased;
        done = reading => Some(done),
        // Begun only when it is needed: many reads are done before they are waited for.
        () = async { clock.sleep_millis(ANSWER_MS).await } => {
            tracing::error!("the store does not answer in {ANSWER_MS} ms");
            None
        }
    }
}

impl<H: ServerHandler> DurableServer<H> {
    /// What `reading` comes to; an error that may be retried if the store does not answer in time.
    pub(crate) async fn in_time<T>(
        &self,
        reading: impl Future<Output = Result<T, ErrorData>>,
    ) -> Result<T, ErrorData> {
        let read = in_time(self.tasks().clock(), reading).await;
        read.unwrap_or_else(|| Err(unavailable()))
    }
}
