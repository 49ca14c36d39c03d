//! What callers ask in the same moment is one request, and everybody's own affair.
//!
//! The first call is sent at once, because no other is under way; those that are polled before the
//! runtime gets to anything else are a batch.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, poll};
use tenure::clock::Clock;
use tenure::store::{
    Partition, Precondition, RedisBackend, RedisOptions, StorageBackend as _, StoreError,
    VersionToken, WatchEvent, WatchFrom, Write,
};

use crate::proxy::Proxy;
use crate::server::{Server, calls, shared_cluster_url, shared_url};
use crate::store::{STANDSTILL, key, open, open_with, options, write};

/// How often the script was called so far.
fn scripts(server: &Server) -> usize {
    calls(&server.cli(&["INFO", "commandstats"]), "evalsha")
}

/// Puts each of these at once.
async fn put_all(
    store: &RedisBackend,
    names: impl IntoIterator<Item = &str>,
    value: Write,
) -> Vec<Result<VersionToken, StoreError>> {
    let puts = names.into_iter().map(|name| {
        let (key, value) = (key(name), value.clone());
        async move { store.put(&key, value).await }
    });
    join_all(puts).await
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:03}")).collect()
}

fn strs(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str)
}

#[tokio::test]
async fn puts_of_the_same_moment_are_one_call_up_to_a_number_and_a_size() {
    let server = Server::start(&[]);
    let store = open(&server.url()).await;
    let large = Write::new(vec![b'x'; 100 << 10]);
    store.put(&key("first"), write("x")).await.unwrap();
    for (count, value, requests) in [
        (1, write("x"), 1),
        (33, write("x"), 1 + 1),
        (34, write("x"), 1 + 2),
        (65, write("x"), 1 + 2),
        // Two of these fit; and what is larger than all bounds still goes.
        (10, large, 1 + 5),
        (4, Write::new(vec![b'x'; 300 << 10]), 1 + 3),
    ] {
        let before = scripts(&server);
        for put in put_all(&store, strs(&names(count)), value).await {
            put.unwrap();
        }
        assert_eq!(scripts(&server) - before, requests, "{count}");
    }
}

#[tokio::test]
async fn a_batch_over_several_partitions_is_one_call_for_each() {
    let server = Server::start(&[]);
    let store = open(&server.url()).await;
    let keys: Vec<_> = (0..30)
        .map(|number| {
            Partition::new([&*format!("p{}", number % 3)])
                .unwrap()
                .key(format!("{number}"))
                .unwrap()
        })
        .collect();
    store.put(&key("first"), write("x")).await.unwrap();
    for round in 1..=3 {
        let before = scripts(&server);
        let tokens = join_all(keys.iter().map(|key| store.put(key, write(key.name())))).await;
        assert_eq!(scripts(&server) - before, 1 + 3);
        let records = join_all(keys.iter().map(|key| store.get(key))).await;
        for ((key, token), record) in keys.iter().zip(tokens).zip(records) {
            let (token, record) = (token.unwrap(), record.unwrap().unwrap());
            assert_eq!((token.version(), record.token), (round, token));
            assert_eq!(record.value, key.name());
        }
    }
}

#[tokio::test]
async fn on_a_cluster_nothing_crosses_slots() {
    let store = open(&shared_cluster_url()).await;
    let keys: Vec<_> = (0..60)
        .map(|number| {
            Partition::new([&*format!("p{}", number % 20)])
                .unwrap()
                .key(format!("{number}"))
                .unwrap()
        })
        .collect();
    for round in 1..=3 {
        let work = join_all(keys.iter().map(|key| async {
            let token = store.put(key, write(key.name())).await.unwrap();
            (token, store.get(key).await.unwrap().unwrap())
        }));
        for (token, record) in work.await {
            assert_eq!((token.version(), record.token), (round, token));
        }
    }
}

