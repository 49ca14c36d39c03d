//! Every refusal is JSON-RPC, so that a client has one kind of error to read.

use std::borrow::Cow;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rmcp::ErrorData;
use rmcp::model::{ErrorCode, JsonRpcError};

/// The SDK's own refusals are a line of text.
const TEXT_BYTES: usize = 64 * 1_024;

/// A response with a JSON-RPC error that answers no request in particular.
pub(super) fn refusal(
    status: StatusCode,
    code: ErrorCode,
    message: impl Into<Cow<'static, str>>,
) -> Response {
    let error = JsonRpcError::new(None, ErrorData::new(code, message, None));
    (status, axum::Json(error)).into_response()
}

/// Turns the SDK's refusals in plain text into JSON-RPC errors.
pub(super) async fn explain(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let is_text = !response.headers().contains_key(CONTENT_TYPE);
    let refused = response.status().is_client_error() || response.status().is_server_error();
    if !(is_text && refused) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, TEXT_BYTES).await.unwrap_or_default();
    let (status, code, message) = translate(parts.status, &String::from_utf8_lossy(&text));
    let (_, body) = refusal(status, code, message).into_parts();
    parts.status = status;
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, body)
}

/// The SDK answers 415 to a body that it cannot parse, as to one that is not declared as JSON.
fn translate(status: StatusCode, text: &str) -> (StatusCode, ErrorCode, String) {
    match (status, text.strip_prefix("fail to deserialize request body ")) {
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, Some(reason)) if is_syntax(reason) => {
            (StatusCode::BAD_REQUEST, ErrorCode::PARSE_ERROR, format!("Parse error: {reason}"))
        }
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, Some(_)) => (
            StatusCode::BAD_REQUEST,
            ErrorCode::INVALID_REQUEST,
            "Invalid Request: the body is not a JSON-RPC message".into(),
        ),
        (status, _) if status.is_server_error() => {
            tracing::error!(%status, text, "a request failed");
            (status, ErrorCode::INTERNAL_ERROR, "internal error".into())
        }
        (status, _) => (status, ErrorCode::INVALID_REQUEST, text.to_owned()),
    }
}

/// A syntax error has a place in the text; a message of the wrong form is found after parsing.
fn is_syntax(reason: &str) -> bool {
    reason.contains(" at line ")
}
