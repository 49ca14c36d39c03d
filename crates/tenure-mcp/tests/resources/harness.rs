//! A server in memory, asked without a network.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rmcp::ServerHandler;
use serde_json::Value;
use tenure::clock::Clock;
use tenure::resources::ResourceLimits;
use tenure::store::contract::{Mood, Unsteady};
use tenure::tasks::TaskStore;
use tenure_mcp::http::{HttpOptions, router, serve};
use tenure_mcp::{Callers, DurableServer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

/// A handler with nothing of its own.
#[derive(Debug, Clone)]
pub(crate) struct Nothing;

impl ServerHandler for Nothing {}

#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) server: DurableServer<Nothing>,
    router: Router,
    token: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) async fn of<B: HttpBody<Error: Debug>>(response: Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Self { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::with(HttpOptions::default()).await
    }

    pub(crate) async fn with(options: HttpOptions) -> Self {
        let builder = DurableServer::builder(Nothing).resources(["acme"]);
        Self::of(builder.open("memory:").await.unwrap(), &options)
    }

    pub(crate) async fn within(limits: ResourceLimits) -> Self {
        let builder = DurableServer::builder(Nothing).resource_limits(limits);
        Self::of(builder.open("memory:").await.unwrap(), &HttpOptions::default())
    }

    /// On a store where between any two calls others have their turn.
    pub(crate) async fn crowded() -> Self {
        let clock = Clock::system();
        let backend = Unsteady::new(clock.clone());
        backend.set(Mood::Crowded);
        let tasks = TaskStore::new(Arc::new(backend), clock);
        let server = DurableServer::builder(Nothing).start(tasks).await.unwrap();
        Self::of(server, &HttpOptions::default())
    }

    fn of(server: DurableServer<Nothing>, options: &HttpOptions) -> Self {
        Self { router: router(&server, options), server, token: None }
    }

    pub(crate) async fn with_callers(toml: &str) -> Self {
        Self::with(HttpOptions::new(Callers::from_toml(toml).unwrap())).await
    }

    pub(crate) fn as_caller(&self, token: &'static str) -> Self {
        let (server, router) = (self.server.clone(), self.router.clone());
        Self { server, router, token: Some(token) }
    }

    /// The same over real connections.
    pub(crate) async fn connect(&self) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (server, token) = (self.server.clone(), shutdown.clone());
        tokio::spawn(async move { serve(&server, listener, &HttpOptions::default(), token).await });
        Connection { address, _shutdown: shutdown.drop_guard() }
    }

    pub(crate) async fn respond(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Request<Body> {
        let uri = format!("/v1/projects/{path}");
        let mut request = Request::builder().method(method).uri(uri).header("host", "localhost");
        if let Some(token) = self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::from(body.to_owned())).unwrap()
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        Answer::of(self.respond(self.request(method, path, headers, body)).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    /// Writes, and tells the ETag in its quotes.
    pub(crate) async fn put(&self, path: &str, body: &str) -> String {
        let answer = self.ask(Method::PUT, path, &[], body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.header("etag").unwrap().to_owned()
    }
}

/// A server on a socket, until it is dropped.
pub(crate) struct Connection {
    address: SocketAddr,
    _shutdown: DropGuard,
}

impl Connection {
    pub(crate) async fn http1(&self, request: Request<Body>) -> Answer {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (mut client, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Answer::of(client.send_request(request).await.unwrap()).await
    }

    pub(crate) async fn http2(&self, mut request: Request<Body>) -> Answer {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let path = request.uri().path_and_query().map(PathAndQuery::as_str).unwrap();
        *request.uri_mut() = Uri::try_from(format!("http://localhost{path}")).unwrap();
        request.headers_mut().remove("host");
        Answer::of(client.send_request(request).await.unwrap()).await
    }
}
