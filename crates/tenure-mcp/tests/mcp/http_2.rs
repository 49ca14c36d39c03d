//! HTTP/2 on a real socket: connections and streams that their client leaves as they are.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::SendRequest;
use serde_json::json;
use tenure_mcp::http::HttpOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::{Server, soon};
use crate::network::{Socket, read_to_end, read_until, serve_on_a_socket, serve_with};

/// A client that speaks HTTP/2, and how its connection ends.
async fn http_2(socket: &Socket) -> (SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
    let io = hyper_util::rt::TokioIo::new(socket.connect().await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (client, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    (client, tokio::spawn(connection))
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://localhost{path}")).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn an_idle_connection_of_http_2_is_ended_gracefully_and_one_with_a_stream_is_not() {
    let server = Server::new().await;
    let mut options = HttpOptions::default();
    options.header_read_ms = 3_000;
    options.heartbeat_ms = 600;
    let socket = serve_with(&server, options).await;
    let (mut idle, idle_ended) = http_2(&socket).await;
    let (mut listening, listening_ended) = http_2(&socket).await;
    let events = soon(listening.send_request(get("/v1/tasks/events"))).await.unwrap();
    let mut events = events.into_body();
    assert_eq!(soon(idle.send_request(get("/healthz"))).await.unwrap().status(), 200);
    // The client is there, and answers whatever it is asked.
    soon(idle_ended).await.unwrap().unwrap();
    assert!(idle.is_closed());
    // As long again, and on.
    for _ in 0..10 {
        soon(events.frame()).await.unwrap().unwrap();
    }
    assert!(!listening_ended.is_finished());
    assert_eq!(soon(listening.send_request(get("/healthz"))).await.unwrap().status(), 200);
    drop(events);
    soon(listening_ended).await.unwrap().unwrap();
}

/// A client that says of HTTP/2 what a well-behaved one never would, a frame at a time.
struct Frames(TcpStream);

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Frames {
    /// A connection on which the server awaits the first request.
    async fn connect(socket: &Socket) -> Self {
        Self::connect_with(socket, b"").await
    }

    async fn connect_with(socket: &Socket, settings: &[u8]) -> Self {
        let mut frames = Self(socket.connect().await);
        frames.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        frames.send(SETTINGS, 0, 0, settings);
        frames.until(SETTINGS, ACK).await;
        frames
    }

    /// Has the frame with the kernel of the server when it returns, and nobody else run meanwhile.
    fn send(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        assert_eq!(self.0.try_write(&frame).unwrap(), frame.len());
    }

    /// Asks for what is at `path`, in the names that RFC 7541 has for the rest.
    fn get(&self, stream: u32, path: &str) {
        let text = |name: u8, text: &str| {
            [&[name, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
        };
        let head = [&[0x82, 0x86][..], &text(0x04, path), &text(0x01, "localhost")].concat();
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &head);
    }

    /// Takes so many bytes more: of a stream, or of all together, which is 0.
    fn take(&self, stream: u32, bytes: u32) {
        self.send(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    async fn next(&mut self) -> Frame {
        let mut head = [0; 9];
        soon(self.0.read_exact(&mut head)).await.expect("the connection has ended");
        let [l0, l1, l2, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        soon(self.0.read_exact(&mut payload)).await.unwrap();
        Frame { kind, flags, stream: u32::from_be_bytes(stream), payload }
    }

    /// The next frame of this kind that has these flags.
    async fn until(&mut self, kind: u8, flags: u8) -> Frame {
        loop {
            let frame = self.next().await;
            if frame.kind == kind && frame.flags & flags == flags {
                return frame;
            }
        }
    }

    /// Answers pings while so much time goes by, and returns what else the server says.
    async fn during(&mut self, time: Duration) -> Vec<Frame> {
        let (mut said, step) = (Vec::new(), Duration::from_secs(10));
        for _ in 0..time.as_secs() / step.as_secs() {
            stand_still(step).await;
            // What the first makes the server do, it has said before it answers the second.
            for _ in 0..2 {
                self.send(PING, 0, 0, &[0; 8]);
                loop {
                    let frame = self.next().await;
                    match (frame.kind, frame.flags) {
                        (PING, ACK) => break,
                        (PING, _) => self.send(PING, ACK, 0, &frame.payload),
                        _ => said.push(frame),
                    }
                }
            }
        }
        said
    }
}

/// Has so much time go by at once, as when the machine stands still.
async fn stand_still(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// `:status: 200` is the first of a head.
const OK: u8 = 0x88;

#[tokio::test]
async fn a_first_request_of_http_2_that_comes_at_the_last_moment_is_answered() {
    let server = Server::new().await;
    let mut options = HttpOptions::default();
    options.header_read_ms = 5_000;
    let socket = serve_with(&server, options).await;
    let mut client = Frames::connect(&socket).await;
    client.get(1, "/healthz");
    stand_still(Duration::from_secs(6)).await;
    assert_eq!(client.until(HEADERS, 0).await.payload[0], OK);
}

#[tokio::test]
async fn a_first_request_of_http_2_that_crosses_the_goodbye_is_served_to_its_end() {
    let server = Server::new().await;
    let mut options = HttpOptions::default();
    options.header_read_ms = 5_000;
    options.heartbeat_ms = 50;
    let socket = serve_with(&server, options).await;
    let mut client = Frames::connect(&socket).await;
    stand_still(Duration::from_secs(6)).await;
    client.until(GOAWAY, 0).await;
    let asked = client.until(PING, 0).await.payload;
    client.get(1, "/v1/tasks/events");
    client.send(PING, ACK, 0, &asked);
    assert_eq!(client.until(HEADERS, 0).await.payload[0], OK);
    for _ in 0..2 {
        stand_still(Duration::from_secs(6)).await;
        client.until(DATA, 0).await;
    }
}

#[tokio::test]
async fn a_client_of_http_2_that_never_asks_nor_answers_is_hung_up_on() {
    let server = Server::new().await;
    let mut options = HttpOptions::default();
    options.header_read_ms = 5_000;
    let socket = serve_with(&server, options).await;
    let mut client = Frames::connect(&socket).await;
    stand_still(Duration::from_secs(6)).await;
    client.until(GOAWAY, 0).await;
    stand_still(Duration::from_secs(6)).await;
    read_to_end(&mut client.0).await;
}

#[tokio::test]
async fn http_2_names_its_host_in_the_authority() {
    let server = Server::new().await;
    let socket = serve_on_a_socket(&server).await;
    let (mut client, _) = http_2(&socket).await;
    for (host, path, status) in [
        ("localhost", "/v1/tasks", 200),
        ("localhost", "/v1/projects/p/resources", 200),
        ("evil.example", "/v1/tasks", 403),
        ("evil.example", "/v1/projects/p/resources", 403),
        ("evil.example", "/mcp", 403),
    ] {
        let request = Request::get(format!("http://{host}{path}")).body(Body::empty()).unwrap();
        let response = soon(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), status, "{host} {path}");
    }
    let mut call = server.client().request("tools/call", json!({ "name": "echo" }));
    call.headers_mut().remove("host");
    *call.uri_mut() = "http://localhost/mcp".parse().unwrap();
    assert_eq!(soon(client.send_request(call)).await.unwrap().status(), 200);
}

/// How long a client may take nothing, much longer than a machine stands still.
const STALL: Duration = Duration::from_secs(600);

/// A connection without a stream may stay as long.
fn with_stall() -> HttpOptions {
    let mut options = HttpOptions::default();
    options.write_stall_ms = STALL.as_millis().try_into().unwrap();
    options.header_read_ms = options.write_stall_ms;
    options
}

/// `SETTINGS_INITIAL_WINDOW_SIZE`, of nothing.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

const LARGE: &str = "/v1/projects/p/resources/k/i";
const LARGE_BYTES: usize = 200_000;

/// A server that has a large document.
async fn server_with_a_large_document() -> Server {
    let server = Server::new().await;
    let key = tenure::resources::ResourceKey::new("p", "k", "i").unwrap();
    // With its quotes.
    let value = json!("x".repeat(LARGE_BYTES - 2));
    let document = tenure::resources::Document::from_value(&value).unwrap();
    server.durable.resources().put(&key, &document).await.unwrap();
    server
}

/// The streams that were reset.
fn resets(frames: &[Frame]) -> Vec<u32> {
    frames.iter().filter(|it| it.kind == RST_STREAM).map(|it| it.stream).collect()
}

/// How much of its answer a stream has said.
fn bytes(frames: &[Frame], stream: u32) -> usize {
    let data = frames.iter().filter(|it| it.kind == DATA && it.stream == stream);
    data.map(|it| it.payload.len()).sum()
}

#[tokio::test]
async fn a_client_of_http_2_that_takes_nothing_holds_its_connection_for_a_time_only() {
    let server = Server::new().await;
    let mut options = with_stall();
    options.connections = 1;
    options.header_read_ms = 30_000;
    let socket = serve_with(&server, options).await;
    let mut client = Frames::connect_with(&socket, &NO_WINDOW).await;
    client.get(1, "/healthz");
    let mut other = socket.connect().await;
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(resets(&client.during(STALL + Duration::from_secs(20)).await), [1]);
    stand_still(Duration::from_secs(31)).await;
    client.until(GOAWAY, 0).await;
    stand_still(Duration::from_secs(31)).await;
    read_until(&mut other, "200 OK").await;
}

#[tokio::test]
async fn events_that_the_client_of_http_2_does_not_take_hold_their_place_for_a_time_only() {
    let server = Server::new().await;
    let mut options = with_stall();
    options.streams = 1;
    let socket = serve_with(&server, options).await;
    let mut client = Frames::connect_with(&socket, &NO_WINDOW).await;
    client.get(1, "/v1/tasks/events");
    assert_eq!(client.until(HEADERS, 0).await.payload[0], OK);
    let before = client.during(STALL - Duration::from_secs(60)).await;
    assert_eq!((resets(&before), bytes(&before, 1)), (vec![], 0));
    client.get(3, "/v1/tasks/events");
    assert_ne!(client.until(HEADERS, 0).await.payload[0], OK, "there is one place");
    // The refusal is not taken, either.
    let after = client.during(STALL + Duration::from_secs(60)).await;
    assert_eq!(resets(&after), [1, 3]);
    client.get(5, "/v1/tasks/events");
    assert_eq!(client.until(HEADERS, 0).await.payload[0], OK);
}

#[tokio::test]
async fn an_answer_that_the_client_of_http_2_stops_taking_is_given_up_and_no_other() {
    let server = server_with_a_large_document().await;
    let socket = serve_with(&server, with_stall()).await;
    let mut client = Frames::connect(&socket).await;
    client.take(0, 1_000_000);
    client.get(1, "/v1/tasks/events");
    client.get(3, LARGE);
    let before = client.during(STALL - Duration::from_secs(60)).await;
    assert_eq!((resets(&before), bytes(&before, 3)), (vec![], 65_535));
    let after = client.during(Duration::from_secs(120)).await;
    assert_eq!((resets(&after), bytes(&after, 3)), (vec![3], 0));
    // The client reads these.
    let events = client.during(STALL).await;
    assert!(resets(&events).is_empty());
    assert!(bytes(&events, 1) > 0, "the other stream is silent");
}

#[tokio::test]
async fn an_answer_that_the_client_of_http_2_takes_slowly_comes_to_its_end() {
    let server = server_with_a_large_document().await;
    let socket = serve_with(&server, with_stall()).await;
    let mut client = Frames::connect(&socket).await;
    client.take(0, 1_000_000);
    client.get(1, LARGE);
    let mut answer = Vec::new();
    while !answer.iter().any(|it: &Frame| it.kind == DATA && it.flags & END_STREAM != 0) {
        answer.extend(client.during(STALL - Duration::from_secs(100)).await);
        assert!(resets(&answer).is_empty());
        client.take(1, 20_000);
    }
    assert_eq!(bytes(&answer, 1), LARGE_BYTES);
}

#[tokio::test]
async fn what_a_client_of_http_2_takes_while_the_machine_stands_still_is_taken() {
    let server = server_with_a_large_document().await;
    let socket = serve_with(&server, with_stall()).await;
    let mut client = Frames::connect(&socket).await;
    client.take(0, 1_000_000);
    client.get(1, LARGE);
    assert_eq!(bytes(&client.during(STALL - Duration::from_secs(60)).await, 1), 65_535);
    client.take(1, 1_000_000);
    stand_still(STALL).await;
    let rest = client.during(Duration::from_secs(10)).await;
    assert_eq!((resets(&rest), bytes(&rest, 1)), (vec![], LARGE_BYTES - 65_535));
}
