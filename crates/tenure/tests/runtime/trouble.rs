//! What one thing gone wrong does to a worker: callers that leave, stores that fail, people that
//! never answer.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures::FutureExt as _;
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
async fn a_worker_with_one_place_that_stood_still_during_a_submit_recovers() {
    for first in 0..12 {
        for fault in [Fault::StalledBefore, Fault::StalledAfter] {
            let world = World::new();
            let process = Faulty::new(world.store.clone(), Some(Plan { first, length: 1, fault }));
            let options = WorkerOptions { capacity: 1, concurrency: 1, ..WorkerOptions::default() };
            let (resumed, alice) = (process.clone(), world.alice.clone());
            let tasks = TaskStore::new(Arc::new(process.clone()), world.clock.clone());
            let tools = Arc::clone(&world.tools);
            let submitted = tokio::spawn(async move {
                let worker = Worker::start(tasks, tools, options).await.unwrap();
                let told = worker.submit(&alice, call("kills")).await;
                (worker, told)
            });
            let heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
            world.pass(3 * TIMEOUT_MS).await;
            resumed.resume();
            world.pass(3 * TIMEOUT_MS).await;
            let (_worker, told) = submitted.await.unwrap();
            let task = world.get(&told.unwrap().id).await;
            assert_eq!(task.phase, Phase::Running, "{first} {fault:?}");
            drop(heir);
        }
    }
}

/// Its worker has not beaten for so long that any heir may come.
#[tokio::test]
async fn a_task_that_is_created_under_a_stale_heartbeat_is_not_on_record_as_begun() {
    let world = World::new();
    let process = world.healthy();
    let worker = world.worker(&process, WorkerOptions::default()).await;
    // It can write anything but its heartbeat.
    process.damage(Partition::new(["workers"]).unwrap().key(worker.id().as_str()).unwrap());
    world.pass(TIMEOUT_MS).await;
    let alice = world.alice.clone();
    let submitting = tokio::spawn(async move { worker.submit(&alice, call("echo")).await });
    settle().await;
    let _heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
    world.pass(2 * TIMEOUT_MS).await;
    let page = world.tasks.list(&world.alice, PageRequest::default()).await.unwrap();
    let tasks: Vec<_> = page.tasks.into_iter().map(Result::unwrap).collect();
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].status, Status::Completed, "{:?}", tasks[0].status_message);
    submitting.abort();
}

/// An hour by the wall clock; what lasts, lasts as long as before.
#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_stale_heartbeat_fresh_and_holds_up_no_submit() {
    let world = World::new();
    let process = world.healthy();
    let worker = world.worker(&process, WorkerOptions::default()).await;
    let workers = Partition::new(["workers"]).unwrap();
    process.damage(workers.key(worker.id().as_str()).unwrap());
    world.pass(TIMEOUT_MS).await;
    world.clock.set_back_millis(3_600_000);
    let alice = world.alice.clone();
    let submitting = tokio::spawn(async move {
        let told = worker.submit(&alice, call("echo")).await;
        (worker, told)
    });
    settle().await;
    let page = world.tasks.list(&world.alice, PageRequest::default()).await.unwrap();
    let created = page.tasks.into_iter().next().unwrap().unwrap();
    assert_eq!((created.phase, created.attempt), (Phase::Queued, 0), "it may count as dead");
    assert!(!submitting.is_finished());
    // Set back once more, while a beat is waited for.
    world.clock.set_back_millis(3_600_000);
    process.damage(workers.key("another").unwrap());
    world.pass(TIMEOUT_MS).await;
    assert!(submitting.is_finished(), "it waits for the time before");
    let (_worker, told) = submitting.await.unwrap();
    assert_eq!(world.get(&told.unwrap().id).await.status, Status::Completed);
}

