//! GET that answers 304, and PUT with If-Match, over 50 connections, each on a resource of its own.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rmcp::ServerHandler;
use tenure_mcp::DurableServer;
use tenure_mcp::http::{HttpOptions, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{floor, value};
use crate::measure::{Effort, alternate, concurrent, median, rate};
use crate::table::{Figure, Row, Target};

const FLOOR: &str = "axum on a map";
const CONNECTIONS: usize = 50;
const CALLS: usize = 20_000;

#[derive(Clone, Copy)]
enum Operation {
    GetUnchanged,
    PutIfMatch,
}

pub async fn run(effort: Effort) -> Result<(Vec<Row>, String)> {
    let server = DurableServer::builder(Nothing).open("memory:").await?;
    let (ours, stop) = (TcpListener::bind("127.0.0.1:0").await?, CancellationToken::new());
    let our_address = ours.local_addr()?;
    let (shared, stopped) = (server.clone(), stop.clone());
    let serving =
        tokio::spawn(async move { serve(&shared, ours, &HttpOptions::default(), stopped).await });
    let theirs = TcpListener::bind("127.0.0.1:0").await?;
    let their_address = theirs.local_addr()?;
    let floor = tokio::spawn(floor::serve(theirs));
    let mut rows = Vec::new();
    for (name, operation) in [
        ("GET answered with 304", Operation::GetUnchanged),
        ("PUT with If-Match", Operation::PutIfMatch),
    ] {
        let calls = effort.calls(CALLS) / CONNECTIONS;
        let tails = [RefCell::default(), RefCell::default()];
        let (us, them) = alternate(
            effort,
            async || drive(our_address, operation, calls, &tails[0]).await,
            async || drive(their_address, operation, calls, &tails[1]).await,
        )
        .await?;
        let [our_tail, their_tail] = tails.map(|it| median(it.into_inner()));
        let what = format!("{name}, {CONNECTIONS} connections");
        rows.push(Row {
            what: what.clone(),
            ours: Figure::Rate(rate(us)),
            theirs: Some((FLOOR, Figure::Rate(rate(them)))),
            target: Target::Ratio(0.6),
        });
        rows.push(Row {
            what: format!("{what}, 99th percentile"),
            ours: Figure::Time(our_tail),
            theirs: Some((FLOOR, Figure::Time(their_tail))),
            target: Target::None,
        });
    }
    stop.cancel();
    serving.await??;
    server.shutdown(0).await;
    floor.abort();
    let note =
        "Values of 1 KB. The raw backend compares and swaps a value of the same length: with a \
                tag, a history and a count as a resource has them, or bare. HTTP is on the memory \
                store; client and server share the runtime."
            .to_owned();
    Ok((rows, note))
}

/// A server without tools: only its resources are asked for.
#[derive(Clone)]
struct Nothing;

impl ServerHandler for Nothing {}

async fn drive(
    address: SocketAddr,
    operation: Operation,
    calls: usize,
    tails: &RefCell<Vec<f64>>,
) -> Result<f64> {
    let times = Arc::new(Mutex::new(Vec::new()));
    let mut clients = Vec::new();
    for connection in 0..CONNECTIONS {
        clients.push(Some(Client::connect(address, connection).await?));
    }
    let clients = RefCell::new(clients);
    let time = concurrent(CONNECTIONS, CONNECTIONS * calls, |connection| {
        let client = clients.borrow_mut()[connection].take();
        let times = Arc::clone(&times);
        async move {
            let mut client = client.context("taken twice")?;
            let mut mine = Vec::with_capacity(calls);
            for call in 0..calls {
                let started = Instant::now();
                client.call(operation, call).await?;
                #[allow(clippy::cast_precision_loss)]
                mine.push(started.elapsed().as_nanos() as f64);
            }
            times.lock().unwrap_or_else(PoisonError::into_inner).extend(mine);
            Ok(())
        }
    })
    .await?;
    let mut times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
    times.sort_by(f64::total_cmp);
    tails.borrow_mut().push(times[times.len() * 99 / 100]);
    Ok(time)
}

struct Client {
    requests: SendRequest<Full<Bytes>>,
    path: String,
    host: String,
    etag: String,
    bodies: [Bytes; 2],
}

impl Client {
    async fn connect(address: SocketAddr, connection: usize) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let path = format!("/v1/projects/acme/resources/agent/planner-{connection}");
        let bodies = [0, 1].map(|number| Bytes::from(value(number).to_string()));
        let (host, etag) = (address.to_string(), String::new());
        let mut this = Self { requests, path, host, etag, bodies };
        let body = this.bodies[1].clone();
        let status = this.send(Method::PUT, None, body).await?;
        ensure!(status < 300, "the first PUT: {status}");
        Ok(this)
    }

    async fn call(&mut self, operation: Operation, call: usize) -> Result<()> {
        let (method, condition, body, expected) = match operation {
            Operation::GetUnchanged => (Method::GET, "if-none-match", Bytes::new(), 304),
            Operation::PutIfMatch => (Method::PUT, "if-match", self.bodies[call % 2].clone(), 200),
        };
        let status = self.send(method, Some(condition), body).await?;
        ensure!(status == expected, "{status} instead of {expected}");
        Ok(())
    }

    async fn send(&mut self, method: Method, condition: Option<&str>, body: Bytes) -> Result<u16> {
        let mut request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header("host", &self.host)
            .header("content-type", "application/json");
        if let Some(condition) = condition {
            request = request.header(condition, &self.etag);
        }
        self.requests.ready().await?;
        let response = self.requests.send_request(request.body(Full::new(body))?).await?;
        let (head, body) = response.into_parts();
        if let Some(etag) = head.headers.get("etag") {
            self.etag = etag.to_str()?.to_owned();
        }
        body.collect().await?;
        Ok(head.status.as_u16())
    }
}
