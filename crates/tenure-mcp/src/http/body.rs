//! Reads bodies, and renames requests that listen to tasks before the SDK parses them.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rmcp::model::ErrorCode;
use serde_json::Value;

use crate::http::HttpOptions;
use crate::http::error::refusal;
use crate::mcp::{LISTEN, LISTEN_TASKS, reroute as reroute_message};

const METHOD: &str = "mcp-method";
/// The steps into which the time for a body is divided; [`waited`] says why.
const STEPS: u32 = 32;

/// How large a body may be, and how long it may take to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyBounds {
    bytes: usize,
    within: Duration,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(super) enum NoBody {
    #[error("the request body exceeds {0} bytes")]
    TooLarge(usize),
    #[error("the request body did not come in time")]
    TooSlow,
    #[error("the request body broke off")]
    BrokeOff,
}

impl BodyBounds {
    pub(super) fn new(options: &HttpOptions) -> Self {
        let within = Duration::from_millis(options.body_read_ms);
        Self { bytes: options.body_bytes, within }
    }

    /// The same for bodies that need no more than this.
    pub(super) fn at_most(self, bytes: usize) -> Self {
        Self { bytes: self.bytes.min(bytes), ..self }
    }

    /// Reads a whole body. The time limit is for all of it, so that a client cannot stretch it by
    /// sending a little now and then.
    pub(super) async fn read(self, body: Body) -> Result<Bytes, NoBody> {
        if body.size_hint().lower() > self.bytes as u64 {
            return Err(NoBody::TooLarge(self.bytes));
        }
        let body = Box::pin(Limited::new(body, self.bytes).collect());
        let read = tokio::select! {
            // `biased`: if the process was suspended, both the result and the timer are ready; prefer the
            // result.
            biased;
            read = body => read,
            () = waited(self.within) => return Err(NoBody::TooSlow),
        };
        read.map(|body| body.to_bytes()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                NoBody::TooLarge(self.bytes)
            } else {
                NoBody::BrokeOff
            }
        })
    }
}

/// Waits for `time`, in short steps. If this process was suspended, it could not read what the client
/// sent meanwhile, and the client is not to blame: of that time only one step counts.
async fn waited(time: Duration) {
    for _ in 0..STEPS {
        tokio::time::sleep(time / STEPS).await;
    }
}

impl NoBody {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BrokeOff => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads the body before the SDK does, which waits for ever. Looks only into requests whose header
/// says that they listen, which the protocol requires.
pub(super) async fn reroute(
    State(bounds): State<BodyBounds>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = match bounds.read(body).await {
        Ok(body) => body,
        Err(error) => {
            return refusal(error.status(), ErrorCode::INVALID_REQUEST, error.to_string());
        }
    };
    let listens = parts.headers.get(METHOD).is_some_and(|method| method == LISTEN);
    let rerouted = listens.then(|| rerouted(&body)).flatten();
    if rerouted.is_some() {
        parts.headers.insert(METHOD, HeaderValue::from_static(LISTEN_TASKS));
        parts.headers.remove(CONTENT_LENGTH);
    }
    // What is not ours to answer goes on as it came, malformed or not.
    let body = Body::from(rerouted.unwrap_or(body));
    next.run(Request::from_parts(parts, body)).await
}

fn rerouted(body: &[u8]) -> Option<Bytes> {
    let mut message: Value = serde_json::from_slice(body).ok()?;
    reroute_message(&mut message).then(|| message.to_string().into())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(30);

    fn bounds(bytes: usize) -> BodyBounds {
        BodyBounds { bytes, within: WITHIN }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_process_stood_still_is_not_the_clients() {
        let frames = stream::unfold(0, |sent| async move {
            match sent {
                0 => tokio::time::advance(WITHIN * 10).await,
                // There already, and handed over by another task.
                _ => tokio::task::yield_now().await,
            }
            (sent < 100).then(|| (Ok::<_, Infallible>(Bytes::from("x")), sent + 1))
        });
        assert_eq!(bounds(100).read(Body::from_stream(frames)).await.unwrap().len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_in_has_so_long_as_a_whole() {
        let trickle = stream::unfold((), |()| async {
            tokio::time::sleep(WITHIN / 10).await;
            Some((Ok::<_, Infallible>(Bytes::from("x")), ()))
        });
        let begun = tokio::time::Instant::now();
        let refused = bounds(100).read(Body::from_stream(trickle)).await;
        assert!(matches!(refused, Err(NoBody::TooSlow)), "{refused:?}");
        let waited = begun.elapsed();
        assert!(waited >= WITHIN && waited < WITHIN + Duration::from_secs(1), "{waited:?}");
    }

    #[tokio::test]
    async fn a_body_that_says_it_is_too_large_is_not_read() {
        let body = Body::from("x".repeat(11));
        assert!(matches!(bounds(10).read(body).await, Err(NoBody::TooLarge(10))));
        assert_eq!(bounds(11).read(Body::from("x".repeat(11))).await.unwrap().len(), 11);
    }
}
