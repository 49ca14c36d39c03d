//! A cluster, over one connection to its nodes that all share.
//!
//! The client of the redis crate reconnects to nodes by itself, but what drives it lives on the
//! runtime of whoever connected, and ends with that. It is then replaced before anything is handed to
//! it. What was under way has no answer, which is told as such: nothing is sent again here.

use parking_lot::RwLock;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, ConnectionInfo, TlsCertificates, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::connect::{Timeouts, tcp_settings, timed_out};
use super::error::Failure;

pub(super) struct Cluster {
    client: ClusterClient,
    timeouts: Timeouts,
    live: RwLock<Option<Live>>,
    /// Held by the one caller that connects for all.
    connecting: Mutex<()>,
}

struct Live {
    connection: ClusterConnection,
    /// Does nothing, and ends with the runtime on which the connection is driven.
    runtime: AbortOnDropHandle<()>,
}

impl Cluster {
    pub(super) fn new(
        nodes: Vec<ConnectionInfo>,
        certificates: Option<TlsCertificates>,
        timeouts: Timeouts,
    ) -> Result<Self, Failure> {
        let builder = match certificates {
            Some(certificates) => ClusterClient::builder(nodes).certs(certificates),
            None => ClusterClient::builder(nodes),
        };
        // Without retries of its own: a command that was sent twice could be applied twice. It
        // still follows the cluster's changes, and we try again where that is harmless.
        let client = builder
            .retries(0)
            .connection_timeout(timeouts.connect)
            .response_timeout(timeouts.response)
            .overall_response_timeout(Some(timeouts.both()))
            .tcp_settings(tcp_settings())
            .build()
            .map_err(Failure::NotSent)?;
        Ok(Self { client, timeouts, live: RwLock::default(), connecting: Mutex::default() })
    }

    /// Sends one command and waits for its answer.
    pub(super) async fn send(&self, cmd: &Cmd) -> Result<Value, Failure> {
        let mut connection = self.ready().await?;
        cmd.query_async(&mut connection).await.map_err(Failure::of_sent)
    }

    /// The connection that is there, or else a new one.
    pub(super) async fn ready(&self) -> Result<ClusterConnection, Failure> {
        match self.live() {
            Some(connection) => Ok(connection),
            None => self.connect().await,
        }
    }

    fn live(&self) -> Option<ClusterConnection> {
        let live = self.live.read();
        live.as_ref().filter(|it| !it.runtime.is_finished()).map(|it| it.connection.clone())
    }

    async fn connect(&self) -> Result<ClusterConnection, Failure> {
        let connecting = async {
            let _connecting = self.connecting.lock().await;
            if let Some(connection) = self.live() {
                return Ok(connection);
            }
            let runtime = AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
            let connection = self.client.get_async_connection().await?;
            *self.live.write() = Some(Live { connection: connection.clone(), runtime });
            Ok(connection)
        };
        timeout(self.timeouts.both(), connecting)
            .await
            .unwrap_or_else(|_| Err(timed_out("connecting to the cluster")))
            .map_err(Failure::NotSent)
    }
}
