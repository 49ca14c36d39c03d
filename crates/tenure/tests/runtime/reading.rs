//! Tasks that this program cannot read, since a newer one has written them: an upgrade replica by
//! replica.

use serde_json::json;
use tenure::runtime::WorkerOptions;
use tenure::store::{Partition, StorageBackend as _, Write};
use tenure::tasks::{Outcome, TaskError};

use crate::world::{TIMEOUT_MS, World, settle};

/// Whether the worker meets the record while it waits, or when it writes.
async fn rewritten_meanwhile(ends: bool) {
    let world = World::new();
    let process = world.healthy();
    let worker = world.worker(&process, WorkerOptions::default()).await;
    let task = world.submit(&worker, "gated").await;
    settle().await;
    let key = Partition::new(["tasks", "alice"]).unwrap().key(task.id.as_str()).unwrap();
    let old = world.store.get(&key).await.unwrap().unwrap();
    let newer = r#"{"schema":9,"task":{"steps":[]}}"#;
    world.store.put(&key, Write::new(newer).expires_at(old.expires_at)).await.unwrap();
    if ends {
        world.tools.gate.add_permits(1);
    }
    world.pass(4 * TIMEOUT_MS).await;
    let unreadable = world.tasks.get(&world.alice, &task.id).await;
    assert!(matches!(unreadable, Err(TaskError::Unreadable { .. })), "left as it is");
    assert_eq!(world.claims(&process).await, 1, "for a worker that can read it");

    // Here everybody is of one version: what the heir can read is what was there before.
    world.store.put(&key, Write::new(old.value).expires_at(old.expires_at)).await.unwrap();
    drop(worker);
    let heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
    world.tools.gate.add_permits(1);
    world.pass(2 * TIMEOUT_MS).await;
    let task = world.get(&task.id).await;
    assert_eq!((task.worker, task.attempt), (Some(heir.id()), 2));
    assert_eq!(task.outcome, Some(Outcome::Result(json!({ "text": "done" }))));
    assert_eq!(world.claims(&process).await, 0);
}

#[tokio::test]
async fn a_task_that_a_newer_program_has_rewritten_while_it_ran_is_left_to_one_that_can_read_it() {
    rewritten_meanwhile(false).await;
}

#[tokio::test]
async fn a_task_that_a_newer_program_has_rewritten_when_it_ends_is_left_to_one_that_can_read_it() {
    rewritten_meanwhile(true).await;
}
