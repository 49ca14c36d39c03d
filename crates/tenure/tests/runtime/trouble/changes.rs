//! Changes of tasks whose reply is lost, or that rely on what was written last.

use std::sync::Arc;

use serde_json::{Value, json};
use tenure::store::PageRequest;
use tenure::tasks::{Status, TaskError, TaskStore};

use super::{World, call, one};
use crate::faults::{Fault, Faulty, Plan};

#[tokio::test]
async fn a_change_whose_reply_was_lost_is_neither_reported_as_failed_nor_made_twice() {
    for fault in [Fault::UnknownDone, Fault::UnknownNotDone] {
        for end in ["complete", "fail", "cancel", "progress"] {
            let world = World::new();
            // The first call writes the task; the second writes the change.
            for first in [0, 1] {
                let plan = Plan { first, length: 1, fault };
                let process = Arc::new(Faulty::new(world.store.clone(), Some(plan)));
                let tasks = TaskStore::new(process, world.clock.clone());
                let created = tasks.create(&world.alice, call("tool")).await.unwrap();
                let this = world.this(&created.id);
                let changed = match end {
                    "complete" => tasks.complete(&this, json!(1)).await,
                    "fail" => tasks.fail(&this, json!(1), None).await,
                    "cancel" => tasks.cancel(&this, None).await,
                    _ => tasks.update_status(&this, Some("on".into())).await,
                };
                assert_eq!(world.get(&created.id).await, changed.unwrap(), "{end} {fault:?}");
                assert_eq!(world.get(&created.id).await.version, 2, "{end} {fault:?}");
            }
            let page = world.tasks.list(&world.alice, PageRequest::default()).await.unwrap();
            assert_eq!(page.tasks.len(), 2, "{end} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_change_of_what_this_process_wrote_last_takes_one_call_and_any_other_reads() {
    let world = World::new();
    let process = Arc::new(Faulty::new(world.store.clone(), None));
    let tasks = TaskStore::new(process.clone(), world.clock.clone());
    let created = tasks.create(&world.alice, call("tool")).await.unwrap();
    let this = world.this(&created.id);
    tasks.set_variables(&this, one("a", json!(1))).await.unwrap();
    tasks.update_status(&this, Some("on".into())).await.unwrap();
    assert_eq!(process.calls(), 3);
    // Another process writes: the guess fails, and what is there is read.
    world.tasks.set_variables(&this, one("b", json!(2))).await.unwrap();
    let changed = tasks.set_variables(&this, one("c", json!(3))).await.unwrap();
    assert_eq!(process.calls(), 6);
    assert_eq!(Value::from(changed.variables), json!({ "a": 1, "b": 2, "c": 3 }));
    tasks.complete(&this, json!(1)).await.unwrap();
    assert_eq!(process.calls(), 7);
}

#[tokio::test]
async fn a_refusal_of_what_was_written_last_is_not_believed_before_the_task_was_read() {
    let world = World::new();
    let plan = Plan { first: 1, length: 1, fault: Fault::Unavailable };
    let process = Arc::new(Faulty::new(world.store.clone(), Some(plan)));
    let tasks = TaskStore::new(process, world.clock.clone());
    let created = tasks.create(&world.alice, call("tool")).await.unwrap();
    let this = world.this(&created.id);
    world.tasks.complete(&this, json!(1)).await.unwrap();
    let refused = tasks.cancel(&this, None).await;
    assert!(matches!(refused, Err(TaskError::Finished { status: Status::Completed })));
}
