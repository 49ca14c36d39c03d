//! Streamable HTTP: `/mcp`, [`/v1/tasks`](tasks), [`/v1/projects`](resources), their description at
//! `/v1/openapi.json`, and `/healthz`.

mod auth;
mod body;
mod connections;
mod descriptors;
mod error;
mod events;
mod exchanges;
mod gate;
mod negotiation;
mod openapi;
mod preconditions;
mod problem;
pub mod resources;
mod session;
mod site;
mod streams;
pub mod tasks;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router, middleware};
use rmcp::ServerHandler;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use tenure::tasks::{TaskError, TaskId};
use tenure::{Chain, Owner};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use problem::Problem;

use crate::http::body::BodyBounds;
use crate::http::events::EventStreams;
use crate::http::problem::{not_possible_here, nothing_here};
use crate::http::session::Sessions;
use crate::read_timeout::in_time;
use crate::{Callers, DurableServer};

/// Who may call, from where, and how much.
///
/// What stays holds a connection: a stream, a listener, the stream of a session. By default the
/// shares of one owner in all of these come to a quarter of the connections, so that three of
/// four are left to others; whoever raises a share should raise `connections` too.
///
/// There may be more fields one day, so they are set on the defaults:
///
/// ```
/// # use tenure_mcp::{Callers, http::HttpOptions};
/// let mut options = HttpOptions::new(Callers::local());
/// options.connections = 100;
/// options.allowed_origins.push("https://app.example.com".into());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Who may call. Without callers that prove themselves, only loopback addresses are served.
    pub callers: Callers,
    /// Accepted `Host` headers, against DNS rebinding: a page in a browser on this machine must
    /// not reach a local server under its own name. `None` is the loopback names if the callers
    /// are local, and any otherwise, because such a page has no token. Each is a `host`, which
    /// accepts any port, or a `host:port`, in whatever case; an IPv6 address is in brackets. An empty
    /// list accepts none.
    pub allowed_hosts: Option<Vec<String>>,
    /// Accepted `Origin` headers, the loopback ones by default. A request without the header, as
    /// every client but a browser sends it, passes. Each is `scheme://host:port`; or `scheme://host`,
    /// which stands for the scheme's own port; or `scheme://host:*`, for any port.
    pub allowed_origins: Vec<String>,
    /// Bytes of a request's body. One that writes a resource has four times the bytes of a value, if
    /// that is less.
    pub body_bytes: usize,
    /// How long a request's body may take to come.
    pub body_read_ms: u64,
    /// How long a request's head may take to come, and so how long a connection may stay idle. One
    /// on which something is still answered, such as a stream of events, is not. Over HTTP/2 the
    /// client is then told so, and has as long again to go.
    pub header_read_ms: u64,
    /// How long a client may take nothing of what it is sent. Over HTTP/2 it is the answer that is
    /// given up then, on Linux also the connection when it takes nothing of any.
    pub write_stall_ms: u64,
    /// Open connections. Others wait until one of them ends. There are fewer if the process may
    /// not have so many open files; its soft limit is raised as far as it can be.
    pub connections: usize,
    /// Open streams of server-sent events under `/v1`.
    pub streams: usize,
    /// How many of them one owner may have.
    pub streams_per_owner: usize,
    /// How often a stream that has nothing to say shows that it is there.
    pub heartbeat_ms: u64,
    /// Refuse to change a resource unconditionally: such a request is answered with 428.
    pub conditions_required: bool,
    /// Open sessions of clients of the revision 2025-11-25 and before. Later ones have none.
    pub sessions: usize,
    /// How many of them one owner may have.
    pub sessions_per_owner: usize,
    /// How long requests may take to finish once the server shuts down.
    pub drain_ms: u64,
}

impl Default for HttpOptions {
    fn default() -> Self {
        let loopback = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];
        Self {
            callers: Callers::local(),
            allowed_hosts: None,
            allowed_origins: loopback.map(Into::into).into(),
            body_bytes: 4 * 1_024 * 1_024,
            body_read_ms: 30_000,
            header_read_ms: 30_000,
            write_stall_ms: 60_000,
            connections: 4_096,
            streams: 2_048,
            streams_per_owner: 256,
            heartbeat_ms: 15_000,
            conditions_required: false,
            sessions: 10_000,
            sessions_per_owner: 384,
            drain_ms: 5_000,
        }
    }
}

impl HttpOptions {
    /// The defaults for these callers.
    #[must_use]
    pub fn new(callers: Callers) -> Self {
        Self { callers, ..Self::default() }
    }
}

/// Why a server did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Callers prove nothing, and others than this machine could reach the address.
    #[error("{address} can be reached from outside: name the callers, or listen on 127.0.0.1")]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// The listener failed.
    #[error("the listener failed")]
    Listener(#[from] io::Error),
}

/// Serves until `shutdown` is cancelled; then open requests get `drain_ms` to finish, and streams as
/// long again to say goodbye. The tasks
/// go on: end them with [`DurableServer::shutdown`].
///
/// # Errors
/// [`ServeError::Exposed`], before the first request is taken.
pub async fn serve<H: ServerHandler>(
    server: &DurableServer<H>,
    listener: TcpListener,
    options: &HttpOptions,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    check_exposure(listener.local_addr()?, &options.callers)?;
    let streams = CancellationToken::new();
    let router = routes(server, options, streams.clone())
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_possible_here);
    let clock = server.tasks().clock().clone();
    let (closing, drain_ms) = (server.clone(), options.drain_ms);
    let draining = CancellationToken::new();
    let serving = connections::serve(listener, router, options, draining.clone());
    let deadline = async {
        shutdown.cancelled().await;
        closing.close_listeners();
        draining.cancel();
        clock.sleep_millis(drain_ms).await;
        // What is still open now is a call that takes too long.
        streams.cancel();
        clock.sleep_millis(drain_ms).await;
    };
    tokio::select! {
        () = serving => {}
        () = deadline => {}
    }
    Ok(())
}

