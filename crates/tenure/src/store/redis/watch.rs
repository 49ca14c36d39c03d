//! Watching: a message says *that* a partition has changed, its log says *what*.
//!
//! One subscribed connection serves all watchers of a backend. When it is lost, it is made anew
//! and every watcher looks into its log, so that nothing depends on a message having arrived.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::call::pause;
use super::connect::Link;
use super::reply::{self, Changes};
use super::{Shared, error};
use crate::store::{Partition, Revision, StoreError, Watch, WatchEvent, WatchFrom};

/// Requests that may wait for the subscriber to take them.
const QUEUE: usize = 64;

/// Asks the subscriber to follow a channel; the answer is a counter that rises with each message.
struct Follow {
    channel: String,
    reply: oneshot::Sender<watch::Receiver<u64>>,
}

/// The way to the task that holds the subscribed connection. The task ends with its last handle.
pub(super) struct Subscriber {
    requests: mpsc::Sender<Follow>,
}

impl Subscriber {
    pub(super) fn spawn(link: Arc<Link>) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        tokio::spawn(Listener { link, channels: HashMap::new(), sweep_at: 16 }.run(queue));
        Self { requests }
    }

    async fn follow(&self, channel: String) -> Option<watch::Receiver<u64>> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Follow { channel, reply }).await.ok()?;
        answer.await.ok()
    }
}

struct Listener {
    link: Arc<Link>,
    channels: HashMap<String, watch::Sender<u64>>,
    /// How many channels there may be before those without watchers are looked for.
    sweep_at: usize,
}

/// Why a connection is no longer listened to.
enum Ended {
    Lost,
    Unused,
}

