//! A running server's own interface for its resources.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::json;
use sse_stream::{Sse, SseStream};
use tenure::resources::Document;
use tenure_mcp::http::resources::{
    EventDocument, HistoryDocument, ResourceListDocument, WrittenDocument,
};

use crate::client::{client, is_passing};
use crate::error::CliError;
use crate::resources::Found;
use crate::resources::place::{Address, Condition, Events, Selection};
use crate::tasks::refusal;

/// A watch that was cut off tries again after so long.
const RECONNECT: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub(crate) struct Server {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

impl Server {
    pub(crate) fn new(url: &str, token: Option<&str>) -> Self {
        let url = url.trim_end_matches('/').trim_end_matches("/mcp").to_owned();
        Self { http: client(), url, token: token.map(Into::into) }
    }

    pub(crate) async fn put(
        &self,
        address: &Address,
        document: &Document,
        condition: &Condition,
    ) -> Result<WrittenDocument, CliError> {
        let request = self.of(Method::PUT, address, &[])?.body(document.text().clone());
        let request = request.header(header::CONTENT_TYPE, "application/json");
        json_of(self.send(conditional(request, condition)).await?).await
    }

    pub(crate) async fn get(
        &self,
        address: &Address,
        version: Option<u64>,
    ) -> Result<Found, CliError> {
        let number = version.map(|it| it.to_string());
        let rest = number.as_deref().map_or(vec![], |number| vec!["history", number]);
        let response = self.send(self.of(Method::GET, address, &rest)?).await?;
        Found::new(&response.bytes().await.map_err(|error| CliError::Answer(error.into()))?)
    }

    pub(crate) async fn delete(
        &self,
        address: &Address,
        condition: &Condition,
    ) -> Result<(), CliError> {
        let request = self.of(Method::DELETE, address, &[])?;
        self.send(conditional(request, condition)).await.map(drop)
    }

    pub(crate) async fn page(
        &self,
        project: &str,
        kind: Option<&str>,
        cursor: Option<String>,
        values: bool,
    ) -> Result<ResourceListDocument, CliError> {
        let request = self.request(Method::GET, &[project, "resources"])?;
        let request = request.query(&[("kind", kind), ("cursor", cursor.as_deref())]);
        json_of(self.send(request.query(&[("values", values)])).await?).await
    }

    pub(crate) async fn history(&self, address: &Address) -> Result<HistoryDocument, CliError> {
        json_of(self.send(self.of(Method::GET, address, &["history"])?).await?).await
    }

    pub(crate) async fn revert(
        &self,
        address: &Address,
        version: u64,
    ) -> Result<WrittenDocument, CliError> {
        let request = self.of(Method::POST, address, &["revert"])?;
        json_of(self.send(request.json(&json!({ "version": version }))).await?).await
    }

    /// Events, across restarts of the server: after each it goes on behind the last event.
    pub(crate) async fn watch(
        &self,
        project: &str,
        selection: &Selection<'_>,
    ) -> Result<Events, CliError> {
        let query: Vec<(&str, &str)> = match selection {
            Selection::Everything => vec![],
            Selection::Kinds(kind) => vec![("kind", kind)],
            Selection::One(kind, id) => vec![("kind", kind), ("id", id)],
        };
        let request = self.request(Method::GET, &[project, "events"])?.query(&query);
        // At once, so that a server that is not there is an error and not an endless wait.
        let events = self.events(&request, None).await?;
        let following = Following { server: self.clone(), request, events, last: None };
        Ok(stream::unfold(following, |mut following| async {
            let event = following.next().await;
            Some((event, following))
        })
        .boxed())
    }

    async fn events(&self, request: &RequestBuilder, last: Option<&str>) -> Result<Raw, CliError> {
        let again = || CliError::Refused("the request cannot be sent again".into());
        let request = request.try_clone().ok_or_else(again)?;
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = self.send(request).await?;
        Ok(SseStream::from_bytes_stream(response.bytes_stream()).boxed())
    }

    fn of(
        &self,
        method: Method,
        address: &Address,
        rest: &[&str],
    ) -> Result<RequestBuilder, CliError> {
        let mut path = vec![address.project(), "resources", address.kind(), address.id()];
        path.extend(rest);
        self.request(method, &path)
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, CliError> {
        if path.iter().any(|it| *it == "." || *it == "..") {
            let reason = "the names . and .. cannot be part of a URL; use --store";
            return Err(CliError::Value(reason.into()));
        }
        let malformed = || CliError::Refused(format!("{} is not a server's URL", self.url));
        let mut url = reqwest::Url::parse(&self.url).map_err(|_| malformed())?;
        url.path_segments_mut()
            .map_err(|()| malformed())?
            .pop_if_empty()
            .extend(["v1", "projects"])
            .extend(path);
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let unreachable = |source| CliError::Unreachable { url: self.url.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(CliError::NoResource),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(CliError::NotAllowed),
            StatusCode::PRECONDITION_FAILED => {
                let etag = response.headers().get(header::ETAG).and_then(|it| it.to_str().ok());
                let current = etag.map(|it| it.trim_matches('"').to_owned());
                Err(CliError::Changed { current })
            }
            status if is_passing(status) => Err(CliError::Busy(status.to_string())),
            _ => Err(refusal(&response.text().await.map_err(unreachable)?)),
        }
    }
}

type Raw = stream::BoxStream<'static, Result<Sse, sse_stream::Error>>;

/// A watch, and what it takes to go on with it.
struct Following {
    server: Server,
    request: RequestBuilder,
    events: Raw,
    last: Option<String>,
}

impl Following {
    async fn next(&mut self) -> Result<EventDocument, CliError> {
        loop {
            let Some(Ok(event)) = self.events.next().await else {
                self.reconnect().await?;
                continue;
            };
            if event.id.is_some() {
                self.last = event.id;
            }
            let Some(data) = event.data else { continue };
            return match event.event.as_deref() {
                Some("problem") => Err(refusal(&data)),
                _ => serde_json::from_str(&data).map_err(|error| CliError::Answer(error.into())),
            };
        }
    }

    async fn reconnect(&mut self) -> Result<(), CliError> {
        loop {
            tokio::time::sleep(RECONNECT).await;
            match self.server.events(&self.request, self.last.as_deref()).await {
                Err(CliError::Unreachable { .. } | CliError::Busy(_)) => {}
                events => {
                    self.events = events?;
                    return Ok(());
                }
            }
        }
    }
}

fn conditional(request: RequestBuilder, condition: &Condition) -> RequestBuilder {
    match condition {
        Condition::Always => request,
        Condition::Absent => request.header(header::IF_NONE_MATCH, "*"),
        Condition::Matches(etag) => {
            request.header(header::IF_MATCH, format!("\"{}\"", etag.trim_matches('"')))
        }
    }
}

async fn json_of<T: DeserializeOwned>(response: Response) -> Result<T, CliError> {
    response.json().await.map_err(|error| CliError::Answer(error.into()))
}
