//! The server's process: starting it, finding it, killing it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tenure::runtime::WorkerOptions;
use tenure::tasks::TaskLimits;
use tenure_mcp::http::{HttpOptions, serve};
use tenure_mcp::{Callers, DurableServer};
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::tools::{Tools, policies};

const VARIABLE: &str = "TENURE_TEST_SERVER";
const READY: &str = "listening on ";

/// What a server is told when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) store: String,
    pub(crate) ledger: PathBuf,
    pub(crate) heartbeat_timeout_ms: u64,
    pub(crate) unfinished_per_owner: u32,
    /// Breaks the promise that a tool runs once.
    pub(crate) rerun_once: bool,
}

impl Settings {
    pub(crate) fn new(store: impl Into<String>, folder: &Path) -> Self {
        Self {
            store: store.into(),
            ledger: folder.join("ledger"),
            // No machine stands still for that long, so that only the dead are taken for dead.
            heartbeat_timeout_ms: 5_000,
            unfinished_per_owner: 10_000,
            rerun_once: false,
        }
    }

    /// On a file in `folder`.
    pub(crate) fn on_file(folder: &Path) -> Self {
        Self::new(format!("file:{}", folder.join("tenure.db").display()), folder)
    }
}

/// A server in a process of its own, killed when it is dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) url: String,
}

impl Server {
    /// Starts a server and waits until it can be reached.
    pub(crate) async fn start(settings: &Settings) -> Self {
        let settings = settings.clone();
        tokio::task::spawn_blocking(move || Self::start_blocking(&settings)).await.unwrap()
    }

    fn start_blocking(settings: &Settings) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server::serve_until_killed", "--ignored", "--nocapture"])
            .env(VARIABLE, serde_json::to_string(settings).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once(READY)?.1.to_owned()))
            .expect("the server did not start");
        Self { process, url }
    }

    /// Stands still until it is told to go on.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        // SIGKILL; then wait until it is gone.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that other tests start and kill"]
async fn serve_until_killed() {
    let settings = std::env::var(VARIABLE).expect("started by another test");
    let settings: Settings = serde_json::from_str(&settings).unwrap();
    // Nobody kills a server whose test was itself killed.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let ledger = Arc::new(Ledger::open(&settings.ledger));
    let mut builder = DurableServer::builder(Tools(ledger))
        .limits(TaskLimits {
            unfinished_per_owner: settings.unfinished_per_owner,
            ..TaskLimits::default()
        })
        .worker(WorkerOptions {
            heartbeat_timeout_ms: settings.heartbeat_timeout_ms,
            concurrency: 1_000,
            concurrency_per_owner: Some(1_000),
            ..WorkerOptions::default()
        });
    for (name, policy) in policies(settings.rerun_once) {
        builder = builder.tool(name, policy);
    }
    let server = builder.open(&settings.store).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{READY}http://{}/mcp", listener.local_addr().unwrap());
    let options = HttpOptions::new(Callers::local());
    serve(&server, listener, &options, CancellationToken::new()).await.unwrap();
}
