//! What each call costs in commands, those inside its script included: one round trip, and the same
//! number however much is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tenure::Owner;
use tenure::clock::Clock;
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::store::{PageRequest, Precondition, RedisBackend, StorageBackend as _, Write};
use tenure::tasks::{Call, NewTask, TaskLimits, TaskStore};

use crate::server::Server;
use crate::store::{key, open, open_with, options, partition, write};

type Commands = BTreeMap<String, usize>;

/// How often each command was carried out so far, but for the question itself.
fn carried_out(server: &Server) -> Commands {
    let stats = server.cli(&["INFO", "commandstats"]);
    let commands = stats.lines().filter_map(|line| {
        let (name, stats) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), stats.split(',').next()?.parse().unwrap()))
    });
    commands.filter(|(name, _)| name != "info").collect()
}

async fn cost<T>(server: &Server, call: impl Future<Output = T>) -> (Commands, T) {
    let before = carried_out(server);
    let answer = call.await;
    let mut commands = carried_out(server);
    for (name, calls) in before {
        *commands.get_mut(&name).unwrap() -= calls;
    }
    commands.retain(|_, calls| *calls > 0);
    (commands, answer)
}

fn commands<const N: usize>(commands: [(&str, usize); N]) -> Commands {
    commands.map(|(name, calls)| (name.to_owned(), calls)).into()
}

/// A server that knows the scripts.
async fn fixture() -> (Server, RedisBackend) {
    let server = Server::start(&[]);
    let store = open(&server.url()).await;
    store.put(&key("first"), write("x")).await.unwrap();
    store.delete(&key("first"), Precondition::Any).await.unwrap();
    store.list_by_prefix(&partition(), "", PageRequest::default()).await.unwrap();
    (server, store)
}

#[tokio::test]
async fn each_call_is_one_round_trip_however_much_is_stored() {
    let (server, store) = fixture().await;
    let rich = || {
        let soon = Clock::system().now().plus_millis(600_000);
        write("x").expires_at(soon).counted_within(10_000).keeping(2)
    };
    // The first record of a partition makes its keys, and the last one takes them along.
    store.put(&key("always"), write("x")).await.unwrap();
    let mut costs = Vec::new();
    for stored in [0, 2_000] {
        for number in 0..stored {
            store.put(&key(&format!("b{number:04}")), rich()).await.unwrap();
        }
        let mut round = Vec::new();
        let a = key("a");
        let create = store.put_if_version(&a, rich(), Precondition::Absent);
        let (create, token) = cost(&server, create).await;
        round.push(create);
        let matches = Precondition::Matches(token.unwrap());
        let replace = store.put_if_version(&a, rich(), matches);
        let (replace, token) = cost(&server, replace).await;
        token.unwrap();
        round.push(replace);
        round.push(cost(&server, store.put(&key("plain"), write("x"))).await.0);
        let (put, token) = cost(&server, store.put(&key("plain"), write("y"))).await;
        assert_eq!(token.unwrap().version(), 2);
        round.push(put);
        let (get, record) = cost(&server, store.get(&key("a"))).await;
        assert_eq!(record.unwrap().unwrap().token.version(), 2);
        round.push(get);
        round.push(cost(&server, store.get(&key("missing"))).await.0);
        round.push(cost(&server, store.history(&key("a"))).await.0);
        for name in ["a", "plain", "plain"] {
            round.push(cost(&server, store.delete(&key(name), Precondition::Any)).await.0);
        }
        costs.push(round);
    }
    assert_eq!(costs[0], costs[1]);
    let [create, replace, _, put, get, missing, history, delete, ..] = &costs[1][..] else {
        panic!("{costs:?}")
    };
    for script in [create, replace, put, delete] {
        assert_eq!(script["evalsha"], 1, "{script:?}");
    }
    // To the last command: what is not in here would be another round trip.
    let overwrite = [("evalsha", 1), ("hmget", 1), ("hset", 1), ("publish", 1), ("xadd", 1)];
    assert_eq!(*put, commands(overwrite));
    assert_eq!([get, missing], [&commands([("hmget", 1)]); 2]);
    assert_eq!(*history, commands([("hgetall", 1)]));
}

#[tokio::test]
async fn a_page_is_one_round_trip_and_looks_at_what_it_shows() {
    let (server, store) = fixture().await;
    for number in 0..1_500 {
        store.put(&key(&format!("{number:04}")), write("x")).await.unwrap();
    }
    let list = async |request| cost(&server, store.list_by_prefix(&partition(), "", request)).await;
    let (cost_of_first, first) = list(PageRequest::first(50)).await;
    let page = commands([
        ("evalsha", 1),
        ("pexpiretime", 2),
        ("zrangebylex", 1),
        // One to see that there are more.
        ("hmget", 51),
        ("xrevrange", 1),
    ]);
    assert_eq!(cost_of_first, page);
    let next = PageRequest::after(first.unwrap().next.unwrap(), 50);
    assert_eq!(list(next).await.0, page);
    assert_eq!(list(PageRequest::default()).await.0["evalsha"], 1);
}

