//! Redis servers that tests start themselves: on spare ports, in folders of their own.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Ends with its standard input, and takes the server along: also when the tests are killed.
/// `REDIS_SERVER` is the program to start, such as a `valkey-server`.
const KEEPER: &str = r#""${REDIS_SERVER:-redis-server}" "$@" & server=$!; echo $server > pid; read -r _; kill -9 $server 2>/dev/null; wait"#;

pub struct Server {
    pub port: u16,
    args: Vec<String>,
    folder: TempDir,
    running: Option<(Child, ChildStdin)>,
}

impl Server {
    /// Starts a server with more arguments than the usual ones, and waits until it answers.
    pub fn start(args: &[&str]) -> Self {
        let mut server = Self {
            port: spare_port(),
            args: args.iter().map(ToString::to_string).collect(),
            folder: tempfile::tempdir().unwrap(),
            running: None,
        };
        server.launch();
        server
    }

    /// Starts it again, on what it left behind.
    pub fn launch(&mut self) {
        let port = self.port.to_string();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "redis-server", "--port", &port, "--save", ""])
            .args(["--cluster-port", &(self.port + 10_000).to_string()])
            .args(["--logfile", "log", "--bind", "127.0.0.1"])
            .args(&self.args)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let stdin = keeper.stdin.take().unwrap();
        self.running = Some((keeper, stdin));
        self.wait_for("PING", &["PING"], |answer| {
            answer.contains("PONG") || answer.contains("NOAUTH")
        });
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints.
    pub fn cli(&self, args: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(args)
            .output()
            .expect("redis-cli is installed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn wait_for(&self, what: &str, args: &[&str], done: impl Fn(&str) -> bool) {
        let started = Instant::now();
        while !done(&self.cli(args)) {
            assert!(started.elapsed() < Duration::from_secs(20), "no {what} on {}", self.port);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process as a power cut would, from its point of view.
    pub fn kill(&mut self) {
        if let Some((mut keeper, mut stdin)) = self.running.take() {
            let _ = stdin.write_all(b"\n");
            drop(stdin);
            keeper.wait().unwrap();
        }
    }

    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How often a server was sent a command, by its `INFO commandstats`.
pub fn calls(stats: &str, command: &str) -> usize {
    let (_, calls) = stats.split_once(&format!("cmdstat_{command}:calls=")).unwrap();
    calls.split(',').next().unwrap().parse().unwrap()
}

/// A port that is free, and whose cluster port is. Both are below those that the system gives to
/// outgoing connections.
pub fn spare_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = 10_000 + rand::random_range(0..10_000);
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        if [port, port + 10_000].iter().all(is_free) && GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// What makes a server a node of a cluster.
pub const CLUSTERED: [&str; 4] = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];

/// Three primaries that share the slots, and their replicas.
pub struct Cluster {
    pub nodes: Vec<Server>,
}

impl Cluster {
    pub fn start() -> Self {
        Self::of::<3>(std::array::from_fn(|_| Server::start(&CLUSTERED)))
    }

    /// Makes a cluster of three servers, or of six, of which three are then replicas.
    pub fn of<const N: usize>(nodes: [Server; N]) -> Self {
        let nodes = Vec::from(nodes);
        let replicas = (N / 3 - 1).to_string();
        let addresses: Vec<_> =
            nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        let said = nodes[0].cli(&create);
        for node in &nodes {
            node.wait_for(&said, &["CLUSTER", "INFO"], |info| info.contains("cluster_state:ok"));
        }
        Self { nodes }
    }

    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }
}

/// The server of all tests that break nothing: `REDIS_URL`, or one of our own.
pub fn shared_url() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    std::env::var("REDIS_URL").unwrap_or_else(|_| SERVER.get_or_init(|| Server::start(&[])).url())
}

/// The cluster of all tests that break nothing: `REDIS_CLUSTER_URL`, or one of our own.
pub fn shared_cluster_url() -> String {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    std::env::var("REDIS_CLUSTER_URL").unwrap_or_else(|_| CLUSTER.get_or_init(Cluster::start).url())
}
