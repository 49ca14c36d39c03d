//! The bounds of `tenure serve`, as flags and as environment variables.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Server, command};

const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--store", "memory:"];

fn mcp(client: &Client, server: &Server, revision: &str, method: &str) -> RequestBuilder {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": revision,
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        },
    });
    let params = json!({
        "protocolVersion": revision,
        "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" },
        "notifications": { "resourcesListChanged": true },
        "_meta": meta,
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let request = client.post(format!("{}/mcp", server.url)).json(&body);
    request
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", revision)
        .header("mcp-method", method)
}

async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

#[tokio::test]
async fn what_one_owner_may_have_open_is_what_the_operator_says() {
    let folder = TempDir::new().unwrap();
    let flags = ["--streams-per-owner", "1", "--listeners-per-owner", "1"];
    let mut serve = command(folder.path(), &[&SERVE[..], &flags].concat());
    let server = Server::spawn(serve.env("TENURE_SESSIONS_PER_OWNER", "1"));
    let client = Client::new();

    let stream = || client.get(format!("{}/v1/tasks/events", server.url));
    let open = stream().send().await.unwrap();
    assert_eq!(open.status(), StatusCode::OK);
    assert_eq!(status(stream()).await, StatusCode::TOO_MANY_REQUESTS);

    let session = || mcp(&client, &server, "2025-11-25", "initialize");
    assert_eq!(status(session()).await, StatusCode::OK);
    assert_eq!(status(session()).await, StatusCode::TOO_MANY_REQUESTS);

    let listen = || mcp(&client, &server, "2026-07-28", "subscriptions/listen");
    let mut listening = listen().send().await.unwrap();
    let first = listening.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("acknowledged"), "{first:?}");
    let refused = listen().send().await.unwrap().text().await.unwrap();
    assert!(refused.contains("this caller has too many"), "{refused}");
}

#[test]
fn an_idle_connection_ends_when_the_operator_says_and_makes_room() {
    let folder = TempDir::new().unwrap();
    let mut serve = command(folder.path(), &[&SERVE[..], &["--connections", "1"]].concat());
    let server = Server::spawn(serve.env("TENURE_IDLE_MS", "5000"));
    let connect = || {
        let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    };
    let mut idle = connect();
    let mut waiting = connect();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let wait = Duration::from_millis(100);
    waiting.set_read_timeout(Some(wait)).unwrap();
    assert!(waiting.read(&mut [0; 64]).is_err(), "there is one place, and it is taken");
    assert_eq!(idle.read(&mut [0; 64]).unwrap(), 0, "an end");
    waiting.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = [0; 12];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}
