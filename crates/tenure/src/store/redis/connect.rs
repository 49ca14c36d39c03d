//! Connections that come back by themselves.
//!
//! The connection manager of the redis crate reports a failed connect and a lost answer alike. A
//! write has to tell them apart, so this is a smaller one that does.

use std::time::Duration;

use futures::future::join_all;
use parking_lot::RwLock;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, Pipeline, RedisError, TlsCertificates, Value,
};
use socket2::TcpKeepalive;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::Failure;
use super::nodes::{self, Nodes};
use super::{RedisOptions, tls};
use crate::store::StoreError;

/// One node or a cluster of them, and what is needed to reach it again.
pub(super) struct Link {
    route: Route,
    nodes: Nodes,
    timeouts: Timeouts,
}

enum Route {
    Single(Box<Single>),
    Cluster(ClusterConnection),
}

struct Single {
    client: Client,
    config: AsyncConnectionConfig,
    live: RwLock<Option<Live>>,
    /// Held by the one caller that connects for all.
    connecting: Mutex<u64>,
}

#[derive(Clone)]
struct Live {
    generation: u64,
    connection: MultiplexedConnection,
}

#[derive(Clone, Copy)]
struct Timeouts {
    connect: Duration,
    response: Duration,
}

impl Link {
    /// Connects to what a URL names.
    pub(super) async fn open(url: &str, options: &RedisOptions) -> Result<Self, StoreError> {
        let timeouts =
            Timeouts { connect: options.connect_timeout, response: options.response_timeout };
        let (nodes, cluster) = parse(url)?;
        let certificates = tls::certificates(options)?;
        if nodes.iter().any(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. })) {
            // Fails only when the program has already chosen one, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        } else if certificates.is_some() {
            let reason = "certificates are for rediss:// and rediss+cluster:// only";
            return Err(StoreError::InvalidLocation(reason.into()));
        }
        let named = nodes
            .iter()
            .cloned()
            .map(|node| match &certificates {
                Some(certificates) => Client::build_with_tls(node, certificates.clone()),
                None => Client::open(node),
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StoreError::InvalidLocation(error.to_string()))?;
        let known = Nodes::new(named).ok_or_else(|| missing("host"))?;
        let single = Single::new(known.first().clone(), timeouts);
        let route = if cluster {
            match timeouts.cluster(nodes, certificates).await {
                Ok(connection) => Route::Cluster(connection),
                // The cluster's client keeps the cause to itself, so one node is asked for it.
                Err(failure) => {
                    let cause = single.connect(timeouts.connect).await.err().unwrap_or(failure);
                    return Err(cause.into_store_error());
                }
            }
        } else {
            single.connect(timeouts.connect).await.map_err(Failure::into_store_error)?;
            Route::Single(Box::new(single))
        };
        Ok(Self { route, nodes: known, timeouts })
    }

    /// Sends one command and waits for its answer.
    pub(super) async fn send(&self, cmd: &Cmd) -> Result<Value, Failure> {
        match &self.route {
            Route::Single(single) => single.send(cmd, self.timeouts).await,
            Route::Cluster(connection) => {
                cmd.query_async(&mut connection.clone()).await.map_err(Failure::of_sent)
            }
        }
    }

    /// Whether several commands may be sent at once. Those for a cluster go to different nodes, and
    /// its client may send them again.
    pub(super) fn takes_batches(&self) -> bool {
        matches!(self.route, Route::Single(_))
    }

    /// Sends several commands at once, and waits for the answer to each.
    pub(super) async fn send_all(&self, cmds: &Pipeline) -> Vec<Result<Value, Failure>> {
        let Route::Single(single) = &self.route else {
            return join_all(cmds.cmd_iter().map(|cmd| self.send(cmd))).await;
        };
        match single.send_all(cmds, self.timeouts).await {
            Ok(answers) => answers.into_iter().map(own_error).collect(),
            Err(failure) => vec![Err(failure); cmds.len()],
        }
    }

    /// A fresh connection for subscriptions; `turn` chooses among the nodes of a cluster.
    pub(super) async fn subscriber(&self, turn: usize) -> Result<PubSub, RedisError> {
        let connecting = async {
            // Where the last one was made may have left the cluster, which goes on without it.
            if turn > 0 && matches!(self.route, Route::Cluster(_)) {
                self.learn_of_nodes().await;
            }
            self.nodes.at(turn).get_async_pubsub().await
        };
        timeout(self.timeouts.connect + self.timeouts.response, connecting)
            .await
            .unwrap_or_else(|_| Err(timed_out("subscribing")))
    }

    /// Asks the cluster, and leaves time for a connection: it may be known well enough.
    async fn learn_of_nodes(&self) {
        let asking = self.timeouts.response / 2;
        if let Ok(Ok(answer)) = timeout(asking, self.send(&nodes::question())).await {
            self.nodes.learn(answer);
        }
    }

    /// The longest that a subscription may take to be confirmed.
    pub(super) fn response_timeout(&self) -> Duration {
        self.timeouts.response
    }
}

