//! Many writers at once, through two handles.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;

use futures::future::join_all;

use super::Harness;
use super::fixture::{Fixture, write};
use crate::store::{Key, Precondition, StorageBackend, StoreError, VersionToken};

const WRITERS: usize = 64;

/// Lets [`WRITERS`] tasks loose on one key and collects what they bring back.
async fn race<T, F>(it: &Fixture<'_>, writer: impl Fn(Arc<dyn StorageBackend>, Key) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let handles = [Arc::clone(&it.store), it.harness.connect().await];
    let start = Arc::new(tokio::sync::Barrier::new(WRITERS));
    let writers = (0..WRITERS).map(|index| {
        let (start, work) =
            (Arc::clone(&start), writer(Arc::clone(&handles[index % 2]), it.key("a")));
        tokio::spawn(async move {
            start.wait().await;
            work.await
        })
    });
    join_all(writers).await.into_iter().map(Result::unwrap).collect()
}

/// The number of those that got through; the others must have met a conflict.
fn winners<T>(results: Vec<Result<T, StoreError>>) -> usize {
    let won = |result| match result {
        Ok(_) => true,
        Err(StoreError::VersionConflict { current }) => {
            assert!(current.is_some_and(|it| it.token.version() >= 1));
            false
        }
        Err(error) => panic!("{error}"),
    };
    results.into_iter().map(won).filter(|won| *won).count()
}

/// 64 writers that each add one twice by compare-and-set: 128 in the end, and 128 tokens.
pub async fn race_of_increments_loses_none(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "0").await;
    let tokens: HashSet<_> = race(&it, async |store, key| {
        [increment(&*store, &key).await, increment(&*store, &key).await]
    })
    .await
    .into_iter()
    .flatten()
    .collect();
    assert_eq!(tokens.len(), 2 * WRITERS);
    let record = it.get("a").await.unwrap();
    assert_eq!(record.value, (2 * WRITERS).to_string());
    assert_eq!(record.token.version(), 1 + 2 * WRITERS as u64);
}

async fn increment(store: &dyn StorageBackend, key: &Key) -> VersionToken {
    loop {
        let record = store.get(key).await.unwrap().unwrap();
        let count: u64 = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
        let next = write(&(count + 1).to_string());
        match store.put_if_version(key, next, Precondition::Matches(record.token)).await {
            Ok(token) => return token,
            Err(StoreError::VersionConflict { current }) => {
                assert_ne!(current, Some(record.current()))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Concurrent unconditional writes get a version each, without gaps.
pub async fn race_of_puts_gives_distinct_versions(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let tokens = race(&it, async |store, key| {
        let mut tokens = Vec::new();
        for _ in 0..4 {
            tokens.push(store.put(&key, write("x")).await.unwrap());
        }
        tokens
    })
    .await;
    for own in &tokens {
        assert!(own.is_sorted_by_key(|token| token.version()));
    }
    let mut versions: Vec<_> = tokens.into_iter().flatten().map(VersionToken::version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=4 * WRITERS as u64).collect::<Vec<_>>());
}

/// Of 64 that create one key, one does.
pub async fn race_of_creates_has_one_winner(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let results = race(&it, async |store, key| {
        store.put_if_version(&key, write("x"), Precondition::Absent).await
    })
    .await;
    assert_eq!(winners(results), 1);
    assert_eq!(it.get("a").await.unwrap().token.version(), 1);
}

/// Of 64 that hold the same token, one gets to use it.
pub async fn race_for_one_token_has_one_winner(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let matches = Precondition::Matches(it.put("a", "x").await);
    let results = race(&it, move |store, key| async move {
        store.put_if_version(&key, write("y"), matches).await
    })
    .await;
    assert_eq!(winners(results), 1);
    assert_eq!(it.get("a").await.unwrap().token.version(), 2);
}

/// Of 64 that delete one record, one is told that it did.
pub async fn race_of_deletes_has_one_winner(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "x").await;
    let results =
        race(&it, async |store, key| store.delete(&key, Precondition::Any).await.unwrap()).await;
    assert_eq!(results.into_iter().filter(|deleted| *deleted).count(), 1);
    assert_eq!(it.get("a").await, None);
}
