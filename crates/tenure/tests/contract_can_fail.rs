//! The suite catches what it is there for: each of these backends has one classic defect, and the
//! named cases fail on it.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::collections::HashMap;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _};
use tenure::clock::{Clock, Timestamp};
use tenure::store::contract::{self, Harness, MemoryHarness};
use tenure::store::{
    Current, Entry, InMemoryBackend, Key, Page, PageRequest, Partition, Precondition, Record,
    StorageBackend, StoreError, Version, VersionToken, Watch, WatchEvent, WatchFrom, Write,
};

/// What is wrong with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// Nothing: the wrapper itself passes.
    None,
    /// Keys are joined with colons and listed by prefix.
    JoinsKeys,
    /// A token is the version alone.
    TokenIsVersion,
    /// The precondition is checked with a read, then the write is made.
    ChecksThenActs,
    /// Reads filter what has expired; preconditions and counts do not.
    WritesIgnoreExpiry,
    /// Deadlines are kept in seconds.
    FloorsDeadlines,
    /// A conflict does not say what is there.
    ConflictsSayNothing,
    /// A missing key is accepted by a conditional write.
    MissingKeyMatches,
    /// A deleted record goes on counting.
    DeleteFreesNothing,
    /// A cursor that it does not know restarts at page one.
    ForeignCursorRestarts,
    /// A page is filtered after it was cut.
    FiltersPagesLate,
    /// Every third event is lost.
    DropsEvents,
    /// What it cannot resume from, it skips.
    SkipsGaps,
    /// Cleaning up takes all there is.
    CleansUpWithoutLimit,
    /// Tags are neither stored nor compared.
    IgnoresTags,
    /// A tag is stored, and stays when the next write has none.
    KeepsStaleTags,
    /// A conflict tells the token and not the tag.
    ConflictsHideTags,
    /// Former versions are not kept.
    ForgetsHistory,
    /// Every write is taken for the first.
    ForgetsTheBeginning,
}

#[derive(Debug, Clone)]
struct Broken {
    defect: Defect,
    inner: InMemoryBackend,
    clock: Clock,
    deleted: Arc<Mutex<HashMap<Partition, u32>>>,
}

/// Where [`Defect::JoinsKeys`] puts a record, or begins a listing.
fn joined(partition: &Partition, name: &str) -> (Partition, String) {
    let path = partition.segments().collect::<Vec<_>>().join(":");
    (Partition::new(["all"]).unwrap(), format!("{path}:{name}"))
}

impl Broken {
    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    fn key(&self, key: &Key) -> Key {
        if !self.is(Defect::JoinsKeys) {
            return key.clone();
        }
        let (partition, name) = joined(key.partition(), key.name());
        partition.key(name).unwrap()
    }

    fn token(&self, token: VersionToken) -> VersionToken {
        if self.is(Defect::TokenIsVersion) {
            return VersionToken::from_parts(token.version(), 0);
        }
        token
    }

    fn record(&self, record: Record) -> Option<Record> {
        (!record.is_expired(self.clock.now()))
            .then(|| Record { token: self.token(record.token), ..record })
            .map(|record| match self.defect {
                Defect::ForgetsTheBeginning => Record { created_at: self.clock.now(), ..record },
                _ => record,
            })
    }

    async fn precondition(
        &self,
        key: &Key,
        precondition: Precondition,
    ) -> Result<Precondition, StoreError> {
        let current = self.inner.get(key).await?.map(|record| record.current());
        match (self.defect, precondition) {
            (Defect::TokenIsVersion, Precondition::Matches(token)) => {
                let same = current.filter(|it| it.token.version() == token.version());
                Ok(Precondition::Matches(same.map_or(token, |it| it.token)))
            }
            (Defect::IgnoresTags, Precondition::Tagged(_)) => Ok(Precondition::Present),
            (Defect::ChecksThenActs, _) => {
                precondition.check(current)?;
                tokio::task::yield_now().await;
                Ok(Precondition::Any)
            }
            (Defect::MissingKeyMatches, Precondition::Matches(_)) if current.is_none() => {
                Ok(Precondition::Any)
            }
            _ => Ok(precondition),
        }
    }

