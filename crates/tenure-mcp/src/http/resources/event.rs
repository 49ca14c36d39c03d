//! Watching a project, some kinds or one resource.

use std::future::ready;

use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::response::sse::Event;
use futures::StreamExt as _;
use tenure::resources::{KindPattern, ResourceError, ResourceEvent, ResourceKey, Scope};
use tenure::store::{Revision, StoreError};

use crate::http::Problem;
use crate::http::openapi::{ProjectPath, ReadRefused, TooManyStreams};
use crate::http::resources::Api;
use crate::http::resources::document::EventDocument;
use crate::http::resources::read::must_accept;
use crate::http::resources::refusal::Refusal;
use crate::identity::Caller;

const LAST_EVENT_ID: &str = "last-event-id";
/// Patterns of one request.
const MAX_PATTERNS: usize = 32;

/// Watches: the state as it is, `primed`, then every change. With `Last-Event-ID` it goes on after
/// that event instead. The events are named present, primed, put, deleted and resync; problem is
/// the last one.
#[utoipa::path(
    get,
    path = "/v1/projects/{project}/events",
    tag = "resources",
    params(
        ProjectPath,
        ("kind" = Option<Vec<String>>, Query, description = "Only kinds that match: * stands for any characters"),
        ("exact" = Option<bool>, Query, description = "The one kind is no pattern: a * in it is itself"),
        ("id" = Option<String>, Query, description = "Only this resource of the one kind, which is no pattern then"),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event"),
    ),
    responses(
        (status = 200, description = "The events", body = EventDocument, content_type = "text/event-stream"),
        ReadRefused, TooManyStreams,
    ),
)]
pub(super) async fn watch(
    api: &Api,
    caller: &Caller,
    project: &str,
    request: &Parts,
) -> Result<Response, Refusal> {
    must_accept(&request.headers, "text/event-stream")?;
    let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(&request.uri)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let scope = scope(project, &query)?;
    let after = last_event(&request.headers)?;
    let events = api.resources.watch(scope, after).map(told);
    Ok(api.streams.open(caller, ready(Ok(events))).await?)
}

fn scope(project: &str, query: &[(String, String)]) -> Result<Scope, Refusal> {
    let (mut kinds, mut ids, mut exact) = (Vec::new(), Vec::new(), false);
    for (name, value) in query {
        match (&**name, &**value) {
            ("kind", kind) => kinds.push(kind),
            ("id", id) => ids.push(id),
            ("exact", "true") => exact = true,
            ("exact", "false") => exact = false,
            ("exact", _) => return Err(malformed("exact is true or false")),
            _ => return Err(malformed(format!("there is no parameter {name:?}"))),
        }
    }
    match (&kinds[..], &ids[..]) {
        ([], []) if !exact => Ok(Scope::project(project)?),
        ([kind], [id]) => Ok(Scope::resource(&ResourceKey::new(project, *kind, *id)?)),
        ([kind], []) if exact || !kind.contains('*') => Ok(Scope::kind(project, kind)?),
        (kinds, []) if !exact && kinds.len() <= MAX_PATTERNS => {
            let patterns: Result<Vec<_>, ResourceError> =
                kinds.iter().map(|it| KindPattern::new(*it)).collect();
            Ok(Scope::kinds(project, patterns?)?)
        }
        _ => Err(malformed(format!(
            "an id, and what is exact, needs one kind, and at most {MAX_PATTERNS} kinds count"
        ))),
    }
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Problem::new(StatusCode::BAD_REQUEST, detail).into()
}

fn last_event(headers: &HeaderMap) -> Result<Option<Revision>, StoreError> {
    let id = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    let Some(id) = id else { return Ok(None) };
    id.to_str().map_err(|_| StoreError::InvalidRevision)?.parse().map(Some)
}

fn told(event: Result<ResourceEvent, ResourceError>) -> Event {
    let event = match event {
        Ok(event) => {
            let document = EventDocument::from(&event);
            let sent = Event::default().event(document.name());
            let sent = match (event.position(), &event) {
                (Some(revision), _) => sent.id(revision.to_string()),
                // Who would resume from before it would miss the state that follows.
                (None, ResourceEvent::Resync) => sent.id(""),
                // What has no position keeps the one before it, so that a client resumes from there.
                (None, _) => sent,
            };
            sent.json_data(document)
        }
        Err(error) => Event::default().event("problem").json_data(Problem::from(error)),
    };
    // Neither document can fail to serialise.
    event.unwrap_or_default()
}
