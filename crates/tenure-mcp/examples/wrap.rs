//! An existing server, wrapped: its slow tool becomes a durable task, and not a line of it changes.
//!
//! `cargo run -p tenure-mcp --example wrap` talks to itself over a pipe, and prints what it hears.
//! A real server ends with [`tenure_mcp::http::serve`] or [`tenure_mcp::stdio::serve`] instead.

use std::time::Duration;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{ProgressNotificationParam, ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::{Value, json};
use tenure_mcp::{DurableServer, TaskPolicy, stdio};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio_util::sync::CancellationToken;

// ---- The server as it was.

#[derive(Clone)]
struct Observatory;

#[derive(Deserialize, schemars::JsonSchema)]
struct Survey {
    /// How many fields of the sky to look at.
    fields: u32,
}

#[tool_router]
impl Observatory {
    /// Surveys the sky, which takes its time.
    #[tool(annotations(read_only_hint = true))]
    async fn survey(
        &self,
        Parameters(Survey { fields }): Parameters<Survey>,
        cx: RequestContext<RoleServer>,
    ) -> String {
        for field in 1..=fields {
            if let Some(token) = cx.meta.get_progress_token() {
                let progress = ProgressNotificationParam::new(token, f64::from(field))
                    .with_message(format!("field {field} of {fields}"));
                let _ = cx.peer.notify_progress(progress).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        format!("{fields} fields, no comets")
    }
}

#[tool_handler]
impl ServerHandler for Observatory {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

// ---- The one line. That the tool only reads allows it to run again after a crash.

async fn durable(store: &str) -> Result<DurableServer<Observatory>, tenure_mcp::OpenError> {
    DurableServer::builder(Observatory).tool("survey", TaskPolicy::optional()).open(store).await
}

// ---- A client with three requests.

struct Client {
    pipe: BufReader<DuplexStream>,
}

impl Client {
    async fn call(&mut self, method: &str, mut params: Value) -> anyhow::Result<Value> {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "wrap", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {
                "extensions": { "io.modelcontextprotocol/tasks": {} },
            },
        });
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.pipe.write_all(format!("{request}\n").as_bytes()).await?;
        let mut line = String::new();
        self.pipe.read_line(&mut line).await?;
        let answer: Value = serde_json::from_str(&line)?;
        anyhow::ensure!(answer.get("error").is_none(), "{answer}");
        Ok(answer["result"].clone())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    println!("{}", survey().await?);
    Ok(())
}

/// Calls the tool, and polls the task to its end.
pub(crate) async fn survey() -> anyhow::Result<String> {
    let server = durable("memory:").await?;
    let (pipe, theirs) = tokio::io::duplex(64 * 1_024);
    let (input, output) = tokio::io::split(theirs);
    let served = server.clone();
    let serving = tokio::spawn(async move {
        stdio::serve_on(&served, input, output, CancellationToken::new()).await
    });

    let mut client = Client { pipe: BufReader::new(pipe) };
    let call = json!({ "name": "survey", "arguments": { "fields": 3 } });
    let task = client.call("tools/call", call).await?;
    let mut task = client.call("tasks/get", json!({ "taskId": task["taskId"] })).await?;
    while task["status"] == "working" {
        tokio::time::sleep(Duration::from_millis(20)).await;
        task = client.call("tasks/get", json!({ "taskId": task["taskId"] })).await?;
    }
    drop(client);
    serving.await??;
    server.shutdown(1_000).await;
    Ok(format!("{} ({})", task["result"]["content"][0]["text"], task["statusMessage"]))
}
