//! Requests to a running server.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use reqwest::header::{self, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use sse_stream::{Sse, SseStream};
use tenure_mcp::http::Problem;

use crate::error::CliError;
use crate::output::note;

/// A server sends a sign of life on every stream before this. What changes something is given as
/// long to be answered: to give it up leaves open whether it happened.
const SILENCE: Duration = Duration::from_secs(60);
/// A read begins to be answered before this: a server that waits for its store says so after 10 s.
const ANSWER: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
/// A stream that was cut off is tried again after so long.
const RECONNECT: Duration = Duration::from_millis(500);

/// A running server's own interface.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    http: Client,
    url: String,
    authorization: Option<HeaderValue>,
    /// How long it may take until a read begins to be answered.
    patience: Duration,
    /// What it is asked about.
    subject: &'static str,
}

impl Server {
    /// The server at a URL.
    pub(crate) fn new(
        url: &str,
        token: Option<&str>,
        subject: &'static str,
    ) -> Result<Self, CliError> {
        let url = url.trim_end_matches('/').trim_end_matches("/mcp").to_owned();
        if !Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
            // It may have a password in a place where nobody looks for one.
            let reason = "the URL of the server is none; give one such as http://127.0.0.1:8765";
            return Err(CliError::Usage(reason.into()));
        }
        let client = || Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE);
        let http = match client().build() {
            // Where the system has no certificate authorities, only TLS needs them.
            Err(_) if is_plain(&url) => client().tls_certs_only([]).build(),
            built => built,
        };
        let http = http.map_err(CliError::Client)?;
        let authorization = token.map(bearer).transpose()?;
        Ok(Self { http, url, authorization, patience: ANSWER, subject })
    }

    /// The same server, asked about something else.
    pub(crate) fn about(&self, subject: &'static str) -> Self {
        Self { subject, ..self.clone() }
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &[&str],
    ) -> Result<RequestBuilder, CliError> {
        if path.iter().any(|it| *it == "." || *it == "..") {
            let reason = "the names . and .. cannot be part of a URL; use --store";
            return Err(CliError::Value(reason.into()));
        }
        let malformed = || CliError::Refused(format!("{} is not a server's URL", self.shown()));
        let mut url = Url::parse(&self.url).map_err(|_| malformed())?;
        // Segments are escaped one by one: a name may contain anything.
        url.path_segments_mut().map_err(|()| malformed())?.pop_if_empty().push("v1").extend(path);
        let request = self.http.request(method, url);
        Ok(match &self.authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization),
            None => request,
        })
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        Ok(self.sent(request).await?.0)
    }

    /// A successful answer, and whether the request changes nothing.
    async fn sent(&self, request: RequestBuilder) -> Result<(Response, bool), CliError> {
        let (response, is_read) = self.answered(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok((response, is_read));
        }
        let etag = response.headers().get(header::ETAG).and_then(|it| it.to_str().ok());
        let current = etag.map(|it| it.trim_matches('"').to_owned());
        let text = response.text().await.map_err(|source| self.unreachable(source))?;
        Err(match status {
            StatusCode::PRECONDITION_FAILED => CliError::Changed { current },
            // A proxy's words: it has asked the server, and knows no answer.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT if !is_read => {
                CliError::InDoubt { url: self.shown(), source: None }
            }
            status => self.refusal(status, &text),
        })
    }

    /// The answer, once its head is there; what follows may take as long as it comes.
    async fn answered(&self, request: RequestBuilder) -> Result<(Response, bool), CliError> {
        let (client, request) = request.build_split();
        let request = request.map_err(CliError::Client)?;
        let is_read = request.method() == Method::GET;
        let answer = client.execute(request);
        let answer = if is_read {
            let answer = tokio::time::timeout(self.patience, answer).await;
            answer.map_err(|_| CliError::Silent { url: self.shown(), waited: self.patience })?
        } else {
            answer.await
        };
        let answer = answer.map_err(|source| match source {
            it if !it.is_connect() && !is_read => self.in_doubt(it),
            source => self.unreachable(source),
        })?;
        Ok((answer, is_read))
    }

    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, CliError> {
        let (answer, is_read) = self.sent(request).await?;
        let bytes = answer.bytes().await.map_err(|cut_off| match is_read {
            true => self.unreachable(cut_off),
            false => self.in_doubt(cut_off),
        })?;
        serde_json::from_slice(&bytes).map_err(|error| CliError::Answer(error.into()))
    }

    /// What server-sent events say, across restarts of the server: it goes on behind the last
    /// position that was told, or else begins anew, and says so.
    pub(crate) async fn events<T: ServerEvent>(
        &self,
        request: RequestBuilder,
    ) -> Result<BoxStream<'static, Result<T, CliError>>, CliError> {
        // At once, so that a server that is not there is an error and not an endless wait.
        let events = self.connect(&request, None).await?;
        let server = self.clone();
        let following = Following { server, request, events, last: None, has_told: false };
        Ok(stream::unfold(following, |mut following| async {
            let told = following.next().await;
            Some((told, following))
        })
        .boxed())
    }

    async fn connect(&self, request: &RequestBuilder, last: Option<&str>) -> Result<Raw, CliError> {
        let again = || CliError::Refused("the request cannot be sent again".into());
        let request = request.try_clone().ok_or_else(again)?;
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = self.send(request).await?;
        Ok(SseStream::from_bytes_stream(response.bytes_stream()).boxed())
    }

    fn unreachable(&self, source: reqwest::Error) -> CliError {
        // The URL of the error would be the same once more.
        CliError::Unreachable { url: self.shown(), source: source.without_url() }
    }

    fn in_doubt(&self, source: reqwest::Error) -> CliError {
        CliError::InDoubt { url: self.shown(), source: Some(source.without_url()) }
    }

    /// The URL, for people to read.
    fn shown(&self) -> String {
        tenure::without_credentials(&self.url)
    }

    /// What an answer means that is none, or the problem that ends a stream.
    fn refusal(&self, status: StatusCode, text: &str) -> CliError {
        let detail = detail(text);
        match status {
            StatusCode::NOT_FOUND if is_of_tenure(text) => CliError::NotFound(self.subject),
            StatusCode::NOT_FOUND => CliError::NoServer(self.shown()),
            StatusCode::UNAUTHORIZED if self.authorization.is_none() => CliError::NeedsToken,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CliError::NotAllowed,
            StatusCode::CONFLICT => CliError::AlreadyEnded(detail),
            StatusCode::PRECONDITION_REQUIRED => CliError::Refused(
                "the server makes no change without a condition: say what you replace with \
                 --if-match or --if-version, or put what is new with --create"
                    .into(),
            ),
            // The same request may succeed in a moment: the server restarts, or is too busy.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => CliError::Busy(detail),
            _ => CliError::Refused(format!("the server refuses: {detail}")),
        }
    }
}

