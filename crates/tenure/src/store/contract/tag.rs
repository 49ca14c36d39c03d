//! Tags: what a writer calls a value by, compared in the write itself.

use std::sync::Arc;

use futures::future::join_all;

use super::Harness;
use super::fixture::{Fixture, TTL_MS, conflict_with, tag, write};
use super::watch::next_change;
use crate::store::{ChangeKind, Current, Precondition, Write};

fn tagged(number: u8) -> Write {
    write(&number.to_string()).tagged(tag(number))
}

/// A tag comes back with its value, from a read and from a listing.
pub async fn tag_is_stored_with_its_value(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for number in [0, 1, 0x0a, 0x80, 0xff] {
        it.write("a", tagged(number)).await.unwrap();
        let record = it.get("a").await.unwrap();
        assert_eq!((record.tag, record.value), (Some(tag(number)), number.to_string().into()));
        assert_eq!(it.walk("", 10).await[0].record.tag, Some(tag(number)));
    }
    let there = it.elsewhere().await;
    assert_eq!(there.get("a").await.unwrap().tag, Some(tag(0xff)));
    it.put("untagged", "x").await;
    assert_eq!(it.get("untagged").await.unwrap().tag, None);
}

/// A tag belongs to one write; one without a tag leaves none.
pub async fn tag_is_replaced_and_removed_by_the_next_write(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.write("a", tagged(1)).await.unwrap();
    it.write("a", tagged(2)).await.unwrap();
    assert_eq!(it.get("a").await.unwrap().tag, Some(tag(2)));
    let token = it.put("a", "untagged").await;
    assert_eq!(it.get("a").await.unwrap().tag, None);
    assert_eq!(it.walk("", 10).await[0].record.tag, None);
    let refused = it.write_if("a", tagged(3), Precondition::Tagged(tag(2))).await;
    assert_eq!(conflict_with(refused), Some(Current { token, tag: None }));
}

/// The same tag given again is there whole, in the record, in its history and in a listing.
pub async fn tag_stays_when_it_is_given_again(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for kept in [0, 2] {
        for value in ["one", "two", "three", "four"] {
            let write = write(value).tagged(tag(1)).keeping(kept).counted_within(1);
            it.write("a", write).await.unwrap();
            let record = it.get("a").await.unwrap();
            assert_eq!((record.tag, &record.value[..]), (Some(tag(1)), value.as_bytes()));
            assert_eq!(it.walk("", 10).await[0].record.tag, Some(tag(1)));
            assert!(it.history("a").await.iter().all(|it| it.tag == Some(tag(1))));
        }
    }
    assert_eq!(it.history("a").await.len(), 3);
}

/// With the tag of what is there a write happens, and so does a delete.
pub async fn tag_that_matches_writes_and_deletes(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.write("a", tagged(1)).await.unwrap();
    for number in 2..=5 {
        let matches = Precondition::Tagged(tag(number - 1));
        let token = it.write_if("a", tagged(number), matches).await.unwrap();
        assert_eq!(token.version(), u64::from(number));
    }
    assert!(it.delete_if("a", Precondition::Tagged(tag(5))).await.unwrap());
    assert_eq!(it.get("a").await, None);
}

/// With another tag nothing happens, and the conflict tells token and tag of what is there. So
/// does every other conflict.
pub async fn tag_that_differs_conflicts_with_the_current_one(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let stale = it.write("a", tagged(1)).await.unwrap();
    let token = it.write("a", tagged(2)).await.unwrap();
    let current = Some(Current { token, tag: Some(tag(2)) });
    for precondition in [
        Precondition::Tagged(tag(1)),
        Precondition::Tagged(tag(3)),
        Precondition::Matches(stale),
        Precondition::Absent,
    ] {
        let refused = it.write_if("a", tagged(9), precondition).await;
        assert_eq!(conflict_with(refused), current, "{precondition:?}");
        let refused = it.delete_if("a", precondition).await;
        assert_eq!(conflict_with(refused), current, "{precondition:?}");
    }
    assert_eq!(it.get("a").await.unwrap().token, token);
}

