//! What must hold of tasks on any backend. Each case gets a fresh store.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::join_all;
use serde_json::{Map, Value, json};
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::{Cursor, PageRequest, Partition, StorageBackend, StoreError, Write};
use tenure::tasks::{
    Call, NewTask, Outcome, Status, Task, TaskError, TaskId, TaskLimits, TaskRef, TaskStore,
};

pub(crate) struct Fixture {
    clock: Clock,
    backend: Arc<dyn StorageBackend>,
    tasks: TaskStore,
    alice: Owner,
}

fn new() -> NewTask {
    NewTask::new(Call::new("tool", Map::new()))
}

fn one(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value)])
}

fn owner(name: &str) -> Owner {
    Owner::new(name).unwrap()
}

impl Fixture {
    pub(crate) fn new(clock: Clock, backend: Arc<dyn StorageBackend>) -> Self {
        let tasks = TaskStore::new(Arc::clone(&backend), clock.clone());
        Self { clock, backend, tasks, alice: owner("alice") }
    }

    fn limited(mut self, limits: TaskLimits) -> Self {
        self.tasks = self.tasks.with_limits(limits);
        self
    }

    async fn create(&self) -> Task {
        self.tasks.create(&self.alice, new()).await.unwrap()
    }

    fn this(&self, task: &Task) -> TaskRef {
        TaskRef::new(task.owner.clone(), task.id.clone())
    }

    async fn get(&self, task: &Task) -> Task {
        self.tasks.get(&task.owner, &task.id).await.unwrap()
    }

    /// Puts bytes where the task lives.
    async fn overwrite(&self, id: &TaskId, bytes: &str) {
        let key = self.partition().key(id.as_str()).unwrap();
        self.backend.put(&key, Write::new(bytes.to_owned())).await.unwrap();
    }

    async fn bytes(&self, id: &TaskId) -> String {
        let key = self.partition().key(id.as_str()).unwrap();
        let record = self.backend.get(&key).await.unwrap().unwrap();
        String::from_utf8(record.value.to_vec()).unwrap()
    }

    fn partition(&self) -> Partition {
        Partition::new(["tasks", self.alice.as_str()]).unwrap()
    }

    async fn ids(&self, limit: usize) -> Vec<TaskId> {
        let mut ids = Vec::new();
        let mut request = PageRequest::first(limit);
        loop {
            let page = self.tasks.list(&self.alice, request).await.unwrap();
            ids.extend(page.tasks.into_iter().map(|task| task.unwrap().id));
            match page.next {
                Some(next) => request = PageRequest::after(next, limit),
                None => return ids,
            }
        }
    }
}

#[track_caller]
fn assert_not_found<T: std::fmt::Debug>(result: Result<T, TaskError>) {
    assert!(matches!(result, Err(TaskError::NotFound)), "{result:?}");
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: Result<T, TaskError>) {
    assert!(matches!(result, Err(TaskError::Invalid { .. })), "{result:?}");
}

#[track_caller]
fn assert_finished<T: std::fmt::Debug>(result: Result<T, TaskError>, as_what: Status) {
    assert!(
        matches!(result, Err(TaskError::Finished { status }) if status == as_what),
        "{result:?}"
    );
}

/// Two processes: each knows what it wrote last, and neither acts on it alone.
pub(crate) async fn what_another_process_did_meanwhile_is_seen_by_every_change(fixture: Fixture) {
    let here = &fixture.tasks;
    let there = TaskStore::new(Arc::clone(&fixture.backend), fixture.clock.clone());
    let tasks = [fixture.create().await, fixture.create().await, fixture.create().await];
    let [kept, ended, expired] = tasks.each_ref().map(|task| fixture.this(task));
    there.set_variables(&kept, one("a", json!(1))).await.unwrap();
    let changed = here.set_variables(&kept, one("b", json!(2))).await.unwrap();
    assert_eq!(Value::from(changed.variables), json!({ "a": 1, "b": 2 }));
    there.cancel(&ended, None).await.unwrap();
    assert_finished(here.complete(&ended, json!(1)).await, Status::Cancelled);
    fixture.clock.advance_millis(TaskLimits::default().ttl_ms(None));
    assert_not_found(here.update_status(&expired, Some("late".into())).await);
}