type Raw = BoxStream<'static, Result<Sse, sse_stream::Error>>;

/// What a server-sent event says.
pub(crate) trait ServerEvent: PartialEq + Sized + Send + 'static {
    /// Reads the data of an event of this name.
    fn read(name: &str, data: &str) -> serde_json::Result<Self>;

    /// What tells that all that was told before does not count any more. `None` where nobody can
    /// have missed anything once all has been told again.
    fn anew() -> Option<Self>;
}

/// A stream of events, and what it takes to go on with it.
struct Following {
    server: Server,
    request: RequestBuilder,
    events: Raw,
    /// The position behind which to go on.
    last: Option<String>,
    /// Something since the beginning, or since all began anew.
    has_told: bool,
}

impl Following {
    async fn next<T: ServerEvent>(&mut self) -> Result<T, CliError> {
        loop {
            if let Some(told) = self.read().await? {
                self.has_told = true;
                return Ok(told);
            }
            self.reconnect().await?;
            // What ended while nobody listened is told by its absence only.
            if self.last.is_none()
                && std::mem::take(&mut self.has_told)
                && let Some(anew) = T::anew()
            {
                return Ok(anew);
            }
        }
    }

    /// What comes next; nothing when the stream was cut off.
    async fn read<T: ServerEvent>(&mut self) -> Result<Option<T>, CliError> {
        while let Some(Ok(event)) = self.events.next().await {
            let Some(data) = event.data else { continue };
            let name = event.event.unwrap_or_default();
            if name == "problem" {
                return match self.problem(&data) {
                    CliError::Busy(_) => Ok(None),
                    error => Err(error),
                };
            }
            let told = T::read(&name, &data).map_err(|error| CliError::Answer(error.into()))?;
            if T::anew().as_ref() == Some(&told) {
                // To go on behind a former position would leave out the state that follows.
                self.last = None;
            }
            if let Some(id) = event.id {
                self.last = Some(id).filter(|id| !id.is_empty());
            }
            return Ok(Some(told));
        }
        Ok(None)
    }

