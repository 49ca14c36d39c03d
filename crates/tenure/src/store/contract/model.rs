//! Random sequences of calls, compared with the memory backend on the same clock.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::Harness;
use super::fixture::{Fixture, tag, write};
use crate::clock::Timestamp;
use crate::store::{
    Current, InMemoryBackend, Key, PageRequest, Partition, Precondition, Record, StorageBackend,
    StoreError, Tag, VersionToken, Write,
};

const NAMES: [&str; 4] = ["a", "a\0", "ab", "b"];
const PREFIXES: [&str; 3] = ["", "a", "ab"];
const PARTITIONS: usize = 2;

#[derive(Debug, Clone)]
enum Step {
    Get(Place),
    History(Place),
    Put(Place, Content),
    PutIf(Place, Content, Condition),
    Delete(Place, Condition),
    Walk { partition: usize, prefix: &'static str, limit: usize },
    Cleanup { limit: usize },
    Advance { millis: u64 },
}

#[derive(Debug, Clone, Copy)]
struct Place {
    partition: usize,
    name: &'static str,
}

#[derive(Debug, Clone)]
struct Content {
    value: u8,
    /// From now; negative is in the past.
    ttl_ms: Option<i64>,
    capacity: Option<u32>,
    tag: Option<u8>,
    kept: u32,
}

#[derive(Debug, Clone, Copy)]
enum Condition {
    Any,
    Absent,
    Present,
    /// The token of the write before the last `n` ones, of whichever key it was.
    Written(usize),
    /// What the key really holds.
    Current,
    Tagged(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = (0..PARTITIONS, prop::sample::select(&NAMES[..]))
        .prop_map(|(partition, name)| Place { partition, name });
    let ttl = prop_oneof![4 => Just(None), 4 => (0i64..20).prop_map(Some), 1 => Just(Some(-5))];
    let capacity = prop_oneof![2 => Just(None), 2 => (0u32..4).prop_map(Some)];
    let tag = prop_oneof![Just(None), (0u8..3).prop_map(Some)];
    let content = (any::<u8>(), ttl, capacity, tag, 0u32..4).prop_map(
        |(value, ttl_ms, capacity, tag, kept)| Content { value, ttl_ms, capacity, tag, kept },
    );
    let condition = prop_oneof![
        1 => Just(Condition::Any),
        2 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        2 => (0usize..8).prop_map(Condition::Written),
        3 => Just(Condition::Current),
        2 => (0u8..3).prop_map(Condition::Tagged),
    ];
    let walk = (0..PARTITIONS, prop::sample::select(&PREFIXES[..]), 1usize..4)
        .prop_map(|(partition, prefix, limit)| Step::Walk { partition, prefix, limit });
    let step = prop_oneof![
        3 => place.clone().prop_map(Step::Get),
        2 => place.clone().prop_map(Step::History),
        4 => (place.clone(), content.clone()).prop_map(|(at, it)| Step::Put(at, it)),
        6 => (place.clone(), content, condition.clone())
            .prop_map(|(at, it, when)| Step::PutIf(at, it, when)),
        3 => (place, condition).prop_map(|(at, when)| Step::Delete(at, when)),
        2 => walk,
        1 => (0usize..4).prop_map(|limit| Step::Cleanup { limit }),
        3 => (1u64..8).prop_map(|millis| Step::Advance { millis }),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a call answered, with stamps replaced by the number of the write that they name.
#[derive(Debug, PartialEq)]
enum Answer {
    Nothing,
    Wrote { version: u64 },
    Deleted(bool),
    Conflict(Option<Seen>),
    Full { limit: u32 },
    Read(Option<Found>),
    Versions(Vec<(Seen, Vec<u8>)>),
    Pages(Vec<Vec<(String, Found)>>),
    Cleaned(usize),
}

/// A token, as the number of the write that it came from, and the tag beside it.
#[derive(Debug, PartialEq)]
struct Seen {
    write: Option<usize>,
    version: u64,
    tag: Option<Tag>,
}

#[derive(Debug, PartialEq)]
struct Found {
    seen: Seen,
    value: Vec<u8>,
    expires_at: Option<Timestamp>,
}

/// One of the two stores under comparison, and the tokens of all the writes it has accepted.
struct Side {
    store: Arc<dyn StorageBackend>,
    written: Vec<VersionToken>,
}

impl Side {
    fn new(store: Arc<dyn StorageBackend>) -> Self {
        Self { store, written: Vec::new() }
    }

    fn seen(&self, Current { token, tag }: Current) -> Seen {
        let write = self.written.iter().position(|written| *written == token);
        Seen { write, version: token.version(), tag }
    }

    fn found(&self, record: &Record) -> Found {
        let value = record.value.to_vec();
        Found { seen: self.seen(record.current()), value, expires_at: record.expires_at }
    }

    async fn precondition(
        &self,
        key: &Key,
        condition: Condition,
    ) -> Result<Precondition, StoreError> {
        let token = match condition {
            Condition::Any => return Ok(Precondition::Any),
            Condition::Absent => return Ok(Precondition::Absent),
            Condition::Present => return Ok(Precondition::Present),
            Condition::Tagged(number) => return Ok(Precondition::Tagged(tag(number))),
            Condition::Written(back) => self.written.iter().rev().nth(back).copied(),
            Condition::Current => self.store.get(key).await?.map(|record| record.token),
        };
        Ok(token.map_or(Precondition::Present, Precondition::Matches))
    }

    fn wrote(&mut self, token: VersionToken) -> Answer {
        self.written.push(token);
        Answer::Wrote { version: token.version() }
    }

    /// Takes one step. Refusals are answers; anything else fails the sequence.
    async fn answer(
        &mut self,
        step: &Step,
        partitions: &[Partition],
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        match self.take(step, partitions, now).await {
            Err(StoreError::VersionConflict { current }) => {
                Ok(Answer::Conflict(current.map(|current| self.seen(current))))
            }
            Err(StoreError::PartitionFull { limit }) => Ok(Answer::Full { limit }),
            answer => answer,
        }
    }

    async fn take(
        &mut self,
        step: &Step,
        partitions: &[Partition],
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let key = |place: &Place| partitions[place.partition].key(place.name);
        match step {
            Step::Get(place) => {
                let record = self.store.get(&key(place)?).await?;
                Ok(Answer::Read(record.map(|record| self.found(&record))))
            }
            Step::History(place) => {
                let versions = self.store.history(&key(place)?).await?.into_iter().map(|it| {
                    (self.seen(Current { token: it.token, tag: it.tag }), it.value.to_vec())
                });
                Ok(Answer::Versions(versions.collect()))
            }
            Step::Put(place, content) => {
                let token = self.store.put(&key(place)?, content.at(now)).await?;
                Ok(self.wrote(token))
            }
            Step::PutIf(place, content, condition) => {
                let key = key(place)?;
                let precondition = self.precondition(&key, *condition).await?;
                let token = self.store.put_if_version(&key, content.at(now), precondition).await?;
                Ok(self.wrote(token))
            }
            Step::Delete(place, condition) => {
                let key = key(place)?;
                let precondition = self.precondition(&key, *condition).await?;
                Ok(Answer::Deleted(self.store.delete(&key, precondition).await?))
            }
            Step::Walk { partition, prefix, limit } => {
                self.walk(&partitions[*partition], prefix, *limit).await
            }
            Step::Cleanup { limit } => {
                Ok(Answer::Cleaned(self.store.cleanup_expired(*limit).await?))
            }
            Step::Advance { .. } => Ok(Answer::Nothing),
        }
    }

    async fn walk(
        &self,
        partition: &Partition,
        prefix: &str,
        limit: usize,
    ) -> Result<Answer, StoreError> {
        let mut pages = Vec::new();
        let mut request = PageRequest::first(limit);
        loop {
            let page = self.store.list_by_prefix(partition, prefix, request).await?;
            let entries = page.entries.iter();
            let entries =
                entries.map(|it| (it.key.name().to_owned(), self.found(&it.record))).collect();
            pages.push(entries);
            // A backend whose pages do not end has more of them than there are names.
            match page.next.filter(|_| pages.len() <= NAMES.len()) {
                Some(next) => request = PageRequest::after(next, limit),
                None => return Ok(Answer::Pages(pages)),
            }
        }
    }

    async fn reclaim_everything(&self) -> Result<(), StoreError> {
        while self.store.cleanup_expired(1_000).await? > 0 {}
        Ok(())
    }
}

impl Content {
    fn at(&self, now: Timestamp) -> Write {
        let deadline = self
            .ttl_ms
            .map(|ttl_ms| Timestamp::from_millis(now.as_millis().saturating_add_signed(ttl_ms)));
        let write = write(&self.value.to_string())
            .expires_at(deadline)
            .tagged(self.tag.map(tag))
            .keeping(self.kept);
        match self.capacity {
            Some(limit) => write.counted_within(limit),
            None => write,
        }
    }
}

/// Any sequence of calls gets the same answers as from the memory backend.
pub async fn sequences_agree_with_the_model(harness: &dyn Harness) {
    let store = harness.connect().await;
    let model: Arc<dyn StorageBackend> = Arc::new(InMemoryBackend::new(harness.clock()));
    let config = Config {
        cases: harness.model_sequences(),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    // Proptest drives the sequences from synchronous code; this thread may wait for them.
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&steps(), |steps| {
            let sequence = compare(harness, &store, &model, &steps);
            tokio::runtime::Handle::current().block_on(sequence)
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Takes the steps on both stores, in partitions of their own.
async fn compare(
    harness: &dyn Harness,
    store: &Arc<dyn StorageBackend>,
    model: &Arc<dyn StorageBackend>,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let failed = |error: StoreError| TestCaseError::fail(error.to_string());
    let root = Fixture::new(harness).await;
    let partitions: Vec<_> =
        (0..PARTITIONS).map(|index| root.beside(&index.to_string()).partition).collect();
    let (mut actual, mut expected) = (Side::new(Arc::clone(store)), Side::new(Arc::clone(model)));
    // What earlier sequences left behind would be counted when this one cleans up.
    actual.reclaim_everything().await.map_err(failed)?;
    expected.reclaim_everything().await.map_err(failed)?;
    for (index, step) in steps.iter().enumerate() {
        let step = fitted(step, harness);
        if let Step::Advance { millis } = step {
            harness.advance_millis(millis).await;
        }
        let now = harness.clock().now();
        let answer = actual.answer(&step, &partitions, now).await.map_err(failed)?;
        let mut right = expected.answer(&step, &partitions, now).await.map_err(failed)?;
        if harness.reclaims_by_itself() && matches!(right, Answer::Cleaned(_)) {
            right = Answer::Cleaned(0);
        }
        prop_assert_eq!(answer, right, "step {}: {:?}", index, step);
    }
    leave(&actual, &expected, &partitions).await.map_err(failed)
}

/// Deletes what would expire, and be counted, during a later sequence.
async fn leave(actual: &Side, expected: &Side, partitions: &[Partition]) -> Result<(), StoreError> {
    for partition in partitions {
        for name in NAMES {
            let key = partition.key(name)?;
            actual.store.delete(&key, Precondition::Any).await?;
            expected.store.delete(&key, Precondition::Any).await?;
        }
    }
    Ok(())
}

/// The step as it is exact on this harness: where time does not stand still, no deadline comes
/// near while a sequence runs.
fn fitted(step: &Step, harness: &dyn Harness) -> Step {
    let mut step = step.clone();
    if harness.resolution_millis() > 0 {
        match &mut step {
            Step::Put(_, content) | Step::PutIf(_, content, _) => {
                content.ttl_ms = content.ttl_ms.map(|ttl_ms| ttl_ms.signum() * 3_600_000);
            }
            Step::Advance { millis } => *millis = 0,
            _ => {}
        }
    }
    step
}
