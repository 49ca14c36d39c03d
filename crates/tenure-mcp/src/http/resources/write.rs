//! PUT, PATCH, DELETE and revert.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::OriginalUri;
use axum::http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;
use tenure::resources::{
    Condition, Document, Effect, Metadata, Resource, ResourceError, ResourceKey, ResourceStore,
    Written,
};

use crate::http::Problem;
use crate::http::negotiation::{content_type, is_encoded, may_be_json};
use crate::http::openapi::{
    BodyRefused, ChangeRefused, Conditions, ResourcePath, ValueCreated, ValueWritten,
};
use crate::http::preconditions::{Current, Preconditions, Verdict};
use crate::http::resources::Api;
use crate::http::resources::document::{RevertDocument, WrittenDocument};
use crate::http::resources::parsing::Parsing;
use crate::http::resources::refusal::{Refusal, name};

/// A request that changes something, with the resources in the name of who asks.
pub(super) struct ChangeRequest<'a> {
    pub(super) api: &'a Api,
    pub(super) resources: ResourceStore,
    pub(super) request: Parts,
}

const MERGE_PATCH: &str = "application/merge-patch+json";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Writes a resource.
#[utoipa::path(
    put,
    path = "/v1/projects/{project}/resources/{kind}/{id}",
    tag = "resources",
    params(ResourcePath, Conditions),
    request_body(content = serde_json::Value,
        description = "The value, as a whole, in at most four times the bytes that it may have"),
    responses(ValueWritten, ValueCreated, ChangeRefused, BodyRefused),
)]
pub(super) async fn put(
    change: ChangeRequest<'_>,
    key: ResourceKey,
    body: Body,
) -> Result<Response, Refusal> {
    let ChangeRequest { api, resources, request } = change;
    let conditions = demanded(api, &request.headers)?;
    if !may_be_json(&request.headers) {
        return Err(Refusal::unsupported_media_type("application/json", ACCEPT));
    }
    if request.headers.contains_key(CONTENT_RANGE) {
        // Taken for the whole, a part would destroy it (RFC 9110, section 14.5).
        let detail = "a value is written as a whole: there is no Content-Range here";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail).into());
    }
    let document = parsed(api, &request, body, Document::parse).await?;
    let writing = async move {
        let put = |condition| resources.put_if(&key, &document, condition);
        conditionally(&resources, &key, &conditions, put).await
    };
    let written = api.writes.carry_out(Box::pin(writing)).await?;
    let mut response = told(written);
    if written.effect == Effect::Created {
        *response.status_mut() = StatusCode::CREATED;
        // Under a prefix the client's path is longer than ours.
        let uri = request.extensions.get::<OriginalUri>().map_or(&request.uri, |it| &it.0);
        let location = HeaderValue::try_from(uri.path()).ok();
        response.headers_mut().extend(location.map(|it| (LOCATION, it)));
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
    change: ChangeRequest<'_>,
    key: ResourceKey,
) -> Result<Response, Refusal> {
    let ChangeRequest { api, resources, request } = change;
    let conditions = demanded(api, &request.headers)?;
    let writing = async move {
        let delete = |condition| resources.delete_if(&key, condition);
        conditionally(&resources, &key, &conditions, delete).await
    };
    api.writes.carry_out(Box::pin(writing)).await?;
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
        (status = 200, description = "The value now", body = serde_json::Value,
            headers(("ETag" = String), ("Tenure-Version" = String))),
        ChangeRefused, BodyRefused,
    ),
)]
pub(super) async fn patch(
    change: ChangeRequest<'_>,
    key: ResourceKey,
    body: Body,
) -> Result<Response, Refusal> {
    let ChangeRequest { api, resources, request } = change;
    let conditions = demanded(api, &request.headers)?;
    if !content_type(&request.headers).is_some_and(|it| it.eq_ignore_ascii_case(MERGE_PATCH)) {
        return Err(Refusal::unsupported_media_type(MERGE_PATCH, ACCEPT_PATCH));
    }
    let patch = parsed(api, &request, body, |text| {
        Document::parse_value(&text).map(|value| (Arc::new(value), text.len()))
    });
    let (patch, patch_bytes) = patch.await?;
    let parsing = api.parsing.clone();
    let patching =
        async move { patched(&resources, &parsing, &key, &conditions, &patch, patch_bytes).await };
    let (current, text) = api.writes.carry_out(Box::pin(patching)).await?;
    let json = HeaderValue::from_static("application/json");
    let mut response = ([(CONTENT_TYPE, json)], text).into_response();
    name(response.headers_mut(), current);
    Ok(response)
}

