//! The fixtures of the official conformance suite, on a durable server. What the tools are called
//! and what they say is dictated by the suite; none of them knows that it may run as a task.
//!
//! `cargo run --release -p tenure-mcp --example conformance -- --listen 127.0.0.1:8765 --store memory:`

mod elicitation;
mod fixtures;
mod jobs;
mod prompts;
mod resources;
mod rounds;
mod server;
mod tools;

use anyhow::{Context, bail};
use rmcp::ServerHandler;
use tenure_mcp::http::{HttpOptions, serve};
use tenure_mcp::{Callers, DurableServer, TaskPolicy};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Arguments {
    listen: String,
    store: String,
    tokens: Option<String>,
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut arguments = Arguments {
        listen: "127.0.0.1:8765".into(),
        store: "file:./tenure.db".into(),
        tokens: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let value = given.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--listen" => arguments.listen = value,
            "--store" => arguments.store = value,
            "--tokens" => arguments.tokens = Some(value),
            _ => bail!("unknown flag {flag}; there are --listen, --store and --tokens"),
        }
    }
    Ok(arguments)
}

async fn durable<H: ServerHandler>(handler: H, store: &str) -> anyhow::Result<DurableServer<H>> {
    // The suite polls as told, and waits five seconds for the next state.
    let polled = |policy: TaskPolicy| policy.poll_interval_ms(200).rerun_after_crash();
    let server = DurableServer::builder(handler)
        .resources(["conformance"])
        .tool("slow_compute", polled(TaskPolicy::optional()))
        .tool("protocol_error_job", polled(TaskPolicy::optional()))
        .tool("failing_job", polled(TaskPolicy::required()))
        .tool("confirm_delete", polled(TaskPolicy::required()))
        .tool("multi_input", polled(TaskPolicy::required()))
        .tool("test_tool_with_task", polled(TaskPolicy::required()).input_first())
        .open(store)
        .await?;
    Ok(server)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = arguments()?;
    let callers = match &arguments.tokens {
        Some(path) => Callers::from_file(path)?,
        None => Callers::local(),
    };
    let server = durable(server::Fixtures::new()?, &arguments.store).await?;
    let listener = TcpListener::bind(&arguments.listen).await?;
    println!("listening on http://{}/mcp", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    let interrupted = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    let served = serve(&server, listener, &HttpOptions::new(callers), shutdown).await;
    server.shutdown(5_000).await;
    Ok(served?)
}
