//! `/v1/projects`: versioned values over plain HTTP. What follows describes
//! `/v1/projects/{project}`; `/v1/openapi.json` has the details.
//!
//! | request | answer |
//! |---|---|
//! | `GET …/resources?kind=K&limit=N&cursor=C&values=true` | a [`ResourceListDocument`] |
//! | `GET …/resources/{kind}/{id}` | the value, with its `ETag` |
//! | `PUT …/resources/{kind}/{id}` | 201 or 200 and a [`WrittenDocument`] |
//! | `PATCH …/resources/{kind}/{id}` | the value after a merge patch (RFC 7396) |
//! | `DELETE …/resources/{kind}/{id}` | 204, whether or not there was one |
//! | `GET …/resources/{kind}/{id}/history` | a [`HistoryDocument`] |
//! | `GET …/resources/{kind}/{id}/history/{version}` | the value of that version |
//! | `POST …/resources/{kind}/{id}/revert` | a [`WrittenDocument`] |
//! | `GET …/events?kind=P&exact=true&id=I` | server-sent events, an [`EventDocument`] each |
//!
//! `If-Match` and `If-None-Match` make requests for one resource conditional. An ETag names a value
//! and not its bytes: a value has the same one however it was spelled when it came, and compressed
//! or not when it goes. It is strong in the sense that counts for writers: it changes with every
//! change. After A, B, A the ETag of A is back; `Tenure-If-Version` demands the very write that
//! `Tenure-Version` named. A listing and a watch take no conditions.
//!
//! The text of a value may have four times the bytes that its canonical form may have. A page ends
//! early once its values come to 4 MiB; the first of a whole project tells how many resources it has.
//!
//! A write whose answer was lost between here and the store, or does not come in time, is answered
//! with 500, and the detail says that it may have happened.
//!
//! A kind and an id may be any text, percent-encoded as one segment of the path, the empty one
//! included. Most clients cannot send the segments `.` and `..`, however they are encoded.
//!
//! A caller reaches the projects that it has [rights](crate::Rights) on; all others look absent.
//! Errors are problem details (RFC 9457).

mod document;
pub(super) mod event;
mod page;
mod parsing;
pub(super) mod read;
mod refusal;
mod sound;
mod target;
mod unmeasured;
pub(super) mod write;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::handler::Handler as _;
use axum::http::header::{ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, HeaderValue, VARY};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any_service;
use futures::future::BoxFuture;
use rmcp::ServerHandler;
use tenure::clock::Clock;
use tenure::resources::ResourceStore;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::compression::CompressionLayer;

pub use document::{
    EventDocument, HistoryDocument, ResourceDocument, ResourceListDocument, RevertDocument,
    VersionDocument, WrittenDocument,
};

use crate::DurableServer;
use crate::http::body::BodyBounds;
use crate::http::events::EventStreams;
use crate::http::resources::parsing::Parsing;
use crate::http::resources::refusal::Refusal;
use crate::http::resources::target::{Endpoint, Target};
use crate::http::{HttpOptions, Problem, gate};
use crate::identity::{Caller, Rights};
use crate::write_timeout::Writes;

/// How many times as long as a value's canonical form its text may be, for the sake of spaces and
/// escapes.
const SPELLING: usize = 4;

struct Api {
    clock: Clock,
    resources: ResourceStore,
    writes: Writes,
    streams: EventStreams,
    bodies: BodyBounds,
    parsing: Parsing,
    conditions_required: bool,
}

