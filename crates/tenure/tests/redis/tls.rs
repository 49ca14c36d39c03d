//! `rediss://` on servers with certificates that the tests make.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use futures::StreamExt as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tenure::Chain;
use tenure::clock::Clock;
use tenure::store::{
    RedisBackend, RedisOptions, StorageBackend as _, StoreError, WatchEvent, WatchFrom,
};

use crate::proxy::Proxy;
use crate::server::{CLUSTERED, Cluster, Server, spare_port};
use crate::store::{
    RedisHarness, STANDSTILL, impatient, key, open_with, options, partition, random_prefix, write,
};

/// An authority, and what it has issued.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // An issuer is looked up by its name, so no two may share one.
        params.distinguished_name.push(DnType::CommonName, random_prefix());
        let folder = tempfile::tempdir().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.path().join("ca.pem"), ca).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    /// The files of the certificate and the key of who goes by this name.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |kind: &str, pem: String| {
            let path = self.folder.path().join(format!("{name}-{kind}.pem"));
            std::fs::write(&path, pem).unwrap();
            path
        };
        (file("cert", cert.pem()), file("key", key.serialize_pem()))
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Options that trust this authority, and nobody else.
    fn trusted(&self) -> RedisOptions {
        options().ca(self.ca())
    }
}

/// A server that also listens for TLS.
struct TlsServer {
    server: Server,
    port: u16,
}

impl TlsServer {
    /// Starts it with a certificate for `name`; `clients` says whether they have to show one.
    fn start(authority: &Authority, name: &str, clients: &str, more: &[&str]) -> Self {
        let (cert, key) = authority.issue(name);
        let (port, ca) = (spare_port(), authority.ca());
        let tls_port = port.to_string();
        let mut args = vec!["--tls-port", &tls_port, "--tls-auth-clients", clients];
        args.extend(["--tls-ca-cert-file", ca.to_str().unwrap()]);
        args.extend(["--tls-cert-file", cert.to_str().unwrap()]);
        args.extend(["--tls-key-file", key.to_str().unwrap()]);
        args.extend(more);
        Self { server: Server::start(&args), port }
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }
}

/// The contract on a server that wants to see a certificate, as Redis does by default.
pub fn harness() -> RedisHarness {
    static SERVER: OnceLock<(Authority, TlsServer, (PathBuf, PathBuf))> = OnceLock::new();
    let (authority, server, (cert, key)) = SERVER.get_or_init(|| {
        let authority = Authority::new();
        let server = TlsServer::start(&authority, "127.0.0.1", "yes", &[]);
        let client = authority.issue("client");
        (authority, server, client)
    });
    RedisHarness::with(server.url(), RedisOptions::default().ca(authority.ca()).identity(cert, key))
}

async fn refusal(url: &str, options: RedisOptions) -> StoreError {
    let started = Instant::now();
    let refused = RedisBackend::connect(url, options, Clock::system()).await.unwrap_err();
    // It has not waited for a timeout, or for a short one.
    assert!(started.elapsed() < 5 * STANDSTILL, "{:?}", started.elapsed());
    refused
}

/// An error that says why, and that trying again does not help.
fn assert_lasting(error: &StoreError, reason: &str) {
    assert!(
        !error.is_retryable() && Chain(error).to_string().matches(reason).count() == 1,
        "{}",
        Chain(error)
    );
}

#[tokio::test]
async fn a_url_names_the_authority_to_trust() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, "localhost", "no", &[]);
    let (port, ca) = (server.port, authority.ca());
    let url = format!("rediss://localhost:{port}?ca={}&prefix=mine", ca.display());
    let store = tenure::open(&url, Clock::system()).await.unwrap();
    store.put(&key("a"), write("x")).await.unwrap();
    assert_eq!(server.server.cli(&["EXISTS", "mine:{/p}:record:a"]), "1");
}

#[tokio::test]
async fn a_server_that_nobody_trusted_vouches_for_is_refused_and_says_why() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, "127.0.0.1", "no", &[]);
    let stranger = refusal(&server.url(), Authority::new().trusted()).await;
    assert_lasting(&stranger, "UnknownIssuer");
    // The system knows nothing of our authority either.
    assert_lasting(&refusal(&server.url(), options()).await, "UnknownIssuer");
    let elsewhere = format!("rediss://localhost:{}", server.port);
    assert_lasting(&refusal(&elsewhere, authority.trusted()).await, "not valid for name");
}

#[tokio::test]
async fn a_client_without_the_certificate_that_the_server_wants_is_told_so() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, "127.0.0.1", "yes", &[]);
    for _ in 0..10 {
        let refused = refusal(&server.url(), authority.trusted()).await;
        assert_lasting(&refused, "CertificateRequired");
    }
}

/// As when the address leads to somebody else by now.
#[tokio::test]
async fn a_watch_says_why_there_is_no_tls_any_more() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, "127.0.0.1", "no", &[]);
    let stranger = TlsServer::start(&Authority::new(), "127.0.0.1", "no", &[]);
    let proxy = Proxy::start(server.port).await;
    let url = format!("rediss://127.0.0.1:{}", proxy.port);
    let store = open_with(&url, authority.trusted(), Clock::system()).await;
    let mut live = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    proxy.retarget(stranger.port);
    proxy.cut();
    let ended = tokio::time::timeout(12 * STANDSTILL, live.next()).await.unwrap();
    assert_lasting(&ended.unwrap().unwrap_err(), "UnknownIssuer");
    let new = store.watch(&partition(), WatchFrom::Now).await.map(drop);
    assert_lasting(&new.unwrap_err(), "UnknownIssuer");
}

#[tokio::test]
async fn tls_and_plain_text_do_not_wait_for_each_other() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, "127.0.0.1", "no", &[]);
    let plain = format!("redis://127.0.0.1:{}", server.port);
    let error = refusal(&plain, impatient()).await;
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let tls = format!("rediss://127.0.0.1:{}", server.server.port);
    let error = refusal(&tls, impatient().ca(authority.ca())).await;
    assert!(matches!(error, StoreError::Unavailable { .. } | StoreError::Engine { .. }), "{error}");
}

#[tokio::test]
async fn a_cluster_talks_tls_on_every_node() {
    let authority = Authority::new();
    let more = [&CLUSTERED[..], &["--tls-cluster", "yes"]].concat();
    let nodes: [_; 3] =
        std::array::from_fn(|_| TlsServer::start(&authority, "127.0.0.1", "no", &more));
    let addresses: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let url = format!("rediss+cluster://{}", addresses.join(","));
    let _cluster = Cluster::of(nodes.map(|node| node.server));
    let store = open_with(&url, authority.trusted(), Clock::system()).await;
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    // Partitions on every node.
    for index in 0..20 {
        let partition = tenure::store::Partition::new([&*format!("{index}")]).unwrap();
        let key = partition.key("a").unwrap();
        let token = store.put(&key, write("x")).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap().unwrap().token, token);
    }
    store.put(&key("a"), write("x")).await.unwrap();
    let event = tokio::time::timeout(12 * STANDSTILL, watch.next()).await.unwrap();
    assert!(matches!(event, Some(Ok(WatchEvent::Change(_)))), "{event:?}");
    assert_lasting(&refusal(&url, Authority::new().trusted()).await, "UnknownIssuer");
}
