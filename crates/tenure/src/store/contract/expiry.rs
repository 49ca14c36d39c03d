//! Expired is absent, to the millisecond, whatever was reclaimed.

use super::Harness;
use super::fixture::{Fixture, TTL_MS, conflict, names, write};
use crate::clock::Timestamp;
use crate::store::{PageRequest, Precondition};

/// A record is there until the millisecond before its deadline, and absent from the deadline on.
pub async fn expired_is_absent_to_the_millisecond(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let tolerance = harness.resolution_millis();
    let deadline = it.after_millis(TTL_MS);
    let token = it.put_until("a", deadline).await;
    harness.advance_millis(TTL_MS - 1 - tolerance).await;
    assert_eq!(it.get("a").await.unwrap().token, token);
    assert_eq!(it.names("").await, ["a"]);
    let absent = it.write_if("a", write("x"), Precondition::Absent).await;
    assert_eq!(conflict(absent), Some(token));
    harness.advance_millis(1 + 2 * tolerance).await;
    assert_eq!(it.get("a").await, None);
    assert!(it.names("").await.is_empty());
    it.write_if("a", write("x"), Precondition::Absent).await.unwrap();
}

/// Expired records are not listed.
pub async fn expired_is_absent_from_listings(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put_until("a", it.after_millis(TTL_MS)).await;
    it.put_until("b", it.after_millis(TTL_MS * 100)).await;
    it.put("c", "x").await;
    assert_eq!(it.names("").await, ["a", "b", "c"]);
    it.outlive_ttl().await;
    assert_eq!(it.names("").await, ["b", "c"]);
}

/// A page is filled up with live records, and expired ones do not end a listing.
pub async fn expired_records_do_not_shorten_pages(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let deadline = it.after_millis(TTL_MS);
    for index in 0..60 {
        let name = format!("{index:02}");
        // Three live ones among many expired, and a tail of nothing but expired.
        if [20, 21, 41].contains(&index) {
            it.put(&name, "x").await;
        } else {
            it.put_until(&name, deadline).await;
        }
    }
    it.outlive_ttl().await;
    let first = it.page("", PageRequest::first(2)).await;
    assert_eq!(names(&first.entries), ["20", "21"]);
    let second = it.page("", PageRequest::after(first.next.unwrap(), 1)).await;
    assert_eq!(names(&second.entries), ["41"]);
    assert_eq!(second.next, None);
}

/// Creating over an expired record works, and begins at version 1.
pub async fn expired_is_absent_to_a_create(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let deadline = it.after_millis(TTL_MS);
    it.put_until("a", deadline).await;
    it.put_until("a", deadline).await;
    it.outlive_ttl().await;
    let token = it.write_if("a", write("new"), Precondition::Absent).await.unwrap();
    assert_eq!(token.version(), 1);
    let record = it.get("a").await.unwrap();
    assert_eq!((record.token, record.expires_at), (token, None));
}

/// So does an unconditional write.
pub async fn expired_is_absent_to_put(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let deadline = it.after_millis(TTL_MS);
    it.put_until("a", deadline).await;
    it.put_until("a", deadline).await;
    it.outlive_ttl().await;
    assert_eq!(it.put("a", "new").await.version(), 1);
}

/// The token of an expired record conflicts with nothing there.
pub async fn expired_conflicts_with_its_token(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let token = it.put_until("a", it.after_millis(TTL_MS)).await;
    it.outlive_ttl().await;
    let matches = Precondition::Matches(token);
    assert_eq!(conflict(it.write_if("a", write("x"), matches).await), None);
    assert_eq!(conflict(it.delete_if("a", matches).await), None);
    assert_eq!(it.get("a").await, None);
}

/// An expired record is not present.
pub async fn expired_conflicts_with_present(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put_until("a", it.after_millis(TTL_MS)).await;
    it.outlive_ttl().await;
    assert_eq!(conflict(it.write_if("a", write("x"), Precondition::Present).await), None);
    assert_eq!(conflict(it.delete_if("a", Precondition::Present).await), None);
}

/// Deleting an expired record finds nothing.
pub async fn expired_is_absent_to_delete(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put_until("a", it.after_millis(TTL_MS)).await;
    it.put_until("b", it.after_millis(TTL_MS)).await;
    it.outlive_ttl().await;
    assert!(!it.delete("a").await);
    assert!(!it.delete_if("b", Precondition::Absent).await.unwrap());
}

