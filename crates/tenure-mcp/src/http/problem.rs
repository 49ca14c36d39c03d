//! Errors of the plain HTTP interface, as problem details (RFC 9457).

use std::error::Error;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tenure::Chain;
use tenure::clock::Clock;
use tenure::store::StoreError;
use tenure::tasks::TaskError;
use utoipa::ToSchema;

use crate::owner_limiter::LimitReached;
use crate::read_timeout::in_time;
use crate::trouble::Trouble;

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

    /// A store that failed. What the client can act on is told, and what went wrong here is logged.
    pub(super) fn of_store(error: &StoreError, in_doubt: &'static str) -> Self {
        let trouble = Trouble::of(error);
        let status = match trouble {
            Trouble::Invalid => StatusCode::BAD_REQUEST,
            Trouble::Full => StatusCode::INSUFFICIENT_STORAGE,
            Trouble::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            // One in doubt is not to be repeated blindly, so it is no 503.
            Trouble::ReadOnly | Trouble::InDoubt | Trouble::Failed => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let detail = match trouble {
            Trouble::Invalid => error.to_string(),
            Trouble::InDoubt => in_doubt.into(),
            trouble => trouble.message("the store"),
        };
        Self::logged(status, detail, error)
    }

    /// What a read of the store comes to, unless the store does not answer in time.
    pub(super) async fn unless_answered<T, E: From<Self>>(
        clock: &Clock,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        in_time(clock, read).await.unwrap_or_else(|| {
            Err(Self::new(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer").into())
        })
    }

    /// A problem; what is the server's fault goes to the log, with its cause.
    pub(super) fn logged(status: StatusCode, detail: String, error: &dyn Error) -> Self {
        if status.is_server_error() {
            tracing::error!(error = %Chain(error), "a request failed");
        }
        Self::new(status, detail)
    }
}

/// Answers what no route is for.
pub(super) async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here")
}

/// Answers methods that a route is not for.
pub(super) async fn not_possible_here() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<LimitReached> for Problem {
    fn from(error: LimitReached) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

/// What to say when the answer to a write was lost, or does not come.
const IN_DOUBT: &str = "the change may or may not have happened, or may yet happen: its answer was \
    lost or has not come in time. Read the task and see";

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Self {
        let status = match error {
            TaskError::Store(error) => return Self::of_store(&error, IN_DOUBT),
            TaskError::NotFound => StatusCode::NOT_FOUND,
            TaskError::Finished { .. } => StatusCode::CONFLICT,
            _ if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            _ if error.is_client_fault() => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::logged(status, error.to_string(), &error)
    }
}

#[cfg(test)]
mod tests {
    use tenure::resources::ResourceError;

    use super::*;

    fn told(error: fn() -> StoreError) -> [(u16, String); 2] {
        [Problem::from(TaskError::from(error())), Problem::from(ResourceError::from(error()))]
            .map(|problem| (problem.status, problem.detail))
    }

    #[test]
    fn a_store_that_takes_no_writes_says_why_and_keeps_its_causes() {
        let cause = || Some("/secret/tenure.db".into());
        let full = told(|| StoreError::Full(Some("/secret/tenure.db".into())));
        assert_eq!(full, [(507, "the store is full".into()), (507, "the store is full".into())]);
        for (status, detail) in told(|| StoreError::ReadOnly(Some("/secret/tenure.db".into()))) {
            assert_eq!((status, detail.as_str()), (500, "the store is read-only"));
        }
        let engine = StoreError::Engine { reason: "/secret".into(), source: cause() };
        let problem = Problem::from(TaskError::from(engine));
        assert_eq!((problem.status, problem.detail.as_str()), (500, "the store failed"));
    }

    #[test]
    fn a_change_in_doubt_is_said_to_be_and_asks_for_no_repetition() {
        for (status, detail) in told(|| StoreError::OutcomeUnknown(None)) {
            assert_eq!(status, 500);
            assert!(detail.contains("may or may not have happened"), "{detail}");
        }
    }
}
