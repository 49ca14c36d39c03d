//! The one suite that every backend passes.
//!
//! Implement [`Harness`] for the backend, and name it in a test file of its crate, with the feature
//! `contract` of this one among the dev-dependencies:
//!
//! ```no_run
//! use tenure::store::contract::MemoryHarness;
//!
//! tenure::contract_suite!(memory, MemoryHarness::default());
//! ```
//!
//! It expands to a module `memory` with one named test per case. Each test evaluates the
//! expression anew, so the harness it gets is its own. Attributes in front apply to every test:
//! `contract_suite!(#[ignore = "needs a server"] redis, RedisHarness::new());`.
//!
//! There are no capability flags. A backend passes every case, or it does not keep the contract.
//!
//! For tests of what stands above a backend there is [`Unsteady`], a store that fails when told to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code, published for other crates' tests"
)]

mod capacity;
mod delete;
mod expiry;
mod fixture;
mod get_put;
mod harness;
mod history;
mod incarnation;
mod isolation;
mod list;
mod model;
mod pages;
mod precondition;
mod races;
mod resume;
mod tag;
mod unsteady;
mod watch;

pub use harness::{Harness, MemoryHarness, clock_ahead_of_the_server, run};
pub use unsteady::{Mood, Unsteady};

/// Makes the cases public. The modules are private, so that the compiler complains about a case
/// that is missing from the list.
macro_rules! publish {
    ($($module:ident { $($case:ident,)* })*) => {
        $(pub use $module::{$($case),*};)*
    };
}

crate::__contract_cases!([publish]);

