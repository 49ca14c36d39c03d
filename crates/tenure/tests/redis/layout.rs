//! What is kept in Redis: expiry by the server, the indexes, and what does not stay behind.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};
use tenure::clock::{Clock, Timestamp};
use tenure::store::{PageRequest, Precondition, RedisBackend, RedisOptions, StorageBackend as _};

use crate::server::shared_url;
use crate::store::{key, open_with, options, partition, write};

struct Fixture {
    store: RedisBackend,
    raw: MultiplexedConnection,
    base: String,
    clock: Clock,
    options: RedisOptions,
}

impl Fixture {
    async fn new() -> Self {
        let (options, clock) = (options(), Clock::manual(Clock::system().now()));
        let store = open_with(&shared_url(), options.clone(), clock.clone()).await;
        let raw = redis::Client::open(shared_url()).unwrap();
        let raw = raw.get_multiplexed_async_connection().await.unwrap();
        let base = format!("{}:{{/p}}:", options.prefix);
        Self { store, raw, base, clock, options }
    }

    async fn ask<T: FromRedisValue>(&self, command: &str, kind: &str, args: &[&str]) -> T {
        let mut cmd = Cmd::new();
        cmd.arg(command).arg(format!("{}{kind}", self.base)).arg(args);
        cmd.query_async(&mut self.raw.clone()).await.unwrap()
    }

    async fn names(&self) -> Vec<String> {
        let page = self.store.list_by_prefix(&partition(), "", PageRequest::default()).await;
        page.unwrap().entries.iter().map(|entry| entry.key.name().to_owned()).collect()
    }

    fn in_millis(&self, millis: u64) -> Timestamp {
        self.clock.now().plus_millis(millis)
    }
}

