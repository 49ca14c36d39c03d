//! A server that stands still is taken for dead, and comes back with its hands full.

use std::time::Duration;

use serde_json::json;
use tenure::tasks::{Status, Task};

use crate::client::create;
use crate::kill_loop::{list, open};
use crate::ledger::Event;
use crate::replicas::Replicas;
use crate::server::Settings;

/// What the others are given to show that none of them waits for one that stands still.
const UNHINDERED: Duration = Duration::from_secs(10);

/// A stands still in the middle of a tool until another has finished its task. What A then writes is
/// refused: the task stays as its heir has left it.
pub(crate) async fn refuses_late_writes(settings: Settings) {
    let settings = Settings { heartbeat_timeout_ms: 2_000, ..settings };
    let until = settings.ledger.with_extension("until");
    let replicas = Replicas::start(settings).await;
    let arguments = json!({ "label": "late", "until": until });
    let id = replicas.create("late", arguments).await;
    replicas.entries(Event::Start, 1).await;
    stand_still(&replicas).await;
    let told = replicas.polled(&replicas.b, &id, "completed").await;
    let finished = stored(&replicas.settings, &id).await;
    assert_eq!((finished.status, finished.attempt > 1), (Status::Completed, true));
    let text = format!("late in attempt {}", finished.attempt);
    assert_eq!(told["result"]["content"][0]["text"], text);

    std::fs::write(&until, "").unwrap();
    replicas.a.resume();
    let refused = replicas.entries(Event::Refused, 1).await;
    assert_eq!(refused.iter().map(|entry| entry.attempt).collect::<Vec<_>>(), [1]);
    // The tool returned what it had; A is at work again, and has nothing left to write.
    let ends = replicas.entries(Event::End, 2).await;
    assert!(ends.iter().any(|entry| entry.attempt == 1));
    for server in [&replicas.a, &replicas.b] {
        let next = replicas.create("once", json!({ "label": "next" })).await;
        replicas.polled(server, &next, "completed").await;
        assert_eq!(replicas.polled(server, &id, "completed").await, told);
    }
    let after = stored(&replicas.settings, &id).await;
    assert_eq!(after.version, finished.version);
    assert_eq!(format!("{after:?}"), format!("{finished:?}"));
    let saved = replicas.entries(Event::Saved(finished.attempt.into()), 1).await;
    assert_eq!(saved.len(), 1);
}

/// Stops A. One that stops in the middle of a write to a file keeps the others from writing, and so
/// from inheriting, until it goes on.
async fn stand_still(replicas: &Replicas) {
    let once = || create("once", json!({ "label": "unhindered" }), None);
    loop {
        replicas.a.pause();
        let created = replicas.client.call(&replicas.b.url, once());
        if let Ok(Ok(_)) = tokio::time::timeout(UNHINDERED, created).await {
            return;
        }
        replicas.a.resume();
    }
}

async fn stored(settings: &Settings, id: &str) -> Task {
    list(&open(settings).await).await.remove(id).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_file_a_server_that_stood_still_writes_nothing_late() {
    let folder = tempfile::tempdir().unwrap();
    refuses_late_writes(Settings::on_file(folder.path())).await;
}
