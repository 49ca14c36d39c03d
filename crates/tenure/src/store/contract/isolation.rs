//! Every string is a valid name and a valid segment, and none reaches another's records.

use super::Harness;
use super::fixture::{Fixture, HOSTILE, names};
use crate::limits;
use crate::store::{PageRequest, Partition};

/// Names that resemble each other are different records.
pub async fn hostile_names_are_distinct_records(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for name in HOSTILE {
        assert_eq!(it.put(name, &format!("<{name}>")).await.version(), 1, "{name:?}");
    }
    for name in HOSTILE {
        assert_eq!(it.get(name).await.unwrap().value, format!("<{name}>"), "{name:?}");
    }
    assert_eq!(it.names("").await, HOSTILE);
    for (index, name) in HOSTILE.into_iter().enumerate() {
        assert!(it.delete(name).await, "{name:?}");
        assert_eq!(it.names("").await, HOSTILE[index + 1..]);
    }
}

/// Partitions that resemble each other are different partitions, whatever is named inside them.
pub async fn hostile_partitions_are_distinct(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for segment in HOSTILE {
        let partition = it.beside(segment);
        for name in ["", "a", ":a", "a:b"] {
            assert_eq!(partition.put(name, segment).await.version(), 1, "{segment:?} {name:?}");
        }
    }
    for segment in HOSTILE {
        let partition = it.beside(segment);
        let entries = partition.walk("", 100).await;
        assert_eq!(names(&entries), ["", ":a", "a", "a:b"], "{segment:?}");
        assert!(entries.iter().all(|entry| entry.record.value == segment), "{segment:?}");
        assert!(entries.iter().all(|entry| *entry.key.partition() == partition.partition));
    }
}

/// The longest partition and the longest names work, and differ in their last byte alone.
pub async fn longest_names_are_kept(harness: &dyn Harness) {
    let mut it = Fixture::new(harness).await;
    let room = limits::PARTITION_BYTES - it.partition.as_str().len() - 1;
    it = it.beside(&"p".repeat(room));
    assert_eq!(it.partition.as_str().len(), limits::PARTITION_BYTES);
    let stem = "n".repeat(limits::NAME_BYTES - 1);
    let (a, b) = (format!("{stem}a"), format!("{stem}b"));
    let wide = "\u{10FFFF}".repeat(limits::NAME_BYTES / 4);
    for name in [&a, &b, &wide] {
        assert_eq!(it.put(name, name).await.version(), 1);
    }
    assert_eq!(it.names(&stem).await, [a.clone(), b.clone()]);
    assert_eq!(names(&it.walk("", 1).await), [a.clone(), b, wide]);
    assert_eq!(it.names(&a).await, [a]);
}

/// A listing of `a` holds nothing of `a:b`, `aa` or `a/b`, nor they of it.
pub async fn listing_never_leaves_its_partition(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let owners = ["a", "a:b", "aa", "a/b", "a*", "*", "", "A"];
    for owner in owners {
        it.beside(owner).put("task", owner).await;
        it.beside(owner).put(&format!("b:{owner}"), owner).await;
    }
    it.beside("a").beside("b").put("task", "below").await;
    for owner in owners {
        let own = it.beside(owner);
        assert_eq!(own.names("").await, [format!("b:{owner}"), "task".into()], "{owner:?}");
        assert_eq!(own.names("task").await, ["task"], "{owner:?}");
        assert_eq!(own.get("task").await.unwrap().value, owner);
    }
    let parent = Partition::new(["contract"]).unwrap();
    let page = it.store.list_by_prefix(&parent, "", PageRequest::default()).await.unwrap();
    assert!(page.entries.is_empty());
    assert!(it.names("").await.is_empty());
}

/// What happens to a record happens to that of one partition.
pub async fn same_name_in_two_partitions(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let (one, other) = (it.beside("one"), it.beside("other"));
    one.put("a", "1").await;
    one.put("a", "2").await;
    let token = other.put("a", "1").await;
    assert_eq!(token.version(), 1);
    assert!(one.delete("a").await);
    assert_eq!(other.get("a").await.unwrap().token, token);
}