#[tokio::test]
async fn a_ttl_is_set_when_there_is_a_deadline() {
    let it = Fixture::new().await;
    let deadline = it.in_millis(60_000);
    it.store.put(&key("a"), write("x").expires_at(deadline)).await.unwrap();
    assert_eq!(it.ask::<u64>("HGET", "record:a", &["expires_at"]).await, deadline.as_millis());
    let ttl: i64 = it.ask("PTTL", "record:a", &[]).await;
    // The deadline and the difference that clocks may have.
    assert!((300_000..=360_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_ttl_is_absent_when_there_is_no_deadline() {
    let it = Fixture::new().await;
    it.store.put(&key("a"), write("x")).await.unwrap();
    assert_eq!(it.ask::<i64>("PTTL", "record:a", &[]).await, -1);
    it.store.put(&key("a"), write("x").expires_at(it.in_millis(60_000))).await.unwrap();
    assert!(it.ask::<i64>("PTTL", "record:a", &[]).await > 0);
    it.store.put(&key("a"), write("x")).await.unwrap();
    assert_eq!(it.ask::<i64>("PTTL", "record:a", &[]).await, -1);
}

#[tokio::test]
async fn an_expired_record_is_filtered_by_the_application() {
    let it = Fixture::new().await;
    it.store.put(&key("a"), write("x").expires_at(it.in_millis(500))).await.unwrap();
    it.clock.advance_millis(499);
    assert!(it.store.get(&key("a")).await.unwrap().is_some());
    it.clock.advance_millis(1);
    assert!(it.ask::<bool>("EXISTS", "record:a", &[]).await);
    assert_eq!(it.store.get(&key("a")).await.unwrap(), None);
    assert!(it.names().await.is_empty());
}

#[tokio::test]
async fn an_orphan_leaves_the_indexes_while_listing() {
    let it = Fixture::new().await;
    for name in ["a", "b"] {
        it.store.put(&key(name), write("x").counted_within(2)).await.unwrap();
    }
    // As the server does when it reclaims.
    let _: i64 = it.ask("DEL", "record:a", &[]).await;
    assert_eq!(it.names().await, ["b"]);
    assert_eq!(it.ask::<Vec<String>>("ZRANGE", "index", &["0", "-1"]).await, ["b"]);
    assert_eq!(it.ask::<Vec<String>>("ZRANGE", "counted", &["0", "-1"]).await, ["b"]);
}

#[tokio::test]
async fn a_partition_with_deadlines_does_not_stay_behind() {
    let it = Fixture::new().await;
    let deadline = it.in_millis(60_000);
    it.store.put(&key("a"), write("x").expires_at(deadline).counted_within(5)).await.unwrap();
    for kind in ["index", "counted", "log"] {
        assert!(it.ask::<i64>("PTTL", kind, &[]).await > 360_000, "{kind}");
    }
    it.store.put(&key("b"), write("x")).await.unwrap();
    for kind in ["index", "counted", "log"] {
        assert_eq!(it.ask::<i64>("PTTL", kind, &[]).await, -1, "{kind}");
    }
    for name in ["a", "b"] {
        it.store.delete(&key(name), Precondition::Any).await.unwrap();
    }
    assert!(!it.ask::<bool>("EXISTS", "index", &[]).await);
    assert!(it.ask::<i64>("PTTL", "log", &[]).await > 0);
}

#[tokio::test]
async fn a_clock_that_is_ahead_takes_nothing_away() {
    let it = Fixture::new().await;
    let ahead = Clock::manual(it.in_millis(90_000));
    let other = open_with(&shared_url(), it.options.clone(), ahead).await;
    let deadline = it.in_millis(60_000);
    for name in ["a", "b"] {
        it.store.put(&key(name), write("x").expires_at(deadline).counted_within(2)).await.unwrap();
    }
    let page = other.list_by_prefix(&partition(), "", PageRequest::default()).await.unwrap();
    assert!(page.entries.is_empty());
    assert_eq!(other.get(&key("a")).await.unwrap(), None);
    assert!(!other.delete(&key("a"), Precondition::Any).await.unwrap());
    other.cleanup_expired(100).await.unwrap();
    other.put(&key("c"), write("x").counted_within(2)).await.unwrap();
    assert_eq!(it.names().await, ["a", "b", "c"]);
    let full = it.store.put(&key("d"), write("x").counted_within(3)).await;
    assert!(full.is_err(), "the count has lost records that are live");
}

#[tokio::test]
async fn a_clock_that_is_behind_writes_records_that_live() {
    let it = Fixture::new().await;
    let behind = Clock::manual(Timestamp::from_millis(it.clock.now().as_millis() - 90_000));
    let other = open_with(&shared_url(), it.options.clone(), behind.clone()).await;
    let deadline = behind.now().plus_millis(60_000);
    other.put(&key("a"), write("x").expires_at(deadline)).await.unwrap();
    assert!(other.get(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_record_that_becomes_a_counted_one_leaves_nothing_behind() {
    let it = Fixture::new().await;
    let value = write("x").expires_at(it.in_millis(60_000));
    it.store.put(&key("a"), value.clone()).await.unwrap();
    it.store.put(&key("a"), value.counted_within(1)).await.unwrap();
    assert!(it.ask::<i64>("PTTL", "counted", &[]).await > 0);
}

#[tokio::test]
async fn what_must_not_land_is_forgotten_when_it_cannot_come_any_more() {
    let it = Fixture::new().await;
    it.store.put(&key("a"), write("x")).await.unwrap();
    let seconds: Vec<u64> = redis::cmd("TIME").query_async(&mut it.raw.clone()).await.unwrap();
    let hour = 3_600_000;
    for (age, left) in [(hour - 60_000, 1), (hour + 60_000, 0)] {
        let fence = format!("0123456789abcdef@{};", seconds[0] * 1_000 - age);
        it.ask::<()>("HSET", "record:a", &["fence", &fence]).await;
        it.store.put(&key("a"), write("x")).await.unwrap();
        assert_eq!(it.ask::<u64>("HEXISTS", "record:a", &["fence"]).await, left);
    }
}

#[tokio::test]
async fn former_versions_live_and_die_with_their_record() {
    let it = Fixture::new().await;
    let keeping = |value: &str| write(value).keeping(2).expires_at(it.in_millis(60_000));
    for value in ["1", "2", "3", "4"] {
        it.store.put(&key("a"), keeping(value)).await.unwrap();
    }
    let mut fields: Vec<String> = it.ask("HKEYS", "record:a", &[]).await;
    fields.sort();
    assert_eq!(fields, ["data", "expires_at", "version", "was:2", "was:3"]);
    it.store.put(&key("a"), write("5")).await.unwrap();
    let mut fields: Vec<String> = it.ask("HKEYS", "record:a", &[]).await;
    fields.sort();
    assert_eq!(fields, ["data", "version"]);
    // An expired record that the server still has leaves nothing to the next.
    it.store.put(&key("b"), keeping("1").tagged(tenure::store::Tag::new([1; 32]))).await.unwrap();
    it.store.put(&key("b"), keeping("2")).await.unwrap();
    it.clock.advance_millis(60_000);
    it.store.put(&key("b"), keeping("3")).await.unwrap();
    let mut fields: Vec<String> = it.ask("HKEYS", "record:b", &[]).await;
    fields.sort();
    assert_eq!(fields, ["data", "expires_at", "version"]);
}

/// Commands that Redis carries out in that time, those inside scripts included, while a process
/// watches 100 partitions in which nothing happens.
async fn idle_commands(options: RedisOptions, time: std::time::Duration) -> u64 {
    let server = crate::server::Server::start(&[]);
    let store = open_with(&server.url(), options, Clock::system()).await;
    futures::future::join_all((0..100).map(|index| {
        let partition = tenure::store::Partition::new(["p", &index.to_string()]).unwrap();
        let store = store.clone();
        async move {
            let mut watch = store.watch(&partition, tenure::store::WatchFrom::Now).await.unwrap();
            tokio::spawn(async move { futures::StreamExt::next(&mut watch).await });
        }
    }))
    .await;
    let calls = || {
        let info = server.cli(&["INFO", "stats"]);
        let line = info.lines().find(|line| line.starts_with("total_commands_processed")).unwrap();
        line.trim().split_once(':').unwrap().1.parse::<u64>().unwrap()
    };
    let before = calls();
    tokio::time::sleep(time).await;
    // The question itself is one.
    calls() - before - 1
}

#[tokio::test]
async fn an_idle_watcher_asks_nothing_of_redis() {
    assert_eq!(idle_commands(options(), std::time::Duration::from_secs(1)).await, 0);
}

#[tokio::test]
async fn a_patrol_looks_a_few_times_a_second_however_much_is_watched() {
    let options = options().patrol_interval(std::time::Duration::from_millis(1));
    let commands = idle_commands(options, std::time::Duration::from_secs(2)).await;
    // Four looks a second, a quarter more or less: at most 11 in the time. A look is a script and
    // the two commands that it calls; for the first the server gets to know the script.
    assert!((2..=11 * 3 + 2).contains(&commands), "{commands}");
}
