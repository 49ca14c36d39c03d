//! A clear error for each way in which Redis says no.

use tenure::Chain;
use tenure::clock::Clock;
use tenure::store::{
    PageRequest, Precondition, RedisBackend, RedisOptions, StorageBackend as _, StoreError,
    WatchFrom,
};

use crate::server::Server;
use crate::store::{
    STANDSTILL, impatient, key, open, open_with, options, partition, patient, write,
};

#[tokio::test]
async fn a_server_without_memory_is_full_for_writes_and_takes_reads_and_deletes() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let store = open(&server.url()).await;
    store.put(&key("a"), write("x").counted_within(9)).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]);
    for (name, write) in [
        ("b", write("x")),
        ("b", write("x").counted_within(9)),
        // Counted no longer.
        ("a", write("y")),
    ] {
        let full = store.put(&key(name), write).await;
        assert!(matches!(full, Err(StoreError::Full(_))), "{name}: {full:?}");
    }
    assert!(store.get(&key("a")).await.unwrap().is_some());
    assert!(store.delete(&key("a"), Precondition::Any).await.unwrap());
    let page = store.list_by_prefix(&partition(), "", PageRequest::default()).await.unwrap();
    assert!(page.entries.is_empty(), "a refused write has left a trace");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    store.put(&key("b"), write("x")).await.unwrap();
}

#[tokio::test]
async fn a_replica_is_read_only() {
    let primary = Server::start(&[]);
    let port = primary.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    replica.wait_for("link", &["INFO", "replication"], |it| it.contains("master_link_status:up"));
    let prefix = options();
    open_with(&primary.url(), prefix.clone(), Clock::system())
        .await
        .put(&key("a"), write("x"))
        .await
        .unwrap();
    let record = format!("{}:{{/p}}:record:a", prefix.prefix);
    replica.wait_for("record", &["EXISTS", &record], |it| it == "1");
    let store = open_with(&replica.url(), prefix, Clock::system()).await;
    assert!(store.get(&key("a")).await.unwrap().is_some());
    let page = store.list_by_prefix(&partition(), "", PageRequest::default()).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    let refused = store.put(&key("a"), write("y")).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly(_))), "{refused:?}");
}

#[tokio::test]
async fn access_is_denied_clearly_and_no_error_repeats_the_password() {
    let server = Server::start(&["--requirepass", "right"]);
    let connect = |userinfo: &str| {
        let url = format!("redis://{userinfo}127.0.0.1:{}", server.port);
        async move {
            RedisBackend::connect(&url, patient(RedisOptions::default()), Clock::system()).await
        }
    };
    let denied = connect(":wrong@").await.unwrap_err();
    assert!(denied.to_string().contains("denies access"), "{denied}");
    let told = Chain(&denied).to_string();
    assert_eq!(told.matches("Password authentication failed").count(), 1, "{told}");
    assert!(!format!("{denied:?}").contains("wrong"), "{denied:?}");
    let store = connect(":right@").await.unwrap();
    assert!(!format!("{store:?}").contains("right"));
    store.put(&key("a"), write("x")).await.unwrap();
    let admin = ["-a", "right", "ACL", "SETUSER", "me", "on", ">pw", "~tenure*", "&*", "+@all"];
    server.cli(&admin);
    let store = connect("me:pw@").await.unwrap();
    assert!(store.get(&key("a")).await.unwrap().is_some());
    server.cli(&["-a", "right", "ACL", "SETUSER", "me", "-hmget"]);
    let denied = store.get(&key("a")).await.unwrap_err();
    assert!(denied.to_string().contains("denies access"), "{denied}");
}

#[tokio::test]
async fn a_user_who_may_not_publish_is_refused_before_anything_is_written() {
    let server = Server::start(&[]);
    let all = open_with(&server.url(), patient(RedisOptions::default()), Clock::system()).await;
    all.put(&key("old"), write("x")).await.unwrap();
    server.cli(&["ACL", "SETUSER", "mute", "on", ">pw", "~tenure*", "resetchannels", "+@all"]);
    let url = format!("redis://mute:pw@127.0.0.1:{}", server.port);
    let mute = open_with(&url, patient(RedisOptions::default()), Clock::system()).await;
    for refused in [
        mute.put(&key("new"), write("x")).await.map(drop),
        mute.put(&key("old"), write("y")).await.map(drop),
        mute.delete(&key("old"), Precondition::Any).await.map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("denies access"), "{error}");
    }
    assert!(all.get(&key("new")).await.unwrap().is_none());
    assert_eq!(&all.get(&key("old")).await.unwrap().unwrap().value[..], b"x");
}

