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

impl Server {
    pub async fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server is not installed")?;
        let this = Self { process, url: format!("redis://127.0.0.1:{port}"), _folder: folder };
        let client = redis::Client::open(&*this.url)?;
        for _ in 0..100 {
            if client.get_multiplexed_async_connection().await.is_ok() {
                return Ok(this);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("redis-server does not answer on port {port}")
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