impl Listener {
    async fn run(mut self, mut queue: mpsc::Receiver<Follow>) {
        let mut attempt = 0;
        // Whoever asks first makes us connect; without watchers there is no connection.
        let Some(mut waiting) = queue.recv().await.map(Some) else { return };
        loop {
            if let Ok((sink, stream)) = self.connect(attempt).await {
                attempt = 0;
                match self.listen(sink, stream, &mut queue, &mut waiting).await {
                    Ended::Lost => {}
                    Ended::Unused => return,
                }
            }
            if queue.is_closed() {
                return;
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    async fn connect(
        &mut self,
        attempt: usize,
    ) -> Result<(PubSubSink, PubSubStream), redis::RedisError> {
        let (mut sink, stream) = self.link.subscriber(attempt).await?.split();
        self.channels.retain(|_, watchers| watchers.receiver_count() > 0);
        for channel in self.channels.keys() {
            self.subscribe(&mut sink, channel).await?;
        }
        // What was published meanwhile was not heard.
        self.channels.values().for_each(|watchers| watchers.send_modify(|seen| *seen += 1));
        Ok((sink, stream))
    }

    async fn subscribe(
        &self,
        sink: &mut PubSubSink,
        channel: &str,
    ) -> Result<(), redis::RedisError> {
        timeout(self.link.response_timeout(), sink.subscribe(channel))
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    async fn listen(
        &mut self,
        mut sink: PubSubSink,
        mut stream: PubSubStream,
        queue: &mut mpsc::Receiver<Follow>,
        waiting: &mut Option<Follow>,
    ) -> Ended {
        loop {
            if let Some(follow) = waiting.take()
                && self.follow(&mut sink, follow).await.is_err()
            {
                return Ended::Lost;
            }
            tokio::select! {
                message = stream.next() => match message {
                    None => return Ended::Lost,
                    Some(message) => {
                        if self.announce(&mut sink, message.get_channel_name()).await.is_err() {
                            return Ended::Lost;
                        }
                    }
                },
                follow = queue.recv() => match follow {
                    Some(follow) => *waiting = Some(follow),
                    // Every watcher holds the backend, and the backend the other end.
                    None => return Ended::Unused,
                },
            }
        }
    }

    async fn follow(
        &mut self,
        sink: &mut PubSubSink,
        follow: Follow,
    ) -> Result<(), redis::RedisError> {
        if !self.channels.contains_key(&follow.channel) {
            self.subscribe(sink, &follow.channel).await?;
            self.channels.insert(follow.channel.clone(), watch::Sender::new(0));
        }
        if let Some(watchers) = self.channels.get(&follow.channel) {
            // The caller may have given up waiting, which is no trouble of ours.
            let _ = follow.reply.send(watchers.subscribe());
        }
        self.sweep(sink).await
    }

    async fn announce(
        &mut self,
        sink: &mut PubSubSink,
        channel: &str,
    ) -> Result<(), redis::RedisError> {
        let Some(watchers) = self.channels.get(channel) else { return Ok(()) };
        if watchers.receiver_count() == 0 {
            self.channels.remove(channel);
            return sink.unsubscribe(channel).await;
        }
        watchers.send_modify(|seen| *seen += 1);
        Ok(())
    }

    /// Leaves the channels that nobody watches, once there may be as many as are watched.
    async fn sweep(&mut self, sink: &mut PubSubSink) -> Result<(), redis::RedisError> {
        if self.channels.len() < self.sweep_at {
            return Ok(());
        }
        let idle: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, watchers)| watchers.receiver_count() == 0)
            .map(|(channel, _)| channel.clone())
            .collect();
        for channel in idle {
            self.channels.remove(&channel);
            sink.unsubscribe(&channel).await?;
        }
        self.sweep_at = 2 * self.channels.len() + 16;
        Ok(())
    }
}

/// A watcher is a position in its partition's log.
struct Watcher {
    shared: Arc<Shared>,
    partition: Partition,
    epoch: u64,
    log: String,
    /// The entry of the log that was seen last, as Redis writes it.
    position: String,
    pending: VecDeque<WatchEvent>,
    changed: watch::Receiver<u64>,
    /// Whether there may be something in the log without a message to come.
    look: bool,
    ended: bool,
}

pub(super) async fn watch(
    shared: &Arc<Shared>,
    partition: &Partition,
    from: WatchFrom,
) -> Result<Watch, StoreError> {
    let log = shared.keyspace.partition(partition).log();
    let epoch = shared.keyspace.epoch(partition);
    // Subscribed first: what commits after the position is read will be heard.
    let mut changed = shared.subscribe(&log).await?;
    changed.mark_unchanged();
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
        look,
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
            if !self.look {
                self.changed.changed().await.ok()?;
            }
            self.changed.mark_unchanged();
            match self.changes().await {
                Ok(()) => {
                    self.look = false;
                    attempt = 0;
                }
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

    async fn changes(&mut self) -> Result<(), StoreError> {
        let mut call = self.shared.scripts.changes.call(&[&self.log], 32);
        call.arg(&self.position);
        let value =
            self.shared.read_script(&call).await.map_err(error::Failure::into_store_error)?;
        match reply::changes(value, &self.partition, self.epoch)? {
            Changes::Gap(position) => {
                let revision: Revision = reply::revision(self.epoch, &position)?;
                self.pending.push_back(WatchEvent::Resync(revision));
                self.position = position;
            }
            Changes::Next(changes, position) => {
                self.pending.extend(changes.into_iter().map(WatchEvent::Change));
                self.position = position.unwrap_or_else(|| std::mem::take(&mut self.position));
            }
        }
        Ok(())
    }
}

impl Shared {
    async fn subscribe(&self, log: &str) -> Result<watch::Receiver<u64>, StoreError> {
        let limit = self.options.connect_timeout + self.options.response_timeout;
        let following = self.subscriber().follow(log.to_owned());
        match timeout(limit, following).await {
            Ok(Some(changed)) => Ok(changed),
            _ => Err(StoreError::Unavailable {
                reason: "no subscription to Redis could be made".into(),
                source: None,
            }),
        }
    }

    async fn position(&self, log: &str) -> Result<String, StoreError> {
        let call = self.scripts.position.call(&[log], 0);
        let value = self.read_script(&call).await.map_err(error::Failure::into_store_error)?;
        reply::text(value).ok_or_else(|| error::unreadable("position"))
    }
}
