//! Reads bodies, and renames requests that listen to tasks before the SDK parses them.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use rmcp::model::ErrorCode;
use serde_json::Value;
use tower_http::timeout::{DeadlineBody, TimeoutError};

use crate::http::HttpOptions;
use crate::http::error::refusal;
use crate::mcp::{LISTEN, LISTEN_TASKS, reroute as reroute_message};

const METHOD: &str = "mcp-method";

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

    /// Reads a whole body: all of it counts, however steadily it trickles in.
    pub(super) async fn read(self, body: Body) -> Result<Bytes, NoBody> {
        let body = Limited::new(DeadlineBody::new(self.within, body), self.bytes);
        let read = Box::pin(body.collect()).await;
        read.map(|body| body.to_bytes()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                NoBody::TooLarge(self.bytes)
            } else if error.is::<TimeoutError>() {
                NoBody::TooSlow
            } else {
                NoBody::BrokeOff
            }
        })
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