#[tokio::test]
async fn one_bad_record_in_a_batch_fails_alone() {
    let server = Server::start(&[]);
    let options = options();
    let store = open_with(&server.url(), options.clone(), Clock::system()).await;
    let record = |name: &str| format!("{}:{{/p}}:record:{name}", options.prefix);
    store.put(&key("old"), write("x").counted_within(1)).await.unwrap();
    server.cli(&["SET", &record("theirs"), "theirs"]);
    server.cli(&["HSET", &record("broken"), "version", "nonsense", "data", "x"]);
    for round in 1..=2 {
        let put = async |name: &str, write: Write, precondition| {
            store.put_if_version(&key(name), write, precondition).await
        };
        let get = async |name: &str| store.get(&key(name)).await;
        let any = Precondition::Any;
        let (first, a, theirs, b, broken, c, full, d, absent, old) = tokio::join!(
            put("first", write("x"), any),
            put("a", write("a"), any),
            put("theirs", write("x"), any),
            put("b", write("b"), any),
            put("broken", write("x"), any),
            put("c", write("c").tagged(tenure::store::Tag::new([b';'; 32])), any),
            put("full", write("x").counted_within(1), any),
            put("d", write("d").keeping(1), any),
            put("old", write("y"), Precondition::Absent),
            put("old", write("z").counted_within(1), Precondition::Present),
        );
        for token in [first, a, b, c, d] {
            assert_eq!(token.unwrap().version(), round);
        }
        assert!(matches!(theirs, Err(StoreError::Damaged { .. })), "{theirs:?}");
        assert!(matches!(broken, Err(StoreError::Damaged { .. })), "{broken:?}");
        assert!(matches!(full, Err(StoreError::PartitionFull { limit: 1 })), "{full:?}");
        assert!(
            matches!(&absent, Err(StoreError::VersionConflict { current: Some(at) })
            if at.token.version() == round),
            "{absent:?}"
        );
        assert_eq!(old.unwrap().version(), round + 1);
        let (first, a, theirs, missing, c) =
            tokio::join!(get("first"), get("a"), get("theirs"), get("full"), get("c"),);
        assert_eq!(first.unwrap().unwrap().token.version(), round);
        assert_eq!(a.unwrap().unwrap().value, "a");
        assert!(matches!(theirs, Err(StoreError::Damaged { .. })), "{theirs:?}");
        assert_eq!(missing.unwrap(), None);
        assert_eq!(c.unwrap().unwrap().tag, Some(tenure::store::Tag::new([b';'; 32])));
    }
    // What is foreign to the whole partition is so to all; another partition is not concerned.
    let log = format!("{}:{{/p}}:log", options.prefix);
    server.cli(&["DEL", &log]);
    server.cli(&["SET", &log, "theirs"]);
    let elsewhere = Partition::new(["q"]).unwrap().key("a").unwrap();
    let before = server.cli(&["HGET", &record("a"), "version"]);
    let (puts, other) = tokio::join!(
        put_all(&store, ["a", "b", "new"], write("late")),
        store.put(&elsewhere, write("x"))
    );
    assert!(puts.iter().all(|put| matches!(put, Err(StoreError::Foreign(_)))), "{puts:?}");
    assert_eq!(other.unwrap().version(), 1);
    assert_eq!(server.cli(&["HGET", &record("a"), "version"]), before);
}

#[tokio::test]
async fn a_server_without_memory_refuses_a_whole_batch() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let store = open(&server.url()).await;
    for put in put_all(&store, ["a", "b"], write("x")).await {
        put.unwrap();
    }
    server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let puts = put_all(&store, ["a", "b", "c", "a", "d"], write("y")).await;
    assert!(puts.iter().all(|put| matches!(put, Err(StoreError::Full(_)))), "{puts:?}");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    for name in ["a", "b"] {
        assert_eq!(store.get(&key(name)).await.unwrap().unwrap().value, "x");
    }
    let puts = put_all(&store, ["a", "b", "c", "d"], write("y")).await;
    let versions: Vec<_> = puts.into_iter().map(|put| put.unwrap().version()).collect();
    assert_eq!(versions, [2, 2, 1, 1]);
}

#[tokio::test]
async fn a_replica_refuses_a_whole_batch_and_is_left_for_the_primary() {
    let primary = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    replica.wait_for("link", &["INFO", "replication"], |it| it.contains("master_link_status:up"));
    let (address, options) = (Proxy::start(replica.port).await, options());
    let store = open_with(&address.url(), options, Clock::system()).await;
    let puts = put_all(&store, ["a", "b", "c"], write("x")).await;
    assert!(puts.iter().all(|put| matches!(put, Err(StoreError::ReadOnly(_)))), "{puts:?}");
    // The address follows the primary; the connection there is does not.
    address.retarget(primary.port);
    for put in put_all(&store, ["a", "b", "c"], write("x")).await {
        assert_eq!(put.unwrap().version(), 1);
    }
}

