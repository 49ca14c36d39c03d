//! Why a request for resources was not carried out, with what the client needs to go on.

use std::fmt::Write as _;

use axum::http::header::{ACCEPT_ENCODING, ETAG, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tenure::resources::{ETag, ResourceError};
use tenure::store::StoreError;

use crate::http::Problem;
use crate::http::body::NoBody;
use crate::http::preconditions::Current;

/// The name of the write that left a value: tells A from A after B.
const VERSION: HeaderName = HeaderName::from_static("tenure-version");

/// Not to be repeated blindly, so it is no 503: under a condition the repetition would fail because of
/// the first write.
const IN_DOUBT: &str = "the write may or may not have happened, or may yet happen: its answer was lost \
    or has not come in time. Read the resource and compare ETag and Tenure-Version with those from before";

/// A problem, and headers.
#[derive(Debug)]
pub(super) struct Refusal {
    problem: Problem,
    headers: Box<HeaderMap>,
}

impl Refusal {
    /// 412, with what the resource is at.
    pub(super) fn precondition_failed(current: Option<Current>) -> Self {
        let detail = match current {
            Some(Current { etag, .. }) => {
                format!("the condition does not hold: the ETag is {etag}")
            }
            None => "the condition does not hold: there is no such resource".into(),
        };
        let mut refusal = Self::from(Problem::new(StatusCode::PRECONDITION_FAILED, detail));
        if let Some(current) = current {
            name(&mut refusal.headers, current);
        }
        refusal
    }

    /// 415, with what would be accepted.
    pub(super) fn unsupported_media_type(wanted: &'static str, header: HeaderName) -> Self {
        Self::unsupported(format!("the body must be {wanted}"), header, wanted)
    }

    /// 415, about a body that is compressed.
    pub(super) fn unsupported_coding() -> Self {
        let detail = "the body must come without a content coding".into();
        Self::unsupported(detail, ACCEPT_ENCODING, "identity")
    }

    fn unsupported(detail: String, header: HeaderName, wanted: &'static str) -> Self {
        let mut refusal = Self::from(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        refusal.headers.insert(header, HeaderValue::from_static(wanted));
        refusal
    }
}

/// Says which value, and which write of it, a response is about.
pub(super) fn name(headers: &mut HeaderMap, current: Current) {
    headers.extend(quoted(current.etag).map(|etag| (ETAG, etag)));
    if let Ok(version) = HeaderValue::try_from(current.version.to_string()) {
        headers.insert(VERSION, version);
    }
}

/// An ETag as HTTP writes it.
fn quoted(etag: ETag) -> Option<HeaderValue> {
    // Room for 43 characters and the quotes, so that the text is not copied on its way into the header.
    let mut text = String::with_capacity(45);
    write!(text, "\"{etag}\"").ok()?;
    HeaderValue::try_from(text).ok()
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, headers: Box::default() }
    }
}

impl From<NoBody> for Refusal {
    fn from(error: NoBody) -> Self {
        Problem::new(error.status(), error.to_string()).into()
    }
}

impl From<ResourceError> for Refusal {
    fn from(error: ResourceError) -> Self {
        match error {
            ResourceError::ETagMismatch { current: etag, version }
            | ResourceError::AlreadyExists { current: etag, version } => {
                Self::precondition_failed(Some(Current { etag, version }))
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
        response.headers_mut().extend(*self.headers);
        response
    }
}

impl From<ResourceError> for Problem {
    fn from(error: ResourceError) -> Self {
        let status = match error {
            ResourceError::Store(error) => return Self::of_store(&error, IN_DOUBT),
            ResourceError::NotFound => StatusCode::NOT_FOUND,
            ResourceError::NotJson { .. } => StatusCode::BAD_REQUEST,
            ResourceError::ETagMismatch { .. } | ResourceError::AlreadyExists { .. } => {
                StatusCode::PRECONDITION_FAILED
            }
            _ if error.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            _ if error.is_client_fault() => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::logged(status, error.to_string(), &error)
    }
}
