//! `redis+unix://` and `unix://` on a server that listens on a socket.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tenure::clock::Clock;
use tenure::store::{StoreError, WatchFrom};

use crate::server::Server;
use crate::store::{key, partition, random_prefix, when_back, write};
use crate::subscribing::hears_of;

/// A server with a socket whose name is not made for URLs.
fn server() -> (TempDir, PathBuf, Server) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis a.sock");
    let server = Server::start(&["--unixsocket", socket.to_str().unwrap()]);
    (folder, socket, server)
}

fn url(scheme: &str, socket: &Path, query: &str) -> String {
    format!("{scheme}://{}?{query}", socket.to_str().unwrap().replace(' ', "%20"))
}

#[tokio::test]
async fn a_store_is_opened_through_a_socket_with_its_database_and_credentials() {
    let (_folder, socket, server) = server();
    let me = ["ACL", "SETUSER", "me", "on", ">s@t", "~p*", "&p*", "+@all"];
    assert_eq!(server.cli(&me), "OK");
    // Nobody else may do anything.
    assert_eq!(
        server.cli(&[
            "ACL",
            "SETUSER",
            "default",
            "nopass",
            "nocommands",
            "+acl",
            "+select",
            "+dbsize"
        ]),
        "OK"
    );
    let prefix = format!("p{}", random_prefix());
    let open = async |scheme, query: &str| {
        let query = format!("prefix={prefix}&{query}");
        tenure::open(&url(scheme, &socket, &query), Clock::system()).await
    };
    for scheme in ["redis+unix", "unix"] {
        let store = open(scheme, "db=2&user=me&pass=s%40t").await.unwrap();
        let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
        store.put(&key(scheme), write("x")).await.unwrap();
        hears_of(&mut watch, scheme).await;
        assert_eq!(store.get(&key(scheme)).await.unwrap().unwrap().value, "x");
        let refused = open(scheme, "user=me&pass=secret").await.unwrap_err();
        assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
        let nobody = open(scheme, "db=2").await.unwrap().get(&key(scheme)).await.unwrap_err();
        for refused in [refused, nobody] {
            assert!(matches!(refused, StoreError::Engine { .. }), "{refused:?}");
        }
    }
    assert_eq!(server.cli(&["DBSIZE"]), "0");
    assert_ne!(server.cli(&["-n", "2", "DBSIZE"]), "0");
}

#[tokio::test]
async fn a_socket_that_is_gone_is_unavailable_and_found_again() {
    let (folder, socket, mut server) = server();
    let open =
        async |socket| tenure::open(&url("redis+unix", socket, "prefix=p"), Clock::system()).await;
    let none = folder.path().join("none");
    let nowhere = open(&none).await.unwrap_err();
    assert!(nowhere.is_retryable(), "{nowhere:?}");
    let store = open(&socket).await.unwrap();
    store.put(&key("a"), write("x")).await.unwrap();
    server.kill();
    let away = store.get(&key("a")).await.unwrap_err();
    assert!(away.is_retryable(), "{away:?}");
    server.launch();
    assert_eq!(when_back(async || store.get(&key("a")).await).await, None);
}
