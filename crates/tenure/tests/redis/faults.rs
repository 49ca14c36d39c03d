//! Servers that die, pause or fail over, and connections that lose what they carry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tenure::clock::Clock;
use tenure::store::{
    Change, ChangeKind, Partition, Precondition, StorageBackend as _, StoreError, Watch,
    WatchEvent, WatchFrom,
};

use crate::proxy::Proxy;
use crate::server::{Server, calls, shared_cluster_url};
use crate::store::{key, open, open_with, options, partition, when_back, write};

/// How late a request is that was held back.
const DELAY: Duration = Duration::from_millis(1_200);

async fn event(watch: &mut Watch) -> WatchEvent {
    let next = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    next.expect("the watch is silent").expect("the watch has ended").unwrap()
}

/// Takes in events until the record is known to be at this value's write, or a resync says look.
async fn hears_of(watch: &mut Watch, name: &str) {
    loop {
        match event(watch).await {
            WatchEvent::Change(Change { key: at, .. }) if at == key(name) => return,
            WatchEvent::Resync(_) => return,
            WatchEvent::Change(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_acknowledged_write() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.url()).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let (key, mut acknowledged) = (key(&format!("{writer}")), 0_u64);
                let until = Instant::now() + Duration::from_secs(3);
                while Instant::now() < until {
                    match store.put(&key, write("x")).await {
                        Ok(token) => {
                            assert!(token.version() > acknowledged);
                            acknowledged = token.version();
                        }
                        Err(StoreError::Unavailable { .. } | StoreError::OutcomeUnknown(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                (key, acknowledged)
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.kill();
        server.launch();
    }
    for writer in writers {
        let (key, acknowledged) = writer.await.unwrap();
        let record = when_back(async || store.get(&key).await).await.unwrap();
        assert!(acknowledged > 0 && record.token.version() >= acknowledged);
    }
}

#[tokio::test]
async fn a_paused_server_fails_calls_in_bounded_time_and_comes_back() {
    let server = Server::start(&[]);
    let store = open(&server.url()).await;
    store.put(&key("a"), write("x")).await.unwrap();
    server.pause();
    let started = Instant::now();
    let read = store.get(&key("a")).await;
    assert!(matches!(&read, Err(error) if error.is_retryable()), "{read:?}");
    let written = store.put(&key("a"), write("y")).await;
    assert!(
        matches!(written, Err(StoreError::Unavailable { .. } | StoreError::OutcomeUnknown(_))),
        "{written:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    server.resume();
    when_back(async || store.put(&key("a"), write("z")).await).await;
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, "z");
}

#[tokio::test]
async fn a_lost_answer_is_settled_for_every_kind_of_write() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let store = open(&proxy.url()).await;
    for round in 1..=5 {
        let name = key(&format!("{round}"));
        proxy.lose_answers(1);
        let created = store.put_if_version(&name, write("1"), Precondition::Absent).await.unwrap();
        assert_eq!(created.version(), 1);
        proxy.lose_answers(1);
        let put = store.put(&name, write("2")).await.unwrap();
        assert_eq!(put.version(), 2, "the write was applied twice");
        proxy.lose_answers(1);
        let matched = Precondition::Matches(put);
        let updated = store.put_if_version(&name, write("3"), matched).await.unwrap();
        assert_eq!(store.get(&name).await.unwrap().unwrap().token, updated);
        proxy.lose_answers(1);
        let stale = store.put_if_version(&name, write("4"), matched).await;
        assert!(
            matches!(stale, Err(StoreError::VersionConflict { current: Some(at) }) if at.token == updated),
            "{stale:?}"
        );
        proxy.lose_answers(1);
        assert!(store.delete(&name, Precondition::Matches(updated)).await.unwrap());
        assert_eq!(store.get(&name).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_write_that_was_given_up_does_not_land_later() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let store = open(&proxy.url()).await;
    for (name, existing) in [("absent", None), ("there", Some("old"))] {
        if let Some(value) = existing {
            store.put(&key(name), write(value)).await.unwrap();
        }
        proxy.delay_requests(1, DELAY);
        let token = store.put(&key(name), write("new")).await.unwrap();
        // Somebody else deletes it, which a late second write would undo.
        assert!(store.delete(&key(name), Precondition::Matches(token)).await.unwrap());
        tokio::time::sleep(DELAY).await;
        assert_eq!(store.get(&key(name)).await.unwrap(), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_lost_writes_of_a_record_none_lands_late() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let store = open(&proxy.url()).await;
    proxy.delay_requests(1, Duration::from_secs(3_600));
    store.put(&key("a"), write("late")).await.unwrap();
    let mut unknown = 0;
    for _ in 0..40 {
        proxy.lose_requests(1);
        match store.put(&key("a"), write("x")).await {
            Ok(_) => {}
            Err(StoreError::OutcomeUnknown(_)) => unknown += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // More than can be remembered: that is said, and nothing is forgotten for it.
    assert_eq!(unknown, 40 - 31);
    let last = when_back(async || store.put(&key("a"), write("last")).await).await;
    let before = calls(&server.cli(&["INFO", "commandstats"]), "evalsha");
    proxy.release_requests();
    server.wait_for("late write", &["INFO", "commandstats"], |it| calls(it, "evalsha") > before);
    let record = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((record.token, &record.value[..]), (last, &b"last"[..]));
}

#[tokio::test]
async fn a_lost_write_is_remembered_once_and_not_for_ever() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let options = options();
    let store = open_with(&proxy.url(), options.clone(), Clock::system()).await;
    store.put(&key("a"), write("x")).await.unwrap();
    let record = format!("{}:{{/p}}:record:a", options.prefix);
    let fence = || server.cli(&["HGET", &record, "fence"]);
    // A memory full of what was lost long ago has room.
    let old: String = (0..32).map(|index| format!("{index:016x}@1;")).collect();
    server.cli(&["HSET", &record, "fence", &old]);
    proxy.lose_requests(1);
    store.put(&key("a"), write("y")).await.unwrap();
    assert_eq!(fence().matches('@').count(), 1, "{}", fence());
    // The question what became of a write may be lost, too, and is asked again.
    server.cli(&["HDEL", &record, "fence"]);
    proxy.lose_requests(1);
    server.cli(&["SCRIPT", "FLUSH"]);
    proxy.lose_answer_to("Finds out whether a write landed");
    store.put(&key("a"), write("z")).await.unwrap();
    assert_eq!(fence().matches('@').count(), 1, "{}", fence());
}

#[tokio::test]
async fn a_write_whose_fate_is_out_of_reach_is_unknown_and_not_guessed() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let store = open(&proxy.url()).await;
    store.put(&key("a"), write("x")).await.unwrap();
    proxy.silence(true);
    let started = Instant::now();
    let lost = store.put(&key("a"), write("y")).await;
    assert!(matches!(lost, Err(StoreError::OutcomeUnknown(_))), "{lost:?}");
    // Nothing more was sent: connecting is what fails now.
    let refused = store.put(&key("a"), write("y")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    proxy.silence(false);
    proxy.cut();
    when_back(async || store.put(&key("a"), write("z")).await).await;
}

#[tokio::test]
async fn a_cut_connection_loses_no_change() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let options = options();
    let watching = open_with(&proxy.url(), options.clone(), Clock::system()).await;
    let writing = open_with(&server.url(), options, Clock::system()).await;
    let mut watch = watching.watch(&partition(), WatchFrom::Now).await.unwrap();
    for round in 0..5 {
        let name = format!("{round}");
        proxy.cut();
        // Published while nobody listens.
        writing.put(&key(&name), write("x")).await.unwrap();
        let WatchEvent::Change(change) = event(&mut watch).await else { panic!("no change") };
        assert_eq!(change.key, key(&name));
        assert!(matches!(change.kind, ChangeKind::Put { .. }));
    }
}

/// A subscription that nobody ended, and that tells of nothing any more.
async fn hears_through_deafness(proxy: &Proxy, watched: &str, written: &str) {
    let options = options().patrol_interval(Duration::from_secs(1));
    let watching = open_with(watched, options.clone(), Clock::system()).await;
    let writing = open_with(written, options, Clock::system()).await;
    let mut watch = watching.watch(&partition(), WatchFrom::Now).await.unwrap();
    writing.put(&key("heard"), write("x")).await.unwrap();
    hears_of(&mut watch, "heard").await;
    let connections = proxy.connections();
    proxy.deafen();
    writing.put(&key("unheard"), write("x")).await.unwrap();
    let WatchEvent::Change(change) = event(&mut watch).await else { panic!("nothing was lost") };
    assert_eq!(change.key, key("unheard"));
    // What is deaf is replaced.
    let started = Instant::now();
    while proxy.connections() == connections {
        assert!(started.elapsed() < Duration::from_secs(5), "still deaf");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.deafen();
    for _ in 0..300 {
        writing.put(&key("often"), write("x")).await.unwrap();
    }
    assert!(matches!(event(&mut watch).await, WatchEvent::Resync(_)), "a silent loss");
}

#[tokio::test]
async fn a_subscription_that_goes_deaf_ends_in_no_silence() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    hears_through_deafness(&proxy, &proxy.url(), &server.url()).await;
}

#[tokio::test]
async fn a_node_that_tells_of_nothing_any_more_ends_in_no_silence() {
    let url = shared_cluster_url();
    let (_, port) = url.split(',').next().unwrap().rsplit_once(':').unwrap();
    let proxy = Proxy::start(port.parse().unwrap()).await;
    // The subscription is made through the proxy; for the rest the cluster tells its addresses.
    let watched = format!("redis+cluster://127.0.0.1:{}", proxy.port);
    hears_through_deafness(&proxy, &watched, &url).await;
}

#[tokio::test]
async fn a_connection_that_hears_is_kept_however_busy_the_partition() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let options = options().patrol_interval(Duration::from_millis(250));
    let store = open_with(&proxy.url(), options, Clock::system()).await;
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    let connections = proxy.connections();
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        store.put(&key("a"), write("x")).await.unwrap();
        hears_of(&mut watch, "a").await;
    }
    assert_eq!(proxy.connections(), connections);
}

#[tokio::test]
async fn a_channel_that_cannot_be_left_silences_no_other() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let options = options();
    let watching = open_with(&proxy.url(), options.clone(), Clock::system()).await;
    let writing = open_with(&server.url(), options, Clock::system()).await;
    let mut watch = watching.watch(&partition(), WatchFrom::Now).await.unwrap();
    let left = Partition::new(["left"]).unwrap();
    drop(watching.watch(&left, WatchFrom::Now).await.unwrap());
    proxy.ignore_from("UNSUBSCRIBE");
    writing.put(&left.key("a").unwrap(), write("x")).await.unwrap();
    writing.put(&key("b"), write("x")).await.unwrap();
    hears_of(&mut watch, "b").await;
}

#[tokio::test]
async fn a_lost_connection_is_replaced_in_few_round_trips_however_much_is_watched() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let store = open(&proxy.url()).await;
    let mut watches = Vec::new();
    for number in 0..600 {
        let partition = Partition::new([&*number.to_string()]).unwrap();
        watches.push((
            store.watch(&partition, WatchFrom::Now).await.unwrap(),
            partition.key("a").unwrap(),
        ));
    }
    let subscribed = || calls(&server.cli(&["INFO", "commandstats"]), "subscribe");
    let before = subscribed();
    proxy.cut();
    for (watch, key) in &mut watches {
        when_back(async || store.put(key, write("x")).await).await;
        let WatchEvent::Change(change) = event(watch).await else { panic!("no change") };
        assert_eq!(change.key, *key);
    }
    let again = subscribed() - before;
    assert!((3..30).contains(&again), "{again} round trips");
}

#[tokio::test]
async fn the_log_of_an_idle_partition_may_end_without_a_doubt_about_the_connection() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let options = options().patrol_interval(Duration::from_millis(250));
    let store = open_with(&proxy.url(), options.clone(), Clock::system()).await;
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    let connections = proxy.connections();
    let log = format!("{}:{{/p}}:log", options.prefix);
    assert_eq!(server.cli(&["DEL", &log]), "1");
    assert!(matches!(event(&mut watch).await, WatchEvent::Resync(_)), "a silent loss");
    // A doubt would be over by then.
    tokio::time::sleep(3 * options.response_timeout).await;
    assert_eq!(proxy.connections(), connections);
    store.put(&key("a"), write("x")).await.unwrap();
    hears_of(&mut watch, "a").await;
}

#[tokio::test]
async fn the_log_of_an_idle_partition_stays_while_it_is_watched() {
    let server = Server::start(&[]);
    let options = options().patrol_interval(Duration::from_millis(250));
    let store = open_with(&server.url(), options.clone(), Clock::system()).await;
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    let log = format!("{}:{{/p}}:log", options.prefix);
    assert_eq!(server.cli(&["PEXPIRE", &log, "30000"]), "1");
    let looking = tokio::spawn(async move { watch.next().await });
    tokio::task::spawn_blocking(move || {
        let renewed = |left: &str| left.parse::<u64>().unwrap() > 30_000;
        server.wait_for("renewal", &["PTTL", &log], renewed);
    })
    .await
    .unwrap();
    looking.abort();
}

#[tokio::test]
async fn a_watch_survives_a_restart_that_forgets_everything() {
    let mut server = Server::start(&[]);
    let store = open(&server.url()).await;
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    store.put(&key("a"), write("x")).await.unwrap();
    hears_of(&mut watch, "a").await;
    server.kill();
    server.launch();
    when_back(async || store.put(&key("b"), write("x")).await).await;
    assert!(matches!(event(&mut watch).await, WatchEvent::Resync(_)), "a silent loss");
    store.put(&key("c"), write("x")).await.unwrap();
    hears_of(&mut watch, "c").await;
}

/// Whatever was forgotten, a watcher of resources ends up with what is there, deletes included.
#[tokio::test]
async fn resources_are_told_anew_after_a_restart_that_forgets_everything() {
    use tenure::resources::{Document, ResourceEvent, ResourceKey, ResourceStore, Scope};

    let mut server = Server::start(&[]);
    let resources = ResourceStore::new(Arc::new(open(&server.url()).await), Clock::system());
    let key = |id: &str| ResourceKey::new("acme", "agent", id).unwrap();
    let document = Document::parse("{}").unwrap();
    resources.put(&key("forgotten"), &document).await.unwrap();
    let mut events = Box::pin(resources.watch(Scope::project("acme").unwrap(), None));
    let mut next = async || {
        let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
        event.expect("no event in time").unwrap().unwrap()
    };
    assert!(matches!(next().await, ResourceEvent::Present { .. }));
    assert!(matches!(next().await, ResourceEvent::Primed(_)));
    server.kill();
    server.launch();
    let etag = when_back(async || match resources.put(&key("new"), &document).await {
        Err(tenure::resources::ResourceError::Store(error)) => Err(error),
        written => Ok(written.unwrap().etag),
    })
    .await;
    assert_eq!(next().await, ResourceEvent::Resync);
    match next().await {
        ResourceEvent::Present { key: it, etag: told, .. } => {
            assert_eq!((it, told), (key("new"), etag));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(next().await, ResourceEvent::Primed(_)), "the forgotten one is gone");
}

#[tokio::test]
async fn a_failover_ends_in_a_resync_where_changes_were_lost() {
    let mut primary = Server::start(&[]);
    let port = primary.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    replica.wait_for("link", &["INFO", "replication"], |it| it.contains("master_link_status:up"));
    // A proxy stands for the address that follows the primary.
    let (address, options) = (Proxy::start(primary.port).await, options());
    let store = open_with(&address.url(), options.clone(), Clock::system()).await;
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    store.put(&key("kept"), write("x")).await.unwrap();
    hears_of(&mut watch, "kept").await;
    let record = format!("{}:{{/p}}:record:kept", options.prefix);
    replica.wait_for("record", &["EXISTS", &record], |it| it == "1");
    // From here on the replica receives nothing, as when the link breaks before the primary does.
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    replica.wait_for("promotion", &["INFO", "replication"], |it| it.contains("role:master"));
    store.put(&key("lost"), write("x")).await.unwrap();
    hears_of(&mut watch, "lost").await;
    primary.kill();
    let promoted = open_with(&replica.url(), options, Clock::system()).await;
    promoted.put(&key("new"), write("x")).await.unwrap();
    address.retarget(replica.port);
    address.cut();
    assert!(matches!(event(&mut watch).await, WatchEvent::Resync(_)), "a silent loss");
    assert_eq!(when_back(async || store.get(&key("lost")).await).await, None);
    store.put(&key("after"), write("x")).await.unwrap();
    hears_of(&mut watch, "after").await;
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_brought_again() {
    let server = Server::start(&[]);
    let store = open(&server.url()).await;
    for round in 0..3 {
        server.cli(&["SCRIPT", "FLUSH"]);
        store.put(&key(&format!("{round}")), write("x")).await.unwrap();
        server.cli(&["SCRIPT", "FLUSH"]);
        let page = store.list_by_prefix(&partition(), "", Default::default()).await.unwrap();
        assert_eq!(page.entries.len(), round + 1);
    }
}
