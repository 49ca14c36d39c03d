//! Who may pass to an interface, and from which web sites.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use rmcp::model::ErrorCode;

use crate::http::auth::Gate;
use crate::http::error::refusal;
use crate::http::{HttpOptions, Problem, site};

/// Lets nobody through to these routes but known callers from known sites.
pub(super) fn guard<S: Clone + Send + Sync + 'static>(
    routes: Router<S>,
    options: &HttpOptions,
) -> Router<S> {
    routes.layer(middleware::from_fn_with_state(Admission::to_plain_http(options), admit))
}

/// Who is let in: the checks against DNS rebinding and foreign pages (see [`HttpOptions`]), then that
/// of the caller.
pub(super) struct Admission {
    options: HttpOptions,
    refuse_site: fn(&'static str) -> Response,
    gate: Gate,
}

impl Admission {
    /// Refuses with JSON-RPC.
    pub(super) fn to_mcp(options: &HttpOptions) -> Arc<Self> {
        let refuse_site = |why| refusal(StatusCode::FORBIDDEN, ErrorCode::INVALID_REQUEST, why);
        let gate = Gate::of_mcp(options.callers.clone());
        Arc::new(Self { options: options.clone(), refuse_site, gate })
    }

    /// Refuses with a problem document.
    fn to_plain_http(options: &HttpOptions) -> Arc<Self> {
        let refuse_site = |why| Problem::new(StatusCode::FORBIDDEN, why).into_response();
        let gate = Gate::of_plain_http(options.callers.clone());
        Arc::new(Self { options: options.clone(), refuse_site, gate })
    }
}

/// Lets a request through that may pass, and tells the handlers who calls.
pub(super) async fn admit(
    State(admission): State<Arc<Admission>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Admission { options, refuse_site, gate } = &*admission;
    if let Err(why) = site::check(options, request.uri(), request.headers()) {
        return refuse_site(why);
    }
    match gate.verify(&request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(rejection) => gate.refused(rejection),
    }
}
