//! Running the program, and servers that end with the test.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) const TENURE: &str = env!("CARGO_BIN_EXE_tenure");

/// A server that does not say by then what is waited for never will.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    command_of(TENURE, folder, arguments)
}

/// Another program, in the same environment.
pub(crate) fn command_of(program: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for variable in [
        "TENURE_STORE",
        "TENURE_SERVER",
        "TENURE_TOKEN",
        "TENURE_TOKENS",
        "TENURE_LOG",
        "TENURE_CONNECTIONS",
        "TENURE_STREAMS_PER_OWNER",
        "TENURE_LISTENERS_PER_OWNER",
        "TENURE_SESSIONS_PER_OWNER",
        "TENURE_IDLE_MS",
        "EDITOR",
        "VISUAL",
    ] {
        command.env_remove(variable);
    }
    command
}

pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The lines of a stream, as they come.
pub(crate) struct Lines {
    coming: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

impl Lines {
    pub(crate) fn of(stream: impl std::io::Read + Send + 'static) -> Self {
        let (line, coming) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stream).lines().map_while(Result::ok);
            lines.map(|it| line.send(it)).all(|sent| sent.is_ok())
        });
        Self { coming, seen: Vec::new() }
    }

    /// The next line that has this text in it.
    pub(crate) fn until(&mut self, text: &str) -> String {
        loop {
            let line = self.coming.recv_timeout(PATIENCE);
            self.seen
                .push(line.unwrap_or_else(|end| panic!("{end}: {text} not in {:?}", self.seen)));
            if let Some(line) = self.seen.last().filter(|it| it.contains(text)) {
                return line.clone();
            }
        }
    }

    /// All lines, to the end of the stream.
    pub(crate) fn into_all(mut self) -> Vec<String> {
        self.seen.extend(self.coming);
        self.seen
    }
}

/// An address that is still free when its server is started again: its port is below those that the
/// system gives to whoever asks for any.
pub(crate) fn spare_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", 30_000 + number % 2_500);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// A server that ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) says: Lines,
}

impl Server {
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", folder, arguments)
    }

    pub(crate) fn start_at(listen: &str, folder: &Path, arguments: &[&str]) -> Self {
        let all = [&["serve", "--listen", listen], arguments].concat();
        Self::spawn(&mut command(folder, &all))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut says = Lines::of(child.stderr.take().unwrap());
        let line = says.until("serving http://");
        let address = line.split("http://").nth(1).and_then(|it| it.split("/mcp").next());
        let url = format!("http://{}", address.unwrap());
        Self { child, url, says }
    }

    /// The most memory that it has used so far.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
        peak.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) {
        self.signal("-TERM");
    }

    pub(crate) fn signal(&mut self, name: &str) {
        signal(&self.child, name);
    }

    /// The mask of the signals that do nothing to it.
    #[cfg(target_os = "linux")]
    pub(crate) fn ignored_signals(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mask = status.lines().find_map(|it| it.strip_prefix("SigIgn:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    }

    /// How it ended, and all that it said.
    pub(crate) fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        let says = std::mem::replace(&mut self.says, Lines::of(std::io::empty()));
        (status, says.into_all())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls a tool as a task.
pub(crate) async fn call(server: &Server, tool: &str, arguments: Value) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        },
    });
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let request = reqwest::Client::new().post(format!("{}/mcp", server.url)).json(&body);
    let request = request
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", tool);
    let text = request.send().await.unwrap().text().await.unwrap();
    let message =
        text.lines().find_map(|it| it.strip_prefix("data: {")).map(|it| format!("{{{it}"));
    serde_json::from_str::<Value>(&message.unwrap_or(text)).unwrap()["result"].clone()
}

/// How a program ends that must do so by itself.
pub(crate) fn ended(mut child: Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it goes on");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}