/// The routes. Which of them is meant is found by [`Target`]: segments may be empty, which the
/// router cannot match.
pub(super) fn routes<H: ServerHandler>(
    server: &DurableServer<H>,
    options: &HttpOptions,
    streams: EventStreams,
) -> Router {
    let limits = server.resources().limits();
    let api = Api {
        clock: server.tasks().clock().clone(),
        resources: server.resources().clone(),
        writes: server.shared.writes.clone(),
        streams,
        bodies: BodyBounds::new(options).at_most(SPELLING.saturating_mul(limits.value_bytes)),
        parsing: Parsing::new(),
        conditions_required: options.conditions_required,
    };
    let plain = answer.with_state(Arc::new(api));
    let compressed = CompressionLayer::new().layer(plain.clone());
    let answering = service_fn(move |request: Request| {
        let (plain, compressed) = (plain.clone(), compressed.clone());
        async move {
            // The layer takes longer than many a read, also for those who want nothing compressed.
            let response = if request.headers().contains_key(ACCEPT_ENCODING) {
                compressed.oneshot(request).await?.map(Body::new)
            } else {
                plain.oneshot(request).await?
            };
            Ok::<_, Infallible>(unmeasured::not_modified(response))
        }
    });
    // As a method, whose bodies go for HEAD: once, and so also from what the gate answers.
    gate::guard(Router::new().route("/v1/projects/{*rest}", any_service(answering)), options)
}

async fn answer(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    let answer = match dispatch(&api, &caller, request) {
        Ok(answering) => answering.await,
        Err(refusal) => Err(refusal),
    };
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    // What was read may change at any time: ask again, with the ETag.
    let caching = HeaderValue::from_static("private, no-cache");
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(caching);
    // Also where nothing is compressed, or there is nothing to compress: a 304 has it as the 200 has
    // (RFC 9110, section 15.4.5).
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// What answers a request, in a box: a future that could become any of the answers would be larger
/// than the largest of them, and moves through every layer around the routes.
fn dispatch<'a>(
    api: &'a Api,
    caller: &'a Caller,
    request: Request,
) -> Result<BoxFuture<'a, Result<Response, Refusal>>, Refusal> {
    let (request, body) = request.into_parts();
    let absent = || Problem::new(StatusCode::NOT_FOUND, "resource not found");
    let Target { project, place } = Target::parse(request.uri.path()).ok_or_else(absent)?;
    let rights = caller.projects().rights(&project).ok_or_else(absent)?;
    let method = request.method.clone();
    let allowed = place.allowed();
    if !allowed.contains(&method) {
        return Ok(Box::pin(ready(Ok(not_allowed(allowed)))));
    }
    if !method.is_safe() && rights < Rights::Write {
        let detail = "the caller may read this project, and not write";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail).into());
    }
    if method.is_safe() {
        return Ok(Box::pin(async move {
            let reading = read(api, caller, &project, place, &request);
            Problem::unless_answered(&api.clock, reading).await
        }));
    }
    let resources = api.resources.by(caller.owner())?;
    let change = write::ChangeRequest { api, resources, request };
    Ok(match (place, method) {
        (Endpoint::Resource(key), Method::PUT) => Box::pin(write::put(change, key, body)),
        (Endpoint::Resource(key), Method::PATCH) => Box::pin(write::patch(change, key, body)),
        (Endpoint::Resource(key), Method::DELETE) => Box::pin(write::delete(change, key)),
        (Endpoint::Revert(key), _) => Box::pin(write::revert(change, key, body)),
        (Endpoint::Invalid(error), _) => return Err(error.into()),
        (place, _) => Box::pin(ready(Ok(not_allowed(place.allowed())))),
    })
}

async fn read(
    api: &Api,
    caller: &Caller,
    project: &str,
    place: Endpoint,
    request: &Parts,
) -> Result<Response, Refusal> {
    match place {
        Endpoint::Resource(key) => read::get(api, &key, request).await,
        Endpoint::Collection => Box::pin(read::list(api, project, request)).await,
        Endpoint::Events => Box::pin(event::watch(api, caller, project, request)).await,
        Endpoint::History(key) => Box::pin(read::history(api, &key, request)).await,
        Endpoint::Version(key, version) => {
            Box::pin(read::version(api, &key, version, request)).await
        }
        Endpoint::Invalid(error) => Err(error.into()),
        Endpoint::Revert(_) => Ok(not_allowed(place.allowed())),
    }
}

fn not_allowed(allowed: &[Method]) -> Response {
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let names = names.join(", ");
    let detail = format!("only {names} are possible here");
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
    if let Ok(names) = HeaderValue::try_from(names) {
        response.headers_mut().insert(ALLOW, names);
    }
    response
}
