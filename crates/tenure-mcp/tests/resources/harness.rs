//! A server in memory, asked without a network.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use rmcp::ServerHandler;
use serde_json::Value;
use tenure_mcp::http::{HttpOptions, router};
use tenure_mcp::{Callers, DurableServer};
use tower::ServiceExt as _;

/// A handler with nothing of its own.
#[derive(Debug, Clone)]
pub(crate) struct Nothing;

impl ServerHandler for Nothing {}

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
        let server = builder.open("memory:").await.unwrap();
        Self { router: router(&server, &options), server, token: None }
    }

    pub(crate) async fn with_callers(toml: &str) -> Self {
        Self::with(HttpOptions::new(Callers::from_toml(toml).unwrap())).await
    }

    pub(crate) fn as_caller(&self, token: &'static str) -> Self {
        let (server, router) = (self.server.clone(), self.router.clone());
        Self { server, router, token: Some(token) }
    }

    pub(crate) async fn respond(&self, request: Request<Body>) -> axum::response::Response {
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
        let response = self.respond(self.request(method, path, headers, body)).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
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
