//! The exact count of the counted records of a partition.

use std::sync::Arc;

use futures::future::join_all;

use super::Harness;
use super::fixture::{Fixture, TTL_MS, assert_full, conflict, write};
use crate::store::{Precondition, StorageBackend, StoreError, Write};

fn counted(limit: u32) -> Write {
    write("counted").counted_within(limit)
}

/// Puts `count` counted records, named by their number, where there is room for them.
async fn fill(it: &Fixture<'_>, count: u32) {
    for index in 0..count {
        it.write(&index.to_string(), counted(count)).await.unwrap();
    }
}

/// The limit is reached, not exceeded; a refused write leaves nothing behind.
pub async fn capacity_is_exact(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    fill(&it, 3).await;
    assert_full(it.write("more", counted(3)).await, 3);
    assert_eq!(it.get("more").await, None);
    assert_eq!(it.names("").await, ["0", "1", "2"]);
    // The limit is that of the write, so another one may allow more, or less.
    it.write("more", counted(4)).await.unwrap();
    assert_full(it.write("yet more", counted(2)).await, 2);
}

/// Where nothing may be, the first is one too many.
pub async fn capacity_of_zero_admits_nothing(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    assert_full(it.write("a", counted(0)).await, 0);
    assert_eq!(it.get("a").await, None);
}

/// A write that fails both tests is told of the conflict.
pub async fn capacity_conflict_comes_before_full(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    fill(&it, 2).await;
    let token = it.put("uncounted", "x").await;
    let refused = it.write_if("uncounted", counted(2), Precondition::Absent).await;
    assert_eq!(conflict(refused), Some(token));
    assert_eq!(conflict(it.write_if("more", counted(2), Precondition::Present).await), None);
}

/// Conditional writes count as well.
pub async fn capacity_applies_to_conditional_writes(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.write_if("a", counted(1), Precondition::Absent).await.unwrap();
    assert_full(it.write_if("b", counted(1), Precondition::Absent).await, 1);
    assert_full(it.write_if("b", counted(1), Precondition::Any).await, 1);
}

/// A record that counts already may be written though there is no room, even above the limit.
pub async fn capacity_update_needs_no_room(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    fill(&it, 3).await;
    assert_eq!(it.write("0", counted(3)).await.unwrap().version(), 2);
    let token = it.write("0", counted(1)).await.unwrap();
    it.write_if("0", counted(0), Precondition::Matches(token)).await.unwrap();
    assert_full(it.write("more", counted(3)).await, 3);
}

/// A record that was not counted needs room to become so, and takes it.
pub async fn capacity_counts_a_record_that_becomes_counted(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "x").await;
    it.put("b", "x").await;
    it.write("a", counted(1)).await.unwrap();
    assert_full(it.write("b", counted(1)).await, 1);
    let record = it.get("b").await.unwrap();
    assert_eq!((record.value, record.token.version()), ("x".into(), 1));
}

/// A write without capacity takes a record out of the count, exactly once.
pub async fn capacity_is_freed_by_an_uncounted_write(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    fill(&it, 2).await;
    it.put("0", "finished").await;
    it.put("0", "finished again").await;
    it.write("more", counted(2)).await.unwrap();
    assert_full(it.write("yet more", counted(2)).await, 2);
    assert_full(it.write("0", counted(2)).await, 2);
}

/// A deleted record no longer counts, and a failed delete frees nothing.
pub async fn capacity_is_freed_by_delete(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    fill(&it, 2).await;
    it.put("uncounted", "x").await;
    it.delete("uncounted").await;
    it.delete("missing").await;
    conflict(it.delete_if("0", Precondition::Absent).await);
    assert_full(it.write("more", counted(2)).await, 2);
    it.delete("0").await;
    it.delete("0").await;
    it.write("more", counted(2)).await.unwrap();
    assert_full(it.write("yet more", counted(2)).await, 2);
}

/// An expired record no longer counts, from its deadline on and only once, cleaned up or not.
pub async fn capacity_is_freed_by_expiry(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for name in ["a", "b"] {
        let write = counted(3).expires_at(it.after_millis(TTL_MS));
        it.write(name, write).await.unwrap();
    }
    it.write("c", counted(3)).await.unwrap();
    assert_full(it.write("d", counted(3)).await, 3);
    it.outlive_ttl().await;
    it.write("d", counted(3)).await.unwrap();
    // A new incarnation of an expired record counts anew.
    it.write("a", counted(3)).await.unwrap();
    assert_full(it.write("b", counted(3)).await, 3);
    it.store.cleanup_expired(usize::MAX).await.unwrap();
    assert_full(it.write("b", counted(3)).await, 3);
    it.delete("a").await;
    it.write("b", counted(3)).await.unwrap();
    assert_full(it.write("e", counted(3)).await, 3);
}

