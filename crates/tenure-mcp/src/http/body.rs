//! Renames requests that listen to tasks, before the SDK parses them.

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::{BodyExt, Limited};
use rmcp::model::ErrorCode;
use serde_json::Value;

use crate::http::error::refusal;
use crate::mcp::{LISTEN, LISTEN_TASKS, reroute as reroute_message};

const METHOD: &str = "mcp-method";

/// Looks only into requests whose header says that they listen, which the protocol requires; every
/// other body goes through untouched, and the SDK bounds it while it reads.
pub(super) async fn reroute(
    State(body_bytes): State<usize>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().get(METHOD).is_none_or(|method| method != LISTEN) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let body = match Limited::new(body, body_bytes).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return unreadable(&*error, body_bytes),
    };
    let rerouted = rerouted(&body);
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

fn unreadable(error: &(dyn std::error::Error + 'static), body_bytes: usize) -> Response {
    let (status, message) = if error.is::<http_body_util::LengthLimitError>() {
        let message = format!("Payload Too Large: request body exceeds {body_bytes} bytes");
        (StatusCode::PAYLOAD_TOO_LARGE, message)
    } else {
        (StatusCode::BAD_REQUEST, "the request body broke off".into())
    };
    refusal(status, ErrorCode::INVALID_REQUEST, message)
}
