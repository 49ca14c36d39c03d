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
        .layer(middleware::from_fn_with_state(KnownSites::of_plain_http(options), only_known_sites))
}

/// The checks against DNS rebinding and foreign pages: see [`HttpOptions`].
#[derive(Clone)]
pub(super) struct KnownSites {
    options: Arc<HttpOptions>,
    refuse: fn(&'static str) -> Response,
}

impl KnownSites {
    /// Refuses with JSON-RPC.
    pub(super) fn of_mcp(options: &HttpOptions) -> Self {
        let refuse = |why| refusal(StatusCode::FORBIDDEN, ErrorCode::INVALID_REQUEST, why);
        Self { options: Arc::new(options.clone()), refuse }
    }

    /// Refuses with a problem document.
    fn of_plain_http(options: &HttpOptions) -> Self {
        let refuse = |why| Problem::new(StatusCode::FORBIDDEN, why).into_response();
        Self { options: Arc::new(options.clone()), refuse }
    }
}

/// Lets no request of a foreign site through.
pub(super) async fn only_known_sites(
    State(sites): State<KnownSites>,
    request: Request,
    next: Next,
) -> Response {
    match site::check(&sites.options, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => (sites.refuse)(why),
    }
}
