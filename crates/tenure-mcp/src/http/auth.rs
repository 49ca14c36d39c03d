//! Lets verified callers in, and tells the handler who they are.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::Response;
use rmcp::model::ErrorCode;

use crate::Callers;
use crate::http::error::refusal;
use crate::identity::Rejection;

/// Runs for each request: a session is no credential.
pub(super) async fn authenticate(
    State(callers): State<Callers>,
    mut request: Request,
    next: Next,
) -> Response {
    match callers.verify(request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(rejection) => unauthorized(rejection),
    }
}

fn unauthorized(rejection: Rejection) -> Response {
    // RFC 6750: a request without a token is not told what would be wrong with one.
    let (challenge, message) = match rejection {
        Rejection::Missing => ("Bearer", "unauthorized: a bearer token is required"),
        Rejection::Invalid => {
            (r#"Bearer error="invalid_token""#, "unauthorized: the bearer token is not valid")
        }
    };
    let mut response = refusal(StatusCode::UNAUTHORIZED, ErrorCode::INVALID_REQUEST, message);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}