    fn problem(&self, text: &str) -> CliError {
        let status = serde_json::from_str(text).map(|problem: Problem| problem.status);
        let status = status.ok().and_then(|it| StatusCode::from_u16(it).ok());
        self.server.refusal(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), text)
    }

    async fn reconnect(&mut self) -> Result<(), CliError> {
        let mut told = false;
        loop {
            tokio::time::sleep(RECONNECT).await;
            match self.server.connect(&self.request, self.last.as_deref()).await {
                Err(
                    error @ (CliError::Unreachable { .. }
                    | CliError::Silent { .. }
                    | CliError::Busy(_)),
                ) => {
                    if !told {
                        note(&format!("{error}; trying until it is back"));
                        told = true;
                    }
                }
                events => {
                    self.events = events?;
                    return Ok(());
                }
            }
        }
    }
}

/// What a token is sent as. A file with a secret ends with a line break, which is no part of it.
fn bearer(token: &str) -> Result<HeaderValue, CliError> {
    let token = token.strip_suffix('\n').map_or(token, |it| it.strip_suffix('\r').unwrap_or(it));
    let header = HeaderValue::try_from(format!("Bearer {token}"));
    let mut header = header.map_err(|_| {
        CliError::Usage("the token has characters that cannot be sent, such as line breaks".into())
    })?;
    header.set_sensitive(true);
    Ok(header)
}

fn is_plain(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "http")
}

/// Whether an answer that something is absent comes from where such things are. Elsewhere, and at
/// paths that a Tenure server has nothing at, there is another answer or none.
fn is_of_tenure(text: &str) -> bool {
    serde_json::from_str::<Problem>(text).is_ok_and(|it| it.detail != "there is nothing here")
}

/// The detail of a problem document; of anything else, its beginning.
fn detail(text: &str) -> String {
    match serde_json::from_str::<Problem>(text) {
        Ok(problem) => problem.detail,
        Err(_) => text.chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_takes_connections_and_does_not_answer_is_given_up() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let server = Server::new(&url, None, "task").unwrap();
        let server = Server { patience: Duration::from_millis(20), ..server };
        let request = || server.request(Method::GET, &["tasks"]).unwrap();
        let errors = [
            server.json::<serde_json::Value>(request()).await.unwrap_err(),
            server.connect(&request(), None).await.err().unwrap(),
        ];
        for error in errors {
            assert!(matches!(&error, CliError::Silent { url: it, .. } if *it == url), "{error:?}");
            assert_eq!(error.exit_code(), 5);
        }
        let http = Client::builder().read_timeout(Duration::from_millis(20)).build().unwrap();
        let change = Server { http, ..server.clone() };
        let change = change.send(change.request(Method::PUT, &["x"]).unwrap()).await.unwrap_err();
        assert!(matches!(&change, CliError::InDoubt { .. }), "{change:?}");
    }

    #[tokio::test]
    async fn a_change_that_was_taken_and_not_answered_may_have_happened_and_is_not_to_be_tried_again()
     {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = [
            "",
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
        ];
        tokio::spawn(async move {
            for answer in answers.iter().cycle() {
                let (mut connection, _) = listener.accept().await.unwrap();
                let _ = connection.read(&mut [0; 4_096]).await.unwrap();
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        for answer in answers {
            // Of a new server each, so that no connection is used again.
            let server = Server::new(&url, None, "task").unwrap();
            let change = server.request(Method::PUT, &["x"]).unwrap();
            let error = server.json::<serde_json::Value>(change).await.unwrap_err();
            assert!(matches!(&error, CliError::InDoubt { .. }), "{answer}: {error:?}");
            assert_eq!(error.exit_code(), 1, "5 is for what may be tried again");
        }
        let server = Server::new(&url, None, "task").unwrap();
        let read = server.request(Method::GET, &["x"]).unwrap();
        let error = server.json::<serde_json::Value>(read).await.unwrap_err();
        assert_eq!(error.exit_code(), 5);
    }
}
