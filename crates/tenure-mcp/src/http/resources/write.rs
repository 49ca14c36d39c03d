//! PUT, PATCH, DELETE and revert.

use axum::Json;
use axum::body::Body;
use axum::http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;
use tenure::resources::{
    Condition, Document, Effect, Metadata, Resource, ResourceError, ResourceKey, Written,
};

use crate::http::Problem;
use crate::http::negotiation::{content_type, may_be_json};
use crate::http::openapi::{
    BodyRefused, ChangeRefused, Conditions, ResourcePath, ValueCreated, ValueWritten,
};
use crate::http::preconditions::{Current, Preconditions, Verdict};
use crate::http::resources::Api;
use crate::http::resources::document::{RevertDocument, WrittenDocument};
use crate::http::resources::refusal::{Refusal, name};

const MERGE_PATCH: &str = "application/merge-patch+json";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// Rounds of read, judge, write for conditions that the store cannot judge in one write. Each lost
/// round means that somebody else's change landed.
const MAX_ROUNDS: u32 = 32;

/// Writes a resource.
#[utoipa::path(
    put,
    path = "/v1/projects/{project}/resources/{kind}/{id}",
    tag = "resources",
    params(ResourcePath, Conditions),
    request_body(content = serde_json::Value, description = "The value"),
    responses(ValueWritten, ValueCreated, ChangeRefused, BodyRefused),
)]
pub(super) async fn put(
    api: &Api,
    key: &ResourceKey,
    request: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let conditions = demanded(api, &request.headers)?;
    if !may_be_json(&request.headers) {
        return Err(Refusal::unsupported_media_type("application/json", ACCEPT));
    }
    let path = request.uri.path();
    let document = Document::from_value(&json(api, body).await?)?;
    let put = |condition| api.resources.put_if(key, &document, condition);
    let written = conditionally(api, key, &conditions, put).await?;
    let mut response = told(written);
    if written.effect == Effect::Created {
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().extend(HeaderValue::try_from(path).ok().map(|it| (LOCATION, it)));
    }
    Ok(response)
}

/// Deletes a resource with its history, if there is one.
#[utoipa::path(
    delete,
    path = "/v1/projects/{project}/resources/{kind}/{id}",
    tag = "resources",
    params(ResourcePath, Conditions),
    responses(
        (status = 204, description = "It is not there any more, or never was"),
        ChangeRefused,
    ),
)]
pub(super) async fn delete(
    api: &Api,
    key: &ResourceKey,
    request: &Parts,
) -> Result<Response, Refusal> {
    let conditions = demanded(api, &request.headers)?;
    let delete = |condition| api.resources.delete_if(key, condition);
    conditionally(api, key, &conditions, delete).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Changes a resource by a merge patch (RFC 7396).
#[utoipa::path(
    patch,
    path = "/v1/projects/{project}/resources/{kind}/{id}",
    tag = "resources",
    params(ResourcePath, Conditions),
    request_body(content = serde_json::Value, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "The value now", body = serde_json::Value, headers(("ETag" = String))),
        ChangeRefused, BodyRefused,
    ),
)]
pub(super) async fn patch(
    api: &Api,
    key: &ResourceKey,
    request: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let conditions = demanded(api, &request.headers)?;
    if !content_type(&request.headers).is_some_and(|it| it.eq_ignore_ascii_case(MERGE_PATCH)) {
        return Err(Refusal::unsupported_media_type(MERGE_PATCH, ACCEPT_PATCH));
    }
    let patch = json(api, body).await?;
    for _ in 0..MAX_ROUNDS {
        // Where there is nothing to patch the answer is 404 with conditions as without: section
        // 13.2.1 wants them ignored where they do not decide.
        let resource = api.resources.get(key).await?;
        let current = Some(at(&resource.meta));
        if conditions.of_change(current) == Verdict::Failed {
            return Err(Refusal::precondition_failed(current));
        }
        match merge(api, &resource, &patch).await {
            Err(ResourceError::ETagMismatch { .. } | ResourceError::NotFound) => {}
            merged => {
                let (written, text) = merged?;
                let json = HeaderValue::from_static("application/json");
                let mut response = ([(CONTENT_TYPE, json)], text).into_response();
                let Written { etag, version, .. } = written;
                name(response.headers_mut(), Current { etag, version });
                return Ok(response);
            }
        }
    }
    Err(ResourceError::Contended.into())
}