    fn error(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::VersionConflict { .. } if self.is(Defect::ConflictsSayNothing) => {
                StoreError::VersionConflict { current: None }
            }
            StoreError::VersionConflict { current } => {
                let hidden = self.is(Defect::ConflictsHideTags);
                let seen = |it: Current| Current {
                    token: self.token(it.token),
                    tag: it.tag.filter(|_| !hidden),
                };
                StoreError::VersionConflict { current: current.map(seen) }
            }
            error => error,
        }
    }

    /// The write as the defect leaves it. Where expiry is ignored, nothing tells the inner store
    /// of a deadline; it travels in front of the value.
    fn write(&self, key: &Key, mut write: Write) -> Write {
        if self.is(Defect::IgnoresTags) {
            write.tag = None;
        }
        if self.is(Defect::ForgetsHistory) {
            write.kept = 0;
        }
        if self.is(Defect::FloorsDeadlines) {
            write.expires_at =
                write.expires_at.map(|at| Timestamp::from_millis(at.as_millis() / 1_000 * 1_000));
        }
        if self.is(Defect::DeleteFreesNothing) {
            let deleted = *self.deleted.lock().unwrap().get(key.partition()).unwrap_or(&0);
            write.capacity = write.capacity.map(|limit| limit.saturating_sub(deleted));
        }
        if self.hides_deadlines() && write.check().is_ok() {
            let deadline = write.expires_at.take().map_or(u64::MAX, Timestamp::as_millis);
            write.value = [&deadline.to_be_bytes()[..], &write.value].concat().into();
        }
        write
    }

    fn hides_deadlines(&self) -> bool {
        matches!(self.defect, Defect::WritesIgnoreExpiry | Defect::FiltersPagesLate)
    }

    fn unhide(&self, mut record: Record) -> Record {
        if self.hides_deadlines() {
            let deadline = record.value.split_to(8);
            let deadline = u64::from_be_bytes(deadline[..].try_into().unwrap());
            record.expires_at = (deadline != u64::MAX).then(|| Timestamp::from_millis(deadline));
        }
        record
    }
}

#[async_trait]
impl StorageBackend for Broken {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let record = self.inner.get(&self.key(key)).await?;
        Ok(record.and_then(|record| self.record(self.unhide(record))))
    }

    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.put_if_version(key, write, Precondition::Any).await
    }

    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        let mut write = self.write(key, write);
        let key = self.key(key);
        if self.is(Defect::KeepsStaleTags) && write.tag.is_none() {
            write.tag = self.inner.get(&key).await?.and_then(|record| record.tag);
        }
        let precondition = self.precondition(&key, precondition).await?;
        let written = self.inner.put_if_version(&key, write, precondition).await;
        written.map(|token| self.token(token)).map_err(|error| self.error(error))
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        let partition = key.partition();
        let key = self.key(key);
        let precondition = self.precondition(&key, precondition).await?;
        let deleted = self.inner.delete(&key, precondition).await;
        if matches!(deleted, Ok(true)) {
            *self.deleted.lock().unwrap().entry(partition.clone()).or_default() += 1;
        }
        deleted.map_err(|error| self.error(error))
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        let mut history = self.inner.history(&self.key(key)).await?;
        for version in &mut history {
            version.token = self.token(version.token);
            if self.hides_deadlines() {
                version.value = version.value.slice(8..);
            }
        }
        Ok(history)
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        mut request: PageRequest,
    ) -> Result<Page, StoreError> {
        if self.is(Defect::ForeignCursorRestarts) && request.start(partition, prefix).is_err() {
            request.after = None;
        }
        if !self.is(Defect::JoinsKeys) {
            let mut page = self.inner.list_by_prefix(partition, prefix, request).await?;
            let entries = page.entries.into_iter().filter_map(|Entry { key, record }| {
                Some(Entry { key, record: self.record(self.unhide(record))? })
            });
            page.entries = entries.collect();
            return Ok(page);
        }
        let (all, joined_prefix) = joined(partition, prefix);
        let mut page = self.inner.list_by_prefix(&all, &joined_prefix, request).await?;
        let owner = joined_prefix.len() - prefix.len();
        for entry in &mut page.entries {
            entry.key = partition.key(&entry.key.name()[owner..])?;
        }
        Ok(page)
    }

    async fn counted(&self, partition: &Partition) -> Result<u64, StoreError> {
        let deleted = *self.deleted.lock().unwrap().get(partition).unwrap_or(&0);
        let deleted = if self.is(Defect::DeleteFreesNothing) { deleted.into() } else { 0 };
        match self.defect {
            Defect::JoinsKeys => self.inner.counted(&joined(partition, "").0).await,
            _ => Ok(self.inner.counted(partition).await? + deleted),
        }
    }

    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let limit = if self.is(Defect::CleansUpWithoutLimit) { usize::MAX } else { limit };
        self.inner.cleanup_expired(limit).await
    }

    async fn checkpoint(&self) -> Result<(), StoreError> {
        self.inner.checkpoint().await
    }

    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError> {
        self.watch_within(partition, from, 0).await
    }

    async fn watch_within(
        &self,
        partition: &Partition,
        from: WatchFrom,
        delay_ms: u64,
    ) -> Result<Watch, StoreError> {
        let watch = self.inner.watch_within(partition, from, delay_ms).await?;
        let mut count = 0;
        let defect = self.defect;
        let keep = move |event: &Result<WatchEvent, StoreError>| {
            count += 1;
            let keep = match (defect, event) {
                (Defect::DropsEvents, _) => count % 3 != 0,
                (Defect::SkipsGaps, Ok(WatchEvent::Resync(_))) => false,
                _ => true,
            };
            std::future::ready(keep)
        };
        Ok(watch.filter(keep).boxed())
    }
}

struct BrokenHarness {
    memory: MemoryHarness,
    store: Broken,
}