/// Reads, merges, and writes if nobody was faster, else again.
async fn patched(
    resources: &ResourceStore,
    parsing: &Parsing,
    key: &ResourceKey,
    conditions: &Preconditions,
    patch: &Arc<Value>,
    patch_bytes: usize,
) -> Result<(Current, Bytes), Refusal> {
    let attempt = || async {
        // Where there is nothing to patch the answer is 404 with conditions as without: section
        // 13.2.1 wants them ignored where they do not decide.
        let resource = resources.get(key).await?;
        let Metadata { etag, version, .. } = resource.meta;
        let current = Current { etag, version };
        if conditions.of_change(Some(current)) == Verdict::Failed {
            return Err(Refusal::precondition_failed(Some(current)));
        }
        let (patch, bytes) = (Arc::clone(patch), resource.text.len() + patch_bytes);
        let document = parsing.of(bytes, move || merged(&resource, &patch)).await??;
        let text = document.text().clone();
        if document.etag() == etag {
            return Ok(Some((current, text)));
        }
        match resources.put_if(key, &document, Condition::Version(version)).await {
            Err(ResourceError::ETagMismatch { .. } | ResourceError::NotFound) => Ok(None),
            written => Ok(Some((Current::from(written?), text))),
        }
    };
    resources.optimistically(attempt).await
}

fn merged(resource: &Resource, patch: &Value) -> Result<Document, ResourceError> {
    let mut value = resource.value()?;
    json_patch::merge(&mut value, patch);
    Document::from_value(&value)
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
    change: ChangeRequest<'_>,
    key: ResourceKey,
    body: Body,
) -> Result<Response, Refusal> {
    let ChangeRequest { api, resources, request } = change;
    let conditions = demanded(api, &request.headers)?;
    if !may_be_json(&request.headers) {
        return Err(Refusal::unsupported_media_type("application/json", ACCEPT));
    }
    let body = parsed(api, &request, body, Document::parse_value).await?;
    let RevertDocument { version } = serde_json::from_value(body)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let reverting = async move {
        let check = |etag, version| {
            let current = Some(Current { etag, version });
            match conditions.of_change(current) {
                Verdict::Failed => Err(Refusal::precondition_failed(current)),
                Verdict::Proceed | Verdict::NotModified => Ok(()),
            }
        };
        resources.revert_checked(&key, version, check).await
    };
    Ok(told(api.writes.carry_out(Box::pin(reverting)).await?))
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
async fn conditionally<T, Changing>(
    resources: &ResourceStore,
    key: &ResourceKey,
    conditions: &Preconditions,
    change: impl Fn(Condition) -> Changing,
) -> Result<T, Refusal>
where
    Changing: Future<Output = Result<T, ResourceError>>,
{
    if let Some(condition) = conditions.as_condition() {
        return change(condition).await.map_err(|error| match error {
            ResourceError::NotFound => Refusal::precondition_failed(None),
            error => error.into(),
        });
    }
    let change = &change;
    let attempt = || async move {
        let current = match resources.get(key).await {
            Err(ResourceError::NotFound) => None,
            resource => Some(resource?.meta),
        };
        let current = current.map(|it| Current { etag: it.etag, version: it.version });
        if conditions.of_change(current) == Verdict::Failed {
            return Err(Refusal::precondition_failed(current));
        }
        let unchanged = current.map_or(Condition::Absent, |it| Condition::Version(it.version));
        match change(unchanged).await {
            Err(
                ResourceError::ETagMismatch { .. }
                | ResourceError::AlreadyExists { .. }
                | ResourceError::NotFound,
            ) => Ok(None),
            changed => Ok(Some(changed?)),
        }
    };
    resources.optimistically(attempt).await
}

/// What `parse` makes of the body.
async fn parsed<T: Send + 'static>(
    api: &Api,
    request: &Parts,
    body: Body,
    parse: fn(Bytes) -> Result<T, ResourceError>,
) -> Result<T, Refusal> {
    if is_encoded(&request.headers) {
        return Err(Refusal::unsupported_coding());
    }
    let text = api.bodies.read(body).await?;
    Ok(api.parsing.of(text.len(), move || parse(text)).await??)
}

fn told(written: Written) -> Response {
    let mut response = Json(WrittenDocument::from(written)).into_response();
    name(response.headers_mut(), written.into());
    response
}
