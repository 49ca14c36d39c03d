//! On a real socket: what a server in this process cannot show.

use serde_json::json;
use tenure_mcp::http::{HttpOptions, ServeError, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, VERSION, soon};

struct Socket {
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ServeError>>,
}

async fn serve_on_a_socket(server: &Server) -> Socket {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let (durable, token) = (server.durable.clone(), shutdown.clone());
    let serving =
        tokio::spawn(
            async move { serve(&durable, listener, &HttpOptions::default(), token).await },
        );
    Socket { address, shutdown, serving }
}

fn head(method: &str, length: &str) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n\
         Content-Type: application/json\r\nMcp-Protocol-Version: {VERSION}\r\n\
         Mcp-Method: {method}\r\n{length}\r\n\r\n"
    )
}

/// Reads until the connection has said `wanted`.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
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
