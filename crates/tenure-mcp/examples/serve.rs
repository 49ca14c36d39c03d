//! A whole server: two tools that ask a person, on Streamable HTTP, with their state in a file.
//!
//! `cargo run -p tenure-mcp --example serve`, then point an MCP client that knows tasks at
//! `http://127.0.0.1:8765/mcp`. `STORE` names another store than `file:./serve.db`; `redis://HOST`
//! wants `--features redis`. Ctrl-C and SIGTERM end it; what waits then waits on in the store.

use std::env;

use rmcp::handler::server::tool::InputResponses;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, ElicitRequest, ElicitRequestParams,
    ElicitationSchema, InputRequest, InputRequiredResult, ServerCapabilities, ServerConfig,
};
use rmcp::service::{ElicitationError, RequestContext};
use rmcp::{ErrorData, RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;
use tenure_mcp::http::{self, HttpOptions};
use tenure_mcp::{Callers, DurableServer, TaskPolicy};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[derive(Clone)]
struct Releases;

#[derive(Deserialize, schemars::JsonSchema)]
struct Release {
    version: String,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Approval {
    /// Whether it may go out.
    approve: bool,
}

rmcp::elicit_safe!(Approval);

#[tool_router]
impl Releases {
    /// Publishes a release once somebody has approved it.
    ///
    /// It asks by returning: the call ends here, and another one brings the answer. In between there
    /// is no process, so the question outlives a restart and a crash, even though this tool may not
    /// run twice: nothing was running.
    #[tool]
    async fn publish(
        &self,
        Parameters(Release { version }): Parameters<Release>,
        InputResponses(answers): InputResponses,
    ) -> Result<CallToolResponse, ErrorData> {
        let answer = answers.as_ref().and_then(|answers| answers.get("approval"));
        let Some(answer) = answer else { return ask_to_publish(&version) };
        let approved = answer["action"] == "accept" && answer["content"]["approve"] == true;
        Ok(said(&version, if approved { "published" } else { "withheld" }).into())
    }

    /// Announces a release once somebody has approved it.
    ///
    /// It asks by a request, and waits within the call: all that it has in hand stays there. The
    /// price is that it is running for as long as it waits. A crash or a shutdown meanwhile fails
    /// it, because it may not run twice; one that may would run again from its beginning, and find
    /// the answers that it had.
    #[tool]
    async fn announce(
        &self,
        Parameters(Release { version }): Parameters<Release>,
        cx: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        match cx.peer.elicit::<Approval>(format!("Announce {version}?")).await {
            Ok(Some(Approval { approve: true })) => Ok(said(&version, "announced")),
            Ok(_) | Err(ElicitationError::UserDeclined | ElicitationError::UserCancelled) => {
                Ok(said(&version, "kept quiet"))
            }
            // Not an answer: the task did not get one. An `Ok` here would be the tool's result.
            Err(error) => Err(ErrorData::internal_error(error.to_string(), None)),
        }
    }
}

fn ask_to_publish(version: &str) -> Result<CallToolResponse, ErrorData> {
    let schema = ElicitationSchema::builder().required_bool("approve").build();
    let question = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: format!("Publish {version}?"),
        requested_schema: schema.map_err(|error| ErrorData::internal_error(error, None))?,
    };
    let question = InputRequest::Elicitation(ElicitRequest::new(question));
    Ok(InputRequiredResult::from_input_requests([("approval".to_owned(), question)].into()).into())
}

fn said(version: &str, what: &str) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(format!("{version} is {what}"))])
}

#[tool_handler]
impl ServerHandler for Releases {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let store = env::var("STORE").unwrap_or_else(|_| "file:./serve.db".into());
    let listener = TcpListener::bind("127.0.0.1:8765").await?;
    tracing::info!("listening on http://{}/mcp", listener.local_addr()?);
    serve(&store, listener, asked_to_end()).await
}

/// Serves until `stop` is cancelled, and then leaves what is unfinished to the next start.
pub(crate) async fn serve(
    store: &str,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let server = DurableServer::builder(Releases)
        .tool("publish", TaskPolicy::required().never_rerun())
        .tool("announce", TaskPolicy::required().never_rerun())
        .open(store)
        .await?;
    // Nobody proves anything, so this is for a loopback address: see `Callers::from_file`.
    let mut options = HttpOptions::new(Callers::local());
    options.connections = 100;
    let served = http::serve(&server, listener, &options, stop).await;
    server.shutdown(3_000).await;
    Ok(served?)
}

/// Cancelled by Ctrl-C and by what supervisors send.
fn asked_to_end() -> CancellationToken {
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        if let Err(error) = signal().await {
            tracing::error!(%error, "signals cannot be heard");
        }
        asked.cancel();
    });
    stop
}

#[cfg(unix)]
async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
