//! On a real socket: what a server in this process cannot show.

use std::time::Duration;

use serde_json::json;
use tenure_mcp::http::{HttpOptions, ServeError, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, VERSION, soon};

pub(crate) struct Socket {
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ServeError>>,
}

pub(crate) async fn serve_on_a_socket(server: &Server) -> Socket {
    serve_with(server, HttpOptions::default()).await
}

pub(crate) async fn serve_with(server: &Server, options: HttpOptions) -> Socket {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let (durable, token) = (server.durable.clone(), shutdown.clone());
    let serving = tokio::spawn(async move { serve(&durable, listener, &options, token).await });
    Socket { address, shutdown, serving }
}

impl Socket {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

fn head(method: &str, length: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\nMcp-Protocol-Version: {VERSION}\r\n\
         Mcp-Method: {method}\r\n{length}\r\n\r\n"
    )
}

/// Reads until the connection has said `wanted`.
pub(crate) async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = Vec::new();
    soon(async {
        while !String::from_utf8_lossy(&text).contains(wanted) {
            assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "the connection has ended");
        }
    })
    .await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_body_of_100_mb_is_answered_with_413() {
    let server = Server::new().await;
    let socket = serve_on_a_socket(&server).await;
    let mut stream = TcpStream::connect(socket.address).await.unwrap();
    stream.write_all(head("tools/call", "Transfer-Encoding: chunked").as_bytes()).await.unwrap();
    let (mut input, mut output) = stream.into_split();
    let writing = tokio::spawn(async move {
        let chunk = [&b"10000\r\n"[..], &[b' '; 65_536], b"\r\n"].concat();
        for _ in 0..1_600 {
            // The server stops reading long before the end, and hangs up.
            if output.write_all(&chunk).await.is_err() {
                return true;
            }
        }
        false
    });
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = soon(input.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");
    assert!(answer.contains(r#""code":-32600"#), "{answer:?}");
    assert!(soon(writing).await.unwrap(), "all of it was read");
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_then_the_server() {
    let server = Server::new().await;
    let socket = serve_on_a_socket(&server).await;
    let id = server.client().create("wait").await;
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {
        "notifications": { "taskIds": [id] },
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {
                "extensions": { "io.modelcontextprotocol/tasks": {} },
            },
        },
    }})
    .to_string();
    let mut stream = TcpStream::connect(socket.address).await.unwrap();
    let length = format!("Content-Length: {}", body.len());
    let request = format!("{}{body}", head("subscriptions/listen", &length));
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut stream, "notifications/tasks").await;

    socket.shutdown.cancel();
    read_until(&mut stream, r#""resultType":"complete""#).await;
    soon(socket.serving).await.unwrap().unwrap();
    // The task goes on.
    assert_eq!(server.client().get(&id).await.unwrap()["status"], "working");
}

/// What the connection says until it ends.
pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = soon(stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_connection_whose_head_does_not_come_is_closed() {
    let server = Server::new().await;
    let mut options = HttpOptions::default();
    options.header_read_ms = 100;
    let socket = serve_with(&server, options).await;
    for begun in ["", "P", "PRI * HTTP/2.0\r\n", "GET /healthz HTTP/1.1\r\nHost: local"] {
        let mut stream = socket.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await, "", "{begun:?}");
    }
    // One that had its answer is closed as well, once it is idle.
    let mut options = HttpOptions::default();
    options.header_read_ms = 2_000;
    let socket = serve_with(&server, options).await;
    let mut stream = socket.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
}

#[tokio::test]
async fn a_stream_outlives_the_time_that_a_head_may_take() {
    let server = Server::new().await;
    let mut options = HttpOptions::default();
    options.header_read_ms = 2_000;
    options.heartbeat_ms = 500;
    let socket = serve_with(&server, options).await;
    let mut stream = socket.connect().await;
    let request = b"GET /v1/tasks/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    // Heartbeats of 2,500 ms.
    read_until(&mut stream, "200 OK").await;
    for _ in 0..5 {
        read_until(&mut stream, ":\n\n").await;
    }
}

#[tokio::test]
async fn a_body_that_trickles_in_is_answered_with_408() {
    let server = Server::new().await;
    let mut options = HttpOptions::default();
    options.body_read_ms = 150;
    let socket = serve_with(&server, options).await;
    let put = "PUT /v1/projects/p/resources/k/i HTTP/1.1\r\nHost: localhost\r\n\
               Content-Length: 1000000\r\n\r\n";
    let call = head("tools/call", "Content-Length: 1000000");
    for (head, media_type) in
        [(call.as_str(), "application/json"), (put, "application/problem+json")]
    {
        let (mut input, mut output) = socket.connect().await.into_split();
        output.write_all(head.as_bytes()).await.unwrap();
        let trickling = tokio::spawn(async move {
            while output.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let mut answer = Vec::new();
        let _ = soon(input.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.starts_with("http/1.1 408 "), "{answer:?}");
        assert!(answer.contains(&format!("content-type: {media_type}\r\n")), "{answer:?}");
        soon(trickling).await.unwrap();
    }
}

#[tokio::test]
async fn beyond_the_connections_that_there_may_be_one_waits_for_the_end_of_another() {
    let server = Server::new().await;
    let mut options = HttpOptions::default();
    options.connections = 2;
    let socket = serve_with(&server, options).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = socket.connect().await;
        stream.write_all(request).await.unwrap();
        read_until(&mut stream, "200 OK").await;
        open.push(stream);
    }
    let mut third = socket.connect().await;
    third.write_all(request).await.unwrap();
    let wait = Duration::from_millis(100);
    let early = tokio::time::timeout(wait, third.readable()).await;
    assert!(early.is_err(), "the third is served beside the other two");
    open.pop();
    read_until(&mut third, "200 OK").await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_takes_nothing_of_what_it_is_sent_is_hung_up_on() {
    let server = Server::new().await;
    let key = tenure::resources::ResourceKey::new("p", "k", "i").unwrap();
    let value = json!("x".repeat(200_000));
    let document = tenure::resources::Document::from_value(&value).unwrap();
    server.durable.resources().put(&key, &document).await.unwrap();
    let mut options = HttpOptions::default();
    options.connections = 1;
    options.write_stall_ms = 300;
    let socket = serve_with(&server, options).await;
    let request = "GET /v1/projects/p/resources/k/i HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut greedy = socket.connect().await;
    greedy.write_all(request.repeat(200).as_bytes()).await.unwrap();
    // Into the middle of the sixth, unless this process stands still for too long.
    let _ = soon(greedy.read_exact(&mut vec![0; 1_100_000])).await;
    // It holds the one connection that there may be.
    let mut other = socket.connect().await;
    other.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut other, "200 OK").await;
}
