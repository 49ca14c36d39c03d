//! Who calls, and what those are told who prove nothing.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse as _, Response};
use rmcp::model::ErrorCode;

use crate::http::Problem;
use crate::http::error::refusal;
use crate::identity::{Caller, Callers, Rejection};

/// Who is let in to an interface, and how it refuses the others.
pub(super) struct Gate {
    callers: Callers,
    refuse: fn(Rejection) -> Response,
}

impl Gate {
    /// Refuses by a JSON-RPC error.
    pub(super) fn of_mcp(callers: Callers) -> Self {
        let refuse = |rejection: Rejection| {
            let message = format!("unauthorized: {}", rejection.reason());
            let code = match rejection.status() {
                StatusCode::INTERNAL_SERVER_ERROR => ErrorCode::INTERNAL_ERROR,
                _ => ErrorCode::INVALID_REQUEST,
            };
            refusal(rejection.status(), code, message)
        };
        Self { callers, refuse }
    }

    /// Refuses by problem details.
    pub(super) fn of_plain_http(callers: Callers) -> Self {
        let refuse = |rejection: Rejection| {
            Problem::new(rejection.status(), rejection.reason()).into_response()
        };
        Self { callers, refuse }
    }

    /// Who calls. Asked for each request: a session is no credential.
    pub(super) fn verify(&self, request: &Request) -> Result<Caller, Rejection> {
        self.callers.verify(request.headers(), request.extensions().get::<Caller>())
    }

    /// The answer to a caller who is not let in.
    pub(super) fn refused(&self, rejection: Rejection) -> Response {
        if rejection == Rejection::Contradictory {
            tracing::error!(
                "a layer around the router has put a `Caller` into the request: \
                 say `Callers::authenticated()`"
            );
        }
        let mut response = (self.refuse)(rejection);
        if let Some(challenge) = rejection.challenge() {
            let challenge = HeaderValue::from_static(challenge);
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
