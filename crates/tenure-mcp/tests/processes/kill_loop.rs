//! The kill loop: a server under 32 clients is killed at random moments, again and again.
//!
//! `KILLS` says how often, `SEED` what the dice say; without them the loop is short, and always
//! makes the same choices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::PageRequest;
use tenure::tasks::{Status, Task, TaskStore};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::audit::Evidence;
use crate::client::{Client, get};
use crate::clients::{Journal, Story, live};
use crate::ledger;
use crate::server::{Server, Settings};

const CLIENTS: usize = 32;
/// How long a server lives. Some do not live long enough to take over what the one before left.
const LIFE_MS: std::ops::Range<u64> = 50..1_800;
/// In this time after the last start every task has ended, also on a machine that stands still now
/// and then.
const SETTLED: Duration = Duration::from_secs(60);
/// What so many kills have not hit is not there to be hit.
const MOST_KILLS: u64 = 100;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

struct Outcome {
    evidence: Evidence,
    kills: u64,
    settled_in: Duration,
}

/// Kills the server until that is `enough`, going by the number of kills and what was seen so far;
/// then lets the last one settle everything.
async fn kill_loop(
    settings: &Settings,
    seed: u64,
    enough: impl Fn(u64, &Evidence) -> bool,
) -> Outcome {
    let mut rng = StdRng::seed_from_u64(seed);
    // Short, so that many servers live long enough to inherit. There is one at a time, which nobody
    // else could take for dead.
    let settings = &Settings { heartbeat_timeout_ms: 500, ..settings.clone() };
    let mut server = Server::start(settings).await;
    let (address, addresses) = watch::channel(Some(server.url.clone()));
    let (journal, last) = (Journal::default(), CancellationToken::new());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|name| live(name, seed, addresses.clone(), Arc::clone(&journal), last.clone()))
        .map(tokio::spawn)
        .collect();
    let mut killed = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(rng.random_range(LIFE_MS))).await;
        server.kill();
        killed += 1;
        address.send_replace(None);
        server = Server::start(settings).await;
        address.send_replace(Some(server.url.clone()));
        let (stories, ledger) = (journal.lock().clone(), ledger::read(&settings.ledger));
        if enough(killed, &Evidence { stories, ledger, ..Evidence::default() }) {
            break;
        }
    }
    let started = Instant::now();
    last.cancel();
    let clients = futures::future::join_all(clients);
    // What has not ended by then shows in the evidence.
    if let Ok(ended) = tokio::time::timeout(SETTLED, clients).await {
        ended.into_iter().for_each(Result::unwrap);
    }
    let stored = settle(settings, started).await;
    let settled_in = started.elapsed();
    let stories = journal.lock().clone();
    let told = ask_for_all(&server, &stories).await;
    let ledger = ledger::read(&settings.ledger);
    Outcome { evidence: Evidence { stories, told, stored, ledger }, kills: killed, settled_in }
}

/// What is stored, as nobody but the servers changes it.
pub(crate) async fn open(settings: &Settings) -> TaskStore {
    let backend = tenure::open(&settings.store, Clock::system()).await.unwrap();
    TaskStore::new(backend, Clock::system())
}

/// The tasks in the store once none of them is at work, or when the time for that is over.
async fn settle(settings: &Settings, started: Instant) -> BTreeMap<String, Task> {
    let tasks = open(settings).await;
    loop {
        let stored = list(&tasks).await;
        let working = stored.values().any(|task| task.status == Status::Working);
        if !working || started.elapsed() > SETTLED {
            return stored;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn list(tasks: &TaskStore) -> BTreeMap<String, Task> {
    let mut stored = BTreeMap::new();
    let mut after = None;
    loop {
        let page = PageRequest { limit: None, after };
        let page = tasks.list(&Owner::local(), page).await.unwrap();
        let page_tasks = page.tasks.into_iter().map(Result::unwrap);
        stored.extend(page_tasks.map(|task| (task.id.as_str().to_owned(), task)));
        after = page.next;
        if after.is_none() {
            return stored;
        }
    }
}

/// What the server says of every task that a client knows of.
async fn ask_for_all(server: &Server, stories: &[Story]) -> BTreeMap<String, Value> {
    let client = Client::new();
    let mut told = BTreeMap::new();
    for id in stories.iter().filter_map(|story| story.ids.first()) {
        if let Ok(task) = client.call(&server.url, get(id)).await {
            told.insert(id.clone(), task);
        }
    }
    told
}

/// No kill loses what was acknowledged, or runs twice what may not.
pub(crate) async fn loses_nothing(settings: &Settings) {
    let kills = variable("KILLS").unwrap_or(4);
    let seed = variable("SEED").unwrap_or(2_663);
    println!("seed {seed}");
    // What a kill hits is a matter of luck, so there are more of them until each check has something
    // to check.
    let enough = |killed, seen: &Evidence| {
        killed >= kills && (seen.is_telling() || killed >= kills + MOST_KILLS)
    };
    let outcome = kill_loop(settings, seed, enough).await;
    let figures = outcome.evidence.figures();
    println!("{} kills; {figures}; settled in {:?}", outcome.kills, outcome.settled_in);
    let violations = outcome.evidence.violations();
    assert!(violations.is_empty(), "{} violations: {violations:#?}", violations.len());
    assert!(outcome.kills >= kills);
    assert!(outcome.settled_in < SETTLED);
    assert!(figures.creates > CLIENTS && outcome.evidence.is_telling(), "{figures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_file_no_kill_loses_what_was_acknowledged_or_runs_twice_what_may_not() {
    let folder = tempfile::tempdir().unwrap();
    loses_nothing(&Settings::on_file(folder.path())).await;
}

/// Whether a loop over a server with this fault finds the violation. What a kill hits is a matter of
/// luck, so there are more of them until it shows.
async fn finds(violation: &str, fault: impl Fn(&mut Settings)) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::on_file(folder.path());
    fault(&mut settings);
    let shows = |seen: &Evidence| seen.violations().iter().any(|found| found.contains(violation));
    let enough = |killed, seen: &Evidence| killed >= 3 && (shows(seen) || killed >= MOST_KILLS);
    shows(&kill_loop(&settings, 1, enough).await.evidence)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_notices_a_store_that_forgets() {
    let forgets = |settings: &mut Settings| settings.store = "memory:".into();
    assert!(finds("an acknowledged create is lost", forgets).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_notices_a_tool_that_runs_twice() {
    assert!(finds("it ran twice and may not", |settings| settings.rerun_once = true).await);
}