/// Whether these callers may be served at this address; [`serve`] asks as well.
///
/// # Errors
/// [`ServeError::Exposed`] when callers prove nothing and others could reach the address.
pub fn check_exposure(address: SocketAddr, callers: &Callers) -> Result<(), ServeError> {
    if callers.is_local() && !address.ip().to_canonical().is_loopback() {
        return Err(ServeError::Exposed { address });
    }
    Ok(())
}

/// The routes, for a server that has a listener of its own, merged into its routes or nested under a
/// prefix. It has to keep what [`serve`] checks: local callers only on a loopback address. What no
/// route is for is left to that server.
///
/// Paths that both have, such as `/healthz`, make axum panic when it merges them; nest the router then.
/// `connections`, `header_read_ms`, `write_stall_ms` and `drain_ms` are for [`serve`]: here, connections
/// are the other server's.
///
/// Whoever listens does so for as long as the server is there. A graceful shutdown waits for that
/// end, so [`DurableServer::shutdown`] belongs into the future that begins it: after
/// `axum::serve`, it is never come to while anybody listens.
///
/// ```no_run
/// # use tenure_mcp::{DurableServer, http::{HttpOptions, router}};
/// # async fn serve<H: rmcp::ServerHandler>(
/// #     server: DurableServer<H>,
/// #     options: HttpOptions,
/// #     listener: tokio::net::TcpListener,
/// #     stop: tokio_util::sync::CancellationToken,
/// # ) -> std::io::Result<()> {
/// let app = axum::Router::new().nest("/media", router(&server, &options));
/// axum::serve(listener, app)
///     .with_graceful_shutdown(async move {
///         stop.cancelled().await;
///         server.shutdown(5_000).await;
///     })
///     .await
/// # }
/// ```
pub fn router<H: ServerHandler>(server: &DurableServer<H>, options: &HttpOptions) -> Router {
    routes(server, options, CancellationToken::new())
}

fn routes<H: ServerHandler>(
    server: &DurableServer<H>,
    options: &HttpOptions,
    streams: CancellationToken,
) -> Router {
    let clock = server.tasks().clock().clone();
    let closing = server.shared.closing.clone();
    let events = EventStreams::new(options, clock.clone(), closing.clone());
    let tasks = tasks::routes(server, options, events.clone());
    let projects = resources::routes(server, options, events);
    let sessions = Arc::new(Sessions::new(options, clock, closing));
    let handler = server.clone();
    let service = StreamableHttpService::new(
        move || Ok(handler.clone()),
        Arc::clone(&sessions),
        config(options, streams),
    );
    let mcp = Router::new()
        .fallback_service(service)
        .layer(middleware::from_fn_with_state(BodyBounds::new(options), body::reroute))
        .layer(middleware::from_fn_with_state(sessions, session::bind))
        .layer(middleware::from_fn_with_state(gate::Admission::to_mcp(options), gate::admit))
        .layer(middleware::from_fn(error::explain));
    let health = get(health::<H>).with_state(server.clone());
    Router::new()
        .route("/healthz", health)
        .route("/v1/openapi.json", get(openapi::serve))
        // As services: a router drops the fallbacks of what is nested in it when it is nested itself.
        .nest_service("/mcp", mcp)
        .nest_service("/v1/tasks", tasks)
        .merge(projects)
}

fn config(options: &HttpOptions, streams: CancellationToken) -> StreamableHttpServerConfig {
    StreamableHttpServerConfig::default()
        .with_max_request_body_bytes(options.body_bytes)
        // Hosts and origins are held against one rule for all interfaces, in `site.rs`.
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_sse_keep_alive(Some(Duration::from_millis(options.heartbeat_ms)))
        .with_cancellation_token(streams)
}

/// Healthy is a server whose store answers.
async fn health<H: ServerHandler>(State(server): State<DurableServer<H>>) -> impl IntoResponse {
    let (owner, id) = (Owner::local(), TaskId::from("healthz"));
    let tasks = server.tasks();
    match in_time(tasks.clock(), tasks.get(&owner, &id)).await {
        Some(Ok(_) | Err(TaskError::NotFound)) => {
            return (StatusCode::OK, Json(json!({ "status": "ok" })));
        }
        Some(Err(error)) => {
            tracing::error!(error = %Chain(&error), "the task store does not answer")
        }
        None => {}
    }
    let status = json!({ "status": "the task store does not answer" });
    (StatusCode::SERVICE_UNAVAILABLE, Json(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LISTENERS_PER_OWNER;

    #[test]
    fn the_shares_of_one_owner_come_to_a_quarter_of_the_connections() {
        let options = HttpOptions::default();
        let shares = options.streams_per_owner + options.sessions_per_owner + LISTENERS_PER_OWNER;
        assert!(shares * 4 <= options.connections, "{shares}");
    }
}
