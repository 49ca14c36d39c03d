//! How fast one replica learns of what was asked of another.

use std::time::Duration;

use serde_json::json;

use crate::client::{Request, Stream, answer, cancel};
use crate::ledger::{Entry, Event, now_us};
use crate::replicas::Replicas;
use crate::server::{Server, Settings};

/// It takes milliseconds. A file is looked at every 25 ms; on Redis, what no message tells of is found
/// by a patrol, after 15 s or more.
const MEDIAN_MS: f64 = 500.0;
/// There is room for a machine that stands still.
const P99_MS: f64 = 10_000.0;

/// How long something took, many times, in microseconds.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    fn between(begun: &[(String, u64)], ended: &[(String, u64)]) -> Self {
        let took = begun.iter().map(|(name, begun_us)| {
            let (_, ended_us) = ended.iter().find(|(other, _)| other == name).unwrap();
            ended_us.saturating_sub(*begun_us)
        });
        let mut took: Vec<u64> = took.collect();
        took.sort_unstable();
        Self(took)
    }

    fn percentile_ms(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        Duration::from_micros(self.0[index]).as_secs_f64() * 1_000.0
    }
}

/// From a request at one replica to its effect at another.
pub(crate) struct Across {
    /// `tasks/update` sent to C, to the tool on A going on with the answer.
    pub(crate) input: Latencies,
    /// `tasks/cancel` sent to B, to the tool on A being told.
    pub(crate) cancel: Latencies,
    /// The same, to the notification in the hands of a client that listens on C.
    pub(crate) push: Latencies,
}

impl Across {
    fn each(&self) -> [(&'static str, &Latencies); 3] {
        [("input", &self.input), ("cancel", &self.cancel), ("push", &self.push)]
    }
}

/// Measures one after the other, `samples` of each.
pub(crate) async fn measure(replicas: &Replicas, samples: usize) -> Across {
    let of = |entries: Vec<Entry>| -> Vec<(String, u64)> {
        entries.into_iter().map(|entry| (entry.task, entry.at_us)).collect()
    };
    let ids = create_many(replicas, "ask", samples).await;
    for id in &ids {
        replicas.polled(&replicas.b, id, "input_required").await;
    }
    let answer = |id: &str| answer(id, "in-1", "x");
    let answered = request_each(replicas, &replicas.c, &ids, answer).await;
    let woken = of(replicas.entries(Event::Woke, samples).await);

    let ids = create_many(replicas, "wait", samples).await;
    replicas.entries(Event::Start, 2 * samples).await;
    let mut listeners = Vec::new();
    for ids in ids.chunks(100) {
        let stream = replicas.client.listen(&replicas.c.url, ids).await;
        listeners.push(tokio::spawn(cancellations(stream, ids.len())));
    }
    let cancelled = request_each(replicas, &replicas.b, &ids, cancel).await;
    let told = of(replicas.entries(Event::Cancelled, samples).await);
    let mut pushed = Vec::new();
    for listener in listeners {
        pushed.extend(listener.await.unwrap());
    }
    Across {
        input: Latencies::between(&answered, &woken),
        cancel: Latencies::between(&cancelled, &told),
        push: Latencies::between(&cancelled, &pushed),
    }
}

/// Tasks of a tool on A that waits.
pub(crate) async fn create_many(replicas: &Replicas, tool: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for number in 0..count {
        let arguments = json!({ "label": format!("{tool} {number}"), "short": true });
        ids.push(replicas.create(tool, arguments).await);
    }
    ids
}

async fn request_each(
    replicas: &Replicas,
    server: &Server,
    ids: &[String],
    request: impl Fn(&str) -> Request,
) -> Vec<(String, u64)> {
    let mut sent = Vec::with_capacity(ids.len());
    for id in ids {
        sent.push((id.clone(), now_us()));
        replicas.call(server, request(id)).await;
    }
    sent
}

async fn cancellations(mut stream: Stream, count: usize) -> Vec<(String, u64)> {
    let mut arrived = Vec::with_capacity(count);
    while arrived.len() < count {
        let task = stream.task("cancelled").await;
        arrived.push((task["taskId"].as_str().unwrap().to_owned(), now_us()));
    }
    arrived
}

impl Across {
    /// Nobody waits for a timer; and what was measured is printed.
    pub(crate) fn is_prompt(&self, store: &str) {
        for (what, latencies) in self.each() {
            let (median_ms, p99_ms) = (latencies.percentile_ms(50), latencies.percentile_ms(99));
            println!(
                "{what} across replicas on {store}: median {median_ms:.1} ms, p99 {p99_ms:.1} ms"
            );
            assert!(median_ms <= MEDIAN_MS && p99_ms <= P99_MS, "{what}: {latencies:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_file_replicas_wake_each_other_without_being_polled() {
    let folder = tempfile::tempdir().unwrap();
    let replicas = Replicas::start(Settings::on_file(folder.path())).await;
    measure(&replicas, 20).await.is_prompt("one file");
}