/// Records that do not count take no room and need none.
pub async fn capacity_ignores_uncounted_records(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for index in 0..10 {
        it.put(&format!("uncounted {index}"), "x").await;
    }
    fill(&it, 2).await;
    it.put("more", "x").await;
    assert_full(it.write("counted", counted(2)).await, 2);
}

/// What counts is told: after each write and delete, through every handle, for each partition.
pub async fn counted_tells_how_many_records_count(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let (other, elsewhere) = (it.beside("other"), it.elsewhere().await);
    assert_eq!(it.counted().await, 0);
    fill(&it, 3).await;
    it.put("uncounted", "x").await;
    other.write("a", counted(1)).await.unwrap();
    assert_eq!((it.counted().await, other.counted().await), (3, 1));
    assert_eq!(elsewhere.counted().await, 3);
    assert_full(it.write("more", counted(3)).await, 3);
    it.write("0", counted(3)).await.unwrap();
    assert_eq!(it.counted().await, 3);
    // In and out of the count, by a write.
    it.write("uncounted", counted(4)).await.unwrap();
    it.put("1", "uncounted").await;
    assert_eq!(it.counted().await, 3);
    it.delete("1").await;
    it.delete("missing").await;
    assert_eq!(it.counted().await, 3);
    it.delete("0").await;
    assert_eq!((it.counted().await, elsewhere.counted().await), (2, 2));
    it.delete("2").await;
    it.delete("uncounted").await;
    assert_eq!((it.counted().await, other.counted().await), (0, 1));
}

/// An expired record is not told, from its deadline on, reclaimed or not.
pub async fn counted_leaves_out_the_expired(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for name in ["a", "b"] {
        it.write(name, counted(4).expires_at(it.after_millis(TTL_MS))).await.unwrap();
    }
    let later = it.after_millis(TTL_MS * 100);
    it.write("later", counted(4).expires_at(later)).await.unwrap();
    it.write("never", counted(4)).await.unwrap();
    assert_eq!(it.counted().await, 4);
    it.outlive_ttl().await;
    assert_eq!(it.counted().await, 2);
    it.write("a", counted(4)).await.unwrap();
    assert_eq!(it.counted().await, 3);
    it.store.cleanup_expired(usize::MAX).await.unwrap();
    assert_eq!(it.counted().await, 3);
}

/// Each partition has a count of its own.
pub async fn capacity_ignores_other_partitions(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for owner in ["a", "a:b", "aa", "", "*"] {
        fill(&it.beside(owner), 2).await;
        assert_full(it.beside(owner).write("more", counted(2)).await, 2);
    }
}

/// 200 creates at once against a limit of 10: exactly 10 are there.
pub async fn capacity_admits_exactly_ten_of_200(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let handles = [Arc::clone(&it.store), harness.connect().await];
    let creates = (0..200).map(|index: usize| {
        let (store, key) = (Arc::clone(&handles[index % 2]), it.key(&format!("{index:03}")));
        tokio::spawn(
            async move { store.put_if_version(&key, counted(10), Precondition::Absent).await },
        )
    });
    let mut admitted = 0;
    for result in join_all(creates).await {
        match result.unwrap() {
            Ok(token) => {
                assert_eq!(token.version(), 1);
                admitted += 1;
            }
            refused => assert_full(refused, 10),
        }
    }
    assert_eq!(admitted, 10);
    assert_eq!(it.names("").await.len(), 10);
}

/// While counted records are created, finished and deleted at once, the count stays right.
pub async fn capacity_holds_while_records_come_and_go(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let handles = [Arc::clone(&it.store), harness.connect().await];
    let workers = (0..16).map(|worker: usize| {
        let (store, key) = (Arc::clone(&handles[worker % 2]), it.key(&worker.to_string()));
        tokio::spawn(async move { come_and_go(&*store, &key, worker).await })
    });
    for worker in join_all(workers).await {
        worker.unwrap();
    }
    // All have left, so there is room for exactly five again.
    fill(&it, 5).await;
    assert_full(it.write("more", counted(5)).await, 5);
}

async fn come_and_go(store: &dyn StorageBackend, key: &crate::store::Key, worker: usize) {
    for round in 0..8 {
        match store.put(key, counted(5)).await {
            Ok(_) if (worker + round).is_multiple_of(2) => {
                assert!(store.delete(key, Precondition::Any).await.unwrap());
            }
            Ok(_) => {
                store.put(key, write("finished")).await.unwrap();
            }
            Err(StoreError::PartitionFull { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    store.put(key, write("finished")).await.unwrap();
}
