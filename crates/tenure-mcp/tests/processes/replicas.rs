//! Three servers on one store act as one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Request, answer, cancel, create, created, get};
use crate::latency::create_many;
use crate::ledger::{self, Entry, Event, now_us};
use crate::server::{Server, Settings};
use crate::tools::STEPS;

/// From the end of a heartbeat timeout to the work of an heir. It takes milliseconds; the machine may
/// stand still, and be busy with other tests.
const TAKING_OVER_MS: u64 = 15_000;
/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Replicas {
    pub(crate) a: Server,
    pub(crate) b: Server,
    pub(crate) c: Server,
    pub(crate) client: Client,
    pub(crate) settings: Settings,
}

impl Replicas {
    pub(crate) async fn start(settings: Settings) -> Self {
        let (a, b, c) = tokio::join!(
            Server::start(&settings),
            Server::start(&settings),
            Server::start(&settings),
        );
        Self { a, b, c, client: Client::new(), settings }
    }

    pub(crate) async fn call(&self, server: &Server, request: Request) -> Value {
        self.client.call(&server.url, request).await.unwrap()
    }

    pub(crate) async fn create(&self, tool: &str, arguments: Value) -> String {
        created(&self.call(&self.a, create(tool, arguments, None)).await)
    }

    /// The task, as `server` tells of it, once it is `status`.
    pub(crate) async fn polled(&self, server: &Server, id: &str, status: &str) -> Value {
        eventually(async || {
            let task = self.call(server, get(id)).await;
            (task["status"] == status).then_some(task)
        })
        .await
    }

    /// The entries of the ledger with this event, once there are `count`.
    pub(crate) async fn entries(&self, event: Event, count: usize) -> Vec<Entry> {
        self.entries_of(None, event, count).await
    }

    /// The same, about one task.
    pub(crate) async fn entries_of(
        &self,
        task: Option<&str>,
        event: Event,
        count: usize,
    ) -> Vec<Entry> {
        eventually(async || {
            let mut entries = ledger::read(&self.settings.ledger);
            let is_its = |entry: &Entry| task.is_none_or(|task| entry.task == task);
            entries.retain(|entry| entry.event == event && is_its(entry));
            (entries.len() >= count).then_some(entries)
        })
        .await
    }
}

async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "it takes too long");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Created on A, polled on B, answered on C; cancelled on B; listened to on C; finished by another
/// when A is killed.
pub(crate) async fn act_as_one(settings: Settings) {
    let replicas = Replicas::start(settings).await;
    let Replicas { a, b, c, client, .. } = &replicas;

    let id = replicas.create("ask", json!({ "label": "answered" })).await;
    let mut pushed = client.listen(&c.url, std::slice::from_ref(&id)).await;
    for (key, text) in [("in-1", "Ada"), ("in-2", "Bo")] {
        let task = eventually(async || {
            let task = replicas.polled(b, &id, "input_required").await;
            (!task["inputRequests"][key].is_null()).then_some(task)
        });
        task.await;
        replicas.call(c, answer(&id, key, text)).await;
    }
    let task = pushed.task("completed").await;
    assert_eq!(task["result"]["content"][0]["text"], "Ada Bo");
    assert_eq!(replicas.polled(b, &id, "completed").await["result"], task["result"]);

    let id = replicas.create("wait", json!({ "label": "cancelled" })).await;
    let mut pushed = client.listen(&c.url, std::slice::from_ref(&id)).await;
    replicas.entries(Event::Start, 2).await;
    replicas.call(b, cancel(&id)).await;
    pushed.task("cancelled").await;
    replicas.entries(Event::Cancelled, 1).await;
    assert_eq!(replicas.call(a, get(&id)).await["status"], "cancelled");

    taken_over(replicas).await;
}

/// A is killed in the middle of a tool that keeps checkpoints.
async fn taken_over(replicas: Replicas) {
    let arguments = json!({ "label": "taken over", "stuck_at": 3 });
    let id = replicas.create("steps", arguments).await;
    let mut pushed = replicas.client.listen(&replicas.c.url, std::slice::from_ref(&id)).await;
    replicas.entries(Event::Step(3), 1).await;
    let Replicas { a, b, c, client, settings } = replicas;
    a.kill();
    let killed_us = now_us();
    pushed.task("completed").await;
    let told = client.call(&b.url, get(&id)).await.unwrap();
    assert_eq!(told["result"]["content"][0]["text"], "taken over");
    drop((b, c));

    let mut entries = ledger::read(&settings.ledger);
    entries.retain(|entry| entry.task == id);
    let retaken = entries.iter().find(|entry| entry.event == Event::Start && entry.attempt == 2);
    let took_ms = retaken.unwrap().at_us.saturating_sub(killed_us) / 1_000;
    let timeout_ms = settings.heartbeat_timeout_ms;
    println!("taken over {took_ms} ms after the kill, with a heartbeat timeout of {timeout_ms} ms");
    assert!(took_ms <= timeout_ms + TAKING_OVER_MS, "{took_ms}");
    for step in 1..=STEPS {
        let saved = entries.iter().filter(|entry| entry.event == Event::Saved(step)).count();
        assert_eq!(saved, 1, "step {step}: {entries:?}");
    }
}

/// All tasks of A are at work again soon after it was killed.
pub(crate) async fn take_over_many(settings: Settings, count: usize) {
    let replicas = Replicas::start(settings).await;
    create_many(&replicas, "wait", count).await;
    replicas.entries(Event::Start, count).await;
    let Replicas { a, b, c, client, settings } = replicas;
    // Before the kill, because to start a program takes the time of those that take over.
    let spare = Server::start(&settings).await;
    a.kill();
    let killed_us = now_us();
    let replicas = Replicas { a: spare, b, c, client, settings };
    let last_us = eventually(async || {
        let starts = replicas.entries(Event::Start, 2 * count).await;
        let again = starts.iter().filter(|entry| entry.attempt > 1);
        let first: BTreeMap<_, _> = again.rev().map(|entry| (&entry.task, entry.at_us)).collect();
        (first.len() == count).then(|| first.into_values().max().unwrap())
    })
    .await;
    let took_ms = last_us.saturating_sub(killed_us) / 1_000;
    println!("{count} tasks taken over within {took_ms} ms of the kill");
    assert!(took_ms <= replicas.settings.heartbeat_timeout_ms + TAKING_OVER_MS, "{took_ms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_file_replicas_act_as_one() {
    let folder = tempfile::tempdir().unwrap();
    act_as_one(Settings::on_file(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, so it wants the machine for itself"]
async fn on_one_file_many_tasks_of_a_dead_replica_are_at_work_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { heartbeat_timeout_ms: 1_000, ..Settings::on_file(folder.path()) };
    take_over_many(settings, 300).await;
}
