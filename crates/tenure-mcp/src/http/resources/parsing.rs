//! Parsing, apart from the threads that serve: a text of some 100 KB takes milliseconds.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use axum::http::StatusCode;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::http::Problem;

/// A shorter text is parsed before another thread had begun with it.
const SHORT_BYTES: usize = 16 * 1_024;

/// Threads for long texts, as many at a time as there are processors: a parsed text takes many
/// times its bytes.
#[derive(Debug, Clone)]
pub(super) struct Parsing(Arc<Semaphore>);

impl Parsing {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(available_parallelism().map_or(1, NonZero::get))))
    }

    /// What `work` makes of a text of so many bytes.
    pub(super) async fn of<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if bytes <= SHORT_BYTES {
            return Ok(work());
        }
        let place = Arc::clone(&self.0).acquire_owned().await;
        let done = spawn_blocking(move || {
            // Also while nobody waits any more.
            let _place = place;
            work()
        });
        done.await.map_err(|error| {
            Problem::logged(StatusCode::INTERNAL_SERVER_ERROR, "parsing failed".into(), &error)
        })
    }
}
