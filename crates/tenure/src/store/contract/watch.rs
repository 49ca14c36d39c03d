//! What a watch that keeps up is told.

use std::time::Duration;

use futures::StreamExt as _;

use super::Harness;
use super::fixture::{Fixture, TTL_MS, conflict, write};
use crate::limits;
use crate::store::{
    Change, ChangeKind, Precondition, VersionToken, Watch, WatchEvent, WatchFrom, Write,
};

/// An event that is due arrives within this time.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn next_event(watch: &mut Watch) -> WatchEvent {
    tokio::time::timeout(EVENT_TIMEOUT, watch.next())
        .await
        .expect("no event in time")
        .expect("the watch ended")
        .expect("the watch failed")
}

/// The next event of a watch that keeps up: it has no reason to resync.
pub(super) async fn next_change(watch: &mut Watch) -> Change {
    match next_event(watch).await {
        WatchEvent::Change(change) => change,
        resync => panic!("a change was expected, not {resync:?}"),
    }
}

#[track_caller]
fn assert_put(it: &Fixture<'_>, change: &Change, name: &str, token: VersionToken) {
    assert_eq!(change.key, it.key(name));
    assert_eq!(change.kind, ChangeKind::Put { token, tag: None, expires_at: None });
}

/// Every change of a watcher that keeps up arrives, in the order of the commits.
pub async fn watch_tells_of_put_and_gone_in_order(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut watch = it.watch(WatchFrom::Now).await;
    for round in 1..=3 {
        let token = it.put("a", "x").await;
        assert_put(&it, &next_change(&mut watch).await, "a", token);
        let matches = Precondition::Matches(token);
        let token = it.write_if("a", write("y"), matches).await.unwrap();
        assert_put(&it, &next_change(&mut watch).await, "a", token);
        assert_eq!(token.version(), 2, "round {round}");
        it.delete("a").await;
        let change = next_change(&mut watch).await;
        assert_eq!((change.key, change.kind), (it.key("a"), ChangeKind::Gone));
    }
    // Changes of different keys that nobody read in between arrive in order as well.
    let tokens = [it.put("c", "x").await, it.put("a", "x").await, it.put("b", "x").await];
    for (name, token) in ["c", "a", "b"].into_iter().zip(tokens) {
        assert_put(&it, &next_change(&mut watch).await, name, token);
    }
}

/// Who can wait is told what others are told, and does not wait for more to come.
pub async fn watch_that_can_wait_is_told_everything(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut watch = it.store.watch_within(&it.partition, WatchFrom::Now, 20).await.unwrap();
    for _ in 1..=3 {
        let token = it.put("a", "x").await;
        assert_put(&it, &next_change(&mut watch).await, "a", token);
        it.delete("a").await;
        let token = it.put("b", "x").await;
        let change = next_change(&mut watch).await;
        assert_eq!((change.key, change.kind), (it.key("a"), ChangeKind::Gone));
        assert_put(&it, &next_change(&mut watch).await, "b", token);
    }
}

/// Writes of one key that nobody read in between may become one change. What is told never goes back,
/// and the last write is told.
pub async fn watch_may_coalesce_writes_of_a_key_and_tells_the_last(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut watch = it.watch(WatchFrom::Now).await;
    for name in ["a", "b"] {
        let mut last = it.put(name, "x").await;
        for _ in 1..32 {
            last = it.put(name, "x").await;
        }
        let (mut told, mut is_last) = (0, false);
        while !is_last {
            let change = next_change(&mut watch).await;
            let ChangeKind::Put { token, .. } = change.kind else { panic!("{change:?}") };
            assert_eq!(change.key, it.key(name));
            assert!(token.version() > told, "{told} before {token}");
            (told, is_last) = (token.version(), token == last);
        }
    }
}

/// A change says which write it was and when the record will be absent.
pub async fn watch_carries_token_and_deadline(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut watch = it.watch(WatchFrom::Now).await;
    let deadline = it.after_millis(TTL_MS * 100 + 7);
    for name in super::fixture::HOSTILE {
        let token = it.put_until(name, deadline).await;
        let change = next_change(&mut watch).await;
        assert_eq!(change.key, it.key(name));
        assert_eq!(change.kind, ChangeKind::Put { token, tag: None, expires_at: Some(deadline) });
    }
}

