//! The description of the plain HTTP interface, generated from its code.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::OriginalUri;
use axum::response::IntoResponse;
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoParams, IntoResponses, Modify, OpenApi, openapi};

use crate::http::resources::{WrittenDocument, event, read, write};
use crate::http::{Problem, tasks};

/// The description as a document.
#[derive(OpenApi)]
#[openapi(
    info(title = "Tenure", description = "Versioned values of projects, and tasks."),
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
        tasks::list,
        tasks::show,
        tasks::cancel,
        tasks::follow,
        tasks::watch,
    ),
    // What only answers that are described here name.
    components(schemas(Problem, WrittenDocument)),
    modifiers(&Bearer, &Heads),
    // A server on a loopback address may do without.
    security((), ("bearer" = [])),
)]
struct Description;

/// How callers prove themselves.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut openapi::OpenApi) {
        let scheme = Http::new(HttpAuthScheme::Bearer);
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// What answers GET answers HEAD, without the content.
struct Heads;

impl Modify for Heads {
    fn modify(&self, description: &mut openapi::OpenApi) {
        for item in description.paths.paths.values_mut() {
            let Some(mut head) = item.get.clone() else { continue };
            head.operation_id = head.operation_id.map(|id| format!("head_{id}"));
            for response in head.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    response.content.clear();
                }
            }
            item.head = Some(head);
        }
    }
}

pub(super) async fn serve(OriginalUri(uri): OriginalUri) -> impl IntoResponse {
    let mut description = Description::openapi();
    description.servers = prefix(uri.path()).map(|prefix| vec![openapi::Server::new(prefix)]);
    Json(description)
}

/// What stands before the paths that are described, where the router is nested under a prefix.
fn prefix(path: &str) -> Option<&str> {
    path.strip_suffix("/v1/openapi.json").filter(|prefix| !prefix.is_empty())
}

/// What a path names first.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct ProjectPath {
    /// The project.
    project: String,
}

/// The path of a resource.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct ResourcePath {
    /// The project.
    project: String,
    /// The kind.
    kind: String,
    /// The id, unique within the kind.
    id: String,
}

/// The path of a task.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct TaskPath {
    /// The id of the task.
    id: String,
}

/// What makes a request conditional.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct Conditions {
    /// Only if the value has one of these ETags, or `*` if there is one.
    #[param(rename = "If-Match", pattern = r#"^([*]|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)?$"#)]
    if_match: Option<String>,
    /// Only if the value has none of these ETags, or `*` if there is none.
    #[param(
        rename = "If-None-Match",
        pattern = r#"^([*]|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)?$"#
    )]
    if_none_match: Option<String>,
    /// Only if this write, as `Tenure-Version` named it, was the last: tells A from A after B.
    #[param(rename = "Tenure-If-Version", pattern = "^[1-9][0-9]{0,17}-[0-9a-f]{16}$")]
    if_version: Option<String>,
}

/// What any request may be answered with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum Refused {
    /// The request is malformed.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] Problem),
    /// Nobody is known by this token.
    #[response(status = 401, content_type = "application/problem+json", headers(("WWW-Authenticate" = String)))]
    Unauthorized(#[to_schema] Problem),
    /// The caller may not do this, or comes from a foreign site.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// There is no such thing for this caller.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
    /// The method is not for this path.
    #[response(status = 405, content_type = "application/problem+json", headers(("Allow" = String)))]
    NotAllowed(#[to_schema] Problem),
    /// A name or a value exceeds its bound.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] Problem),
    /// The store failed. The detail says if a write may have happened all the same.
    #[response(status = 500, content_type = "application/problem+json")]
    Failed(#[to_schema] Problem),
    /// The store, or a place for a stream, is not available at the moment.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = String)))]
    Unavailable(#[to_schema] Problem),
    /// The store is full.
    #[response(status = 507, content_type = "application/problem+json")]
    Full(#[to_schema] Problem),
}

/// What a read of a value may be answered with when it goes well.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum ValueRead {
    /// The value
    #[response(status = 200, headers(("ETag" = String), ("Tenure-Version" = String)))]
    Value(serde_json::Value),
    /// The client has it
    #[response(status = 304, headers(("ETag" = String), ("Tenure-Version" = String)))]
    NotModified,
}

/// What a change may be answered with that leaves a version behind.
#[derive(IntoResponses)]
#[response(
    status = 200,
    description = "It was written",
    headers(("ETag" = String), ("Tenure-Version" = String))
)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct ValueWritten(WrittenDocument);

/// The same of a resource that was not there.
#[derive(IntoResponses)]
#[response(
    status = 201,
    description = "It was created",
    headers(("ETag" = String), ("Tenure-Version" = String), ("Location" = String))
)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct ValueCreated(WrittenDocument);

/// What a read may be refused with.
pub(super) struct ReadRefused;

impl IntoResponses for ReadRefused {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        Refused::responses().into_iter().chain(NotAcceptable::responses()).collect()
    }
}

/// What a change may be refused with.
pub(super) struct ChangeRefused;

impl IntoResponses for ChangeRefused {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let conditions = PreconditionFailed::responses().into_iter();
        let conditions = conditions.chain(PreconditionRequired::responses());
        Refused::responses().into_iter().chain(conditions).collect()
    }
}

/// What a read may be answered with.
#[derive(IntoResponses)]
#[response(
    status = 406,
    description = "The client does not take what is here",
    content_type = "application/problem+json"
)]
#[expect(dead_code, reason = "read by the derive alone")]
struct NotAcceptable(#[to_schema] Problem);

/// What a conditional request may be answered with.
#[derive(IntoResponses)]
#[response(
    status = 412,
    description = "A condition does not hold; ETag and Tenure-Version have what is there",
    content_type = "application/problem+json",
    headers(("ETag" = String), ("Tenure-Version" = String))
)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct PreconditionFailed(#[to_schema] Problem);

/// What a change without a condition may be answered with.
#[derive(IntoResponses)]
#[response(
    status = 428,
    description = "This server wants a condition",
    content_type = "application/problem+json"
)]
#[expect(dead_code, reason = "read by the derive alone")]
struct PreconditionRequired(#[to_schema] Problem);

/// What a request with a body may be answered with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum BodyRefused {
    /// The body did not come in time.
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(#[to_schema] Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// The body is of another media type.
    #[response(status = 415, content_type = "application/problem+json", headers(("Accept" = String), ("Accept-Patch" = String), ("Accept-Encoding" = String)))]
    Unsupported(#[to_schema] Problem),
}

/// What a request for a stream may be answered with.
#[derive(IntoResponses)]
#[response(
    status = 429,
    description = "The caller has as many streams as it may have",
    content_type = "application/problem+json",
    headers(("Retry-After" = String))
)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct TooManyStreams(#[to_schema] Problem);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        found.extend(value.get("$ref").and_then(Value::as_str));
        match value {
            Value::Object(members) => members.values().for_each(|it| references(it, found)),
            Value::Array(items) => items.iter().for_each(|it| references(it, found)),
            _ => {}
        }
    }

    #[test]
    fn whatever_the_description_refers_to_is_there() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let mut found = Vec::new();
        references(&description, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let there = reference.strip_prefix('#').and_then(|it| description.pointer(it));
            assert!(there.is_some(), "{reference}");
        }
    }
}