/// A deadline that has passed is legal: the write happens, and the record is absent at once.
pub async fn deadline_in_the_past_is_absent_at_once(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let now = harness.clock().now();
    let just_before = Timestamp::from_millis(now.as_millis() - 1);
    for (name, deadline) in [
        ("now", now),
        ("just before", just_before),
        ("1970", Timestamp::from_millis(1)),
        ("the epoch", Timestamp::from_millis(0)),
    ] {
        let token = it.put(name, "live").await;
        let last = write("last").expires_at(deadline);
        let last = it.write_if(name, last, Precondition::Matches(token)).await.unwrap();
        assert_eq!(last.version(), 2, "{name}");
        assert_eq!(it.get(name).await, None, "{name}");
        assert_eq!(it.put_until(name, deadline).await.version(), 1, "{name}");
        assert_eq!(it.get(name).await, None, "{name}");
    }
    assert!(it.names("").await.is_empty());
}

/// A write without deadline takes the former one away.
pub async fn deadline_can_be_removed(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let token = it.put_until("a", it.after_millis(TTL_MS)).await;
    it.write_if("a", write("kept"), Precondition::Matches(token)).await.unwrap();
    it.outlive_ttl().await;
    it.store.cleanup_expired(usize::MAX).await.unwrap();
    assert_eq!(it.get("a").await.unwrap().value, "kept");
    assert_eq!(it.names("").await, ["a"]);
}

/// A write with a later deadline puts the former one off.
pub async fn deadline_can_be_extended(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put_until("a", it.after_millis(TTL_MS)).await;
    let later = it.after_millis(TTL_MS * 100);
    let token = it.put_until("a", later).await;
    it.outlive_ttl().await;
    it.store.cleanup_expired(usize::MAX).await.unwrap();
    let record = it.get("a").await.unwrap();
    assert_eq!((record.token, record.expires_at), (token, Some(later)));
}

/// A write with an earlier deadline brings the end forward.
pub async fn deadline_can_be_pulled_in(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put_until("a", it.after_millis(TTL_MS * 100)).await;
    it.put("b", "x").await;
    it.put_until("a", it.after_millis(TTL_MS)).await;
    it.put_until("b", it.after_millis(TTL_MS)).await;
    it.outlive_ttl().await;
    assert!(it.names("").await.is_empty());
}

/// A deadline comes back as it was given, the last possible one included.
pub async fn deadline_is_kept_exactly(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let soon = it.after_millis(TTL_MS * 100 + 7);
    for deadline in [soon, Timestamp::from_millis(Timestamp::MAX.as_millis() - 1), Timestamp::MAX] {
        it.put_until("a", deadline).await;
        assert_eq!(it.get("a").await.unwrap().expires_at, Some(deadline));
        assert_eq!(it.walk("", 1).await[0].record.expires_at, Some(deadline));
    }
}

async fn put_expired(it: &Fixture<'_>, count: usize) {
    let deadline = it.after_millis(TTL_MS);
    for index in 0..count {
        it.put_until(&format!("expired {index}"), deadline).await;
    }
    it.outlive_ttl().await;
}

/// Cleaning up tells how many records it reclaimed: 0 on backends that do so by themselves.
pub async fn cleanup_counts_what_it_reclaims(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    assert_eq!(it.store.cleanup_expired(100).await.unwrap(), 0);
    put_expired(&it, 5).await;
    let expected = if harness.reclaims_by_itself() { 0 } else { 5 };
    assert_eq!(it.store.cleanup_expired(100).await.unwrap(), expected);
    assert_eq!(it.store.cleanup_expired(100).await.unwrap(), 0);
}

/// Cleaning up reclaims at most as many as it was told to.
pub async fn cleanup_keeps_to_its_limit(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    put_expired(&it, 5).await;
    assert_eq!(it.store.cleanup_expired(0).await.unwrap(), 0);
    let expected = if harness.reclaims_by_itself() { [0; 4] } else { [2, 2, 1, 0] };
    for expected in expected {
        assert_eq!(it.store.cleanup_expired(2).await.unwrap(), expected);
    }
}

/// Cleaning up takes nothing that is live.
pub async fn cleanup_spares_the_living(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("without deadline", "x").await;
    it.put_until("later", it.after_millis(TTL_MS * 100)).await;
    put_expired(&it, 3).await;
    it.beside("other").put("a", "x").await;
    it.store.cleanup_expired(usize::MAX).await.unwrap();
    assert_eq!(it.names("").await, ["later", "without deadline"]);
    assert_eq!(it.beside("other").names("").await, ["a"]);
}

/// Cleaning up takes no record that was written over an expired one.
pub async fn cleanup_spares_a_record_made_anew(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    put_expired(&it, 2).await;
    let token = it.put("expired 0", "anew").await;
    it.store.cleanup_expired(usize::MAX).await.unwrap();
    assert_eq!(it.get("expired 0").await.unwrap().token, token);
    assert_eq!(it.names("").await, ["expired 0"]);
}