/// The record says that the tool runs, but the process that made it knows better.
#[tokio::test]
async fn a_task_that_was_created_late_runs_although_its_tool_may_not_run_twice() {
    let mut created_late = 0;
    for first in 0..12 {
        let world = World::new();
        let fault = Fault::StalledBefore;
        let process = Faulty::new(world.store.clone(), Some(Plan { first, length: 1, fault }));
        let (resumed, alice) = (process.clone(), world.alice.clone());
        let tasks = TaskStore::new(Arc::new(process.clone()), world.clock.clone());
        let tools = Arc::clone(&world.tools);
        let submitted = tokio::spawn(async move {
            let worker = Worker::start(tasks, tools, WorkerOptions::default()).await.unwrap();
            let told = worker.submit(&alice, call("echo")).await;
            (worker, told)
        });
        let _heir = world.worker(&world.healthy(), WorkerOptions::default()).await;
        world.pass(3 * TIMEOUT_MS).await;
        let page = world.tasks.list(&world.alice, PageRequest::default()).await.unwrap();
        if !page.tasks.is_empty() {
            // An heir cannot tell it from one that runs.
            continue;
        }
        created_late += 1;
        resumed.resume();
        world.pass(3 * TIMEOUT_MS).await;
        let (_worker, told) = submitted.await.unwrap();
        let task = world.get(&told.unwrap().id).await;
        assert_eq!(task.status, Status::Completed, "{first}: {:?}", task.status_message);
        assert_eq!(world.tools.starts.load(Ordering::SeqCst), 1, "{first}");
    }
    assert!(created_late > 1, "before the claim, and before the task");
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
async fn a_dead_worker_whose_heartbeat_is_damaged_delays_the_heir_of_no_other() {
    let world = World::new();
    let [heir, first, second] = std::array::from_fn(|_| world.healthy());
    let _heir = world.worker(&heir, WorkerOptions::default()).await;
    let damaged = world.worker(&first, WorkerOptions::default()).await;
    let damaged = world.submit(&damaged, "waits").await;
    let other = world.worker(&second, WorkerOptions::default()).await;
    let other = world.submit(&other, "waits").await;
    settle().await;
    let dead = world.get(&damaged.id).await.worker.unwrap();
    heir.damage(Partition::new(["workers"]).unwrap().key(dead.as_str()).unwrap());
    first.stall();
    world.pass(TIMEOUT_MS / 2).await;
    second.stall();
    // The time of the first runs out half-way.
    world.pass(TIMEOUT_MS + TIMEOUT_MS / 4).await;
    assert_eq!(world.get(&other.id).await.status, Status::Failed);
    assert_eq!(world.get(&damaged.id).await.status, Status::Working);
}

/// What the heir adopts may be busy for as long as its task lives; a takeover that failed half-way and
/// begins anew does not wait for that.
#[tokio::test]
async fn a_takeover_that_failed_half_way_is_finished_although_what_it_adopted_is_busy() {
    for fault in [Fault::Unavailable, Fault::UnknownDone, Fault::UnknownNotDone, Fault::Panics] {
        for first in 0..24 {
            let about = format!("{fault:?} at {first}");
            let world = World::new();
            let testator = world.healthy();
            let dying = world.worker(&testator, WorkerOptions::default()).await;
            let tasks = [world.submit(&dying, "lasts").await, world.submit(&dying, "parks").await];
            settle().await;
            drop(dying);
            let heir = Faulty::new(world.store.clone(), Some(Plan { first, length: 1, fault }));
            let (tools, options) = (Arc::clone(&world.tools), WorkerOptions::default());
            let store = TaskStore::new(Arc::new(heir.clone()), world.clock.clone());
            let Ok(Ok(worker)) =
                AssertUnwindSafe(Worker::start(store, tools, options)).catch_unwind().await
            else {
                continue;
            };
            world.pass(4 * TIMEOUT_MS).await;
            assert!(heir.calls() > first, "{about}: it was not met");
            for task in tasks {
                assert_eq!(world.get(&task.id).await.worker, Some(worker.id()), "{about}");
            }
            assert!(!worker.takeover().borrow().under_way, "{about}");
            assert_eq!(world.claims(&testator).await, 0, "{about}");
            let workers = Partition::new(["workers"]).unwrap();
            let page = world.store.list_by_prefix(&workers, "", PageRequest::default()).await;
            assert_eq!(page.unwrap().entries.len(), 1, "{about}: the dead one is not buried");
        }
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
