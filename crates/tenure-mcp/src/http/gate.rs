//! Who may pass to the plain HTTP interface, and from which web sites.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use rmcp::model::ErrorCode;

use crate::http::auth::{Gate, authenticate};
use crate::http::error::refusal;
use crate::http::{HttpOptions, Problem, site};

/// Lets nobody through to these routes but known callers from known sites.
pub(super) fn guard<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    options: &HttpOptions,
) -> Router<S> {
    let gate = Gate::of_plain_http(options.callers.clone());
    routes
        .layer(middleware::from_fn_with_state(gate, authenticate))
        .layer(middleware::from_fn_with_state(Arc::new(options.clone()), only_known_sites))
}

/// Lets no request of a foreign site through to `/mcp`, where refusals are JSON-RPC.
pub(super) async fn known_sites_of_mcp(
    State(options): State<Arc<HttpOptions>>,
    request: Request,
    next: Next,
) -> Response {
    match site::check(&options, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refusal(StatusCode::FORBIDDEN, ErrorCode::INVALID_REQUEST, refused),
    }
}

/// The checks against DNS rebinding and foreign pages: see [`HttpOptions`].
async fn only_known_sites(
    State(options): State<Arc<HttpOptions>>,
    request: Request,
    next: Next,
) -> Response {
    match site::check(&options, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => Problem::new(StatusCode::FORBIDDEN, refused).into_response(),
    }
}