#[tokio::test]
async fn a_task_costs_the_same_with_a_thousand_others_of_its_owner() {
    let (server, store) = fixture().await;
    let limits = TaskLimits { unfinished_per_owner: 2_000, ..TaskLimits::default() };
    let tasks = TaskStore::new(Arc::new(store), Clock::system()).with_limits(limits);
    let owner = Owner::new("me").unwrap();
    let new = || NewTask::new(Call::new("tool", Default::default()));
    // The first of a partition makes its keys.
    tasks.create(&owner, new()).await.unwrap();
    let (first, task) = cost(&server, tasks.create(&owner, new())).await;
    let id = task.unwrap().id;
    let (read, _) = cost(&server, tasks.get(&owner, &id)).await;
    for _ in 0..1_000 {
        tasks.create(&owner, new()).await.unwrap();
    }
    let (later, task) = cost(&server, tasks.create(&owner, new())).await;
    assert_eq!(first, later);
    assert_eq!(first["evalsha"], 1);
    assert_eq!(cost(&server, tasks.get(&owner, &task.unwrap().id)).await.0, read);
    assert_eq!(read, commands([("hmget", 1)]));
}

/// A handler without tools.
struct Idle;

#[async_trait]
impl Handler for Idle {
    fn policy(&self, _: &str) -> Option<Policy> {
        None
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        panic!("{} was called", task.call().tool)
    }
}

/// So many, each as a process of its own, with connections of its own and the usual times.
async fn idle_workers(count: usize) {
    const BEAT_MS: usize = 1_250;
    const LOOK_MS: usize = 750;
    let (server, options) = (Server::start(&[]), options());
    let mut workers = Vec::new();
    for _ in 0..count {
        let clock = Clock::system();
        let store = open_with(&server.url(), options.clone(), clock.clone()).await;
        let tasks = TaskStore::new(Arc::new(store), clock);
        let worker = Worker::start(tasks, Arc::new(Idle), WorkerOptions::default()).await;
        workers.push(worker.unwrap());
    }
    // Until they have found each other.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let (commands, ()) = cost(&server, tokio::time::sleep(Duration::from_secs(5))).await;
    let took_ms = usize::try_from(begun.elapsed().as_millis()).unwrap();
    let (beats, looks) = (took_ms / BEAT_MS + 1, took_ms / LOOK_MS + 1);
    assert!(commands["xadd"] > count, "they beat: {commands:?}");
    // Now and then one looks without having heard anything: a patrol.
    let most = [("xadd", beats), ("hset", beats), ("evalsha", beats + 1), ("xrange", looks + 1)];
    for (command, most) in most {
        assert!(commands[command] <= count * most, "{command} of {count}: {commands:?}");
    }
}

#[tokio::test]
async fn what_idle_workers_cost_grows_with_their_number_and_not_with_its_square() {
    tokio::join!(idle_workers(3), idle_workers(10));
}

/// Numbers pass through Lua as doubles.
#[tokio::test]
async fn versions_are_exact_to_the_last_and_none_is_given_twice() {
    let (server, store) = fixture().await;
    let keys = server.cli(&["KEYS", "*:{/p}:log"]);
    let record = keys.replace(":log", ":record:a");
    let head = |version: u64| format!("{version}-0123456789abcdef 0001795000000000");
    let last = (1 << 53) - 1;
    let rich = || Write::new("x").keeping(1).tagged(tenure::store::Tag::new([1; 32]));
    for write in [|| write("x"), rich] {
        let old = head(last - 3);
        server.cli(&["HSET", &record, "version", &old, "data", "old"]);
        for version in [last - 2, last - 1, last] {
            assert_eq!(store.put(&key("a"), write()).await.unwrap().version(), version);
            let found = store.get(&key("a")).await.unwrap().unwrap();
            assert_eq!(found.token.version(), version);
        }
        for beyond in [last, last + 1, last + 2, u64::MAX] {
            server.cli(&["HSET", &record, "version", &head(beyond)]);
            let token = store.get(&key("a")).await.unwrap().unwrap().token;
            assert_eq!(token.version(), beyond);
            for precondition in [Precondition::Any, Precondition::Matches(token)] {
                let refused = store.put_if_version(&key("a"), write(), precondition).await;
                let refused = refused.unwrap_err().to_string();
                assert!(refused.contains("no next"), "{refused}");
            }
            assert_eq!(store.get(&key("a")).await.unwrap().unwrap().token, token);
        }
        assert!(store.delete(&key("a"), Precondition::Any).await.unwrap());
        server.cli(&["DEL", &record]);
    }
}
