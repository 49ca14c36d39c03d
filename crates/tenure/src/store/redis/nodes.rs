//! The nodes at which subscriptions can be made: those that the URL names, and those of which the
//! cluster tells. Any node of a cluster hears what is published on any other.

use parking_lot::RwLock;
use redis::{Client, Cmd, ConnectionAddr, Value};

use crate::Chain;

pub(super) struct Nodes {
    /// At least one.
    named: Vec<Client>,
    /// What the cluster told last, without those that are named.
    announced: RwLock<Vec<Client>>,
}

/// What to ask a cluster. Unlike `CLUSTER SHARDS` it answers with the ports for who asks, TLS or not.
pub(super) fn question() -> Cmd {
    let mut cmd = Cmd::new();
    cmd.arg("CLUSTER").arg("SLOTS");
    cmd
}

impl Nodes {
    /// `None` when none is named.
    pub(super) fn new(named: Vec<Client>) -> Option<Self> {
        (!named.is_empty()).then(|| Self { named, announced: RwLock::default() })
    }

    pub(super) fn first(&self) -> &Client {
        &self.named[0]
    }

    pub(super) fn count(&self) -> usize {
        self.named.len() + self.announced.read().len()
    }

    /// One after the other as the turns rise, the named ones first.
    pub(super) fn at(&self, turn: usize) -> Client {
        let announced = self.announced.read();
        let turn = turn % (self.named.len() + announced.len());
        self.named.iter().chain(announced.iter()).nth(turn).unwrap_or(self.first()).clone()
    }

    /// Takes in what the cluster answered. They are reached as the named ones are: over TLS or not,
    /// with the same credentials.
    pub(super) fn learn(&self, answer: Value) {
        let info = self.first().get_connection_info();
        let (mut announced, mut is_told) = (Vec::<Client>::new(), false);
        for (host, port) in addresses(answer) {
            let Some(addr) = beside(info.addr(), host, port) else { continue };
            is_told = true;
            let is_known = |client: &Client| *client.get_connection_info().addr() == addr;
            if self.named.iter().chain(&announced).any(is_known) {
                continue;
            }
            match Client::open(info.clone().set_addr(addr)) {
                Ok(client) => announced.push(client),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "a node of the cluster is passed over")
                }
            }
        }
        // A node that has left its cluster announces none. Then the nodes that are known stay.
        if is_told {
            *self.announced.write() = announced;
        }
    }
}

/// The address of another node of the cluster. One that announces no host is where the named one is.
fn beside(named: &ConnectionAddr, host: String, port: u16) -> Option<ConnectionAddr> {
    let or_same = |same: &String| if host.is_empty() { same.clone() } else { host.clone() };
    match named {
        ConnectionAddr::Tcp(same, _) => Some(ConnectionAddr::Tcp(or_same(same), port)),
        ConnectionAddr::TcpTls { host: same, insecure, tls_params, .. } => {
            Some(ConnectionAddr::TcpTls {
                host: or_same(same),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            })
        }
        _ => None,
    }
}

/// Of `[first slot, last slot, [host, port, …], [host, port, …], …]` for each range of slots.
fn addresses(answer: Value) -> impl Iterator<Item = (String, u16)> {
    items(answer).flat_map(|range| items(range).skip(2)).filter_map(|node| {
        let mut node = items(node);
        let host = match node.next()? {
            Value::BulkString(host) => String::from_utf8(host).ok()?,
            Value::Nil => String::new(),
            _ => return None,
        };
        let Value::Int(port) = node.next()? else { return None };
        // The cluster does not know where that one is.
        (host != "?").then_some((host, u16::try_from(port).ok()?))
    })
}

fn items(value: Value) -> impl Iterator<Item = Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".into())])
    }

    fn range(nodes: Vec<Value>) -> Value {
        let mut range = vec![Value::Int(0), Value::Int(100)];
        range.extend(nodes);
        Value::Array(range)
    }

    fn named(url: &str) -> Nodes {
        Nodes::new(vec![Client::open(url).unwrap()]).unwrap()
    }

    fn turns(nodes: &Nodes, count: usize) -> Vec<String> {
        let address = |turn| nodes.at(turn).get_connection_info().addr().to_string();
        (0..count).map(address).collect()
    }

    #[test]
    fn what_a_cluster_announces_follows_what_was_named() {
        let nodes = named("redis://me:pw@a:1");
        assert_eq!(turns(&nodes, 2), ["a:1", "a:1"]);
        let text = |host: &str| Value::BulkString(host.into());
        let answer = vec![
            range(vec![node(text("a"), 1), node(text("b"), 2)]),
            range(vec![node(text("?"), 3), node(text(""), 4), node(text("b"), 2)]),
            range(vec![node(Value::Nil, 5), node(text("c"), 70_000), Value::Nil]),
            Value::Nil,
        ];
        nodes.learn(Value::Array(answer));
        assert_eq!(turns(&nodes, 5), ["a:1", "b:2", "a:4", "a:5", "a:1"]);
        let other = nodes.at(1);
        let settings = other.get_connection_info().redis_settings();
        assert_eq!((settings.username(), settings.password()), (Some("me"), Some("pw")));
        nodes.learn(Value::Array(vec![range(vec![node(text("d"), 6)])]));
        assert_eq!(turns(&nodes, 3), ["a:1", "d:6", "a:1"], "who has left is not asked again");
        for empty in [Value::Array(vec![]), Value::Nil, Value::Okay] {
            nodes.learn(empty);
            assert_eq!(turns(&nodes, 2), ["a:1", "d:6"], "who has left knows of none");
        }
    }

    #[test]
    fn what_a_cluster_announces_is_reached_over_tls_where_the_named_is() {
        let nodes = named("rediss://a:1");
        let answer = range(vec![node(Value::BulkString(b"b".into()), 2)]);
        nodes.learn(Value::Array(vec![answer]));
        let other = nodes.at(1);
        assert!(matches!(
            other.get_connection_info().addr(),
            ConnectionAddr::TcpTls { host, port: 2, insecure: false, .. } if host == "b"
        ));
    }
}
