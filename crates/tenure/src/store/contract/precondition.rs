//! Conditional writes.

use super::Harness;
use super::fixture::{Fixture, TTL_MS, conflict, write};
use crate::store::{Precondition, VersionToken};

/// With the current token the write happens.
pub async fn put_if_version_match_writes(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut token = it.put("a", "first").await;
    for version in 2..=10 {
        token = it.write_if("a", write("next"), Precondition::Matches(token)).await.unwrap();
        assert_eq!(token.version(), version);
    }
    let record = it.get("a").await.unwrap();
    assert_eq!((record.token, record.value), (token, "next".into()));
}

/// With a stale token nothing happens, and the conflict names the current one.
pub async fn put_if_version_mismatch_reports_what_is_there(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let stale = it.put("a", "first").await;
    let current = it.put("a", "second").await;
    let forged = VersionToken::from_parts(current.version(), current.stamp() ^ 1);
    let future = VersionToken::from_parts(current.version() + 1, current.stamp());
    for token in [stale, forged, future] {
        let refused = it.write_if("a", write("third"), Precondition::Matches(token)).await;
        assert_eq!(conflict(refused), Some(current), "{token:?}");
    }
    let record = it.get("a").await.unwrap();
    assert_eq!((record.token, record.value), (current, "second".into()));
}

/// A missing key conflicts like any other; it is no error of its own.
pub async fn put_if_version_missing_key_conflicts(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let token = VersionToken::new(1);
    let refused = it.write_if("a", write("x"), Precondition::Matches(token)).await;
    assert_eq!(conflict(refused), None);
    assert_eq!(it.get("a").await, None);
    assert!(it.names("").await.is_empty());
}

/// A conditional write replaces the whole record.
pub async fn put_if_version_updates_data_and_deadline(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let (near, far) = (it.after_millis(TTL_MS * 10), it.after_millis(TTL_MS * 100));
    let first = it.write("a", write("first").expires_at(near)).await.unwrap();
    let second = write("second").expires_at(far);
    let second = it.write_if("a", second, Precondition::Matches(first)).await.unwrap();
    let record = it.get("a").await.unwrap();
    assert_eq!((record.value, record.expires_at), ("second".into(), Some(far)));
    it.write_if("a", write("third"), Precondition::Matches(second)).await.unwrap();
    let record = it.get("a").await.unwrap();
    assert_eq!((record.value, record.expires_at), ("third".into(), None));
}

/// Creating works where there is nothing.
pub async fn put_if_version_absent_creates(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let token = it.write_if("a", write("x"), Precondition::Absent).await.unwrap();
    assert_eq!(token.version(), 1);
    assert_eq!(it.get("a").await.unwrap().token, token);
}

/// Creating conflicts where there is something, and leaves it alone.
pub async fn put_if_version_absent_on_existing_conflicts(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let token = it.put("a", "first").await;
    let refused = it.write_if("a", write("second"), Precondition::Absent).await;
    assert_eq!(conflict(refused), Some(token));
    assert_eq!(it.get("a").await.unwrap().value, "first");
}

/// Updating works where there is something, whatever its version.
pub async fn put_if_version_present_updates(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "first").await;
    let token = it.write_if("a", write("second"), Precondition::Present).await.unwrap();
    assert_eq!(token.version(), 2);
    assert_eq!(it.get("a").await.unwrap().value, "second");
}

/// Updating conflicts where there is nothing.
pub async fn put_if_version_present_on_missing_conflicts(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    assert_eq!(conflict(it.write_if("a", write("x"), Precondition::Present).await), None);
    assert_eq!(it.get("a").await, None);
}

/// Without a precondition it is a `put`.
pub async fn put_if_version_any_always_writes(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for version in 1..=3 {
        let token = it.write_if("a", write("x"), Precondition::Any).await.unwrap();
        assert_eq!(token.version(), version);
    }
}

/// A token names one write of one key, so equal versions do not make it match.
pub async fn token_of_another_key_never_matches(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let (a, b) = (it.put("a", "same").await, it.put("b", "same").await);
    assert_eq!(a.version(), b.version());
    assert_eq!(conflict(it.write_if("a", write("x"), Precondition::Matches(b)).await), Some(a));
    assert_eq!(conflict(it.delete_if("b", Precondition::Matches(a)).await), Some(b));
}

/// A token that was stored as text and read back is the same token.
pub async fn token_survives_storage_as_text(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let text = it.put("a", "x").await.to_string();
    let token = text.parse().unwrap();
    it.write_if("a", write("y"), Precondition::Matches(token)).await.unwrap();
}
