//! Listings beside what is over: it costs a look once, and is there for those whose clocks are behind.

use futures::StreamExt as _;
use tenure::clock::{Clock, Timestamp};
use tenure::store::{PageRequest, Precondition, RedisBackend, StorageBackend as _, StoreError};

use crate::server::{Server, calls};
use crate::store::{key, open_with, options, partition, write};

/// As far as clocks may differ.
const BEHIND_MS: u64 = 90_000;

/// Two processes on one server, whose clocks differ.
struct Fixture {
    server: Server,
    prefix: String,
    right: RedisBackend,
    behind: RedisBackend,
    /// Over by the server's clock, and not by the one that is behind.
    deadline: Timestamp,
}

impl Fixture {
    async fn new() -> Self {
        let (server, options) = (Server::start(&[]), options());
        let now = Clock::system().now().as_millis();
        let behind = Clock::manual(Timestamp::from_millis(now - BEHIND_MS));
        Self {
            prefix: options.prefix.clone(),
            right: open_with(&server.url(), options.clone(), Clock::system()).await,
            behind: open_with(&server.url(), options, behind).await,
            deadline: Timestamp::from_millis(now - BEHIND_MS / 2),
            server,
        }
    }

    async fn put_past(&self, names: impl IntoIterator<Item = String>) {
        let puts = futures::stream::iter(names).map(async |name: String| {
            let write = write("x").expires_at(self.deadline).counted_within(1_000_000);
            self.behind.put(&key(&name), write).await.unwrap();
        });
        puts.buffer_unordered(64).collect::<Vec<_>>().await;
    }

    fn looks(&self) -> usize {
        calls(&self.server.cli(&["INFO", "commandstats"]), "hmget")
    }

    fn raw(&self, command: &str, kind: &str) -> u64 {
        self.server.cli(&[command, &format!("{}:{{/p}}:{kind}", self.prefix)]).parse().unwrap()
    }
}

async fn walk(store: &RedisBackend, limit: usize) -> Vec<String> {
    let (mut names, mut request) = (Vec::new(), PageRequest::first(limit));
    loop {
        let page = store.list_by_prefix(&partition(), "", request).await.unwrap();
        assert!(page.damaged.is_empty());
        names.extend(page.entries.iter().map(|entry| entry.key.name().to_owned()));
        match page.next {
            Some(next) => request = PageRequest::after(next, limit),
            None => return names,
        }
    }
}

#[tokio::test]
async fn what_is_over_costs_a_look_once_and_stays_for_those_whose_clocks_are_behind() {
    let it = Fixture::new().await;
    let past: Vec<_> = (0..9_000).map(|number| format!("a{number:06}")).collect();
    it.put_past(past.clone()).await;
    let live: Vec<_> = (0..60).map(|number| format!("b{number:02}")).collect();
    for name in &live {
        it.right.put(&key(name), write("x")).await.unwrap();
    }
    for first in [true, false, false] {
        let before = it.looks();
        let page = it.right.list_by_prefix(&partition(), "", PageRequest::first(50)).await.unwrap();
        assert_eq!((page.entries.len(), page.next.is_some()), (50, true));
        let looks = it.looks() - before;
        // One for each of the page, and one to see that there are more.
        assert!(if first { looks >= past.len() } else { looks == 51 }, "{looks}");
    }
    let aside = it.raw("ZCARD", "past:0") + it.raw("ZCARD", "past:1");
    assert_eq!((aside, it.raw("ZCARD", "index")), (9_000, 60));
    let all = [past, live.clone()].concat();
    for limit in [1_000, 999] {
        assert_eq!(walk(&it.behind, limit).await, all);
        assert_eq!(walk(&it.right, limit).await, live);
    }
}

#[tokio::test]
async fn what_was_put_aside_can_be_written_and_deleted() {
    let it = Fixture::new().await;
    // In the order of bytes, which is nobody's alphabet.
    let names = ["B", "a", "b", "é", "\u{ffff}", "\u{10000}"];
    it.put_past(names.map(str::to_owned)).await;
    assert!(walk(&it.right, 10).await.is_empty());
    assert_eq!(it.raw("EXISTS", "index"), 0);
    for limit in [1, 2, 10] {
        assert_eq!(walk(&it.behind, limit).await, names);
    }
    assert!(it.behind.delete(&key("b"), Precondition::Present).await.unwrap());
    // What leaves the deadline as it is leaves it over.
    it.behind.put(&key("B"), write("y").expires_at(it.deadline)).await.unwrap();
    it.behind.put(&key("a"), write("y")).await.unwrap();
    it.right.put_if_version(&key("é"), write("y"), Precondition::Absent).await.unwrap();
    let later = Clock::system().now().plus_millis(60_000);
    let extended = write("y").expires_at(later).counted_within(9);
    it.behind.put_if_version(&key("\u{ffff}"), extended, Precondition::Present).await.unwrap();
    for limit in [1, 10] {
        assert_eq!(walk(&it.right, limit).await, ["a", "é", "\u{ffff}"]);
        assert_eq!(walk(&it.behind, limit).await, ["B", "a", "é", "\u{ffff}", "\u{10000}"]);
    }
}

/// The server takes the sets of the past away when it has reclaimed the last of their records.
#[tokio::test]
async fn the_past_ends_by_itself() {
    let it = Fixture::new().await;
    it.put_past(["a".into()]).await;
    assert!(walk(&it.right, 10).await.is_empty());
    let aside = if it.raw("EXISTS", "past:0") == 1 { "past:0" } else { "past:1" };
    let left = it.raw("PTTL", aside);
    assert!((it.raw("PTTL", "record:a")..=300_000).contains(&left), "{left}");
    // As when the server has reclaimed the record before.
    it.raw("DEL", "record:a");
    assert!(walk(&it.behind, 10).await.is_empty());
    assert_eq!(it.raw("EXISTS", aside), 0);
}

#[tokio::test]
async fn a_replica_which_can_put_nothing_aside_lists_around_what_is_over() {
    let it = Fixture::new().await;
    let port = it.server.port.to_string();
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    it.put_past(["a".into(), "b".into()]).await;
    it.right.put(&key("c"), write("x")).await.unwrap();
    let record = format!("{}:{{/p}}:record:c", it.prefix);
    replica.wait_for("record", &["EXISTS", &record], |it| it == "1");
    let reading = options().prefix(it.prefix.clone());
    let reading = open_with(&replica.url(), reading, Clock::system()).await;
    assert_eq!(walk(&reading, 1).await, ["c"]);
}

#[tokio::test]
async fn a_listing_does_not_go_on_for_ever() {
    let it = Fixture::new().await;
    it.right.put(&key("live"), write("x")).await.unwrap();
    // Names whose records the server has reclaimed, as many as one call is not asked to pass.
    let script = "for batch = 1, 280 do local members = {} \
                  for name = 1, 1000 do members[2 * name - 1] = '0'; \
                  members[2 * name] = string.format('a%07d', batch * 1000 + name) end \
                  redis.call('ZADD', KEYS[1], unpack(members)) end";
    it.server.cli(&["EVAL", script, "1", &format!("{}:{{/p}}:index", it.prefix)]);
    let refused = it.right.list_by_prefix(&partition(), "", PageRequest::default()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert_eq!(walk(&it.right, 10).await, ["live"]);
}