impl BrokenHarness {
    fn new(defect: Defect) -> Self {
        let memory = MemoryHarness::default();
        let clock = memory.clock();
        let inner = InMemoryBackend::new(clock.clone());
        Self { memory, store: Broken { defect, inner, clock, deleted: Arc::default() } }
    }
}

#[async_trait]
impl Harness for BrokenHarness {
    async fn connect(&self) -> Arc<dyn StorageBackend> {
        Arc::new(self.store.clone())
    }

    fn clock(&self) -> Clock {
        self.memory.clock()
    }
}

/// Whether a case passes. Tokio's time is paused, so that waiting in vain takes none.
fn passes(case: impl Future<Output = ()>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(AssertUnwindSafe(case).catch_unwind()).is_ok()
}

/// Each named case fails with the defect, and passes on the same wrapper without one.
macro_rules! caught {
    ($($test:ident: $defect:ident by $($case:ident),+;)+) => {$(
        #[test]
        fn $test() {
            $(
                let sound = BrokenHarness::new(Defect::None);
                assert!(passes(contract::$case(&sound)), "{} fails without", stringify!($case));
                let broken = BrokenHarness::new(Defect::$defect);
                assert!(!passes(contract::$case(&broken)), "{} misses it", stringify!($case));
            )+
        }
    )+};
}

caught! {
    joined_keys_are_caught: JoinsKeys by listing_never_leaves_its_partition;
    bare_versions_are_caught: TokenIsVersion by token_from_before_a_delete_is_refused,
        token_from_before_expiry_is_refused, token_of_another_key_never_matches;
    check_then_act_is_caught: ChecksThenActs by race_of_increments_loses_none,
        race_of_creates_has_one_winner, race_for_one_token_has_one_winner;
    writes_that_ignore_expiry_are_caught: WritesIgnoreExpiry by expired_is_absent_to_a_create,
        expired_is_absent_to_put, expired_conflicts_with_its_token, expired_is_absent_to_delete,
        capacity_is_freed_by_expiry, counted_leaves_out_the_expired;
    deadlines_in_seconds_are_caught: FloorsDeadlines by expired_is_absent_to_the_millisecond,
        deadline_is_kept_exactly;
    silent_conflicts_are_caught: ConflictsSayNothing by
        put_if_version_mismatch_reports_what_is_there,
        put_if_version_absent_on_existing_conflicts, delete_stale_token_conflicts;
    missing_keys_that_match_are_caught: MissingKeyMatches by put_if_version_missing_key_conflicts,
        delete_missing_with_a_token_conflicts;
    deletes_that_free_nothing_are_caught: DeleteFreesNothing by capacity_is_freed_by_delete,
        counted_tells_how_many_records_count;
    restarting_cursors_are_caught: ForeignCursorRestarts by cursor_of_another_listing_is_refused;
    pages_filtered_late_are_caught: FiltersPagesLate by expired_records_do_not_shorten_pages;
    lost_events_are_caught: DropsEvents by watch_tells_of_put_and_gone_in_order,
        watch_that_can_wait_is_told_everything,
        watch_converges_under_concurrent_writes, watch_resumes_after_a_revision;
    skipped_gaps_are_caught: SkipsGaps by watch_never_loses_silently_when_it_lags,
        watch_from_another_epoch_resyncs;
    unbounded_cleanup_is_caught: CleansUpWithoutLimit by cleanup_keeps_to_its_limit;
    ignored_tags_are_caught: IgnoresTags by tag_is_stored_with_its_value,
        tag_that_differs_conflicts_with_the_current_one, tag_travels_with_the_watch,
        race_for_one_tag_has_one_winner;
    stale_tags_are_caught: KeepsStaleTags by tag_is_replaced_and_removed_by_the_next_write;
    hidden_tags_are_caught: ConflictsHideTags by tag_that_differs_conflicts_with_the_current_one;
    forgotten_history_is_caught: ForgetsHistory by history_tells_versions_newest_first,
        history_is_bounded_by_the_write, history_misses_no_acknowledged_write;
    forgotten_beginnings_are_caught: ForgetsTheBeginning by created_at_stays_with_the_record;
}

/// The model notices every defect that shows in answers, without knowing what to look for.
#[test]
fn the_model_catches_what_shows_in_answers() {
    for defect in [
        Defect::TokenIsVersion,
        Defect::WritesIgnoreExpiry,
        Defect::FloorsDeadlines,
        Defect::ConflictsSayNothing,
        Defect::MissingKeyMatches,
        Defect::DeleteFreesNothing,
        Defect::FiltersPagesLate,
        Defect::CleansUpWithoutLimit,
        Defect::IgnoresTags,
        Defect::KeepsStaleTags,
        Defect::ConflictsHideTags,
        Defect::ForgetsHistory,
    ] {
        let broken = BrokenHarness::new(defect);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let case = AssertUnwindSafe(contract::sequences_agree_with_the_model(&broken));
        assert!(runtime.block_on(case.catch_unwind()).is_err(), "{defect:?}");
    }
}
