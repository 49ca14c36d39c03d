//! Why a request for resources was not carried out, with what the client needs to go on.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use tenure::resources::{ETag, ResourceError};
use tenure::store::StoreError;

use crate::http::Problem;

/// A problem and a header.
#[derive(Debug)]
pub(super) struct Refusal {
    problem: Problem,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Refusal {
    /// 412, with the ETag that the resource has.
    pub(super) fn precondition_failed(current: Option<ETag>) -> Self {
        let detail = match current {
            Some(etag) => format!("the condition does not hold: the ETag is {etag}"),
            None => "the condition does not hold: there is no such resource".into(),
        };
        Self {
            problem: Problem::new(StatusCode::PRECONDITION_FAILED, detail),
            header: current.and_then(quoted).map(|etag| Box::new((header::ETAG, etag))),
        }
    }

    /// 415, with what would be accepted.
    pub(super) fn unsupported_media_type(wanted: &'static str, header: HeaderName) -> Self {
        let detail = format!("the body must be {wanted}");
        Self {
            problem: Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail),
            header: Some(Box::new((header, HeaderValue::from_static(wanted)))),
        }
    }
}

/// An ETag as HTTP writes it.
pub(super) fn quoted(etag: ETag) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("\"{etag}\"")).ok()
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, header: None }
    }
}

impl From<ResourceError> for Refusal {
    fn from(error: ResourceError) -> Self {
        match error {
            ResourceError::ETagMismatch { current, .. }
            | ResourceError::AlreadyExists { current, .. } => {
                Self::precondition_failed(Some(current))
            }
            error => Problem::from(error).into(),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        ResourceError::from(error).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response();
        response.headers_mut().extend(self.header.map(|header| *header));
        response
    }
}

impl From<ResourceError> for Problem {
    /// What the client did wrong is told; what went wrong here is logged, and told in general.
    fn from(error: ResourceError) -> Self {
        let status = match &error {
            ResourceError::NotFound => StatusCode::NOT_FOUND,
            ResourceError::ETagMismatch { .. } | ResourceError::AlreadyExists { .. } => {
                StatusCode::PRECONDITION_FAILED
            }
            ResourceError::Store(StoreError::InvalidCursor | StoreError::InvalidRevision) => {
                StatusCode::BAD_REQUEST
            }
            error if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            error if error.is_client_fault() => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::error!(%error, "a request failed");
        }
        match &error {
            ResourceError::Unreadable { .. } | ResourceError::Contended => {
                Self::new(status, error.to_string())
            }
            _ if status.is_server_error() => Self::new(status, "the store failed"),
            _ => Self::new(status, error.to_string()),
        }
    }
}
