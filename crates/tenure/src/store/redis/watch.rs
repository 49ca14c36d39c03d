//! Watching: a message says *that* a partition has changed, its log says *what*.
//!
//! Nothing depends on a message having arrived: after a lost connection every watcher looks into
//! its log, and so it does now and then when it has heard nothing. A message costs nothing but a
//! look, and who can wait looks once for many.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use redis::Cmd;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::call::pause;
use super::reply::{self, Changes};
use super::scripts::BACKLOG;
use super::subscriber::{HOUR, Heard};
use super::{Shared, error};
use crate::store::{Partition, Revision, StoreError, Watch, WatchEvent, WatchFrom};

/// A watcher is a position in its partition's log.
struct Watcher {
    shared: Arc<Shared>,
    partition: Partition,
    epoch: u64,
    log: String,
    /// The entry of the log that was seen last, as Redis writes it.
    position: String,
    pending: VecDeque<WatchEvent>,
    changed: watch::Receiver<Heard>,
    /// What had been heard before the last look.
    heard: Heard,
    /// Whether there may be something in the log without a message to come.
    look: bool,
    /// The time from one look to the next, at least.
    rest: Duration,
    rests_until: Instant,
    ended: bool,
}

pub(super) async fn watch(
    shared: &Arc<Shared>,
    partition: &Partition,
    from: WatchFrom,
    rest: Duration,
) -> Result<Watch, StoreError> {
    let log = shared.keyspace.partition(partition).log();
    let epoch = shared.keyspace.epoch(partition);
    // Subscribed first: what commits after the position is read will be heard.
    let mut changed = shared.subscribe(&log).await?;
    let heard = *changed.borrow_and_update();
    let mut pending = VecDeque::new();
    let (position, look) = match from {
        WatchFrom::After(revision) if revision.epoch == epoch => {
            (reply::log_id(revision.sequence), true)
        }
        WatchFrom::Now => (shared.position(&log).await?, false),
        WatchFrom::After(_) => {
            let position = shared.position(&log).await?;
            pending.push_back(WatchEvent::Resync(reply::revision(epoch, &position)?));
            (position, false)
        }
    };
    let watcher = Watcher {
        shared: Arc::clone(shared),
        partition: partition.clone(),
        epoch,
        log,
        position,
        pending,
        changed,
        heard,
        look,
        // No longer than the timer can hold.
        rest: rest.min(HOUR),
        rests_until: Instant::now(),
        ended: false,
    };
    Ok(futures::stream::unfold(watcher, Watcher::next).boxed())
}

impl Watcher {
    async fn next(mut self) -> Option<(Result<WatchEvent, StoreError>, Self)> {
        let mut attempt = 0;
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some((Ok(event), self));
            }
            if self.ended {
                return None;
            }
            match self.look().await {
                Ok(()) => attempt = 0,
                // Redis is away. It will be looked at again: no message may come for what we miss.
                Err(error) if error.is_retryable() => {
                    self.look = true;
                    pause(attempt).await;
                    attempt += 1;
                }
                Err(error) => {
                    self.ended = true;
                    return Some((Err(error), self));
                }
            }
        }
    }

    /// Waits until there may be something in the log, and takes it in.
    async fn look(&mut self) -> Result<(), StoreError> {
        if !self.look && self.changed.changed().await.is_err() {
            // Whoever listened for all has ended with its runtime, or was refused.
            self.changed = self.shared.subscribe(&self.log).await?;
            self.look = true;
        }
        // A timer that is over takes up to a millisecond all the same.
        if self.rests_until > Instant::now() {
            sleep_until(self.rests_until).await;
        }
        let heard = *self.changed.borrow_and_update();
        let prompted = heard.messages != self.heard.messages;
        self.rests_until = Instant::now() + self.rest;
        let published = if prompted && let Some(changes) = self.next_changes().await? {
            self.take_in(changes)?
        } else {
            let changes = self.changes().await?;
            self.take_in(changes)?
        };
        if !self.look && !prompted && published {
            self.shared.subscriber().doubt(self.log.clone(), heard.messages);
        }
        self.heard = heard;
        self.look = false;
        Ok(())
    }

    /// The changes after the position, if they are there and are not more than the backlog promises.
    /// One command, where the script is a few.
    async fn next_changes(&self) -> Result<Option<Changes>, StoreError> {
        let mut cmd = Cmd::new();
        cmd.arg("XRANGE").arg(&self.log).arg(&self.position).arg("+");
        cmd.arg("COUNT").arg(BACKLOG + 1);
        let value = self.shared.read(&cmd).await;
        let value = value.map_err(|failure| failure.in_partition(&self.partition))?;
        reply::next_changes(value, &self.position, &self.partition, self.epoch)
    }

    /// What the log has, or that it does not reach back. Renews the lifetime of one that says nothing.
    async fn changes(&self) -> Result<Changes, StoreError> {
        let mut call = self.shared.scripts.changes.call(&[&self.log], 1, 32);
        call.arg(&self.position);
        let value = self.shared.read_script(&call).await;
        let value = value.map_err(|failure| failure.in_partition(&self.partition))?;
        reply::changes(value, &self.partition, self.epoch)
    }

    /// True if there is something of which a message should have told.
    fn take_in(&mut self, changes: Changes) -> Result<bool, StoreError> {
        let (gap, published) = match changes {
            Changes::Gap(position) => (position, true),
            // A log expires without a message.
            Changes::Begun(position) => (position, false),
            Changes::Next(changes, position) => {
                let published = !changes.is_empty();
                self.pending.extend(changes.into_iter().map(WatchEvent::Change));
                self.position = position.unwrap_or_else(|| std::mem::take(&mut self.position));
                return Ok(published);
            }
        };
        let revision: Revision = reply::revision(self.epoch, &gap)?;
        self.pending.push_back(WatchEvent::Resync(revision));
        self.position = gap;
        Ok(published)
    }
}

impl Shared {
    async fn subscribe(&self, log: &str) -> Result<watch::Receiver<Heard>, StoreError> {
        let patience = self.options.connect_timeout.saturating_add(self.options.response_timeout);
        let following = self.subscriber().follow(log.to_owned(), patience).await;
        following.map_err(error::Failure::into_store_error)
    }

    async fn position(&self, log: &str) -> Result<String, StoreError> {
        let call = self.scripts.position.call(&[log], 0, 0);
        let value = self.read_script(&call).await.map_err(error::Failure::into_store_error)?;
        reply::text(value).ok_or_else(|| error::unreadable("position"))
    }
}