/// Positions rise from change to change.
pub async fn watch_positions_rise(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut watch = it.watch(WatchFrom::Now).await;
    let mut last = None;
    for index in 0..20 {
        it.put(&(index % 3).to_string(), "x").await;
        it.beside("other").put("a", "x").await;
        let revision = next_change(&mut watch).await.revision;
        if let Some((epoch, sequence)) = last {
            assert_eq!(revision.epoch, epoch);
            assert!(revision.sequence > sequence);
        }
        assert_eq!(revision.to_string().parse::<crate::store::Revision>().unwrap(), revision);
        last = Some((revision.epoch, revision.sequence));
    }
}

/// A watch from now on does not repeat the past.
pub async fn watch_begins_now(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    it.put("before", "x").await;
    it.put("gone before", "x").await;
    it.delete("gone before").await;
    let mut watch = it.watch(WatchFrom::Now).await;
    let token = it.put("after", "x").await;
    assert_put(&it, &next_change(&mut watch).await, "after", token);
}

/// Changes of other partitions are not told, however alike they are named.
pub async fn watch_of_one_partition_ignores_others(harness: &dyn Harness) {
    let root = Fixture::new(harness).await;
    let it = root.beside("a");
    let mut watch = it.watch(WatchFrom::Now).await;
    for owner in ["a:b", "aa", "*", "", "a*", "b"] {
        root.beside(owner).put("x", "x").await;
        root.beside(owner).delete("x").await;
    }
    root.put("a", "x").await;
    it.beside("b").put("x", "x").await;
    let token = it.put("mine", "x").await;
    assert_put(&it, &next_change(&mut watch).await, "mine", token);
}

/// What was refused did not happen, and nobody hears of it.
pub async fn watch_tells_nothing_of_refused_writes(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let stale = it.put("a", "x").await;
    it.put("a", "y").await;
    let mut watch = it.watch(WatchFrom::Now).await;
    conflict(it.write_if("a", write("z"), Precondition::Matches(stale)).await);
    conflict(it.write_if("a", write("z"), Precondition::Absent).await);
    conflict(it.write_if("b", write("z"), Precondition::Present).await);
    conflict(it.delete_if("a", Precondition::Matches(stale)).await);
    it.write("b", write("z").counted_within(0)).await.unwrap_err();
    it.write("b", Write::new(vec![0; limits::VALUE_BYTES + 1])).await.unwrap_err();
    assert!(!it.delete("missing").await);
    let token = it.put("last", "x").await;
    assert_put(&it, &next_change(&mut watch).await, "last", token);
}

/// Who wrote makes no difference.
pub async fn watch_sees_the_writes_of_another_handle(harness: &dyn Harness) {
    let here = Fixture::new(harness).await;
    let there = here.elsewhere().await;
    let mut watch = here.watch(WatchFrom::Now).await;
    for _ in 0..5 {
        let token = there.put("a", "x").await;
        assert_put(&here, &next_change(&mut watch).await, "a", token);
        there.delete("a").await;
        assert_eq!(next_change(&mut watch).await.kind, ChangeKind::Gone);
    }
}

/// Every watcher is told everything.
pub async fn watch_serves_several_watchers(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut watches = Vec::new();
    for index in 0..8 {
        watches.push(it.watch(WatchFrom::Now).await);
        let token = it.put(&index.to_string(), "x").await;
        for watch in &mut watches {
            assert_put(&it, &next_change(watch).await, &index.to_string(), token);
        }
    }
}

/// A watcher that leaves takes nothing from the others.
pub async fn watch_survives_the_drop_of_another(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut kept = it.watch(WatchFrom::Now).await;
    let mut dropped = it.watch(WatchFrom::Now).await;
    let token = it.put("a", "x").await;
    assert_put(&it, &next_change(&mut dropped).await, "a", token);
    drop(dropped);
    assert_put(&it, &next_change(&mut kept).await, "a", token);
    it.delete("a").await;
    assert_eq!(next_change(&mut kept).await.kind, ChangeKind::Gone);
    // The last one leaves as well, and the next begins anew.
    drop(kept);
    it.put("unseen", "x").await;
    let mut next = it.watch(WatchFrom::Now).await;
    let token = it.put("b", "x").await;
    assert_put(&it, &next_change(&mut next).await, "b", token);
}

/// That a record expired may be told as gone or not at all; its next incarnation is told.
pub async fn watch_sees_an_expired_record_made_anew(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let mut watch = it.watch(WatchFrom::Now).await;
    it.put_until("a", it.after_millis(TTL_MS)).await;
    next_change(&mut watch).await;
    it.outlive_ttl().await;
    it.store.cleanup_expired(usize::MAX).await.unwrap();
    let token = it.put("a", "anew").await;
    let mut change = next_change(&mut watch).await;
    if change.kind == ChangeKind::Gone {
        change = next_change(&mut watch).await;
    }
    assert_put(&it, &change, "a", token);
}
