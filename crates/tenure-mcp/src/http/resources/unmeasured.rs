//! 304, which says nothing of a length: 0 would be said of the value (RFC 9110, section 8.6), and how
//! long that is in the coding that the client takes nobody knows without compressing it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::StatusCode;
use axum::response::Response;
use http_body::Frame;

/// Keeps the length away from a 304. Goes around the compression, which takes a body without a length
/// for one that is worth it.
pub(super) fn not_modified(response: Response) -> Response {
    match response.status() {
        StatusCode::NOT_MODIFIED => response.map(|_| Body::new(Unmeasured)),
        _ => response,
    }
}

/// No body, and no length.
struct Unmeasured;

impl HttpBody for Unmeasured {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
