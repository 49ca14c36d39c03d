//! Deleting, with and without conditions.

use super::Harness;
use super::fixture::{Fixture, conflict};
use crate::store::{Precondition, VersionToken};

/// Deleting a record tells that there was one.
pub async fn delete_existing_tells_so(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "x").await;
    assert!(it.delete("a").await);
    assert!(!it.delete("a").await);
}

/// Deleting nothing tells that there was nothing.
pub async fn delete_missing_tells_so(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    assert!(!it.delete("a").await);
}

/// What was deleted reads as nothing.
pub async fn delete_then_get_is_none(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "x").await;
    it.delete("a").await;
    assert_eq!(it.get("a").await, None);
}

/// What was deleted is not listed.
pub async fn delete_then_list_is_empty(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "x").await;
    it.delete("a").await;
    assert!(it.names("").await.is_empty());
}

/// Only the named record goes.
pub async fn delete_leaves_the_neighbours(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for name in ["a", "a\0", "aa", "b"] {
        it.put(name, "x").await;
        it.beside("other").put(name, "x").await;
    }
    assert!(it.delete("a").await);
    assert_eq!(it.names("").await, ["a\0", "aa", "b"]);
    assert_eq!(it.beside("other").names("").await, ["a", "a\0", "aa", "b"]);
}

/// With the current token the record goes.
pub async fn delete_matching_token(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "first").await;
    let token = it.put("a", "second").await;
    assert!(it.delete_if("a", Precondition::Matches(token)).await.unwrap());
    assert_eq!(it.get("a").await, None);
}

/// With a stale token the record stays, and the conflict names the current one.
pub async fn delete_stale_token_conflicts(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let stale = it.put("a", "first").await;
    let current = it.put("a", "second").await;
    assert_eq!(conflict(it.delete_if("a", Precondition::Matches(stale)).await), Some(current));
    assert_eq!(it.get("a").await.unwrap().value, "second");
}

/// A missing key conflicts with any token.
pub async fn delete_missing_with_a_token_conflicts(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let token = VersionToken::new(1);
    assert_eq!(conflict(it.delete_if("a", Precondition::Matches(token)).await), None);
}

/// `Present` holds for a record and conflicts with nothing.
pub async fn delete_present(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "x").await;
    assert!(it.delete_if("a", Precondition::Present).await.unwrap());
    assert_eq!(conflict(it.delete_if("a", Precondition::Present).await), None);
}

/// `Absent` holds for nothing and conflicts with a record.
pub async fn delete_absent(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    assert!(!it.delete_if("a", Precondition::Absent).await.unwrap());
    let token = it.put("a", "x").await;
    assert_eq!(conflict(it.delete_if("a", Precondition::Absent).await), Some(token));
    assert_eq!(it.get("a").await.unwrap().token, token);
}