#[tokio::test]
async fn a_right_that_is_missing_for_one_record_fails_that_one_alone() {
    let server = Server::start(&["--enable-debug-command", "yes"]);
    let all = open_with(&server.url(), RedisOptions::default(), Clock::system()).await;
    for name in ["mine", "theirs", "mine too"] {
        all.put(&key(name), write("x")).await.unwrap();
    }
    let me = ["ACL", "SETUSER", "me", "on", ">pw", "&*", "+@all"];
    let keys = ["~*index", "~*log", "~*counted", "~*record:mine*", "%R~*"];
    assert_eq!(server.cli(&[me.as_slice(), &keys].concat()), "OK");
    let url = format!("redis://me:pw@127.0.0.1:{}", server.port);
    let store = open_with(&url, RedisOptions::default(), Clock::system()).await;
    // What comes first in a batch is what the rights to the log are found out with.
    for names in [["mine", "theirs", "new", "mine too"], ["mine", "mine too", "theirs", "new"]] {
        // The rights are looked at before the script is looked for, which each then has to bring.
        server.cli(&["SCRIPT", "FLUSH"]);
        let mine = key("mine");
        let (_, puts) = tokio::join!(store.get(&mine), put_all(&store, names, write("y")));
        for put in names.into_iter().zip(puts) {
            match put {
                (name, Ok(_)) => assert!(name.starts_with("mine")),
                (name, Err(error)) => {
                    assert!(!name.starts_with("mine"), "{error}");
                    assert!(error.to_string().contains("denies access"), "{error}");
                }
            }
        }
    }
    assert_eq!(all.get(&key("theirs")).await.unwrap().unwrap().token.version(), 1);
    assert_eq!(all.get(&key("new")).await.unwrap(), None);
    // Without a right that all need, nothing is touched.
    for right in ["-xadd", "-publish", "-hset", "-xlen"] {
        assert_eq!(server.cli(&["ACL", "SETUSER", "me", "+@all", right]), "OK");
        let before = server.cli(&["DEBUG", "DIGEST"]);
        let names = match right {
            // Needed only where there is nothing yet.
            "-xlen" => ["mine 1", "mine 2", "mine 3", "mine 4"],
            _ => ["mine", "mine too", "mine 1", "mine"],
        };
        for put in put_all(&store, names, write("z")).await {
            let error = put.unwrap_err();
            assert!(error.to_string().contains("denies access"), "{right}: {error}");
        }
        assert_eq!(server.cli(&["DEBUG", "DIGEST"]), before, "{right}");
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_takes_nobody_along_and_asks_for_nothing() {
    let store = open(&shared_url()).await;
    for gone in 0..4 {
        let keys: Vec<_> = (0..4).map(|number| key(&format!("{gone}{number}"))).collect();
        let mut puts: Vec<_> = keys.iter().map(|key| Some(store.put(key, write("x")))).collect();
        for put in puts.iter_mut().flatten() {
            assert!(poll!(put).is_pending());
        }
        puts[gone] = None;
        for token in join_all(puts.into_iter().flatten()).await {
            assert_eq!(token.unwrap().version(), 1);
        }
        // The first of all was on its way already.
        let landed = store.get(&keys[gone]).await.unwrap().is_some();
        assert!(!landed || gone == 0);
    }
}

#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (url, ending) = (shared_url(), runtime());
    let store = ending.block_on(open(&url));
    let keys: Vec<_> = names(4).iter().map(|name| key(name)).collect();
    let mut puts: Vec<_> = keys.iter().map(|key| store.put(key, write("x"))).collect();
    ending.block_on(async {
        for put in &mut puts {
            assert!(poll!(put).is_pending());
        }
    });
    drop(puts);
    drop(ending);
    // One of them had to send for the others, and for whoever joins them.
    runtime().block_on(async {
        let again = keys.iter().map(|key| store.put(key, write("y")));
        let all = tokio::time::timeout(12 * STANDSTILL, join_all(again)).await;
        // Whether the first had already left is left to chance.
        assert!(all.expect("a call hung").into_iter().all(|put| put.unwrap().version() <= 2));
    });
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_brought_again_for_a_batch() {
    let server = Server::start(&[]);
    let store = open(&server.url()).await;
    let keys: Vec<_> = (0..20)
        .map(|number| Partition::new([&*format!("{}", number % 4)]).unwrap().key("a").unwrap())
        .collect();
    // The one that goes first does not bring it along for the others.
    let first = key("first");
    for round in 0..3 {
        store.put(&first, write("x")).await.unwrap();
        let mut going = Box::pin(store.get(&first));
        assert!(poll!(&mut going).is_pending());
        server.cli(&["SCRIPT", "FLUSH"]);
        let tokens = join_all(keys.iter().map(|key| store.put(key, write("x")))).await;
        going.await.unwrap();
        let mut versions: Vec<_> = tokens.into_iter().map(|it| it.unwrap().version()).collect();
        versions.sort_unstable();
        let expected: Vec<_> = (1..=5).flat_map(|number| [5 * round + number; 4]).collect();
        assert_eq!(versions, expected);
    }
}

/// All puts of one record in one moment, of which each must land once.
async fn lands_once_each(proxy: &Proxy, store: &RedisBackend, lose: impl Fn(&Proxy)) {
    for round in 0..5 {
        let name = format!("{round}");
        lose(proxy);
        let (puts, others) = tokio::join!(
            put_all(store, std::iter::repeat_n(&*name, 10), write("x")),
            put_all(store, ["a", "b", "c"], write("x")),
        );
        let mut versions: Vec<_> = puts.into_iter().map(|put| put.unwrap().version()).collect();
        versions.sort_unstable();
        assert_eq!(versions, (1..=10).collect::<Vec<_>>());
        assert!(others.into_iter().all(|put| put.unwrap().version() == round + 1));
        assert_eq!(store.get(&key(&name)).await.unwrap().unwrap().token.version(), 10);
        for name in ["a", "b", "c"] {
            let version = store.get(&key(name)).await.unwrap().unwrap().token.version();
            assert_eq!(version, round + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cut_off_settles_each_of_its_writes() {
    for lose in [
        (|proxy: &Proxy| proxy.lose_answers(1)) as fn(&Proxy),
        |proxy| proxy.lose_requests(1),
        // Later than anybody waits.
        |proxy| proxy.delay_requests(1, STANDSTILL),
    ] {
        let server = Server::start(&[]);
        let proxy = Proxy::start(server.port).await;
        let options = options().response_timeout(STANDSTILL / 2);
        let store = open_with(&proxy.url(), options, Clock::system()).await;
        lands_once_each(&proxy, &store, lose).await;
    }
}

/// Nobody would settle it, and it could undo what was acknowledged since.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_caller_has_gone_before_there_was_a_connection_is_never_sent() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let store = open(&proxy.url()).await;
    let get = |name: &'static str| {
        let store = store.clone();
        async move { store.get(&key(name)).await }
    };
    // The next connection does not come about.
    proxy.delay_requests(1, 720 * STANDSTILL);
    let connections = proxy.connections();
    proxy.cut();
    let connecting = tokio::spawn(get("a"));
    while proxy.connections() == connections {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let name = key("gone");
    let mut gone = store.put(&name, write("late"));
    assert!(poll!(&mut gone).is_pending());
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(gone);
    proxy.release_requests();
    connecting.await.unwrap().unwrap();
    // What would have been sent with it has been.
    store.put(&key("next"), write("x")).await.unwrap();
    assert_eq!(get("gone").await.unwrap(), None);
}

/// As when each thread has a runtime of its own, and one of them computes.
#[test]
fn who_is_to_send_for_others_may_stand_still() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    let home = threads.worker_threads(1).enable_all().build().unwrap();
    let (still, other) = (runtime(), runtime());
    // The connection lives where nothing stands still.
    let store = home.block_on(open(&shared_url()));
    let keys: Vec<_> = names(4).iter().map(|name| key(name)).collect();
    let mut puts = join_all(keys[..3].iter().map(|key| store.put(key, write("x"))));
    still.block_on(async {
        let _ = poll!(&mut puts);
    });
    let put = store.put(&keys[3], write("x"));
    let put = other.block_on(async { tokio::time::timeout(2 * STANDSTILL, put).await });
    assert_eq!(put.expect("it waits for the other").unwrap().version(), 1);
    assert!(still.block_on(puts).into_iter().all(|put| put.unwrap().version() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_the_versions_in_their_order() {
    let store = open(&shared_url()).await;
    let mut watch = store.watch(&key("a").partition().clone(), WatchFrom::Now).await.unwrap();
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let (store, name) = (store.clone(), format!("{}", writer % 4));
            tokio::spawn(async move {
                for _ in 0..12 {
                    store.put(&key(&name), write("x")).await.unwrap();
                }
            })
        })
        .collect();
    let (mut seen, mut position) = (BTreeMap::<_, u64>::new(), 0);
    while seen.values().sum::<u64>() < 16 * 12 {
        let event = tokio::time::timeout(12 * STANDSTILL, watch.next()).await;
        let WatchEvent::Change(change) = event.unwrap().unwrap().unwrap() else {
            panic!("192 changes are within the backlog")
        };
        let tenure::store::ChangeKind::Put { token, .. } = change.kind else { panic!("gone") };
        assert!(change.revision.sequence > position);
        position = change.revision.sequence;
        let version = seen.entry(change.key.name().to_owned()).or_default();
        assert_eq!(token.version(), *version + 1);
        *version += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen.values().copied().collect::<Vec<_>>(), [48; 4]);
}
