//! Watches whose server dies, fails over or leaves its cluster, and whose connection goes deaf.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tenure::clock::Clock;
use tenure::store::{
    Change, ChangeKind, Key, Partition, RedisBackend, StorageBackend as _, Watch, WatchEvent,
    WatchFrom,
};

use crate::proxy::Proxy;
use crate::server::{CLUSTERED, Cluster, Server, calls, shared_cluster_url};
use crate::store::{
    STANDSTILL, impatient, key, open, open_with, options, partition, when_back, write,
};

async fn event(watch: &mut Watch) -> WatchEvent {
    let next = tokio::time::timeout(12 * STANDSTILL, watch.next()).await;
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
    let watcher = impatient().patrol_interval(Duration::from_secs(1));
    let writer = options().prefix(watcher.prefix.clone());
    let watching = open_with(watched, watcher, Clock::system()).await;
    let writing = open_with(written, writer, Clock::system()).await;
    let mut watch = when_back(async || watching.watch(&partition(), WatchFrom::Now).await).await;
    writing.put(&key("heard"), write("x")).await.unwrap();
    hears_of(&mut watch, "heard").await;
    let ended = proxy.ended();
    proxy.deafen();
    writing.put(&key("unheard"), write("x")).await.unwrap();
    let WatchEvent::Change(change) = event(&mut watch).await else { panic!("nothing was lost") };
    assert_eq!(change.key, key("unheard"));
    // What is deaf is given up.
    let started = Instant::now();
    while proxy.ended() == ended {
        assert!(started.elapsed() < 12 * STANDSTILL, "still deaf");
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

/// A partition that this node is in charge of.
fn partition_of(node: &Server, prefix: &str) -> Partition {
    let partitions = (0..).map(|number| Partition::new([&*number.to_string()]).unwrap());
    let is_here = |partition: &Partition| {
        !node
            .cli(&["EXISTS", &format!("{prefix}:{{/{}}}:log", partition.as_str())])
            .contains("MOVED")
    };
    partitions.into_iter().find(is_here).unwrap()
}

/// Writes until a message about it reaches some node: nobody looks unless told to.
async fn is_told_of(store: &RedisBackend, watch: &mut Watch, key: &Key) {
    let started = Instant::now();
    loop {
        when_back(async || store.put(key, write("x")).await).await;
        let heard = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
        match heard.map(|event| event.expect("the watch has ended").unwrap()) {
            Ok(WatchEvent::Change(change)) if change.key == *key => return,
            _ => assert!(started.elapsed() < 12 * STANDSTILL, "the watch is silent"),
        }
    }
}

#[tokio::test]
async fn a_cluster_that_is_named_by_one_node_is_watched_through_the_others() {
    let coverage = ["--cluster-require-full-coverage", "no"];
    let args = [&CLUSTERED[..], &coverage].concat();
    let mut cluster = Cluster::of::<3>(std::array::from_fn(|_| Server::start(&args)));
    let url = format!("redis+cluster://127.0.0.1:{}", cluster.nodes[0].port);
    // Only a message makes a watcher look.
    let options = options().patrol_interval(Duration::from_secs(3_600));
    let key = partition_of(&cluster.nodes[1], &options.prefix).key("a").unwrap();
    let store = open_with(&url, options, Clock::system()).await;
    let mut watch = store.watch(key.partition(), WatchFrom::Now).await.unwrap();
    is_told_of(&store, &mut watch, &key).await;
    cluster.nodes[0].kill();
    // The loss of the connection makes it look once; a second write is told by a message alone.
    for _ in 0..3 {
        is_told_of(&store, &mut watch, &key).await;
    }
}

/// How many subscribers of a channel these nodes have together.
fn subscribers(nodes: &[Server], channel: &str) -> usize {
    let count = |node: &Server| {
        node.cli(&["PUBSUB", "NUMSUB", channel]).lines().last().unwrap().parse::<usize>().unwrap()
    };
    nodes.iter().map(count).sum()
}

/// A node that joins the cluster and leaves it again, and that a watch is on when it has left.
struct Guest {
    node: Server,
    store: RedisBackend,
    watch: Watch,
    /// The channel of the watch.
    log: String,
}

impl Guest {
    /// `None` if the watch has gone to another node before: it is impatient, and the machine may have
    /// stood still.
    async fn that_has_left(cluster: &Cluster) -> Option<Self> {
        let node = Server::start(&CLUSTERED);
        let port = cluster.nodes[0].port.to_string();
        node.cli(&["CLUSTER", "MEET", "127.0.0.1", &port]);
        node.wait_for("membership", &["CLUSTER", "INFO"], |it| it.contains("cluster_state:ok"));
        let url = format!("redis+cluster://127.0.0.1:{}", node.port);
        let options = impatient().patrol_interval(Duration::from_millis(500));
        let log = format!("{}:{{/p}}:log", options.prefix);
        let store = open_with(&url, options, Clock::system()).await;
        let mut watch = when_back(async || store.watch(&partition(), WatchFrom::Now).await).await;
        is_told_of(&store, &mut watch, &key("a")).await;
        let id = node.cli(&["CLUSTER", "MYID"]);
        for member in &cluster.nodes {
            // The others hear of it from the one that it met.
            member.wait_for("acquaintance", &["CLUSTER", "NODES"], |it| it.contains(&id));
        }
        // It still takes subscriptions, and hears of nothing.
        assert_eq!(node.cli(&["CLUSTER", "RESET"]), "OK");
        for member in &cluster.nodes {
            assert_eq!(member.cli(&["CLUSTER", "FORGET", &id]), "OK");
        }
        let guest = Self { node, store, watch, log };
        (guest.subscribers(cluster) == (1, 0)).then_some(guest)
    }

    /// Of the guest, and of the others.
    fn subscribers(&self, cluster: &Cluster) -> (usize, usize) {
        let of = |nodes| subscribers(nodes, &self.log);
        (of(std::slice::from_ref(&self.node)), of(&cluster.nodes))
    }
}

#[tokio::test]
async fn a_node_that_has_left_its_cluster_is_not_listened_to_for_ever() {
    let cluster = Cluster::start();
    let started = Instant::now();
    let mut guest = loop {
        if let Some(guest) = Guest::that_has_left(&cluster).await {
            break guest;
        }
        assert!(started.elapsed() < 24 * STANDSTILL, "no watch stays where it is");
    };
    let started = Instant::now();
    while guest.subscribers(&cluster) != (0, 1) {
        is_told_of(&guest.store, &mut guest.watch, &key("a")).await;
        assert!(started.elapsed() < 12 * STANDSTILL, "{:?}", guest.subscribers(&cluster));
    }
    is_told_of(&guest.store, &mut guest.watch, &key("a")).await;
}

#[tokio::test]
async fn a_connection_that_hears_is_kept_however_busy_the_partition() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let options = options().patrol_interval(Duration::from_millis(250));
    // So late a doubt is judged.
    let options = options.response_timeout(STANDSTILL);
    let store = open_with(&proxy.url(), options, Clock::system()).await;
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    let connections = proxy.connections();
    let until = Instant::now() + 2 * STANDSTILL;
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
    let options = options().response_timeout(STANDSTILL);
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
    let options = options.response_timeout(STANDSTILL);
    let store = open_with(&proxy.url(), options.clone(), Clock::system()).await;
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    let connections = proxy.connections();
    let log = format!("{}:{{/p}}:log", options.prefix);
    assert_eq!(server.cli(&["DEL", &log]), "1");
    assert!(matches!(event(&mut watch).await, WatchEvent::Resync(_)), "a silent loss");
    // A doubt would be over by then.
    tokio::time::sleep(2 * options.response_timeout).await;
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
        let event = tokio::time::timeout(12 * STANDSTILL, events.next()).await;
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