pub(crate) async fn a_created_task_is_there_as_it_was_returned(fixture: Fixture) {
    let task = fixture.create().await;
    assert_eq!(fixture.get(&task).await, task);
    assert_eq!((task.status, task.version), (Status::Working, 1));
}

pub(crate) async fn owners_whose_names_contain_each_other_share_nothing(fixture: Fixture) {
    let names =
        ["tenant", "tenant:x", "tenant/x", "tenant%2Fx", "tenantx", "", "*", "{tenant}", "é", "\0"];
    let limits = TaskLimits { unfinished_per_owner: 2, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let mut tasks = Vec::new();
    for name in names {
        for _ in 0..2 {
            tasks.push(fixture.tasks.create(&owner(name), new()).await.unwrap());
        }
    }
    for name in names {
        let page = fixture.tasks.list(&owner(name), PageRequest::default()).await.unwrap();
        assert_eq!(page.tasks.len(), 2, "{name:?}");
        assert!(page.tasks.iter().all(|task| task.as_ref().unwrap().owner == owner(name)));
        for task in tasks.iter().filter(|task| task.owner != owner(name)) {
            assert_not_found(fixture.tasks.get(&owner(name), &task.id).await);
        }
    }
}

pub(crate) async fn a_foreign_task_cannot_be_told_from_none(fixture: Fixture) {
    let task = fixture.create().await;
    let (tasks, mallory) = (&fixture.tasks, owner("mallory"));
    for id in
        [task.id.clone(), "no such task".into(), "x".repeat(10_000).as_str().into(), "".into()]
    {
        let this = TaskRef::new(mallory.clone(), id.clone());
        let mut errors = vec![tasks.get(&mallory, &id).await.unwrap_err()];
        errors.push(tasks.update_status(&this, None).await.unwrap_err());
        errors.push(tasks.set_variables(&this, one("a", json!(1))).await.unwrap_err());
        errors.push(tasks.record_input_requests(&this, one("a", json!(1))).await.unwrap_err());
        errors.push(tasks.deliver_inputs(&this, one("a", json!(1))).await.unwrap_err());
        errors.push(tasks.complete(&this, json!(1)).await.unwrap_err());
        errors.push(tasks.fail(&this, json!(1), None).await.unwrap_err());
        errors.push(tasks.cancel(&this, None).await.unwrap_err());
        let stream = tasks.follow(&mallory, &id).await.unwrap();
        errors.push(std::pin::pin!(stream).next().await.unwrap().unwrap_err());
        for error in errors {
            // The text names neither the owner nor a key.
            assert_eq!(error.to_string(), "task not found");
        }
    }
    assert_eq!(fixture.get(&task).await, task);
}

pub(crate) async fn what_has_ended_is_frozen(fixture: Fixture) {
    let tasks = &fixture.tasks;
    for status in [Status::Completed, Status::Failed, Status::Cancelled] {
        let task = fixture.create().await;
        let this = fixture.this(&task);
        match status {
            Status::Completed => tasks.complete(&this, json!("result")).await.unwrap(),
            Status::Failed => tasks.fail(&this, json!("error"), None).await.unwrap(),
            _ => tasks.cancel(&this, None).await.unwrap(),
        };
        let ended = fixture.get(&task).await;
        fixture.clock.advance_millis(10);
        assert_finished(tasks.update_status(&this, Some("late".into())).await, status);
        assert_finished(tasks.set_variables(&this, one("a", json!(1))).await, status);
        assert_finished(tasks.record_input_requests(&this, one("a", json!(1))).await, status);
        assert_finished(tasks.deliver_inputs(&this, one("a", json!(1))).await, status);
        assert_finished(tasks.complete(&this, json!("late")).await, status);
        assert_finished(tasks.fail(&this, json!("late"), None).await, status);
        assert_finished(tasks.cancel(&this, None).await, status);
        assert_eq!(fixture.get(&task).await, ended);
    }
}

/// 200 creates at once with room for 10: exactly 10 get in.
pub(crate) async fn the_quota_is_exact_under_concurrency(fixture: Fixture) {
    let limits = TaskLimits { unfinished_per_owner: 10, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let creates = (0..200).map(|_| {
        let (tasks, alice) = (fixture.tasks.clone(), fixture.alice.clone());
        tokio::spawn(async move { tasks.create(&alice, new()).await })
    });
    let results: Vec<_> = join_all(creates).await.into_iter().map(Result::unwrap).collect();
    let refused = |it: &&Result<_, _>| matches!(it, Err(TaskError::QuotaExceeded { limit: 10 }));
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 10);
    assert_eq!(results.iter().filter(refused).count(), 190);
    assert_eq!(fixture.ids(1_000).await.len(), 10);
}

pub(crate) async fn what_ends_or_expires_makes_room(fixture: Fixture) {
    let limits = TaskLimits { unfinished_per_owner: 2, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let tasks = &fixture.tasks;
    let full = async || {
        assert!(matches!(
            tasks.create(&fixture.alice, new()).await,
            Err(TaskError::QuotaExceeded { limit: 2 })
        ))
    };
    let brief = NewTask { ttl_ms: Some(100), ..new() };
    tasks.create(&fixture.alice, brief).await.unwrap();
    let mut last = fixture.create().await;
    full().await;
    for end in 0..3 {
        let this = fixture.this(&last);
        match end {
            0 => tasks.complete(&this, json!(1)).await.unwrap(),
            1 => tasks.fail(&this, json!(1), None).await.unwrap(),
            _ => tasks.cancel(&this, None).await.unwrap(),
        };
        last = fixture.create().await;
        full().await;
    }
    fixture.clock.advance_millis(99);
    full().await;
    fixture.clock.advance_millis(1);
    fixture.create().await;
    full().await;
    // A full quota is in nobody's way who is already in.
    tasks.update_status(&fixture.this(&last), Some("on".into())).await.unwrap();
}

pub(crate) async fn a_task_is_gone_from_the_very_millisecond_of_its_deadline(fixture: Fixture) {
    let brief = NewTask { ttl_ms: Some(500), ..new() };
    let task = fixture.tasks.create(&fixture.alice, brief).await.unwrap();
    fixture.clock.advance_millis(499);
    let changed = fixture.tasks.update_status(&fixture.this(&task), Some("on".into())).await;
    assert_eq!(changed.unwrap().expires_at(), task.expires_at(), "a change does not prolong it");
    fixture.clock.advance_millis(1);
    assert_not_found(fixture.tasks.get(&task.owner, &task.id).await);
    assert_not_found(fixture.tasks.complete(&fixture.this(&task), json!(1)).await);
    assert_not_found(fixture.tasks.cancel(&fixture.this(&task), None).await);
    assert_eq!(fixture.ids(10).await, []);
}

pub(crate) async fn a_ttl_has_a_default_and_a_maximum(fixture: Fixture) {
    let limits = TaskLimits { default_ttl_ms: 50, max_ttl_ms: 100, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    for (wish, given) in [(None, 50), (Some(0), 1), (Some(70), 70), (Some(u64::MAX), 100)] {
        let task = fixture.tasks.create(&fixture.alice, NewTask { ttl_ms: wish, ..new() }).await;
        assert_eq!(task.unwrap().ttl_ms, Some(given));
    }
}

/// 500 tasks that each get progress while they are completed: no completion fails.
pub(crate) async fn no_completion_fails_because_of_progress(fixture: Fixture) {
    let ends = race_progress(&fixture, 500, async |tasks, this| {
        tasks.complete(&this, json!("result")).await
    });
    for task in ends.await {
        assert_eq!(task.unwrap().outcome, Some(Outcome::Result(json!("result"))));
    }
}

/// 50 tasks that get progress while they are cancelled: no cancel fails.
pub(crate) async fn no_cancel_fails_because_of_progress(fixture: Fixture) {
    let ends = race_progress(&fixture, 50, async |tasks, this| tasks.cancel(&this, None).await);
    for task in ends.await {
        assert_eq!(task.unwrap().status, Status::Cancelled);
    }
}

async fn race_progress<F>(
    fixture: &Fixture,
    count: usize,
    end: impl Fn(TaskStore, TaskRef) -> F,
) -> Vec<Result<Task, TaskError>>
where
    F: Future<Output = Result<Task, TaskError>> + Send + 'static,
{
    let limits = TaskLimits { unfinished_per_owner: 1_000, ..TaskLimits::default() };
    let tasks = fixture.tasks.clone().with_limits(limits);
    let mut ends = Vec::new();
    for _ in 0..count {
        let task = tasks.create(&fixture.alice, new()).await.unwrap();
        let this = fixture.this(&task);
        for reporter in 0..4 {
            let (tasks, this) = (tasks.clone(), this.clone());
            tokio::spawn(async move {
                for step in 0..8 {
                    let told =
                        tasks.update_status(&this, Some(format!("{reporter}: {step}"))).await;
                    assert!(matches!(told, Ok(_) | Err(TaskError::Finished { .. })), "{told:?}");
                }
            });
        }
        ends.push(tokio::spawn(end(tasks.clone(), this)));
    }
    join_all(ends).await.into_iter().map(Result::unwrap).collect()
}

pub(crate) async fn of_64_concurrent_variable_updates_none_is_lost(fixture: Fixture) {
    let task = fixture.create().await;
    let updates = (0..64).map(|n| {
        let (tasks, this) = (fixture.tasks.clone(), fixture.this(&task));
        tokio::spawn(
            async move { tasks.set_variables(&this, one(&format!("v{n}"), json!(n))).await },
        )
    });
    for update in join_all(updates).await {
        update.unwrap().unwrap();
    }
    let task = fixture.get(&task).await;
    assert_eq!((task.variables.len(), task.version), (64, 65));
}

pub(crate) async fn of_two_ends_exactly_one_wins(fixture: Fixture) {
    for _ in 0..50 {
        let task = fixture.create().await;
        let ends = (0..4).map(|n| {
            let (tasks, this) = (fixture.tasks.clone(), fixture.this(&task));
            tokio::spawn(async move {
                match n {
                    0 => tasks.cancel(&this, None).await,
                    1 => tasks.fail(&this, json!(1), None).await,
                    _ => tasks.complete(&this, json!(n)).await,
                }
            })
        });
        let ends: Vec<_> = join_all(ends).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = ends.iter().flatten().collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(fixture.get(&task).await, *winners[0]);
    }
}

pub(crate) async fn the_same_key_makes_the_same_task(fixture: Fixture) {
    let keyed = |tool: &str| NewTask {
        idempotency_key: Some("k".into()),
        ..NewTask::new(Call::new(tool, Map::new()))
    };
    let creates = (0..16).map(|_| fixture.tasks.create(&fixture.alice, keyed("tool")));
    let ids: Vec<_> = join_all(creates).await.into_iter().map(|task| task.unwrap().id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let other_call = fixture.tasks.create(&fixture.alice, keyed("other")).await;
    assert!(matches!(other_call, Err(TaskError::IdempotencyMismatch)));
    let other_owner = fixture.tasks.create(&owner("bob"), keyed("tool")).await.unwrap();
    assert_ne!(other_owner.id, ids[0]);
    let long = NewTask { idempotency_key: Some("k".repeat(1_000)), ..new() };
    assert!(fixture.tasks.create(&fixture.alice, long).await.unwrap_err().is_client_fault());
}

pub(crate) async fn a_repeated_create_finds_its_task_although_the_quota_is_full(fixture: Fixture) {
    let limits = TaskLimits { unfinished_per_owner: 1, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let keyed = || NewTask { idempotency_key: Some("k".into()), ..new() };
    let first = fixture.tasks.create(&fixture.alice, keyed()).await.unwrap();
    assert_eq!(fixture.tasks.create(&fixture.alice, keyed()).await.unwrap(), first);
}

pub(crate) async fn what_exceeds_a_limit_is_refused_and_changes_nothing(fixture: Fixture) {
    let task = fixture.create().await;
    let (tasks, this) = (&fixture.tasks, fixture.this(&task));
    let limits = *tasks.limits();
    let long = |bytes: usize| json!("x".repeat(bytes + 1));
    let mut deep = json!(1);
    for _ in 0..limits.depth {
        deep = json!([deep]);
    }
    let many: Map<_, _> =
        (0..5).map(|n| (n.to_string(), json!("x".repeat(limits.string_bytes)))).collect();
    assert_invalid(tasks.set_variables(&this, one("v", long(limits.string_bytes))).await);
    assert_invalid(tasks.set_variables(&this, one("v", deep.clone())).await);
    assert_invalid(tasks.set_variables(&this, many.clone()).await);
    assert_invalid(tasks.record_input_requests(&this, many).await);
    assert_invalid(tasks.record_input_requests(&this, one(&"k".repeat(1_000), json!(1))).await);
    assert_invalid(tasks.complete(&this, long(limits.outcome_bytes)).await);
    assert_invalid(tasks.complete(&this, deep.clone()).await);
    assert_invalid(tasks.fail(&this, long(limits.outcome_bytes), None).await);
    let message = "x".repeat(limits.message_bytes + 1);
    assert_invalid(tasks.update_status(&this, Some(message)).await);
    let call = Call::new("tool", one("a", long(limits.call_bytes)));
    assert_invalid(tasks.create(&fixture.alice, NewTask::new(call)).await);
    assert_invalid(
        tasks.create(&fixture.alice, NewTask::new(Call::new("t".repeat(1_000), Map::new()))).await,
    );
    assert_eq!(fixture.get(&task).await, task);
}

pub(crate) async fn the_largest_task_that_the_limits_allow_can_be_stored(fixture: Fixture) {
    let limits = *fixture.tasks.limits();
    let fill = |bytes: usize| {
        let chunk = 8_000;
        Map::from_iter((0..bytes / (chunk + 20)).map(|n| (n.to_string(), json!("x".repeat(chunk)))))
    };
    let call = Call::new("tool", fill(limits.call_bytes));
    let task = fixture.tasks.create(&fixture.alice, NewTask::new(call)).await.unwrap();
    let this = fixture.this(&task);
    fixture.tasks.set_variables(&this, fill(limits.variables_bytes)).await.unwrap();
    fixture.tasks.record_input_requests(&this, fill(limits.inputs_bytes - 4_096)).await.unwrap();
    let result = json!("x".repeat(limits.outcome_bytes - 2));
    fixture.tasks.complete(&this, result.clone()).await.unwrap();
    assert_eq!(fixture.get(&task).await.outcome, Some(Outcome::Result(result)));
}

/// A record that cannot be read, of a newer schema or damaged, is named, hides nothing, and is
/// left as it is.
pub(crate) async fn what_cannot_be_read_is_named_and_never_overwritten(fixture: Fixture) {
    for bytes in [r#"{"schema":2,"task":{"steps":[]}}"#, "damaged", "", "{}", "[]"] {
        let tasks = &fixture.tasks;
        let (before, broken, after) =
            (fixture.create().await, fixture.create().await, fixture.create().await);
        fixture.overwrite(&broken.id, bytes).await;
        let this = fixture.this(&broken);
        for refused in [
            tasks.get(&broken.owner, &broken.id).await,
            tasks.update_status(&this, None).await,
            tasks.complete(&this, json!(1)).await,
            tasks.cancel(&this, None).await,
        ] {
            assert!(
                matches!(&refused, Err(TaskError::Unreadable { id, .. }) if *id == broken.id),
                "{refused:?}"
            );
            assert!(!refused.unwrap_err().is_client_fault());
        }
        let page = tasks.list(&fixture.alice, PageRequest::default()).await.unwrap();
        let listed = |task: &Task| page.tasks.iter().flatten().any(|it| it.id == task.id);
        assert!(listed(&before) && listed(&after));
        let named = |it: &Result<Task, TaskError>| matches!(it, Err(TaskError::Unreadable { id, .. }) if *id == broken.id);
        assert_eq!(page.tasks.iter().filter(|it| named(it)).count(), 1);
        assert_eq!(fixture.bytes(&broken.id).await, bytes);
    }
}

pub(crate) async fn a_walk_meets_every_task_once_oldest_first(fixture: Fixture) {
    let mut created = Vec::new();
    // All at the same millisecond of the store's clock.
    for _ in 0..25 {
        created.push(fixture.create().await.id);
    }
    for limit in [1, 7, 25, 26, usize::MAX] {
        let walked = fixture.ids(limit).await;
        assert_eq!(walked.len(), created.len(), "{limit}");
        assert!(walked.is_sorted() && created.iter().all(|id| walked.contains(id)));
    }
    assert_eq!(fixture.ids(0).await.len(), 25, "a page of none is a page of one");
}

pub(crate) async fn a_cursor_survives_the_task_that_it_names(fixture: Fixture) {
    let limits = TaskLimits { unfinished_per_owner: 100, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let brief = NewTask { ttl_ms: Some(10), ..new() };
    fixture.tasks.create(&fixture.alice, brief).await.unwrap();
    let lasting = fixture.create().await;
    let page = fixture.tasks.list(&fixture.alice, PageRequest::first(1)).await.unwrap();
    fixture.clock.advance_millis(10);
    fixture.tasks.cleanup(10).await.unwrap();
    let next = PageRequest::after(page.next.unwrap(), 1);
    let page = fixture.tasks.list(&fixture.alice, next).await.unwrap();
    assert_eq!(page.tasks[0].as_ref().unwrap().id, lasting.id);
}

pub(crate) async fn a_cursor_of_another_owner_is_refused(fixture: Fixture) {
    for _ in 0..2 {
        fixture.create().await;
    }
    let page = fixture.tasks.list(&fixture.alice, PageRequest::first(1)).await.unwrap();
    let foreign: Cursor = page.next.unwrap().to_string().parse().unwrap();
    let refused = fixture.tasks.list(&owner("alice2"), PageRequest::after(foreign, 1)).await;
    assert!(matches!(refused, Err(TaskError::Store(StoreError::InvalidCursor))));
}

pub(crate) async fn a_fence_refuses_every_write_of_another_attempt(fixture: Fixture) {
    let task = fixture.create().await;
    let stale = fixture.this(&task).fenced("gone".into(), 1);
    let refused = fixture.tasks.complete(&stale, json!(1)).await;
    assert!(matches!(refused, Err(TaskError::Superseded { attempt: 0 })));
    let refused = fixture.tasks.set_variables(&stale, one("a", json!(1))).await;
    assert!(matches!(refused, Err(TaskError::Superseded { attempt: 0 })));
    fixture.tasks.cancel(&fixture.this(&task), None).await.unwrap();
    assert_finished(fixture.tasks.complete(&stale, json!(1)).await, Status::Cancelled);
}

pub(crate) async fn a_follower_sees_the_end_and_then_the_stream_ends(fixture: Fixture) {
    let task = fixture.create().await;
    let this = fixture.this(&task);
    let stream = fixture.tasks.follow(&task.owner, &task.id).await.unwrap();
    let mut states = std::pin::pin!(stream);
    assert_eq!(states.next().await.unwrap().unwrap(), task);
    for step in 0..500 {
        fixture.tasks.update_status(&this, Some(step.to_string())).await.unwrap();
    }
    // Beyond what any backlog holds, and still neither lost nor out of order.
    let mut last = task.version;
    let ended = fixture.tasks.complete(&this, json!(1)).await.unwrap();
    while let Some(state) = states.next().await {
        let state = state.unwrap();
        assert!(state.version > last);
        last = state.version;
    }
    assert_eq!(last, ended.version);
}

pub(crate) async fn a_hundred_followers_all_see_the_end(fixture: Fixture) {
    let mut followers = Vec::new();
    for _ in 0..20 {
        let task = fixture.create().await;
        for _ in 0..5 {
            let stream = fixture.tasks.follow(&task.owner, &task.id).await.unwrap();
            let last =
                async move { std::pin::pin!(stream).fold(None, async |_, it| Some(it)).await };
            followers.push(tokio::spawn(last));
        }
        let (tasks, this) = (fixture.tasks.clone(), fixture.this(&task));
        tokio::spawn(async move {
            tasks.update_status(&this, Some("on".into())).await.unwrap();
            tasks.complete(&this, json!(1)).await.unwrap();
        });
    }
    for last in join_all(followers).await {
        assert_eq!(last.unwrap().unwrap().unwrap().status, Status::Completed);
    }
    let feeds = format!("{:?}", fixture.tasks);
    assert!(feeds.contains("owners: 0"), "the last follower takes the feed with it: {feeds}");
}

pub(crate) async fn a_follower_of_a_task_that_expires_is_told(fixture: Fixture) {
    let brief = NewTask { ttl_ms: Some(100), ..new() };
    let task = fixture.tasks.create(&fixture.alice, brief).await.unwrap();
    let stream = fixture.tasks.follow(&task.owner, &task.id).await.unwrap();
    let mut states = std::pin::pin!(stream);
    states.next().await.unwrap().unwrap();
    let mut next = states.next();
    assert!(futures::poll!(&mut next).is_pending());
    fixture.clock.advance_millis(100);
    assert_not_found(next.await.unwrap());
    assert!(states.next().await.is_none());
}

/// Expands to one named test per case.
macro_rules! for_each_case {
    ($open:expr) => {
        crate::task_cases::for_each_case! { $open =>
            what_another_process_did_meanwhile_is_seen_by_every_change
            a_created_task_is_there_as_it_was_returned
            owners_whose_names_contain_each_other_share_nothing
            a_foreign_task_cannot_be_told_from_none
            what_has_ended_is_frozen
            the_quota_is_exact_under_concurrency
            what_ends_or_expires_makes_room
            a_task_is_gone_from_the_very_millisecond_of_its_deadline
            a_ttl_has_a_default_and_a_maximum
            no_completion_fails_because_of_progress
            no_cancel_fails_because_of_progress
            of_64_concurrent_variable_updates_none_is_lost
            of_two_ends_exactly_one_wins
            the_same_key_makes_the_same_task
            a_repeated_create_finds_its_task_although_the_quota_is_full
            what_exceeds_a_limit_is_refused_and_changes_nothing
            the_largest_task_that_the_limits_allow_can_be_stored
            what_cannot_be_read_is_named_and_never_overwritten
            a_walk_meets_every_task_once_oldest_first
            a_cursor_survives_the_task_that_it_names
            a_cursor_of_another_owner_is_refused
            a_fence_refuses_every_write_of_another_attempt
            a_follower_sees_the_end_and_then_the_stream_ends
            a_hundred_followers_all_see_the_end
            a_follower_of_a_task_that_expires_is_told
        }
    };
    ($open:expr => $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $case() {
            let clock = new_clock();
            let open = $open;
            let backend = open(clock.clone()).await;
            task_cases::$case(task_cases::Fixture::new(clock, backend)).await;
        })*
    };
}
pub(crate) use for_each_case;
