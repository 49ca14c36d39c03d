//! Listing: what is in it, and in which order.

use super::Harness;
use super::fixture::{Fixture, HOSTILE, TTL_MS, names, write};
use crate::store::PageRequest;

/// A listing holds the names that start with its prefix, the prefix itself included.
pub async fn list_matching_prefix(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for name in ["a", "task", "task-1", "task-2", "taskforce", "tasl", "z"] {
        it.put(name, "x").await;
    }
    assert_eq!(it.names("task").await, ["task", "task-1", "task-2", "taskforce"]);
    assert_eq!(it.names("task-").await, ["task-1", "task-2"]);
    assert_eq!(it.names("").await.len(), 7);
}

/// A listing of nothing is an empty last page.
pub async fn list_empty(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let page = it.page("", PageRequest::default()).await;
    assert!(page.entries.is_empty() && page.next.is_none());
    it.put("a", "x").await;
    let page = it.page("b", PageRequest::default()).await;
    assert!(page.entries.is_empty() && page.next.is_none());
}

/// An entry of a listing is the record that `get` returns.
pub async fn list_returns_data_tokens_and_deadlines(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("a", "first").await;
    it.put("a", "second").await;
    it.write("b", write("").expires_at(it.after_millis(TTL_MS * 100))).await.unwrap();
    let entries = it.walk("", 10).await;
    assert_eq!(names(&entries), ["a", "b"]);
    for entry in entries {
        assert_eq!(entry.key, it.key(entry.key.name()));
        assert_eq!(Some(entry.record), it.get(entry.key.name()).await);
    }
}

/// No character of a prefix is a pattern.
pub async fn list_prefix_is_literal(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for name in HOSTILE {
        it.put(name, "x").await;
    }
    for prefix in HOSTILE.into_iter().chain(["a*", "?a", "[a", "%", "_", "\u{FFFD}"]) {
        let expected: Vec<_> =
            HOSTILE.into_iter().filter(|name| name.starts_with(prefix)).collect();
        assert_eq!(it.names(prefix).await, expected, "{prefix:?}");
    }
}

/// Names are ordered by their bytes, not by a locale, a length or the order of arrival.
pub async fn list_order_is_byte_order(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut expected =
        ["b", "aé", "a", "a\0", "Z", "10", "9", "\u{FFFD}", "\u{10000}", "é", "e\u{301}", "B"];
    for name in expected {
        it.put(name, "x").await;
    }
    expected.sort_by_key(|name| name.as_bytes());
    assert_eq!(it.names("").await, expected);
}

/// Writing a record again neither repeats nor moves it.
pub async fn list_shows_a_rewritten_record_once(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for name in ["a", "b", "c", "b", "a", "b"] {
        it.put(name, "x").await;
    }
    it.delete("c").await;
    it.put("c", "x").await;
    assert_eq!(it.names("").await, ["a", "b", "c"]);
}