async fn merge(
    api: &Api,
    resource: &Resource,
    patch: &Value,
) -> Result<(Written, Bytes), ResourceError> {
    let mut value = resource.value()?;
    json_patch::merge(&mut value, patch);
    let document = Document::from_value(&value)?;
    let (etag, version) = (document.etag(), resource.meta.version);
    let written = if etag == resource.meta.etag {
        Written { etag, version, effect: Effect::Unchanged }
    } else {
        api.resources.put_if(&resource.key, &document, Condition::Version(version)).await?
    };
    Ok((written, document.text().clone()))
}

/// Writes a former value again, as a new version.
#[utoipa::path(
    post,
    path = "/v1/projects/{project}/resources/{kind}/{id}/revert",
    tag = "resources",
    params(ResourcePath, Conditions),
    request_body = RevertDocument,
    responses(ValueWritten, ChangeRefused, BodyRefused),
)]
pub(super) async fn revert(
    api: &Api,
    key: &ResourceKey,
    request: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let conditions = demanded(api, &request.headers)?;
    if !may_be_json(&request.headers) {
        return Err(Refusal::unsupported_media_type("application/json", ACCEPT));
    }
    let body = json(api, body).await?;
    let RevertDocument { version } = serde_json::from_value(body)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let written = if conditions.is_empty() {
        api.resources.revert(key, version).await?
    } else {
        let former = api.resources.get_at_version(key, version).await?;
        let document = Document::parse(&former.text)?;
        let put = |condition| api.resources.put_if(key, &document, condition);
        conditionally(api, key, &conditions, put).await?
    };
    Ok(told(written))
}

fn at(meta: &Metadata) -> Current {
    Current { etag: meta.etag, version: meta.version }
}

/// The conditions of a change; none is an error where the options want one.
fn demanded(api: &Api, headers: &HeaderMap) -> Result<Preconditions, Problem> {
    let conditions = Preconditions::of(headers)?;
    if api.conditions_required && conditions.is_empty() {
        let detail =
            "this server takes changes with If-Match, If-None-Match or Tenure-If-Version only";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, detail));
    }
    Ok(conditions)
}

/// Makes a change under conditions: in one write where the store can judge them, else by reading
/// and writing only if nothing has changed since.
async fn conditionally<T, Change>(
    api: &Api,
    key: &ResourceKey,
    conditions: &Preconditions,
    change: impl Fn(Condition) -> Change,
) -> Result<T, Refusal>
where
    Change: Future<Output = Result<T, ResourceError>>,
{
    if let Some(condition) = conditions.as_condition() {
        return change(condition).await.map_err(|error| match error {
            ResourceError::NotFound => Refusal::precondition_failed(None),
            error => error.into(),
        });
    }
    for _ in 0..MAX_ROUNDS {
        let current = match api.resources.get(key).await {
            Err(ResourceError::NotFound) => None,
            resource => Some(at(&resource?.meta)),
        };
        if conditions.of_change(current) == Verdict::Failed {
            return Err(Refusal::precondition_failed(current));
        }
        let unchanged = current.map_or(Condition::Absent, |it| Condition::Version(it.version));
        match change(unchanged).await {
            Err(
                ResourceError::ETagMismatch { .. }
                | ResourceError::AlreadyExists { .. }
                | ResourceError::NotFound,
            ) => {}
            changed => return Ok(changed?),
        }
    }
    Err(ResourceError::Contended.into())
}

/// A body that is JSON.
async fn json(api: &Api, body: Body) -> Result<Value, Problem> {
    let read = api.bodies.read(body).await;
    let body = read.map_err(|error| Problem::new(error.status(), error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}"))
    })
}

fn told(written: Written) -> Response {
    let mut response = Json(WrittenDocument::from(written)).into_response();
    let Written { etag, version, .. } = written;
    name(response.headers_mut(), Current { etag, version });
    response
}
