//! Server-sent events, a bounded number of streams at a time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::http::Problem;

/// Streams of one interface that a server serves at a time.
const MAX_STREAMS: usize = 1_024;

/// Opens event streams. They end at the shutdown.
#[derive(Clone)]
pub(super) struct EventStreams {
    free: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl EventStreams {
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Self { free: Arc::new(Semaphore::new(MAX_STREAMS)), shutdown }
    }

    /// A response that is a stream of events.
    pub(super) fn open(
        &self,
        events: impl Stream<Item = Event> + Send + 'static,
    ) -> Result<Response, Problem> {
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many event streams are open")
        })?;
        let events = events.map(Ok).take_until(self.shutdown.clone().cancelled_owned());
        let events = Held { events: events.boxed(), _permit: permit };
        Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
    }
}

/// A stream that holds its share of the bound on streams.
struct Held {
    events: BoxStream<'static, Result<Event, Infallible>>,
    _permit: OwnedSemaphorePermit,
}

impl Stream for Held {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_next_unpin(cx)
    }
}
