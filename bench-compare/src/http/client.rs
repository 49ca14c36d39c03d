//! The least of an MCP client: one kept-alive connection, revision 2026-07-28.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

const VERSION: &str = "2026-07-28";

pub struct Client {
    requests: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { requests, host: address.to_string() })
    }

    /// Calls the tool as a task, and asks for the task until its result is there.
    pub async fn run_task(&mut self) -> Result<()> {
        let arguments = json!({ "name": "echo", "arguments": { "text": "x".repeat(512) } });
        let created = self.call("tools/call", "echo", arguments).await?;
        let id = created["taskId"].as_str().with_context(|| created.to_string())?.to_owned();
        loop {
            let task = self.call("tasks/get", &id, json!({ "taskId": id })).await?;
            match task["status"].as_str() {
                Some("completed") => {
                    ensure!(task["result"].is_object(), "{task}");
                    return Ok(());
                }
                Some("working") => tokio::task::yield_now().await,
                _ => bail!("{task}"),
            }
        }
    }

    async fn call(&mut self, method: &str, name: &str, mut params: Value) -> Result<Value> {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientInfo": { "name": "bench-compare", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {
                "extensions": { "io.modelcontextprotocol/tasks": {} },
            },
        });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = Request::post("/mcp")
            .header("host", &self.host)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", VERSION)
            .header("mcp-method", method)
            .header("mcp-name", name)
            .body(Full::new(Bytes::from(body.to_string())))?;
        self.requests.ready().await?;
        let response = self.requests.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let text = std::str::from_utf8(&body)?;
        let message = text
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(str::trim)
            .find(|data| !data.is_empty())
            .unwrap_or(text);
        let mut message: Value =
            serde_json::from_str(message).with_context(|| format!("{status}: {text}"))?;
        match message.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => bail!("{method}: {status}: {message}"),
        }
    }
}
