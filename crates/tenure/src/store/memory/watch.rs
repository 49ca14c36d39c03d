//! Watchers of the memory backend.

use std::collections::VecDeque;

use futures::StreamExt as _;
use tokio::sync::watch;

use super::InMemoryBackend;
use crate::store::{Partition, StoreError, Watch, WatchEvent};

/// The changes of `partition` after a position. Each rings the bell.
pub(super) fn changes(
    store: InMemoryBackend,
    partition: Partition,
    bell: watch::Receiver<u64>,
    after: u64,
) -> Watch {
    let place = WatchGuard { store, partition };
    let watcher = Watcher { pending: VecDeque::new(), after, bell, place };
    futures::stream::unfold(watcher, Watcher::next).boxed()
}

/// A watcher is a position in its partition's log. It holds no queue that a writer would have to
/// fill, so a slow one costs nothing; when the log has moved on without it, it is told to resync.
struct Watcher {
    pending: VecDeque<WatchEvent>,
    after: u64,
    bell: watch::Receiver<u64>,
    // Dropped last, when the receiver no longer keeps the partition.
    place: WatchGuard,
}

impl Watcher {
    async fn next(mut self) -> Option<(Result<WatchEvent, StoreError>, Self)> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some((Ok(event), self));
            }
            let seen = *self.bell.borrow_and_update();
            let (events, after) = self.place.store.changes_after(&self.place.partition, self.after);
            self.pending.extend(events);
            self.after = after;
            if self.pending.is_empty() && seen <= after {
                self.bell.changed().await.ok()?;
            }
        }
    }
}

/// Keeps a partition known to the store for as long as somebody watches it.
struct WatchGuard {
    store: InMemoryBackend,
    partition: Partition,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.store.shard(&self.partition).write().drop_if_idle(&self.partition);
    }
}

impl InMemoryBackend {
    /// What a watcher at `after` is to be told next, and the position after that.
    fn changes_after(&self, partition: &Partition, after: u64) -> (Vec<WatchEvent>, u64) {
        let shard = self.shard(partition).read();
        let Some(state) = shard.partitions.get(partition) else { return (Vec::new(), after) };
        let position = state.tell_position();
        if after < state.forgotten || after > position {
            let revision = self.revision(partition, position);
            return (vec![WatchEvent::Resync(revision)], position);
        }
        let first = state.log.partition_point(|change| change.revision.sequence <= after);
        (state.log.range(first..).cloned().map(WatchEvent::Change).collect(), position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::store::{StorageBackend as _, WatchFrom, Write};

    #[tokio::test]
    async fn a_position_of_one_partition_is_a_gap_in_another() {
        let store = InMemoryBackend::new(Clock::manual(Timestamp::from_millis(1)));
        let [told, other] = ["a", "b"].map(|it| Partition::new([it]).unwrap());
        for partition in [&told, &other] {
            store.put(&partition.key("k").unwrap(), Write::new("v")).await.unwrap();
        }
        let page = store.list_by_prefix(&told, "", Default::default()).await.unwrap();
        let mut watch = store.watch(&other, WatchFrom::After(page.revision)).await.unwrap();
        assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Resync(_)))));
    }
}
