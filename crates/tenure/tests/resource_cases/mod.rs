//! What must hold of resources on any backend.

mod concurrency;
mod history;
mod keys;
mod watching;
mod writes;

pub(crate) use concurrency::*;
pub(crate) use history::*;
pub(crate) use keys::*;
use serde_json::{Value, json};
use tenure::resources::{Document, ResourceKey, ResourceLimits, ResourceStore, Written};
use tenure::store::contract::Harness;
pub(crate) use watching::*;
pub(crate) use writes::*;

/// One test per case, each on a harness of its own.
macro_rules! for_each_case {
    ($harness:expr) => {
        resource_cases::for_each_case! { @ $harness;
            a_value_comes_back_with_its_etag_and_metadata
            an_etag_is_that_of_the_value_wherever_it_is_written
            a_put_of_an_equal_value_is_a_new_version
            create_needs_that_there_is_none
            put_if_match_needs_the_current_etag
            put_if_match_of_a_missing_resource_is_not_found
            a_value_that_comes_back_brings_its_etag_and_not_its_version
            a_condition_can_ask_for_presence
            delete_is_idempotent
            delete_if_match_needs_the_current_etag
            update_changes_what_is_there
            created_at_survives_overwrites
            values_and_projects_have_limits
            a_damaged_record_hides_nothing_else
            get_many_answers_each_key_in_order
            hostile_names_are_distinct_resources
            projects_have_nothing_in_common
            a_kind_is_listed_exactly
            pages_walk_everything_once
            history_tells_who_wrote_what_when
            history_is_bounded
            a_version_can_be_read_and_reverted_to
            a_revert_under_a_condition_checks_it_and_writes_only_what_is_new
            history_ends_with_the_resource
            every_acknowledged_version_is_in_the_history
            ten_writers_with_one_etag_have_one_winner
            concurrent_creates_have_one_winner
            concurrent_updates_lose_none
            readers_never_see_a_torn_pair
            a_watch_tells_the_state_and_then_each_change
            a_watch_keeps_to_its_scope
            a_watch_serves_several_watchers_and_replicas
            a_watch_resumes_after_a_position
            a_watch_resumes_from_a_marker_that_held_something_back
            a_watch_from_another_history_resyncs
            a_slow_watcher_ends_up_right_and_learns_of_deletes
            a_state_of_many_pages_is_told_while_it_changes
            a_state_is_told_to_its_end_however_much_is_written
        }
    };
    (@ $harness:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                tenure::store::contract::run(async {
                    let harness = $harness;
                    resource_cases::$case(&harness).await;
                });
            }
        )*
    };
}
pub(crate) use for_each_case;

async fn open(harness: &dyn Harness) -> ResourceStore {
    ResourceStore::new(harness.connect().await, harness.clock())
}

async fn open_limited(harness: &dyn Harness, limits: ResourceLimits) -> ResourceStore {
    open(harness).await.with_limits(limits)
}

fn key(kind: &str, id: &str) -> ResourceKey {
    ResourceKey::new("acme", kind, id).unwrap()
}

fn planner() -> ResourceKey {
    key("agent", "planner")
}

fn document(value: &Value) -> Document {
    Document::from_value(value).unwrap()
}

fn number(n: u64) -> Document {
    document(&json!({ "n": n }))
}

/// Puts `{"n": n}`.
async fn put(resources: &ResourceStore, key: &ResourceKey, n: u64) -> Written {
    resources.put(key, &number(n)).await.unwrap()
}
