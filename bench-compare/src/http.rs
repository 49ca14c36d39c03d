//! The whole path over HTTP: tools/call, the task, tasks/get until its result is there. Ours keeps
//! its tasks durably in a file; rmcp's TaskManager keeps them in memory and loses them.

mod client;
mod server;

use std::path::Path;

use anyhow::Result;
use tenure_mcp::{DurableServer, TaskPolicy, http};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::client::Client;
use self::server::{InMemory, Tools};
use crate::measure::{Effort, alternate, concurrent, rate};
use crate::table::{self, Figure, Row, Target};

const PEER: &str = "rmcp, in memory";
const LIVE: usize = 1_000;
const TASKS: usize = 640;

/// Measures, and prints the table.
pub async fn run(effort: Effort, folder: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(folder)?;
    let live = if effort.quick { LIVE / 10 } else { LIVE };
    let mut rows = Vec::new();
    for connections in [1, 8, 32] {
        let tasks = (effort.calls(TASKS) / connections).max(1);
        let mut round = 0;
        let (us, them) = alternate(
            effort,
            async || {
                round += 1;
                let file = folder.path().join(format!("{connections}-{round}.db"));
                ours(&file, live, connections, tasks).await
            },
            async || theirs(live, connections, tasks).await,
        )
        .await?;
        rows.push(Row {
            what: format!("tools/call to result, {connections} connections"),
            ours: Figure::Rate(rate(us)),
            theirs: Some((PEER, Figure::Rate(rate(them)))),
            target: Target::None,
        });
    }
    let note = format!(
        "Tasks of a second from the call to the result in the client's hands, beside {live} live \
         tasks, on a server that is fresh in each round; ours is on the file store, each task \
         durable before its handle leaves and again before its result does. The client asks again \
         at once while a task is not done. Client and server share the runtime."
    );
    table::print("HTTP", &rows, &[note]);
    Ok(())
}

async fn ours(file: &Path, live: usize, connections: usize, tasks: usize) -> Result<f64> {
    let server = DurableServer::builder(Tools)
        .tool("echo", TaskPolicy::optional())
        .open(&format!("file:{}", file.display()))
        .await?;
    // Live tasks in nobody's care: their client is asked for input that never comes.
    server::park(server.tasks(), live).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let (shared, stopped) = (server.clone(), stop.clone());
    let serving = tokio::spawn(async move {
        http::serve(&shared, listener, &http::HttpOptions::default(), stopped).await
    });
    let time = drive(address, connections, tasks).await;
    stop.cancel();
    serving.await??;
    server.shutdown(0).await;
    time
}

async fn theirs(live: usize, connections: usize, tasks: usize) -> Result<f64> {
    let server = InMemory::default();
    server.park(live);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(server.clone().serve(listener));
    let time = drive(address, connections, tasks).await;
    serving.abort();
    server.shutdown();
    time
}

async fn drive(address: std::net::SocketAddr, connections: usize, tasks: usize) -> Result<f64> {
    // One task before the clock starts: connections, code paths, pages of the file.
    Client::connect(address).await?.run_task().await?;
    concurrent(connections, connections * tasks, |_| async move {
        let mut client = Client::connect(address).await?;
        for _ in 0..tasks {
            client.run_task().await?;
        }
        Ok(())
    })
    .await
}
