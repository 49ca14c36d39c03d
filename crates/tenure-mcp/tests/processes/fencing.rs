//! A server that stands still is taken for dead, and comes back with its hands full.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tenure::tasks::{Status, Task};

use crate::client::{create, created};
use crate::kill_loop::{list, open};
use crate::ledger::{Entry, Event};
use crate::replicas::Replicas;
use crate::server::Settings;

/// What the others are given to show that none of them waits for one that stands still.
const UNHINDERED: Duration = Duration::from_secs(10);

/// A stands still in the middle of a tool until another has its task. What A then writes is refused,
/// whether its heir has finished the task or is at work on it.
pub(crate) async fn refuses_late_writes(settings: Settings) {
    let settings = Settings { heartbeat_timeout_ms: 2_000, ..settings };
    after_the_end(&Replicas::start(settings.clone()).await).await;
    beside_the_heir(&Replicas::start(settings).await).await;
}

async fn after_the_end(replicas: &Replicas) {
    let late = Late::begin(replicas, "finished").await;
    late.let_heir_write();
    let told = replicas.polled(&replicas.b, &late.id, "completed").await;
    let finished = late.stored().await;
    late.is_refused().await;
    // The tool returned what it had. While others work, A comes to what it writes of that.
    let ends = late.entries(Event::End, 2).await;
    assert!(ends.iter().any(|entry| entry.attempt == 1));
    for server in [&replicas.a, &replicas.b] {
        let next = create("once", json!({ "label": "next" }), None);
        let next = created(&replicas.call(&replicas.b, next).await);
        replicas.polled(server, &next, "completed").await;
        assert_eq!(replicas.polled(server, &late.id, "completed").await, told);
    }
    late.is_the_heirs(&finished);
    let after = late.stored().await;
    assert_eq!(after.version, finished.version);
    assert_eq!(format!("{after:?}"), format!("{finished:?}"));
}

async fn beside_the_heir(replicas: &Replicas) {
    let late = Late::begin(replicas, "at work").await;
    late.entries(Event::Start, 2).await;
    late.is_refused().await;
    assert_eq!(late.stored().await.status, Status::Working);
    late.let_heir_write();
    replicas.polled(&replicas.a, &late.id, "completed").await;
    late.is_the_heirs(&late.stored().await);
}

/// A task that A holds while it stands still.
struct Late<'a> {
    replicas: &'a Replicas,
    id: String,
    label: &'static str,
    /// Files that let the first attempt, or those that follow, go on.
    first: PathBuf,
    heir: PathBuf,
}

impl<'a> Late<'a> {
    async fn begin(replicas: &'a Replicas, label: &'static str) -> Self {
        let file =
            |whose: &str| replicas.settings.ledger.with_extension(format!("{label} {whose}"));
        let (first, heir) = (file("first"), file("heir"));
        let arguments = json!({ "label": label, "first": first, "heir": heir });
        let id = replicas.create("late", arguments).await;
        let late = Self { replicas, id, label, first, heir };
        late.entries(Event::Start, 1).await;
        late.stand_still().await;
        late
    }

    /// Stops A. One that stops in the middle of a write to a file keeps the others from writing, and
    /// so from inheriting, until it goes on.
    async fn stand_still(&self) {
        let Replicas { a, b, client, .. } = self.replicas;
        let once = || create("once", json!({ "label": "unhindered" }), None);
        loop {
            a.pause();
            let created = client.call(&b.url, once());
            if let Ok(Ok(_)) = tokio::time::timeout(UNHINDERED, created).await {
                return;
            }
            a.resume();
        }
    }

    fn let_heir_write(&self) {
        std::fs::write(&self.heir, "").unwrap();
    }

    /// Lets A go on, and try to write.
    async fn is_refused(&self) {
        std::fs::write(&self.first, "").unwrap();
        self.replicas.a.resume();
        let refused = self.entries(Event::Refused, 1).await;
        assert!(refused.iter().any(|entry| entry.attempt == 1), "{refused:?}");
    }

    fn is_the_heirs(&self, task: &Task) {
        assert_eq!((task.status, task.attempt > 1), (Status::Completed, true));
        assert_eq!(task.variables["by"], json!(task.attempt));
        let outcome = format!("{:?}", task.outcome);
        assert!(outcome.contains(&format!("{} in attempt {}", self.label, task.attempt)));
    }

    async fn stored(&self) -> Task {
        list(&open(&self.replicas.settings).await).await.remove(&self.id).unwrap()
    }

    /// The entries of the ledger about this task, once there are `count`.
    async fn entries(&self, event: Event, count: usize) -> Vec<Entry> {
        self.replicas.entries_of(Some(&self.id), event, count).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_file_a_server_that_stood_still_writes_nothing_late() {
    let folder = tempfile::tempdir().unwrap();
    refuses_late_writes(Settings::on_file(folder.path())).await;
}
