//! The description of the plain HTTP interface, generated from its code.

use axum::Json;
use axum::response::IntoResponse;
use utoipa::{IntoResponses, OpenApi};

use crate::http::Problem;
use crate::http::resources::{event, read, write};

/// The description as a document.
#[derive(OpenApi)]
#[openapi(
    info(title = "Tenure", description = "Versioned values of projects."),
    paths(
        read::list,
        read::get,
        read::history,
        read::version,
        write::put,
        write::patch,
        write::delete,
        write::revert,
        event::watch,
    ),
    components(schemas(Problem))
)]
struct Description;

pub(in crate::http) async fn serve() -> impl IntoResponse {
    Json(Description::openapi())
}

/// What any request may be answered with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum Refused {
    /// The request is malformed.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// Nobody is known by this token.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// The caller may not do this, or comes from a foreign site.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// There is no such thing for this caller.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
    /// A name or a value exceeds its bound.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
    /// The store failed.
    #[response(status = 500, content_type = "application/problem+json")]
    Failed(#[to_schema] Problem),
    /// The store, or a free stream, is not available at the moment.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}

/// What a read may be answered with.
#[derive(IntoResponses)]
#[response(
    status = 406,
    description = "The client does not take what is here",
    content_type = "application/problem+json"
)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct NotAcceptable(#[to_schema] Problem);

/// What a conditional request may be answered with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum PreconditionFailed {
    /// A condition does not hold; `ETag` has what is there.
    #[response(status = 412, content_type = "application/problem+json")]
    Failed(#[to_schema] Problem),
    /// This server wants a condition.
    #[response(status = 428, content_type = "application/problem+json")]
    Required(#[to_schema] Problem),
}

/// What a request with a body may be answered with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum BodyRefused {
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// The body is of another media type.
    #[response(status = 415, content_type = "application/problem+json")]
    Unsupported(#[to_schema] Problem),
}
