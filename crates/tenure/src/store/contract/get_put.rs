//! Reading and writing without conditions.

use super::Harness;
use super::fixture::{Fixture, TTL_MS, conflict, write};
use crate::limits;
use crate::store::{Precondition, StoreError, Write};

/// A key that was never written reads as nothing.
pub async fn get_missing_is_none(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("other", "x").await;
    assert_eq!(it.get("missing").await, None);
    assert_eq!(it.beside("empty").get("other").await, None);
}

/// A record reads as it was written.
pub async fn get_stored_returns_what_was_written(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let deadline = it.after_millis(3_600_000);
    let token = it.write("a", write("value").expires_at(deadline)).await.unwrap();
    let record = it.get("a").await.unwrap();
    assert_eq!(record.value, "value");
    assert_eq!(record.token, token);
    assert_eq!(record.expires_at, Some(deadline));
}

/// An acknowledged write is there for everybody.
pub async fn get_through_another_handle(harness: &dyn Harness) {
    let here = Fixture::new(harness).await;
    let there = here.elsewhere().await;
    for round in 1..=10 {
        let token = here.put("a", &round.to_string()).await;
        let record = there.get("a").await.unwrap();
        assert_eq!((record.token, record.value), (token, round.to_string().into()));
    }
    assert!(there.delete("a").await);
    assert_eq!(here.get("a").await, None);
}

/// A new record has version 1.
pub async fn put_new_is_version_1(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    assert_eq!(it.put("a", "x").await.version(), 1);
    assert_eq!(it.put("b", "x").await.version(), 1);
}

/// Each write of a key raises its version by one.
pub async fn put_existing_increments_the_version(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for version in 1..=20 {
        assert_eq!(it.put("a", "same").await.version(), version);
        assert_eq!(it.get("a").await.unwrap().token.version(), version);
    }
}

/// A write replaces the whole record; nothing of the former one remains.
pub async fn put_overwrites_value_and_deadline(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.write("a", write("a long first value").expires_at(it.after_millis(TTL_MS))).await.unwrap();
    let token = it.put("a", "second").await;
    it.outlive_ttl().await;
    let record = it.get("a").await.unwrap();
    assert_eq!(record.value, "second");
    assert_eq!((record.token, record.expires_at), (token, None));
}

/// A value may be any bytes.
pub async fn put_keeps_every_byte(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    it.write("a", Write::new(bytes.clone())).await.unwrap();
    assert_eq!(it.get("a").await.unwrap().value, bytes);
    let listed = it.walk("", 10).await;
    assert_eq!(listed[0].record.value, bytes);
}

/// An empty value is a value.
pub async fn put_empty_value(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let token = it.put("a", "").await;
    let record = it.get("a").await.unwrap();
    assert_eq!((record.token, record.value.len()), (token, 0));
    assert_eq!(conflict(it.write_if("a", write("x"), Precondition::Absent).await), Some(token));
    assert_eq!(it.names("").await, ["a"]);
}

/// The largest value that is allowed comes back whole.
pub async fn put_value_at_the_limit(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let value: Vec<u8> = (0..limits::VALUE_BYTES).map(|index| (index % 251) as u8).collect();
    it.write("a", Write::new(value.clone())).await.unwrap();
    assert!(it.get("a").await.unwrap().value == value);
}

/// A larger value is refused, whatever the precondition, and nothing is written.
pub async fn put_oversized_value_is_refused(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let huge = Write::new(vec![b'x'; limits::VALUE_BYTES + 1]);
    let token = it.put("there", "x").await;
    for (name, precondition) in [
        ("missing", Precondition::Any),
        ("missing", Precondition::Absent),
        ("there", Precondition::Present),
        ("there", Precondition::Matches(token)),
    ] {
        let refused = it.write_if(name, huge.clone(), precondition).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{precondition:?}");
    }
    assert!(matches!(it.write("missing", huge).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(it.get("missing").await, None);
    assert_eq!(it.get("there").await.unwrap().token, token);
    assert_eq!(it.names("").await, ["there"]);
}