/// Where there is nothing, no tag matches.
pub async fn tag_of_a_missing_record_conflicts(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let matches = Precondition::Tagged(tag(1));
    assert_eq!(conflict_with(it.write_if("a", tagged(1), matches).await), None);
    assert_eq!(conflict_with(it.delete_if("a", matches).await), None);
    it.write("a", tagged(1)).await.unwrap();
    it.delete("a").await;
    assert_eq!(conflict_with(it.write_if("a", tagged(1), matches).await), None);
    assert_eq!(it.get("a").await, None);
}

/// An expired record is an absent one, whatever it was tagged with.
pub async fn tag_of_an_expired_record_conflicts(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.write("a", tagged(1).expires_at(it.after_millis(TTL_MS))).await.unwrap();
    it.outlive_ttl().await;
    let matches = Precondition::Tagged(tag(1));
    assert_eq!(conflict_with(it.write_if("a", tagged(2), matches).await), None);
    assert_eq!(conflict_with(it.delete_if("a", matches).await), None);
    let token = it.put("a", "anew").await;
    let refused = it.write_if("a", tagged(2), matches).await;
    assert_eq!(conflict_with(refused), Some(Current { token, tag: None }));
}

/// A tag names a value, not a write: when the value is back, its tag matches. The token does not.
pub async fn tag_of_an_earlier_value_matches_again(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let first = it.write("a", tagged(1)).await.unwrap();
    it.write("a", tagged(2)).await.unwrap();
    let third = it.write("a", tagged(1)).await.unwrap();
    let refused = it.write_if("a", tagged(3), Precondition::Matches(first)).await;
    assert_eq!(conflict_with(refused), Some(Current { token: third, tag: Some(tag(1)) }));
    it.write_if("a", tagged(3), Precondition::Tagged(tag(1))).await.unwrap();
}

/// A watcher learns the tag without a read, also when it resumes.
pub async fn tag_travels_with_the_watch(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let from = it.page("", crate::store::PageRequest::default()).await.revision;
    let mut watch = it.watch(crate::store::WatchFrom::Now).await;
    for number in [1, 0, 0xff] {
        let name = number.to_string();
        let token = it.write(&name, tagged(number)).await.unwrap();
        let kind = next_change(&mut watch).await.kind;
        assert_eq!(kind, ChangeKind::Put { token, tag: Some(tag(number)), expires_at: None });
    }
    let token = it.put("0", "untagged").await;
    let kind = next_change(&mut watch).await.kind;
    assert_eq!(kind, ChangeKind::Put { token, tag: None, expires_at: None });
    let mut resumed = it.watch(crate::store::WatchFrom::After(from)).await;
    let ChangeKind::Put { tag: found, .. } = next_change(&mut resumed).await.kind else {
        panic!("a put was expected");
    };
    assert_eq!(found, Some(tag(1)));
}

/// Many know the value and want to change it: one does.
pub async fn race_for_one_tag_has_one_winner(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let handles = [Arc::clone(&it.store), harness.connect().await];
    for round in 0..10 {
        it.write("a", tagged(0)).await.unwrap();
        let writers = (1..=10_u8).map(|number| {
            let (store, key) = (Arc::clone(&handles[usize::from(number) % 2]), it.key("a"));
            let matches = Precondition::Tagged(tag(0));
            tokio::spawn(async move { store.put_if_version(&key, tagged(number), matches).await })
        });
        let mut winner = None;
        let mut losers = Vec::new();
        for (number, result) in (1..).zip(join_all(writers).await) {
            match result.unwrap() {
                Ok(token) => {
                    let tag = Some(tag(number));
                    assert_eq!(winner.replace(Current { token, tag }), None, "round {round}");
                }
                refused => losers.push(conflict_with(refused)),
            }
        }
        assert!(winner.is_some());
        assert!(losers.iter().all(|told| *told == winner), "round {round}: {losers:?}");
    }
}
