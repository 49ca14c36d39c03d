//! A token from before never matches a later incarnation of its key.

use super::Harness;
use super::fixture::{Fixture, TTL_MS, conflict, write};
use crate::store::{Precondition, VersionToken};

/// Asserts that the key begins again at version 1 and that a writer of the past cannot reach it.
async fn assert_refused_after_recreation(it: &Fixture<'_>, old: VersionToken) {
    let anew = it.put("a", "anew").await;
    assert_eq!((anew.version(), old.version()), (1, 1));
    assert_ne!(anew, old);
    let late = it.write_if("a", write("late"), Precondition::Matches(old)).await;
    assert_eq!(conflict(late), Some(anew));
    assert_eq!(conflict(it.delete_if("a", Precondition::Matches(old)).await), Some(anew));
    assert_eq!(it.get("a").await.unwrap().value, "anew");
    it.write_if("a", write("on time"), Precondition::Matches(anew)).await.unwrap();
}

/// Deleted and created again, at the same version.
pub async fn token_from_before_a_delete_is_refused(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let old = it.put("a", "old").await;
    it.delete("a").await;
    assert_eq!(conflict(it.write_if("a", write("x"), Precondition::Matches(old)).await), None);
    assert_refused_after_recreation(&it, old).await;
}

/// Expired and created again, while nobody had reclaimed it.
pub async fn token_from_before_expiry_is_refused(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let old = it.put_until("a", it.after_millis(TTL_MS)).await;
    it.outlive_ttl().await;
    assert_refused_after_recreation(&it, old).await;
}

/// Expired, reclaimed and created again.
pub async fn token_from_before_a_cleanup_is_refused(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let old = it.put_until("a", it.after_millis(TTL_MS)).await;
    it.outlive_ttl().await;
    it.store.cleanup_expired(usize::MAX).await.unwrap();
    assert_refused_after_recreation(&it, old).await;
}

/// Ten incarnations with as many writes each: none of the old tokens deletes the last one.
pub async fn token_from_before_never_deletes(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut old = Vec::new();
    for _ in 0..10 {
        old.extend([it.put("a", "x").await, it.put("a", "x").await]);
        it.delete("a").await;
    }
    it.put("a", "last").await;
    let last = it.put("a", "last").await;
    for token in old {
        assert_eq!(conflict(it.delete_if("a", Precondition::Matches(token)).await), Some(last));
    }
    assert!(it.delete_if("a", Precondition::Matches(last)).await.unwrap());
}
