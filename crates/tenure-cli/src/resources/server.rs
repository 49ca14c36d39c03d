//! A running server's own interface for its resources.

use reqwest::{Method, RequestBuilder, header};
use serde_json::json;
use tenure::resources::{Condition, Document};
use tenure_mcp::http::resources::{
    EventDocument, HistoryDocument, ResourceListDocument, WrittenDocument,
};

use crate::client::{Server, ServerEvent};
use crate::error::CliError;
use crate::resources::Found;
use crate::resources::place::{Address, Events, Selection};

/// Demands a version, as `If-Match` does an ETag.
const IF_VERSION: &str = "tenure-if-version";

pub(crate) struct ResourceServer {
    server: Server,
    /// The same, asked what can only be absent with the whole project.
    of_projects: Server,
}

impl ResourceServer {
    pub(crate) fn new(server: Server) -> Self {
        let of_projects = server.about("project, or no rights to it");
        Self { server, of_projects }
    }

    pub(crate) async fn put(
        &self,
        address: &Address,
        document: &Document,
        condition: Condition,
    ) -> Result<WrittenDocument, CliError> {
        let request = self.of(Method::PUT, address, &[])?.body(document.text().clone());
        let request = request.header(header::CONTENT_TYPE, "application/json");
        self.of_projects.json(conditional(request, condition)).await
    }

    pub(crate) async fn get(
        &self,
        address: &Address,
        version: Option<u64>,
    ) -> Result<Found, CliError> {
        let number = version.map(|it| it.to_string());
        let rest = number.as_deref().map_or(vec![], |number| vec!["history", number]);
        let response = self.server.send(self.of(Method::GET, address, &rest)?).await?;
        Found::new(&response.bytes().await.map_err(|error| CliError::Answer(error.into()))?)
    }

    pub(crate) async fn delete(
        &self,
        address: &Address,
        condition: Condition,
    ) -> Result<(), CliError> {
        let request = self.of(Method::DELETE, address, &[])?;
        self.server.send(conditional(request, condition)).await.map(drop)
    }

    pub(crate) async fn page(
        &self,
        project: &str,
        kind: Option<&str>,
        cursor: Option<String>,
        values: bool,
    ) -> Result<ResourceListDocument, CliError> {
        let request = self.request(Method::GET, project, &["resources"])?;
        let request = request.query(&[("kind", kind), ("cursor", cursor.as_deref())]);
        self.of_projects.json(request.query(&[("values", values)])).await
    }

    pub(crate) async fn history(&self, address: &Address) -> Result<HistoryDocument, CliError> {
        self.server.json(self.of(Method::GET, address, &["history"])?).await
    }

    pub(crate) async fn revert(
        &self,
        address: &Address,
        version: u64,
        condition: Condition,
    ) -> Result<WrittenDocument, CliError> {
        let request = self.of(Method::POST, address, &["revert"])?;
        let request = request.json(&json!({ "version": version }));
        self.server.json(conditional(request, condition)).await
    }

    pub(crate) async fn watch(
        &self,
        project: &str,
        selection: &Selection,
    ) -> Result<Events, CliError> {
        let query: Vec<(&str, &str)> = match selection {
            Selection::Everything => vec![],
            // The server takes a star for a wildcard.
            Selection::Kind(kind) if kind.contains('*') => vec![("kind", kind), ("exact", "true")],
            Selection::Kinds(kind) | Selection::Kind(kind) => vec![("kind", kind)],
            Selection::One(kind, id) => vec![("kind", kind), ("id", id)],
        };
        self.of_projects
            .events(self.request(Method::GET, project, &["events"])?.query(&query))
            .await
    }

    fn of(
        &self,
        method: Method,
        address: &Address,
        rest: &[&str],
    ) -> Result<RequestBuilder, CliError> {
        let mut path = vec!["resources", address.kind(), address.id()];
        path.extend(rest);
        self.request(method, address.project(), &path)
    }

    fn request(
        &self,
        method: Method,
        project: &str,
        rest: &[&str],
    ) -> Result<RequestBuilder, CliError> {
        self.server.request(method, &[&["projects", project], rest].concat())
    }
}

impl ServerEvent for EventDocument {
    fn read(_name: &str, data: &str) -> serde_json::Result<Self> {
        serde_json::from_str(data)
    }

    fn anew() -> Option<Self> {
        Some(Self::Resync)
    }
}

fn conditional(request: RequestBuilder, condition: Condition) -> RequestBuilder {
    match condition {
        Condition::Always => request,
        Condition::Absent => request.header(header::IF_NONE_MATCH, "*"),
        Condition::Present => request.header(header::IF_MATCH, "*"),
        Condition::ETag(etag) => request.header(header::IF_MATCH, format!("\"{etag}\"")),
        Condition::Version(version) => request.header(IF_VERSION, version.to_string()),
    }
}
