//! A `redis-server` of our own, which ends with the measurement.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

pub struct Server {
    process: Child,
    url: String,
    _folder: TempDir,
}

/// Ports to try: between finding one free and the server's taking it, somebody else may.
const PORTS: usize = 5;

impl Server {
    pub async fn start() -> Result<Self> {
        for _ in 0..PORTS {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let mut server = Self::spawn(port)?;
            if server.answers().await? {
                return Ok(server);
            }
        }
        bail!("redis-server ended by itself on each of {PORTS} ports")
    }

    fn spawn(port: u16) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server is not installed")?;
        Ok(Self { process, url: format!("redis://127.0.0.1:{port}"), _folder: folder })
    }

    /// Waits until it answers, it and no other. False when it has ended instead.
    async fn answers(&mut self) -> Result<bool> {
        let client = redis::Client::open(&*self.url)?;
        let ours = format!("process_id:{}\r\n", self.process.id());
        for _ in 0..100 {
            if self.process.try_wait()?.is_some() {
                return Ok(false);
            }
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
                let asked = redis::cmd("INFO").arg("server").query_async(&mut connection).await;
                let info: String = asked.unwrap_or_default();
                if info.contains(&ours) {
                    return Ok(true);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("redis-server does not answer at {}", self.url)
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