/// The list of all cases, handed to a macro of the caller's choice.
#[doc(hidden)]
#[macro_export]
macro_rules! __contract_cases {
    ([$($callback:tt)*] $($argument:tt)*) => {
        $($callback)*! {
            $($argument)*
            get_put {
                get_missing_is_none,
                get_stored_returns_what_was_written,
                get_through_another_handle,
                put_new_is_version_1,
                put_existing_increments_the_version,
                put_overwrites_value_and_deadline,
                put_keeps_every_byte,
                put_empty_value,
                put_value_at_the_limit,
                put_oversized_value_is_refused,
            }
            precondition {
                put_if_version_match_writes,
                put_if_version_mismatch_reports_what_is_there,
                put_if_version_missing_key_conflicts,
                put_if_version_updates_data_and_deadline,
                put_if_version_absent_creates,
                put_if_version_absent_on_existing_conflicts,
                put_if_version_present_updates,
                put_if_version_present_on_missing_conflicts,
                put_if_version_any_always_writes,
                token_of_another_key_never_matches,
                token_survives_storage_as_text,
            }
            delete {
                delete_existing_tells_so,
                delete_missing_tells_so,
                delete_then_get_is_none,
                delete_then_list_is_empty,
                delete_leaves_the_neighbours,
                delete_matching_token,
                delete_stale_token_conflicts,
                delete_missing_with_a_token_conflicts,
                delete_present,
                delete_absent,
            }
            list {
                list_matching_prefix,
                list_empty,
                list_returns_data_tokens_and_deadlines,
                list_prefix_is_literal,
                list_order_is_byte_order,
                list_shows_a_rewritten_record_once,
            }
            pages {
                pages_walk_everything_once_in_order,
                page_limit_is_clamped,
                page_without_limit_is_bounded,
                page_ends_once_its_values_reach_the_bound,
                last_page_has_no_cursor,
                cursor_survives_text,
                cursor_stays_put_while_records_come_and_go,
                cursor_of_a_deleted_record_goes_on,
                cursor_of_another_listing_is_refused,
                cursor_of_hostile_names_goes_on,
            }
            isolation {
                hostile_names_are_distinct_records,
                hostile_partitions_are_distinct,
                longest_names_are_kept,
                listing_never_leaves_its_partition,
                same_name_in_two_partitions,
            }
            expiry {
                expired_is_absent_to_the_millisecond,
                expired_is_absent_from_listings,
                expired_records_do_not_shorten_pages,
                expired_is_absent_to_a_create,
                expired_is_absent_to_put,
                expired_conflicts_with_its_token,
                expired_conflicts_with_present,
                expired_is_absent_to_delete,
                deadline_in_the_past_is_absent_at_once,
                deadline_can_be_removed,
                deadline_can_be_extended,
                deadline_can_be_pulled_in,
                deadline_is_kept_exactly,
                cleanup_counts_what_it_reclaims,
                cleanup_keeps_to_its_limit,
                cleanup_spares_the_living,
                cleanup_spares_a_record_made_anew,
            }
            capacity {
                capacity_is_exact,
                capacity_of_zero_admits_nothing,
                capacity_conflict_comes_before_full,
                capacity_applies_to_conditional_writes,
                capacity_update_needs_no_room,
                capacity_counts_a_record_that_becomes_counted,
                capacity_is_freed_by_an_uncounted_write,
                capacity_is_freed_by_delete,
                capacity_is_freed_by_expiry,
                capacity_ignores_uncounted_records,
                capacity_ignores_other_partitions,
                counted_tells_how_many_records_count,
                counted_leaves_out_the_expired,
                capacity_admits_exactly_ten_of_200,
                capacity_holds_while_records_come_and_go,
            }
            tag {
                tag_is_stored_with_its_value,
                tag_is_replaced_and_removed_by_the_next_write,
                tag_stays_when_it_is_given_again,
                tag_that_matches_writes_and_deletes,
                tag_that_differs_conflicts_with_the_current_one,
                tag_of_a_missing_record_conflicts,
                tag_of_an_expired_record_conflicts,
                tag_of_an_earlier_value_matches_again,
                tag_travels_with_the_watch,
                race_for_one_tag_has_one_winner,
            }
            history {
                history_of_a_missing_record_is_empty,
                history_tells_versions_newest_first,
                history_is_bounded_by_the_write,
                history_goes_with_a_write_that_keeps_none,
                history_ends_with_its_record,
                history_of_an_expired_record_is_not_the_next_ones,
                history_ignores_refused_writes,
                history_keeps_hostile_names_apart,
                history_misses_no_acknowledged_write,
                created_at_stays_with_the_record,
                created_at_begins_anew_with_an_incarnation,
            }
            incarnation {
                token_from_before_a_delete_is_refused,
                token_from_before_expiry_is_refused,
                token_from_before_a_cleanup_is_refused,
                token_from_before_never_deletes,
            }
            watch {
                watch_tells_of_put_and_gone_in_order,
                watch_that_can_wait_is_told_everything,
                watch_may_coalesce_writes_of_a_key_and_tells_the_last,
                watch_carries_token_and_deadline,
                watch_positions_rise,
                watch_begins_now,
                watch_of_one_partition_ignores_others,
                watch_tells_nothing_of_refused_writes,
                watch_sees_the_writes_of_another_handle,
                watch_serves_several_watchers,
                watch_survives_the_drop_of_another,
                watch_sees_an_expired_record_made_anew,
            }
            resume {
                watch_from_a_page_misses_nothing,
                watch_from_an_empty_page_misses_nothing,
                watch_from_before_an_emptied_partition_misses_nothing,
                watch_resumes_after_a_revision,
                watch_from_another_epoch_resyncs,
                watch_never_loses_silently_when_it_lags,
                watch_goes_on_after_a_gap,
                watch_never_blocks_a_writer,
                watch_converges_under_concurrent_writes,
            }
            races {
                race_of_increments_loses_none,
                race_of_puts_gives_distinct_versions,
                race_of_creates_has_one_winner,
                race_for_one_token_has_one_winner,
                race_of_deletes_has_one_winner,
            }
            model {
                sequences_agree_with_the_model,
            }
        }
    };
}

/// Expands to a module of tests, one per case of the contract. See
/// [`store::contract`](crate::store::contract).
#[macro_export]
macro_rules! contract_suite {
    ($(#[$attribute:meta])* $name:ident, $harness:expr $(,)?) => {
        mod $name {
            #[allow(unused_imports, reason = "the harness may be named by an absolute path")]
            use super::*;

            $crate::__contract_cases!([$crate::__contract_tests] { $(#[$attribute])* } { $harness });
        }
    };
}

/// One test per case.
#[doc(hidden)]
#[macro_export]
macro_rules! __contract_tests {
    ($attributes:tt $harness:tt $($module:ident { $($case:ident,)* })*) => {
        $($($crate::__contract_test!($attributes $harness $case);)*)*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __contract_test {
    ({ $($attribute:tt)* } { $harness:expr } $case:ident) => {
        #[test]
        $($attribute)*
        fn $case() {
            $crate::store::contract::run(async {
                let harness = $harness;
                $crate::store::contract::$case(&harness).await;
            });
        }
    };
}