/// A script that Redis stops half-way keeps what it has done until then.
#[tokio::test]
async fn a_user_who_lacks_any_right_writes_all_or_nothing() {
    const COMMANDS: [&str; 18] = [
        "-publish",
        "-hmget",
        "-hset",
        "-hdel",
        "-xadd",
        "-xlen",
        "-zadd",
        "-zrem",
        "-zcount",
        "-zremrangebyscore",
        "-time",
        "-pexpireat",
        "-pexpire",
        "-persist",
        "-pexpiretime",
        "-exists",
        "-del",
        "-evalsha",
    ];
    let server = Server::start(&["--enable-debug-command", "yes"]);
    let all = open_with(&server.url(), patient(RedisOptions::default()), Clock::system()).await;
    let digest = || server.cli(&["DEBUG", "DIGEST"]);
    let soon = Clock::system().now().plus_millis(600_000);
    let rich = |value| {
        let tag = tenure::store::Tag::new([1; 32]);
        write(value).counted_within(9).tagged(tag).keeping(2).expires_at(soon)
    };
    let some = [["+@read", "+evalsha", "+eval"].as_slice(), &["resetchannels"], &["%R~tenure*"]];
    let each = COMMANDS.iter().map(std::slice::from_ref).chain(some);
    for (number, rights) in each.enumerate() {
        server.cli(&["FLUSHALL"]);
        let name = format!("user{number}");
        let mut user = vec!["ACL", "SETUSER", &name, "on", ">pw"];
        match rights {
            ["+@read", ..] => user.extend(["~tenure*", "&*", "+@connection"]),
            ["%R~tenure*"] => user.extend(["&*", "+@all"]),
            _ => user.extend(["~tenure*", "&*", "+@all"]),
        }
        user.extend(rights);
        assert_eq!(server.cli(&user), "OK");
        let url = format!("redis://{name}:pw@127.0.0.1:{}", server.port);
        let store = open_with(&url, patient(RedisOptions::default()), Clock::system()).await;
        for old in ["plain", "rich", "gone"] {
            all.put(&key(old), rich("1")).await.unwrap();
            all.put(&key(old), rich("2")).await.unwrap();
        }
        // The next version of this one is the first that takes one away.
        all.put(&key("rich"), rich("3")).await.unwrap();
        let mut refusals = 0;
        for turn in 0..6 {
            let before = digest();
            let done = match turn {
                0 => store.put(&key("new"), write("x")).await.map(drop),
                1 => store.put(&key("new and rich"), rich("x")).await.map(drop),
                2 => store.put(&key("plain"), write("x")).await.map(drop),
                3 => store.put(&key("rich"), rich("x")).await.map(drop),
                4 => store
                    .put(&key("rich"), rich("x").expires_at(soon.plus_millis(1)))
                    .await
                    .map(drop),
                _ => store.delete(&key("gone"), Precondition::Any).await.map(drop),
            };
            if let Err(error) = done {
                assert!(error.to_string().contains("denies access"), "{rights:?}: {error}");
                assert!(!error.is_retryable());
                assert_eq!(digest(), before, "{rights:?}, turn {turn}");
                refusals += 1;
            }
        }
        assert!(refusals > 0, "{rights:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_in_bounded_time() {
    let mut server = Server::start(&[]);
    let store = open_with(&server.url(), impatient(), Clock::system()).await;
    server.kill();
    let calls = async {
        let errors = [
            store.get(&key("a")).await.map(drop),
            store.put(&key("a"), write("x")).await.map(drop),
            store.delete(&key("a"), Precondition::Any).await.map(drop),
            store.watch(&partition(), WatchFrom::Now).await.map(drop),
        ];
        // The first may have found the connection still open.
        for error in &errors[1..] {
            let unavailable = matches!(error, Err(StoreError::Unavailable { source: Some(_), .. }));
            assert!(unavailable, "{error:?}");
        }
    };
    tokio::time::timeout(6 * STANDSTILL, calls).await.expect("a call hung");
    let gone = RedisBackend::connect(&server.url(), options(), Clock::system()).await;
    assert!(matches!(gone, Err(StoreError::Unavailable { .. })), "{gone:?}");
}
