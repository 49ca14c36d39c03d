//! Former versions, and the moment a record began.

use std::sync::Arc;

use futures::future::join_all;

use super::Harness;
use super::fixture::{Fixture, HOSTILE, TTL_MS, conflict, tag, write};
use crate::limits;
use crate::store::{Precondition, Version, VersionToken, Write};

fn keeping(value: &str, former: u32) -> Write {
    write(value).keeping(former)
}

fn values(history: &[Version]) -> Vec<&[u8]> {
    history.iter().map(|version| &*version.value).collect()
}

/// Where there is no record, there is no history.
pub async fn history_of_a_missing_record_is_empty(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.write("other", keeping("x", 3)).await.unwrap();
    assert!(it.history("a").await.is_empty());
    it.put("a", "x").await;
    assert_eq!(values(&it.history("a").await), [b"x"]);
}

/// Each version is told with its bytes, its token and its tag.
pub async fn history_tells_versions_newest_first(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let mut expected: Vec<(Vec<u8>, VersionToken, _)> = Vec::new();
    for (value, tag) in [
        (bytes, Some(tag(0))),
        (Vec::new(), None),
        (b"\n \n".to_vec(), Some(tag(0xff))),
        (b"last".to_vec(), Some(tag(1))),
    ] {
        let write = Write::new(value.clone()).tagged(tag).keeping(10);
        expected.insert(0, (value, it.write("a", write).await.unwrap(), tag));
        let history = it.elsewhere().await.history("a").await;
        let told = history.iter().map(|it| (it.value.to_vec(), it.token, it.tag));
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}

/// Every write says how many former versions stay, up to the most that any record keeps.
pub async fn history_is_bounded_by_the_write(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for index in 0..9_u8 {
        it.write("a", keeping(&index.to_string(), 3)).await.unwrap();
    }
    assert_eq!(values(&it.history("a").await), [b"8", b"7", b"6", b"5"]);
    it.write("a", keeping("9", 1)).await.unwrap();
    assert_eq!(values(&it.history("a").await), [b"9", b"8"]);
    it.write("a", keeping("A", 5)).await.unwrap();
    assert_eq!(values(&it.history("a").await), [b"A", b"9", b"8"]);
    let most = limits::KEPT_VERSIONS as usize;
    for _ in 0..most + 3 {
        it.write("b", keeping("x", u32::MAX)).await.unwrap();
    }
    let versions: Vec<_> = it.history("b").await.iter().map(|it| it.token.version()).collect();
    assert_eq!(versions, (3..=most as u64 + 3).rev().collect::<Vec<_>>());
}

/// A write is the whole new state: one that keeps nothing leaves nothing.
pub async fn history_goes_with_a_write_that_keeps_none(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for value in ["1", "2", "3"] {
        it.write("a", keeping(value, 5)).await.unwrap();
    }
    it.put("a", "4").await;
    assert_eq!(values(&it.history("a").await), [b"4"]);
    it.write("a", keeping("5", 5)).await.unwrap();
    assert_eq!(values(&it.history("a").await), [b"5", b"4"]);
}

/// A deleted record has no history, and its next incarnation begins without one.
pub async fn history_ends_with_its_record(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for value in ["1", "2", "3"] {
        it.write("a", keeping(value, 5)).await.unwrap();
        it.write("b", keeping(value, 5)).await.unwrap();
    }
    it.delete("a").await;
    assert!(it.history("a").await.is_empty());
    it.write("a", keeping("anew", 5)).await.unwrap();
    assert_eq!(values(&it.history("a").await), [b"anew"]);
    assert_eq!(values(&it.history("b").await), [b"3", b"2", b"1"]);
}

/// An expired record has no history, and leaves none to the next of its name.
pub async fn history_of_an_expired_record_is_not_the_next_ones(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for value in ["1", "2", "3"] {
        let write = keeping(value, 5).expires_at(it.after_millis(TTL_MS));
        it.write("a", write).await.unwrap();
    }
    assert_eq!(it.history("a").await.len(), 3);
    it.outlive_ttl().await;
    assert!(it.history("a").await.is_empty());
    it.write("a", keeping("4", 5)).await.unwrap();
    assert_eq!(values(&it.history("a").await), [b"4"]);
    it.write("a", keeping("5", 5)).await.unwrap();
    assert_eq!(values(&it.history("a").await), [b"5", b"4"]);
}

/// What was refused leaves no trace.
pub async fn history_ignores_refused_writes(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let stale = it.write("a", keeping("1", 5)).await.unwrap();
    it.write("a", keeping("2", 5)).await.unwrap();
    conflict(it.write_if("a", keeping("x", 5), Precondition::Matches(stale)).await);
    conflict(it.write_if("a", keeping("x", 0), Precondition::Tagged(tag(1))).await);
    conflict(it.delete_if("a", Precondition::Matches(stale)).await);
    it.write("a", keeping("x", 0).counted_within(0)).await.unwrap_err();
    assert_eq!(values(&it.history("a").await), [b"2", b"1"]);
}

/// Each name has a history of its own, and none of them is a record.
pub async fn history_keeps_hostile_names_apart(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for round in ["1", "2"] {
        for name in HOSTILE {
            it.write(name, keeping(&format!("{round}{name}"), 5)).await.unwrap();
        }
    }
    for name in HOSTILE {
        let expected = [format!("2{name}"), format!("1{name}")];
        assert_eq!(values(&it.history(name).await), expected.each_ref().map(|it| it.as_bytes()));
    }
    assert_eq!(it.names("").await, HOSTILE);
}

/// However many write at once, every version that was acknowledged is there.
pub async fn history_misses_no_acknowledged_write(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let handles = [Arc::clone(&it.store), harness.connect().await];
    let writers = (0..limits::KEPT_VERSIONS as usize).map(|index| {
        let (store, key) = (Arc::clone(&handles[index % 2]), it.key("a"));
        let value = index.to_string();
        tokio::spawn(async move {
            let token = store.put(&key, keeping(&value, u32::MAX)).await.unwrap();
            (token.version(), token, value)
        })
    });
    let mut written = Vec::new();
    for writer in join_all(writers).await {
        written.push(writer.unwrap());
    }
    written.sort_by_key(|(version, ..)| std::cmp::Reverse(*version));
    let history = it.history("a").await;
    let told = history
        .into_iter()
        .map(|it| (it.token.version(), it.token, String::from_utf8(it.value.to_vec()).unwrap()));
    assert_eq!(told.collect::<Vec<_>>(), written);
}

/// Overwriting leaves the moment of version 1 as it was, blindly or not.
pub async fn created_at_stays_with_the_record(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let before = harness.clock().now();
    let token = it.put("a", "1").await;
    let created_at = it.get("a").await.unwrap().created_at;
    assert!(created_at >= before && created_at <= harness.clock().now());
    harness.advance_millis(5).await;
    let token = it.write_if("a", write("2"), Precondition::Matches(token)).await.unwrap();
    it.write("a", keeping("3", 1).expires_at(it.after_millis(TTL_MS * 100))).await.unwrap();
    it.put("a", "4").await;
    assert_eq!(token.version(), 2);
    assert_eq!(it.get("a").await.unwrap().created_at, created_at);
    assert_eq!(it.walk("", 10).await[0].record.created_at, created_at);
    assert_eq!(it.elsewhere().await.get("a").await.unwrap().created_at, created_at);
}

/// A record made anew, after a delete or after it had expired, is a new one.
pub async fn created_at_begins_anew_with_an_incarnation(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("deleted", "x").await;
    it.put_until("expired", it.after_millis(TTL_MS)).await;
    it.delete("deleted").await;
    it.outlive_ttl().await;
    let later = harness.clock().now();
    for name in ["deleted", "expired"] {
        it.put(name, "x").await;
        it.put(name, "y").await;
        assert!(it.get(name).await.unwrap().created_at >= later, "{name}");
    }
}
