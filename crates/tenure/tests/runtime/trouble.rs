//! What one thing gone wrong does to a worker: callers that leave, stores that fail, people that
//! never answer.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tenure::clock::Clock;
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
use tenure::store::{PageRequest, Partition, StorageBackend as _, Write};
use tenure::tasks::{Outcome, Phase, Rerun, Status, TaskError, TaskLimits, TaskStore};

use crate::faults::{self, Fault, Faulty, Plan};
use crate::world::{TIMEOUT_MS, Tools, World, call, one, settle};

#[tokio::test]
async fn a_caller_that_leaves_during_a_submit_leaves_no_task_behind_that_nobody_runs() {
    // Dropped after every number of polls: before, between and after its calls.
    for polls in 0..8 {
        let world = World::new();
        let process = world.healthy();
        let worker = world.worker(&process, WorkerOptions::default()).await;
        {
            let mut submit = std::pin::pin!(worker.submit(&world.alice, call("echo")));
            for _ in 0..polls {
                if futures::poll!(&mut submit).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        world.pass(TIMEOUT_MS).await;
        let page = world.tasks.list(&world.alice, PageRequest::default()).await.unwrap();
        for task in page.tasks {
            assert_eq!(task.unwrap().status, Status::Completed, "{polls}");
        }
        assert_eq!(world.claims(&process).await, 0, "{polls}");
    }
}

#[tokio::test]
async fn a_refused_create_leaves_no_claim() {
    let world = World::new();
    let process = world.healthy();
    let limits = TaskLimits { unfinished_per_owner: 1, ..TaskLimits::default() };
    let options = WorkerOptions::default();
    let worker = world.worker_with(&process, options, limits, Arc::clone(&world.tools)).await;
    world.submit(&worker, "waits").await;
    for _ in 0..10 {
        let refused = worker.submit(&world.alice, call("echo")).await;
        assert!(matches!(refused, Err(TaskError::QuotaExceeded { limit: 1 })));
    }
    assert_eq!(world.claims(&process).await, 1);
}

#[tokio::test]
async fn two_questions_at_once_need_one_slot_to_go_on() {
    let world = World::new();
    let options = WorkerOptions { concurrency: 1, ..WorkerOptions::default() };
    let worker = world.worker(&world.healthy(), options).await;
    let task = world.submit(&worker, "asks twice").await;
    settle().await;
    let both = Map::from_iter([("a".into(), json!(1)), ("b".into(), json!(2))]);
    world.tasks.deliver_inputs(&world.this(&task.id), both).await.unwrap();
    settle().await;
    assert_eq!(world.get(&task.id).await.outcome, Some(Outcome::Result(json!({ "text": "both" }))));
    let next = world.submit(&worker, "echo").await;
    settle().await;
    assert_eq!(world.get(&next.id).await.status, Status::Completed, "the slot is free again");
}

#[tokio::test]
async fn input_asked_for_before_a_cancel_is_not_waited_for_after_it() {
    for tool in ["asks", "parks"] {
        let world = World::new();
        let process = world.healthy();
        let options = WorkerOptions { capacity: 1, ..WorkerOptions::default() };
        let worker = world.worker(&process, options).await;
        let task = world.submit(&worker, tool).await;
        settle().await;
        assert_eq!(world.get(&task.id).await.status, Status::InputRequired);
        world.tasks.cancel(&world.this(&task.id), None).await.unwrap();
        settle().await;
        // No time has passed, and the only place is free.
        world.submit(&worker, "echo").await;
        settle().await;
        assert_eq!(world.claims(&process).await, 0);
    }
}

#[tokio::test]
async fn input_asked_for_after_a_cancel_is_refused_and_waits_for_nothing() {
    let world = World::new();
    let process = world.healthy();
    let worker = world.worker(&process, WorkerOptions::default()).await;
    let task = world.submit(&worker, "asks late").await;
    settle().await;
    world.tasks.cancel(&world.this(&task.id), None).await.unwrap();
    settle().await;
    let task = world.get(&task.id).await;
    assert_eq!((task.status, task.inputs.len()), (Status::Cancelled, 0));
    assert_eq!(world.claims(&process).await, 0, "its handler has returned");
}

#[tokio::test]
async fn a_call_that_takes_every_server_down_is_given_up_in_the_end() {
    let world = World::new();
    let first = world.worker(&world.healthy(), WorkerOptions::default()).await;
    let task = world.submit(&first, "kills").await;
    let mut dying = first;
    for _ in 0..=tenure::limits::ATTEMPTS {
        settle().await;
        drop(dying);
        dying = world.worker(&world.healthy(), WorkerOptions::default()).await;
        world.pass(TIMEOUT_MS + TIMEOUT_MS / 2).await;
    }
    let task = world.get(&task.id).await;
    assert_eq!((task.status, task.attempt), (Status::Failed, tenure::limits::ATTEMPTS));
}

#[tokio::test]
async fn a_tool_that_the_heir_has_not_got_waits_for_one_that_has() {
    let world = World::new();
    let first = world.worker(&world.healthy(), WorkerOptions::default()).await;
    let task = world.submit(&first, "lasts").await;
    settle().await;
    drop(first);
    let tools = Arc::new(Tools { without: Some("lasts"), ..Tools::default() });
    let (options, limits) = (WorkerOptions::default(), TaskLimits::default());
    let poor = world.worker_with(&world.healthy(), options, limits, tools).await;
    world.pass(4 * TIMEOUT_MS).await;
    assert_ne!(world.get(&task.id).await.worker, Some(poor.id()));
    let rich = world.worker(&world.healthy(), WorkerOptions::default()).await;
    world.pass(4 * TIMEOUT_MS).await;
    let task = world.get(&task.id).await;
    assert_eq!((task.worker, task.attempt), (Some(rich.id()), 2));
}

#[tokio::test]
async fn a_shutdown_leaves_every_task_finished_or_to_others() {
    let world = World::new();
    let options = WorkerOptions {
        concurrency: 2,
        concurrency_per_owner: Some(2),
        ..WorkerOptions::default()
    };
    let process = world.healthy();
    let worker = world.worker(&process, options).await;
    let parked = world.submit(&worker, "parks").await;
    settle().await;
    let once = world.submit(&worker, "waits").await;
    let again = world.submit(&worker, "lasts").await;
    let queued = world.submit(&worker, "echo").await;
    settle().await;
    let shutdown = tokio::spawn(async move { worker.shutdown(1_000).await });
    world.pass(1_000 + options.cancel_grace_ms).await;
    shutdown.await.unwrap();
    let once = world.get(&once.id).await;
    assert_eq!(once.status, Status::Failed);
    assert!(once.status_message.unwrap().contains("shut down"));
    let heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
    settle().await;
    assert_eq!(world.get(&queued.id).await.status, Status::Completed);
    let again = world.get(&again.id).await;
    assert_eq!((again.phase, again.attempt, again.rerun), (Phase::Running, 2, Rerun::AfterCrash));
    let parked = world.get(&parked.id).await;
    assert_eq!((parked.status, parked.worker), (Status::InputRequired, Some(heir.id())));
    assert_eq!(world.claims(&process).await, 0);
}

/// Returns when it is asked to, and the grace period ends before anybody can have looked.
struct LastWords(Clock);

#[async_trait]
impl Handler for LastWords {
    fn policy(&self, _: &str) -> Option<Policy> {
        Some(Policy::default())
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        task.cancellation().cancelled().await;
        self.0.advance_millis(WorkerOptions::default().cancel_grace_ms);
        Ok(Exit::Complete(json!({ "text": "in time" })))
    }
}

#[tokio::test]
async fn what_a_handler_returned_within_the_grace_period_counts_however_late_it_is_seen() {
    // Several times: whether it or the end of the period was seen first was left to chance.
    for _ in 0..32 {
        let world = World::new();
        let handler = Arc::new(LastWords(world.clock.clone()));
        let worker =
            Worker::start(world.tasks.clone(), handler, WorkerOptions::default()).await.unwrap();
        let task = world.submit(&worker, "any").await;
        settle().await;
        worker.shutdown(0).await;
        assert_eq!(
            world.get(&task.id).await.outcome,
            Some(Outcome::Result(json!({ "text": "in time" })))
        );
    }
}

#[tokio::test]
async fn a_shutdown_ends_although_the_store_does_not_answer() {
    let world = World::new();
    let plan = Plan { first: 9, length: u64::MAX - 9, fault: Fault::Unavailable };
    let worker =
        world.worker(&Faulty::new(world.store.clone(), Some(plan)), WorkerOptions::default()).await;
    let _ = worker.submit(&world.alice, call("echo")).await;
    let _ = worker.submit(&world.alice, call("lasts")).await;
    settle().await;
    let shutdown = tokio::spawn(async move { worker.shutdown(0).await });
    world.pass(4 * WorkerOptions::default().cancel_grace_ms).await;
    assert!(shutdown.is_finished());
}

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
                    "complete" => tasks.complete(&this, json!({})).await,
                    "fail" => tasks.fail(&this, json!({ "code": 1, "message": "no" }), None).await,
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
    tasks.complete(&this, json!({})).await.unwrap();
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
    world.tasks.complete(&this, json!({})).await.unwrap();
    let refused = tasks.cancel(&this, None).await;
    assert!(matches!(refused, Err(TaskError::Finished { status: Status::Completed })));
}

#[tokio::test]
async fn a_worker_reclaims_what_has_expired_by_itself_a_bounded_number_at_a_time() {
    let world = World::new();
    let process = world.healthy();
    let options = WorkerOptions { sweep_interval_ms: 10_000, ..WorkerOptions::default() };
    let _worker = world.worker(&process, options).await;
    let partition = Partition::new(["brief"]).unwrap();
    let deadline = world.clock.now().plus_millis(1_000);
    for name in 0..1_500 {
        let write = Write::new("x").expires_at(Some(deadline));
        world.store.put(&partition.key(name.to_string()).unwrap(), write).await.unwrap();
    }
    let swept = || {
        let removed = |call| match call {
            faults::Call::Sweep { limit, removed } => Some((limit, removed)),
            _ => None,
        };
        process.log().into_iter().filter_map(removed).collect::<Vec<_>>()
    };
    settle().await;
    assert_eq!(swept(), [(1_000, 0)], "once at the start");
    world.clock.advance_millis(9_999);
    settle().await;
    assert_eq!(swept(), [], "not before the interval is over");
    world.clock.advance_millis(1);
    settle().await;
    assert_eq!(swept(), [(1_000, 1_000)]);
    world.clock.advance_millis(100);
    settle().await;
    assert_eq!(swept(), [(1_000, 500)], "the rest a moment later");
}
