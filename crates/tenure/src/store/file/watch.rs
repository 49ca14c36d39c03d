//! Watchers: positions in the store's history, and what wakes them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::StreamExt as _;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::query;
use super::reader::ReaderHandle;
use super::transaction::HISTORY;
use super::writer::Request;
use crate::store::{Partition, Revision, StoreError, Watch, WatchEvent};

/// How often other processes' commits are looked for while somebody watches.
const LOOK_PAUSE: Duration = Duration::from_millis(25);

/// Wakes watchers. It carries no changes: those are read from the file, so a slow watcher costs
/// neither memory nor a writer's time.
#[derive(Default)]
pub(super) struct Hub(Mutex<State>);

#[derive(Default)]
struct State {
    partitions: HashMap<Partition, watch::Sender<()>>,
    /// The position at which everybody was last woken.
    all_woken_at: u64,
    looking: bool,
    closed: bool,
}

impl Hub {
    /// Wakes those who watch one of `partitions`, in which something changed up to `sequence`.
    pub(super) fn wake<'a>(&self, partitions: impl Iterator<Item = &'a Partition>, sequence: u64) {
        let mut state = self.0.lock();
        if state.partitions.is_empty() {
            return;
        }
        // Those whose partition is quiet move on with the rest before their position is forgotten.
        if sequence.saturating_sub(state.all_woken_at) >= HISTORY / 2 {
            state.all_woken_at = sequence;
            state.partitions.values().for_each(|sender| sender.send_replace(()));
            return;
        }
        let mut last = None;
        for partition in partitions {
            if last.replace(partition) != Some(partition)
                && let Some(sender) = state.partitions.get(partition)
            {
                sender.send_replace(());
            }
        }
    }

    /// Wakes everybody: another process has changed who knows what.
    pub(super) fn wake_all(&self) {
        self.0.lock().partitions.values().for_each(|sender| sender.send_replace(()));
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.partitions.clear();
    }

    fn subscribe(
        self: &Arc<Self>,
        partition: &Partition,
        writer: mpsc::WeakSender<Request>,
    ) -> Result<watch::Receiver<()>, StoreError> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(super::error::closed());
        }
        if !state.looking {
            let hub = Arc::clone(self);
            thread::Builder::new()
                .name("tenure-file-look".into())
                .spawn(move || hub.look(&writer))
                .map_err(|error| StoreError::Unavailable {
                    reason: "starting a watch".into(),
                    source: Some(error.into()),
                })?;
            state.looking = true;
        }
        let sender =
            state.partitions.entry_ref(partition).or_insert_with(|| watch::Sender::new(()));
        Ok(sender.subscribe())
    }

    /// Has the writer look for other processes' commits as long as anybody watches.
    fn look(&self, writer: &mpsc::WeakSender<Request>) {
        loop {
            thread::sleep(LOOK_PAUSE);
            let mut state = self.0.lock();
            if state.closed || state.partitions.is_empty() {
                state.looking = false;
                return;
            }
            drop(state);
            // With a full queue the writer is about to commit, and looks then.
            if let Some(writer) = writer.upgrade() {
                let _ = writer.try_send(Request::Look);
            }
        }
    }

    fn leave(&self, partition: &Partition) {
        let mut state = self.0.lock();
        if state.partitions.get(partition).is_some_and(|sender| sender.receiver_count() == 0) {
            state.partitions.remove(partition);
        }
    }
}

/// Sets up a watch of `partition`; `None` stands for the position now.
pub(super) async fn watch(
    hub: &Arc<Hub>,
    reader: ReaderHandle,
    writer: mpsc::WeakSender<Request>,
    partition: Partition,
    after: Option<Revision>,
) -> Result<Watch, StoreError> {
    let changed = hub.subscribe(&partition, writer)?;
    let place = WatchGuard { hub: Arc::clone(hub), partition };
    let after = match after {
        Some(after) => after,
        None => {
            reader
                .read(|connection| {
                    query::revision(connection)
                        .map_err(|error| super::error::translate(error, "starting a watch"))
                })
                .await?
        }
    };
    let watcher = Watcher { pending: VecDeque::new(), after, more: true, changed, reader, place };
    // It ends after an error, too.
    Ok(futures::stream::try_unfold(watcher, |mut watcher| async {
        let event = watcher.next().await.transpose()?;
        Ok(event.map(|event| (event, watcher)))
    })
    .boxed())
}

struct Watcher {
    pending: VecDeque<WatchEvent>,
    after: Revision,
    /// There may be changes that nobody will announce again.
    more: bool,
    changed: watch::Receiver<()>,
    reader: ReaderHandle,
    // Dropped last, when the receiver no longer keeps the partition.
    place: WatchGuard,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<WatchEvent, StoreError>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(event));
            }
            if !self.more {
                self.changed.changed().await.ok()?;
            }
            let (partition, after) = (self.place.partition.clone(), self.after);
            let read = self
                .reader
                .read(move |connection| query::changes(connection, &partition, after))
                .await;
            match read {
                Ok(changes) => {
                    self.pending.extend(changes.events);
                    self.after = changes.position;
                    self.more = changes.more;
                }
                // The store was closed, which ends the stream without an error.
                Err(_) if self.place.hub.0.lock().closed => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

struct WatchGuard {
    hub: Arc<Hub>,
    partition: Partition,
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.hub.leave(&self.partition);
    }
}
