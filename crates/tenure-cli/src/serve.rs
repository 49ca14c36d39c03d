//! `tenure serve`.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tenure::clock::Clock;
use tenure::runtime::WorkerOptions;
use tenure_mcp::http::{self, HttpOptions, ServeError};
use tenure_mcp::{Callers, DurableServer, stdio};
use tokio::net::{TcpListener, lookup_host};
use tokio_util::sync::CancellationToken;

use crate::args::ServeArgs;
use crate::demo::{self, Demo};
use crate::error::CliError;
use crate::output::note;
use crate::progress::Progress;
use crate::signals::{self, Signals};

/// The environment variable with what `--tokens` has in a file.
const TOKENS: &str = "TENURE_TOKENS";

pub(crate) async fn run(args: ServeArgs) -> Result<(), CliError> {
    let callers = callers(&args)?;
    // Before the store is touched: a server that does not come up should not take over tasks.
    let listener = if args.stdio { None } else { Some(listen(&args.listen, &callers).await?) };
    let options = WorkerOptions {
        heartbeat_timeout_ms: args.heartbeat_timeout_ms,
        ..args.bounds.worker(callers.is_local())
    };
    let progress = Arc::new(Progress::new(Clock::system()));
    let (listeners, per_owner) = (args.bounds.connections, args.bounds.listeners_per_owner);
    let durable = demo::durable(Demo::new())
        .worker(options)
        .resources(&args.projects)
        .listeners(listeners.get(), per_owner.get());
    let server =
        progress.of(|| args.store.url.opening(), durable.open(args.store.url.as_str())).await;
    let server = server.map_err(|error| CliError::from(error).opening(args.store.url.shown()))?;
    let (telling, takeovers) = (Arc::clone(&progress), server.worker().takeover());
    let telling = tokio::spawn(async move { telling.of_takeovers(takeovers).await });
    let shutdown = CancellationToken::new();
    // Before anybody is served: from the first answer on, a signal is a shutdown.
    let heeding = tokio::spawn(signals::heed(Signals::new()?, shutdown.clone(), args.drain_ms));
    let mut served = pin!(async {
        match listener {
            None => serve_stdio(&server, shutdown.clone()).await,
            Some(listener) => serve_http(&server, listener, callers, &args, shutdown.clone()).await,
        }
    });
    let served = tokio::select! {
        biased;
        served = &mut served => served,
        () = shutdown.cancelled() => {
            progress.of(|| "waiting for open requests".into(), served).await
        }
    };
    let worker = server.worker().clone();
    progress.of(|| draining(worker.in_care()), server.shutdown(args.drain_ms)).await;
    telling.abort();
    heeding.abort();
    served
}

/// Who may call: what the file says, or the environment, or whoever is on this machine.
fn callers(args: &ServeArgs) -> Result<Callers, CliError> {
    // Also if it is empty or not text: a secret that got lost must not open the server.
    let named = std::env::var_os(TOKENS).is_some();
    match &args.tokens {
        Some(_) if named => Err(CliError::Usage(format!(
            "--tokens and {TOKENS} both say who may call; give one of them"
        ))),
        Some(file) => Ok(Callers::from_file(file)?),
        None if named && args.stdio => Err(CliError::Usage(format!(
            "{TOKENS} cannot be used with --stdio, which has one caller"
        ))),
        None if named => Ok(Callers::from_env(TOKENS)?),
        None => Ok(Callers::local()),
    }
}

fn check_exposure(address: SocketAddr, callers: &Callers) -> Result<(), CliError> {
    match http::check_exposure(address, callers) {
        Err(ServeError::Exposed { address }) => Err(CliError::Usage(format!(
            "{address} can be reached from outside: say who may call with --tokens, or listen on \
             127.0.0.1"
        ))),
        checked => Ok(checked?),
    }
}

fn draining(tasks: usize) -> String {
    let tasks = if tasks == 1 { "1 task".into() } else { format!("{tasks} tasks") };
    format!("waiting for {tasks} to end or to stop; Ctrl-C leaves them to the next start")
}

async fn listen(listen: &str, callers: &Callers) -> Result<TcpListener, CliError> {
    let failed = |source| CliError::Listen { address: listen.into(), source };
    let addresses: Vec<_> = lookup_host(listen).await.map_err(failed)?.collect();
    for address in &addresses {
        check_exposure(*address, callers)?;
    }
    TcpListener::bind(&addresses[..]).await.map_err(failed)
}

async fn serve_http(
    server: &DurableServer<Demo>,
    listener: TcpListener,
    callers: Callers,
    args: &ServeArgs,
    shutdown: CancellationToken,
) -> Result<(), CliError> {
    let address = listener.local_addr()?;
    let store = args.store.url.shown();
    note(&format!("serving http://{address}/mcp, state in {store}"));
    if std::io::stderr().is_terminal() {
        note("Ctrl-C stops; what runs may finish or goes on at the next start");
    }
    let mut options = HttpOptions::new(callers);
    args.bounds.apply(&mut options);
    options.conditions_required = args.conditions_required;
    options.drain_ms = options.drain_ms.min(args.drain_ms);
    Ok(http::serve(server, listener, &options, shutdown).await?)
}

async fn serve_stdio(
    server: &DurableServer<Demo>,
    shutdown: CancellationToken,
) -> Result<(), CliError> {
    Ok(stdio::serve(server, shutdown).await?)
}
