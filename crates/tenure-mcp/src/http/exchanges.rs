//! The requests of one connection that are not answered to the end, and since when there is none.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::http::{Request, Response, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tower::ServiceExt as _;

use crate::http::streams::{Pieces, noted};

/// The exchanges of one connection. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Exchanges(Arc<Mutex<State>>);

struct State {
    /// `None` before the first request.
    version: Option<Version>,
    open: usize,
    /// When the last one ended, or the connection began.
    since: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self { version: None, open: 0, since: Instant::now() }
    }
}

impl Exchanges {
    /// The routes, whose requests are counted from their head to the end of their answer: from the
    /// moment that the connection takes them, before anything polls for the answer.
    pub(super) fn counted(
        &self,
        router: Router,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Answer>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Answer>, Infallible>> + Send + 'static,
    > + Send
    + 'static {
        let exchanges = self.clone();
        service_fn(move |request: Request<Incoming>| {
            let exchange = exchanges.begin(request.version());
            let answer = router.clone().oneshot(request);
            async move {
                let mut answer = pin!(answer);
                let answer = poll_fn(|cx| noted(answer.as_mut().poll(cx))).await?;
                Ok(answer.map(|body| Answer { body: Pieces::of(body), _exchange: exchange }))
            }
        })
    }

    fn begin(&self, version: Version) -> Exchange {
        let mut state = self.0.lock();
        state.version = Some(version);
        state.open += 1;
        Exchange(self.clone())
    }

    /// Ends when there was no exchange for `limit`. On a connection that has had a request over
    /// HTTP/1 it never ends: there, hyper itself bounds the time between requests.
    pub(super) async fn quiet(&self, limit: Duration) {
        loop {
            let (version, open, quiet_at) = {
                let state = self.0.lock();
                (state.version, state.open, state.since + limit)
            };
            match version {
                Some(version) if version < Version::HTTP_2 => pending().await,
                _ if open > 0 => sleep(limit).await,
                _ if Instant::now() < quiet_at => sleep_until(quiet_at).await,
                _ => return,
            }
        }
    }

    /// As [`quiet`](Self::quiet), but ends after `limit` from now at the earliest.
    pub(super) async fn quiet_from_now(&self, limit: Duration) {
        sleep(limit).await;
        self.quiet(limit).await;
    }
}

/// One request, until it is dropped.
struct Exchange(Exchanges);

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.open = state.open.saturating_sub(1);
        state.since = Instant::now();
    }
}

/// The body of an answer, with the exchange that it ends.
pub(super) struct Answer {
    body: Pieces,
    _exchange: Exchange,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const DAY: Duration = Duration::from_secs(86_400);

    /// After how many seconds the connection may end.
    async fn quiet_after(exchanges: &Exchanges) -> u64 {
        let begun = Instant::now();
        exchanges.quiet(LIMIT).await;
        begun.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_so_long_after_its_last_answer() {
        let exchanges = Exchanges::default();
        let [first, last] = [exchanges.begin(Version::HTTP_2), exchanges.begin(Version::HTTP_2)];
        drop(first);
        let watched = exchanges.clone();
        let quiet = tokio::spawn(async move { quiet_after(&watched).await });
        sleep(Duration::from_secs(47)).await;
        drop(last);
        assert_eq!(quiet.await.unwrap(), 47 + 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_quiet_and_http_1_keeps_its_own_time() {
        let exchanges = Exchanges::default();
        assert_eq!(quiet_after(&exchanges).await, 30);
        drop(exchanges.begin(Version::HTTP_11));
        assert!(timeout(DAY, exchanges.quiet(LIMIT)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn from_now_on_counts_what_was_quiet_before_for_nothing_and_a_request_anew() {
        let exchanges = Exchanges::default();
        let from_now = async || {
            let begun = Instant::now();
            exchanges.quiet_from_now(LIMIT).await;
            begun.elapsed().as_secs()
        };
        sleep(LIMIT * 2).await;
        assert_eq!(from_now().await, 30);
        drop(exchanges.begin(Version::HTTP_2));
        assert_eq!(from_now().await, 30);
        // A request that crosses the goodbye is not cut off, however long it takes.
        let crossing = exchanges.begin(Version::HTTP_2);
        assert!(timeout(DAY, exchanges.quiet_from_now(LIMIT)).await.is_err());
        drop(crossing);
        assert_eq!(from_now().await, 30);
    }
}
