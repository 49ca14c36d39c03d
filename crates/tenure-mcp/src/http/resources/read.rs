//! GET and HEAD.

use axum::Json;
use axum::extract::Query;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use tenure::resources::{Metadata, ResourceKey};
use tenure::store::{Cursor, PageRequest};

use crate::http::Problem;
use crate::http::negotiation::accepts;
use crate::http::openapi::{
    Conditions, PreconditionFailed, ProjectPath, ReadRefused, ResourcePath, ValueRead,
};
use crate::http::preconditions::{Current, Preconditions, Verdict};
use crate::http::resources::document::{HistoryDocument, ResourceListDocument};
use crate::http::resources::refusal::{Refusal, name};
use crate::http::resources::{Api, page};

const JSON: &str = "application/json";
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    kind: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
    #[serde(default)]
    values: bool,
}

/// Lists resources, by kind and id.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/resources",
    tag = "resources",
    params(
        ProjectPath,
        ("kind" = Option<String>, Query, description = "Only this kind"),
        ("limit" = Option<u64>, Query, description = "At most so many: 100, and never more than 200; fewer where their values come to 4 MiB"),
        ("cursor" = Option<String>, Query, description = "The page that follows this one's"),
        ("values" = Option<bool>, Query, description = "With the values"),
    ),
    responses((status = 200, description = "A page", body = ResourceListDocument), ReadRefused),
)]
pub(super) async fn list(api: &Api, project: &str, request: &Parts) -> Result<Response, Refusal> {
    must_accept(&request.headers, JSON)?;
    let Query(query) = Query::<ListQuery>::try_from_uri(&request.uri)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let after = query.cursor.map(|it| it.parse::<Cursor>()).transpose()?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE).min(MAX_PAGE);
    let page = PageRequest { limit: Some(limit), after };
    let (resources, kind) = (&api.resources, query.kind.as_deref());
    let is_first_of_all = page.after.is_none() && kind.is_none();
    let total = if is_first_of_all { Some(resources.total(project).await?) } else { None };
    if query.values {
        let page = resources.list_with_values(project, kind, page).await?;
        return Ok(page::answer(&api.parsing, page, total).await?);
    }
    let document = ResourceListDocument::from(resources.list(project, kind, page).await?);
    Ok(Json(ResourceListDocument { total, ..document }).into_response())
}

/// Reads a resource.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/resources/{kind}/{id}",
    tag = "resources",
    params(ResourcePath, Conditions),
    responses(ValueRead, ReadRefused, PreconditionFailed)
)]
pub(super) async fn get(
    api: &Api,
    key: &ResourceKey,
    request: &Parts,
) -> Result<Response, Refusal> {
    let conditions = Preconditions::of(&request.headers)?;
    let resource = api.resources.get(key).await?;
    must_accept(&request.headers, JSON)?;
    let Metadata { etag, version, .. } = resource.meta;
    value(&conditions, Current { etag, version }, resource.text)
}

/// Reads a former version of a resource.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/resources/{kind}/{id}/history/{version}",
    tag = "resources",
    params(
        ResourcePath,
        ("version" = u64, Path, description = "The number of the version"),
        Conditions,
    ),
    responses(ValueRead, ReadRefused, PreconditionFailed),
)]
pub(super) async fn version(
    api: &Api,
    key: &ResourceKey,
    version: u64,
    request: &Parts,
) -> Result<Response, Refusal> {
    let conditions = Preconditions::of(&request.headers)?;
    let found = api.resources.get_at_version(key, version).await?;
    must_accept(&request.headers, JSON)?;
    let current = Current { etag: found.etag, version: found.version };
    value(&conditions, current, found.text)
}

/// Lists the versions of a resource that are kept, newest first.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/resources/{kind}/{id}/history",
    tag = "resources",
    params(ResourcePath),
    responses((status = 200, description = "The versions", body = HistoryDocument), ReadRefused),
)]
pub(super) async fn history(
    api: &Api,
    key: &ResourceKey,
    request: &Parts,
) -> Result<Response, Refusal> {
    let history = api.resources.history(key).await?;
    must_accept(&request.headers, JSON)?;
    Ok(Json(HistoryDocument::from(history)).into_response())
}

pub(super) fn must_accept(headers: &HeaderMap, media_type: &str) -> Result<(), Problem> {
    if accepts(headers, media_type) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, format!("there is nothing here but {media_type}")))
}

fn value(conditions: &Preconditions, current: Current, text: Bytes) -> Result<Response, Refusal> {
    let mut response = match conditions.of_read(current) {
        Verdict::Failed => return Err(Refusal::precondition_failed(Some(current))),
        Verdict::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Verdict::Proceed => {
            ([(CONTENT_TYPE, HeaderValue::from_static(JSON))], text).into_response()
        }
    };
    name(response.headers_mut(), current);
    Ok(response)
}
