//! `tenure serve`.

use std::io::IsTerminal as _;

use tenure::clock::Clock;
use tenure::runtime::WorkerOptions;
use tenure::tasks::TaskStore;
use tenure_mcp::http::{self, HttpOptions};
use tenure_mcp::{Callers, DurableServer, stdio};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::ServeArgs;
use crate::demo::{self, Demo};
use crate::error::CliError;

/// Expired records are reclaimed this often, and this many at a time.
const CLEANUP_INTERVAL_MS: u64 = 30_000;
const CLEANUP_BATCH: usize = 1_000;

pub(crate) async fn run(args: ServeArgs) -> Result<(), CliError> {
    let callers = match &args.tokens {
        Some(file) => Callers::from_file(file)?,
        None => Callers::local(),
    };
    // Before the store is touched: a server that does not come up should not take over tasks.
    if !args.stdio {
        http::check_exposure(args.listen, &callers)?;
    }
    let listener = if args.stdio { None } else { Some(listen(&args).await?) };
    let options = WorkerOptions {
        heartbeat_timeout_ms: args.heartbeat_timeout_ms,
        ..WorkerOptions::default()
    };
    let server = demo::durable(Demo::new())
        .worker(options)
        .resources(&args.projects)
        .open(&args.store)
        .await?;
    let shutdown = CancellationToken::new();
    let cleanup = tokio::spawn(reclaim(server.tasks().clone()));
    let signals = tokio::spawn(on_signal(shutdown.clone(), args.drain_ms));
    let served = match listener {
        None => serve_stdio(&server, shutdown).await,
        Some(listener) => serve_http(&server, listener, callers, &args, shutdown).await,
    };
    server.shutdown(args.drain_ms).await;
    cleanup.abort();
    signals.abort();
    served
}

async fn listen(args: &ServeArgs) -> Result<TcpListener, CliError> {
    TcpListener::bind(args.listen)
        .await
        .map_err(|source| CliError::Listen { address: args.listen, source })
}

async fn serve_http(
    server: &DurableServer<Demo>,
    listener: TcpListener,
    callers: Callers,
    args: &ServeArgs,
    shutdown: CancellationToken,
) -> Result<(), CliError> {
    let address = listener.local_addr()?;
    eprintln!(
        "tenure: serving http://{address}/mcp, state in {}",
        tenure::without_credentials(&args.store)
    );
    if std::io::stderr().is_terminal() {
        eprintln!("tenure: Ctrl-C stops; what runs may finish or goes on at the next start");
    }
    let mut options = HttpOptions::new(callers);
    options.conditions_required = args.conditions_required;
    Ok(http::serve(server, listener, &options, shutdown).await?)
}

async fn serve_stdio(
    server: &DurableServer<Demo>,
    shutdown: CancellationToken,
) -> Result<(), CliError> {
    Ok(stdio::serve(server, shutdown).await?)
}

/// The first signal shuts down politely, the second at once.
async fn on_signal(shutdown: CancellationToken, drain_ms: u64) {
    if terminated().await.is_err() {
        return;
    }
    eprintln!("tenure: shutting down; running tools have {drain_ms} ms, Ctrl-C again ends at once");
    shutdown.cancel();
    if terminated().await.is_ok() {
        std::process::exit(130);
    }
}

async fn terminated() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Gives the space of expired records back, a little at a time.
async fn reclaim(tasks: TaskStore) {
    let clock: Clock = tasks.clock().clone();
    loop {
        match tasks.cleanup(CLEANUP_BATCH).await {
            Ok(CLEANUP_BATCH) => clock.sleep_millis(100).await,
            Ok(_) => clock.sleep_millis(CLEANUP_INTERVAL_MS).await,
            Err(error) => {
                tracing::warn!(%error, "expired tasks were not reclaimed");
                clock.sleep_millis(CLEANUP_INTERVAL_MS).await;
            }
        }
    }
}
