//! What a server makes of input that is none, and that it goes on afterwards.

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::Server;

const CALLERS: &str =
    r#"caller = [{ token = "t", owner = "alice", projects = { acme = "write" } }]"#;
const ITEM: &str = "/v1/projects/acme/resources/agent/planner";

struct Asking<'a> {
    client: Client,
    server: &'a Server,
}

impl Asking<'_> {
    async fn ask(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.ask_as("t", method, path, body).await
    }

    async fn ask_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let request = self.client.request(method, format!("{}{path}", self.server.url));
        let request = request
            .bearer_auth(token)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .body(body);
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        Answer { status, document: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    document: Value,
}

#[tokio::test]
async fn bad_input_gets_a_clear_answer_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("callers.toml"), CALLERS).unwrap();
    let server = Server::start(folder.path(), &["--tokens", "callers.toml"]);
    let asking = Asking { client: Client::new(), server: &server };
    assert_eq!(asking.ask(Method::PUT, ITEM, "1").await.status, StatusCode::CREATED);

    let not_json = asking.ask(Method::POST, "/mcp", "{").await;
    assert_eq!(not_json.document["error"]["code"], -32_700, "{not_json:?}");
    let no_message = asking.ask(Method::POST, "/mcp", "[1]").await;
    assert_eq!(no_message.document["error"]["code"], -32_600, "{no_message:?}");
    for (path, detail) in [
        ("/v1/tasks?cursor=x", "cursor"),
        ("/v1/tasks?limit=x", "limit"),
        ("/v1/projects/acme/resources?cursor=x", "cursor"),
    ] {
        let refused = asking.ask(Method::GET, path, "").await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
        assert!(refused.document["detail"].as_str().unwrap().contains(detail), "{refused:?}");
    }
    let not_json = asking.ask(Method::PUT, ITEM, "{").await;
    assert_eq!(not_json.status, StatusCode::BAD_REQUEST, "{not_json:?}");

    for path in ["/mcp", "/v1/tasks", ITEM] {
        for token in ["other", "t t", "é"] {
            let refused = asking.ask_as(token, Method::GET, path, "").await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path} {refused:?}");
        }
    }
    let hidden = asking.ask(Method::GET, "/v1/projects/other/resources/agent/planner", "").await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);

    let there = asking.ask(Method::GET, ITEM, "").await;
    assert_eq!((there.status, there.document), (StatusCode::OK, json!(1)));
    assert_eq!(asking.ask(Method::GET, "/healthz", "").await.status, StatusCode::OK);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_body_of_100_mb_is_refused_and_not_kept_in_memory() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &["--store", "memory:"]);
    let asking = Asking { client: Client::new(), server: &server };
    let before = server.peak_kib();
    for (method, path) in [(Method::POST, "/mcp"), (Method::PUT, ITEM)] {
        // The server may hang up before all is sent, and then there is no answer to read.
        let megabyte = reqwest::Body::from(vec![b' '; 100 << 20]);
        let url = format!("{}{path}", server.url);
        let request = asking.client.request(method, url).body(megabyte);
        let request = request
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        match request.send().await {
            Ok(answer) => assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}"),
            Err(error) => assert!(error.is_request(), "{error:?}"),
        }
    }
    assert_eq!(asking.ask(Method::GET, "/healthz", "").await.status, StatusCode::OK);
    let grown = server.peak_kib() - before;
    assert!(grown < 50 * 1_024, "{grown} KiB");
}
