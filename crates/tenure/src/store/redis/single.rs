//! One server, over one connection that all share and that comes back by itself.
//!
//! The connection manager of the redis crate reports a failed connect and a lost answer alike. A
//! write has to tell them apart, so this is a smaller one that does.

use std::time::Duration;

use parking_lot::RwLock;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connect::{Timeouts, timed_out};
use super::error::Failure;

pub(super) struct Single {
    client: Client,
    config: AsyncConnectionConfig,
    timeouts: Timeouts,
    live: RwLock<Option<Live>>,
    /// Held by the one caller that connects for all.
    connecting: Mutex<u64>,
}

#[derive(Clone)]
struct Live {
    generation: u64,
    connection: MultiplexedConnection,
}

/// A connection that is there: what is sent on it leaves at once, or never.
pub(super) struct Ready<'a> {
    single: &'a Single,
    live: Live,
}

impl Ready<'_> {
    /// Sends one command and waits for its answer.
    pub(super) async fn send(&mut self, cmd: &Cmd) -> Result<Value, Failure> {
        let sending = self.live.connection.send_packed_command(cmd);
        let answer = sending.await.map_err(Failure::of_sent);
        self.single.judge(&self.live, answer.as_ref().map(std::slice::from_ref));
        answer.and_then(own_error)
    }

    /// Sends several commands at once, and waits for the answer to each.
    pub(super) async fn send_all(&mut self, cmds: &Pipeline) -> Vec<Result<Value, Failure>> {
        let sending = self.live.connection.send_packed_commands(cmds, 0, cmds.len());
        let answers = sending.await.map_err(Failure::of_sent);
        self.single.judge(&self.live, answers.as_deref());
        match answers {
            Ok(answers) => answers.into_iter().map(own_error).collect(),
            Err(failure) => vec![Err(failure); cmds.len()],
        }
    }

    /// The same connection, for somebody else.
    pub(super) fn share(&self) -> Self {
        Self { single: self.single, live: self.live.clone() }
    }
}

impl Single {
    pub(super) fn new(client: Client, timeouts: Timeouts) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response))
            .set_pipeline_buffer_size(256)
            .set_write_backpressure_boundary(64 << 10);
        Self { client, config, timeouts, live: RwLock::default(), connecting: Mutex::default() }
    }

    pub(super) async fn send(&self, cmd: &Cmd) -> Result<Value, Failure> {
        self.ready().await?.send(cmd).await
    }

    /// The connection that is there, or else a new one.
    pub(super) async fn ready(&self) -> Result<Ready<'_>, Failure> {
        let current = self.live.read().clone();
        let live = match current {
            Some(live) => live,
            None => self.connect().await?,
        };
        Ok(Ready { single: self, live })
    }

    /// Longer than any call here takes: it may have to connect, and to bring its script along.
    pub(super) fn patience(&self) -> Duration {
        self.timeouts.connect.saturating_add(self.timeouts.response.saturating_mul(2))
    }

    /// Forgets a connection on which nothing more, or nothing good, will come.
    fn judge(&self, live: &Live, answers: Result<&[Value], &Failure>) {
        let is_of_use = match answers {
            // After a failover the address may lead to the new primary.
            Ok(answers) => !answers.iter().any(is_read_only),
            Err(failure) => !matches!(failure, Failure::Lost(_) | Failure::NotSent(_)),
        };
        if !is_of_use {
            self.forget(live.generation);
        }
    }

    /// Drops a connection that is of no more use, unless somebody has already replaced it.
    fn forget(&self, generation: u64) {
        let mut live = self.live.write();
        if live.as_ref().is_some_and(|live| live.generation == generation) {
            *live = None;
        }
    }

    async fn connect(&self) -> Result<Live, Failure> {
        let connecting = async {
            let mut generation = self.connecting.lock().await;
            if let Some(live) = self.live.read().clone() {
                return Ok(live);
            }
            let connection =
                self.client.get_multiplexed_async_connection_with_config(&self.config).await?;
            *generation += 1;
            let live = Live { generation: *generation, connection };
            *self.live.write() = Some(live.clone());
            Ok(live)
        };
        timeout(self.timeouts.connect, connecting)
            .await
            .unwrap_or_else(|_| Err(timed_out("connecting")))
            .map_err(Failure::NotSent)
    }
}

/// The error that an answer is. Those inside it belong to its parts.
fn own_error(answer: Value) -> Result<Value, Failure> {
    match answer {
        Value::ServerError(error) => Err(Failure::of_sent(error.into())),
        answer => Ok(answer),
    }
}

/// Whether the server says so, or a script about one of its writes.
fn is_read_only(answer: &Value) -> bool {
    match answer {
        Value::ServerError(error) => error.code() == "READONLY",
        Value::Array(parts) => parts
            .iter()
            .any(|part| matches!(part, Value::ServerError(error) if error.code() == "READONLY")),
        _ => false,
    }
}
