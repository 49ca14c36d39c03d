//! Errors of the plain HTTP interface, as problem details (RFC 9457).

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tenure::store::StoreError;
use tenure::tasks::TaskError;
use utoipa::ToSchema;

use crate::places::NoPlace;

/// A problem details document, of the type `about:blank`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The HTTP status code.
    pub status: u16,
    /// The name of the status.
    pub title: String,
    /// What is wrong in this case.
    pub detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("error").into(),
            detail: detail.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<NoPlace> for Problem {
    fn from(error: NoPlace) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

impl From<TaskError> for Problem {
    /// What the client did wrong is told; what went wrong here is logged, and told in general.
    fn from(error: TaskError) -> Self {
        let status = match &error {
            TaskError::NotFound => StatusCode::NOT_FOUND,
            TaskError::Finished { .. } => StatusCode::CONFLICT,
            TaskError::Store(StoreError::InvalidCursor) => StatusCode::BAD_REQUEST,
            error if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            error if error.is_client_fault() => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::error!(%error, "a request failed");
        }
        match &error {
            TaskError::Unreadable { .. } => Self::new(status, error.to_string()),
            _ if status.is_server_error() => Self::new(status, "the task store failed"),
            _ => Self::new(status, error.to_string()),
        }
    }
}
