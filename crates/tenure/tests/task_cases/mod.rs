//! What must hold of tasks on any backend. Each case gets a fresh store.

mod changing;
mod creating;
mod following;
mod limits;
mod listing;

use std::sync::Arc;

pub(crate) use self::changing::*;
pub(crate) use self::creating::*;
pub(crate) use self::following::*;
pub(crate) use self::limits::*;
pub(crate) use self::listing::*;
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

/// A request for input, in the form that it must have.
fn question() -> Value {
    json!({ "method": "ask" })
}

fn result(value: impl Into<Value>) -> Value {
    json!({ "value": value.into() })
}

fn error(message: impl Into<String>) -> Value {
    json!({ "code": 1, "message": message.into() })
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
            an_unfinished_task_that_cannot_be_read_counts_until_it_expires
            a_task_is_gone_from_the_very_millisecond_of_its_deadline
            a_ttl_has_a_default_and_a_maximum
            no_completion_fails_because_of_progress
            no_cancel_fails_because_of_progress
            of_64_concurrent_variable_updates_none_is_lost
            of_two_ends_exactly_one_wins
            the_same_key_makes_the_same_task
            a_repeated_create_finds_its_task_although_the_quota_is_full
            what_exceeds_a_limit_is_refused_and_changes_nothing
            what_no_client_could_read_is_refused_and_changes_nothing
            a_stored_task_of_another_form_can_be_read_and_goes_on
            the_largest_task_that_the_limits_allow_can_be_stored
            what_cannot_be_read_is_named_and_never_overwritten
            a_walk_meets_every_task_once_oldest_first
            a_task_with_a_key_has_its_place_by_the_key_and_moves_no_other
            a_record_of_another_owner_is_named_as_unreadable_and_hides_nothing
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