impl Timeouts {
    async fn cluster(
        self,
        nodes: Vec<ConnectionInfo>,
        certificates: Option<TlsCertificates>,
    ) -> Result<ClusterConnection, Failure> {
        // Without retries of its own: a command that was sent twice could be applied twice. It
        // still follows the cluster's changes, and we try again where that is harmless.
        let connecting = async {
            let builder = match certificates {
                Some(certificates) => ClusterClient::builder(nodes).certs(certificates),
                None => ClusterClient::builder(nodes),
            };
            builder
                .retries(0)
                .connection_timeout(self.connect)
                .response_timeout(self.response)
                .overall_response_timeout(Some(self.connect + self.response))
                .tcp_settings(tcp_settings())
                .build()?
                .get_async_connection()
                .await
        };
        timeout(self.connect + self.response, connecting)
            .await
            .unwrap_or_else(|_| Err(timed_out("connecting to the cluster")))
            .map_err(Failure::NotSent)
    }
}

impl Single {
    fn new(client: Client, timeouts: Timeouts) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response))
            .set_pipeline_buffer_size(256)
            .set_write_backpressure_boundary(64 << 10);
        Self { client, config, live: RwLock::default(), connecting: Mutex::default() }
    }

    async fn send(&self, cmd: &Cmd, timeouts: Timeouts) -> Result<Value, Failure> {
        let mut live = self.live(timeouts).await?;
        let answer = live.connection.send_packed_command(cmd).await.map_err(Failure::of_sent);
        self.judge(&live, answer.as_ref().map(std::slice::from_ref));
        answer.and_then(own_error)
    }

    async fn send_all(&self, cmds: &Pipeline, timeouts: Timeouts) -> Result<Vec<Value>, Failure> {
        let mut live = self.live(timeouts).await?;
        let sending = live.connection.send_packed_commands(cmds, 0, cmds.len());
        let answers = sending.await.map_err(Failure::of_sent);
        self.judge(&live, answers.as_deref());
        answers
    }

    async fn live(&self, timeouts: Timeouts) -> Result<Live, Failure> {
        let current = self.live.read().clone();
        match current {
            Some(live) => Ok(live),
            None => self.connect(timeouts.connect).await,
        }
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

    async fn connect(&self, limit: Duration) -> Result<Live, Failure> {
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
        timeout(limit, connecting)
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

fn timed_out(what: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{what} took too long")).into()
}

/// A peer that vanished without a word is noticed within half a minute, also by a connection
/// that only listens. That is the kernel's work: nothing is sent to Redis.
fn tcp_settings() -> TcpSettings {
    let probe = Duration::from_secs(5);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(probe).with_retries(3),
    );
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(30));
    settings
}

/// The nodes that a URL names, and whether they are a cluster. The URL may contain a password, so
/// no error repeats it.
fn parse(url: &str) -> Result<(Vec<ConnectionInfo>, bool), StoreError> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| missing("scheme"))?;
    let (scheme, cluster) = match scheme {
        "redis" | "rediss" | "redis+unix" | "unix" => (scheme, false),
        "redis+cluster" => ("redis", true),
        "rediss+cluster" => ("rediss", true),
        _ => return Err(StoreError::InvalidLocation("not a Redis scheme".into())),
    };
    if !cluster {
        return Ok((vec![node(url)?], false));
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let nodes: Vec<_> = hosts
        .split(',')
        .map(|host| node(&format!("{scheme}://{user}{host}{tail}")))
        .collect::<Result<_, _>>()?;
    if nodes.iter().any(|node| node.redis_settings().db() != 0) {
        return Err(StoreError::InvalidLocation("a cluster has no database numbers".into()));
    }
    Ok((nodes, true))
}

fn node(url: &str) -> Result<ConnectionInfo, StoreError> {
    let info = url.into_connection_info().map_err(|error| match error.kind() {
        ErrorKind::InvalidClientConfig => StoreError::InvalidLocation(error.to_string()),
        _ => StoreError::InvalidLocation("not a Redis URL".into()),
    })?;
    Ok(info.set_tcp_settings(tcp_settings()))
}

fn missing(what: &str) -> StoreError {
    StoreError::InvalidLocation(format!("the Redis URL has no {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_users_databases_and_nodes() {
        let (nodes, cluster) = parse("rediss://me:s%40t@h:7000/3").unwrap();
        assert!(!cluster);
        assert_eq!(nodes[0].redis_settings().username(), Some("me"));
        assert_eq!(nodes[0].redis_settings().password(), Some("s@t"));
        assert_eq!(nodes[0].redis_settings().db(), 3);
        let (nodes, cluster) = parse("redis+cluster://me:pw@a:7000,b:7001").unwrap();
        assert!(cluster);
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[1].addr().to_string(), "b:7001");
        assert_eq!(nodes[1].redis_settings().password(), Some("pw"));
    }

    #[test]
    fn a_bad_url_is_refused_without_repeating_its_password() {
        for url in [
            "",
            "h:6379",
            "http://me:secret@h",
            "redis://me:secret@h:port",
            "redis+cluster://me:secret@a,b/1",
            "redis://me:secret@h/x",
        ] {
            let error = parse(url).unwrap_err();
            assert!(matches!(error, StoreError::InvalidLocation(_)), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
