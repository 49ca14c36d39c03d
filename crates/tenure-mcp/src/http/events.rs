//! Server-sent events, a bounded number of streams at a time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tenure::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::http::{HttpOptions, Problem};
use crate::identity::Caller;
use crate::owner_limiter::{OwnerLimiter, Permit};

/// Opens event streams. They end at the shutdown, or with the credential of their caller.
#[derive(Clone)]
pub(super) struct EventStreams {
    places: OwnerLimiter,
    heartbeat: Duration,
    clock: Clock,
    shutdown: CancellationToken,
}

impl EventStreams {
    pub(super) fn new(options: &HttpOptions, clock: Clock, shutdown: CancellationToken) -> Self {
        let places = OwnerLimiter::new("event streams", options.streams, options.streams_per_owner);
        let heartbeat = Duration::from_millis(options.heartbeat_ms);
        Self { places, heartbeat, clock, shutdown }
    }

    /// A response that is a stream of events for this caller, once they are there.
    pub(super) async fn open<S: Stream<Item = Event> + Send + 'static>(
        &self,
        caller: &Caller,
        events: impl Future<Output = Result<S, Problem>>,
    ) -> Result<Response, Problem> {
        let place = self.places.take(caller.owner())?;
        let events = Problem::unless_answered(&self.clock, events).await?;
        // A stream does not outlive what let it in.
        let events = events.map(Ok).take_until(caller.ended(&self.clock));
        let events = events.take_until(self.shutdown.clone().cancelled_owned());
        let events = Held { events: events.boxed(), _place: place };
        let keep_alive = KeepAlive::new().interval(self.heartbeat);
        Ok(Sse::new(events).keep_alive(keep_alive).into_response())
    }
}

/// A stream that holds its place among the streams.
struct Held {
    events: BoxStream<'static, Result<Event, Infallible>>,
    _place: Permit,
}

impl Stream for Held {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_next_unpin(cx)
    }
}
