//! What a URL leads to: one server, or a cluster.

use std::time::Duration;

use redis::aio::PubSub;
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, RedisError,
    Value,
};
use socket2::TcpKeepalive;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::error::Failure;
use super::nodes::{self, Nodes};
use super::single::Single;
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
    Cluster(Box<Cluster>),
}

#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
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
            let cluster =
                Cluster::new(nodes, certificates, timeouts).map_err(Failure::into_store_error)?;
            // The cluster's client keeps the cause to itself, so one node is asked for it.
            if let Err(failure) = cluster.ready().await {
                let cause = single.ready().await.err().unwrap_or(failure);
                return Err(cause.into_store_error());
            }
            Route::Cluster(Box::new(cluster))
        } else {
            single.ready().await.map_err(Failure::into_store_error)?;
            Route::Single(Box::new(single))
        };
        Ok(Self { route, nodes: known, timeouts })
    }

    /// Sends one command and waits for its answer.
    pub(super) async fn send(&self, cmd: &Cmd) -> Result<Value, Failure> {
        match &self.route {
            Route::Single(single) => single.send(cmd).await,
            Route::Cluster(cluster) => cluster.send(cmd).await,
        }
    }

    /// The one server there is, on whose connection several commands may be sent at once. Those for a
    /// cluster go to different nodes, and its client may send them again.
    pub(super) fn single(&self) -> Option<&Single> {
        match &self.route {
            Route::Single(single) => Some(single),
            Route::Cluster(_) => None,
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
        timeout(self.timeouts.both(), connecting)
            .await
            .unwrap_or_else(|_| Err(timed_out("subscribing")))
    }

    /// At how many places there may be a connection for subscriptions.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.count()
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
    /// To connect, and to be answered.
    pub(super) fn both(self) -> Duration {
        self.connect.saturating_add(self.response)
    }
}

pub(super) fn timed_out(what: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{what} took too long")).into()
}

/// A peer that vanished without a word is noticed within half a minute, also by a connection
/// that only listens. That is the kernel's work: nothing is sent to Redis.
pub(super) fn tcp_settings() -> TcpSettings {
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
        for scheme in ["redis+unix", "unix"] {
            let url = format!("{scheme}:///run/a%20b.sock?db=3&user=me&pass=s%40t");
            let (nodes, cluster) = parse(&url).unwrap();
            assert!(!cluster);
            assert_eq!(nodes[0].addr().to_string(), "/run/a b.sock");
            assert_eq!(nodes[0].redis_settings().username(), Some("me"));
            assert_eq!(nodes[0].redis_settings().password(), Some("s@t"));
            assert_eq!(nodes[0].redis_settings().db(), 3);
        }
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
            "redis+unix://?pass=secret",
            "unix:///s?db=x&pass=secret",
        ] {
            let error = parse(url).unwrap_err();
            assert!(matches!(error, StoreError::InvalidLocation(_)), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
