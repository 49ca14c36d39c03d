//! One subscribed connection for all watchers of a backend.
//!
//! When it is lost, it is made anew. It may also go deaf without a word, as on a node that its
//! cluster has lost: so one channel after the other is patrolled, which makes its watchers look
//! into their log. When one of them finds what no message told of, and none comes, the connection
//! is given up, too. What it is lost for may last, as when the user may not subscribe: then everybody
//! is told, and it is tried again when somebody asks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use parking_lot::Mutex;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::call::pause;
use super::connect::{Link, timed_out};
use super::error::Failure;
use crate::Chain;

/// Requests that may wait for the subscriber to take them.
const QUEUE: usize = 64;

/// Channels that are subscribed to, or left, with one command: a round trip each would keep the
/// watchers of a large process waiting after every lost connection.
const AT_ONCE: usize = 256;

/// The pause between the looks at two partitions. So at most about four partitions are looked at in a
/// second, however many are watched. A look costs one command for each watcher of the partition.
const PATROL_GAP: Duration = Duration::from_millis(250);

/// The longest patrol interval. It is practically never, and the timer can hold it.
pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// What has been heard of a channel: two counters that only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Messages, and connections that were made anew and may have missed some.
    pub(super) messages: u64,
    /// Looks that are due without a message.
    patrols: u64,
}

enum Request {
    Follow(Follow),
    Doubt(Doubt),
}

/// Asks the subscriber to follow a channel.
struct Follow {
    channel: String,
    reply: oneshot::Sender<Followed>,
}

type Followed = Result<watch::Receiver<Heard>, Failure>;

/// There was a change on the channel that these messages did not tell of.
struct Doubt {
    channel: String,
    messages: u64,
}

/// The way to the task that holds the subscribed connection. The task ends with its last handle, or
/// with the runtime that it was spawned on.
#[derive(Clone)]
pub(super) struct Subscriber {
    requests: mpsc::Sender<Request>,
    /// Why the last attempt to listen failed.
    trouble: Arc<Mutex<Option<Failure>>>,
}

impl Subscriber {
    /// `patrol_interval` is how long a channel is trusted that says nothing.
    pub(super) fn spawn(link: Arc<Link>, patrol_interval: Duration) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        let trouble = Arc::default();
        let listener = Listener {
            link,
            trouble: Arc::clone(&trouble),
            channels: HashMap::new(),
            sweep_at: 16,
            turn: 0,
            patrol_interval: patrol_interval.min(HOUR),
            patrol: VecDeque::new(),
        };
        tokio::spawn(listener.run(queue));
        Self { requests, trouble }
    }

    /// True when nobody listens any more.
    pub(super) fn has_ended(&self) -> bool {
        self.requests.is_closed()
    }

    pub(super) async fn follow(&self, channel: String, patience: Duration) -> Followed {
        let (reply, answer) = oneshot::channel();
        let following = async {
            self.requests.send(Request::Follow(Follow { channel, reply })).await.ok()?;
            answer.await.ok()
        };
        timeout(patience, following).await.ok().flatten().unwrap_or_else(|| {
            let trouble = self.trouble.lock().clone();
            Err(trouble.unwrap_or_else(|| Failure::NotSent(timed_out("subscribing"))))
        })
    }

    /// Says that a change was found of which none of these messages told. Nothing is lost when the
    /// queue is full: it will be found again.
    pub(super) fn doubt(&self, channel: String, messages: u64) {
        let _ = self.requests.try_send(Request::Doubt(Doubt { channel, messages }));
    }
}

struct Listener {
    link: Arc<Link>,
    trouble: Arc<Mutex<Option<Failure>>>,
    channels: HashMap<String, watch::Sender<Heard>>,
    /// How many channels there may be before those without watchers are looked for.
    sweep_at: usize,
    /// Counts the connections, so that each is made to another node of a cluster.
    turn: usize,
    patrol_interval: Duration,
    /// The channels that this round of the patrol has still to come to.
    patrol: VecDeque<String>,
}

/// Why a connection is no longer listened to.
enum Ended {
    Lost,
    Unused,
}

impl Listener {
    async fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let (mut attempt, mut refusals) = (0_usize, 0);
        let mut waiting = None;
        loop {
            // Whoever asks first makes us connect; without watchers there is no connection.
            if waiting.is_none() && self.channels.is_empty() {
                let Some(request) = queue.recv().await else { return };
                waiting = Some(request);
            }
            match self.connect().await {
                Ok((sink, stream)) => {
                    (attempt, refusals) = (0, 0);
                    *self.trouble.lock() = None;
                    if let Ended::Unused = self.listen(sink, stream, &mut queue, &mut waiting).await
                    {
                        return;
                    }
                }
                Err(failure) => {
                    if attempt.is_power_of_two() || attempt == 0 {
                        let error = failure.clone().into_store_error();
                        tracing::warn!(error = %Chain(&error), attempt, "no subscription to Redis");
                    }
                    *self.trouble.lock() = Some(failure.clone());
                    refusals = if failure.is_lasting() { refusals + 1 } else { 0 };
                    // Another node of a cluster may be of another mind.
                    if refusals >= self.link.nodes() {
                        self.give_up(&failure, waiting.take(), &mut queue);
                    }
                }
            }
            if queue.is_closed() {
                return;
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    /// Tells everybody of a failure that will last: nobody is to wait in vain, or in silence.
    fn give_up(
        &mut self,
        failure: &Failure,
        waiting: Option<Request>,
        queue: &mut mpsc::Receiver<Request>,
    ) {
        // Whoever watches finds that its channel is closed, and asks.
        self.channels.clear();
        self.patrol.clear();
        for request in waiting.into_iter().chain(std::iter::from_fn(|| queue.try_recv().ok())) {
            if let Request::Follow(follow) = request {
                let _ = follow.reply.send(Err(failure.clone()));
            }
        }
    }

    async fn connect(&mut self) -> Result<(PubSubSink, PubSubStream), Failure> {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        let connection = self.link.subscriber(turn).await.map_err(Failure::NotSent)?;
        let (mut sink, stream) = connection.split();
        self.channels.retain(|_, watchers| watchers.receiver_count() > 0);
        let channels: Vec<&str> = self.channels.keys().map(String::as_str).collect();
        for channels in channels.chunks(AT_ONCE) {
            self.confirmed(sink.subscribe(channels)).await?;
        }
        // What was published meanwhile was not heard.
        for watchers in self.channels.values() {
            watchers.send_modify(|heard| heard.messages += 1);
        }
        Ok((sink, stream))
    }

    /// Waits for the server to confirm, and not for ever.
    async fn confirmed(
        &self,
        confirmation: impl Future<Output = Result<(), redis::RedisError>>,
    ) -> Result<(), Failure> {
        timeout(self.link.response_timeout(), confirmation)
            .await
            .unwrap_or_else(|_| Err(timed_out("subscribing")))
            .map_err(Failure::of_sent)
    }

    async fn listen(
        &mut self,
        mut sink: PubSubSink,
        mut stream: PubSubStream,
        queue: &mut mpsc::Receiver<Request>,
        waiting: &mut Option<Request>,
    ) -> Ended {
        let mut patrol_at = Instant::now() + jittered(self.patrol_interval);
        let mut doubt: Option<(Doubt, Instant)> = None;
        loop {
            if let Some(request) = waiting.take()
                && self.take(&mut sink, request, &mut doubt).await.is_err()
            {
                return Ended::Lost;
            }
            let judged_at = doubt.as_ref().map_or(patrol_at, |(_, at)| *at);
            tokio::select! {
                message = stream.next() => match message {
                    None => return Ended::Lost,
                    Some(message) => {
                        if self.announce(&mut sink, message.get_channel_name()).await.is_err() {
                            return Ended::Lost;
                        }
                    }
                },
                request = queue.recv() => match request {
                    Some(request) => *waiting = Some(request),
                    // Every watcher holds the backend, and the backend the other end.
                    None => return Ended::Unused,
                },
                () = sleep_until(judged_at), if doubt.is_some() => {
                    if doubt.take().is_some_and(|(doubt, _)| self.is_deaf(&doubt)) {
                        return Ended::Lost;
                    }
                }
                () = sleep_until(patrol_at) => patrol_at = Instant::now() + self.patrol(),
            }
        }
    }

    async fn take(
        &mut self,
        sink: &mut PubSubSink,
        request: Request,
        doubt: &mut Option<(Doubt, Instant)>,
    ) -> Result<(), Failure> {
        match request {
            Request::Follow(follow) => self.follow(sink, follow).await?,
            // The message may still be on its way.
            Request::Doubt(new) => {
                let patience = self.link.response_timeout().min(HOUR);
                doubt.get_or_insert_with(|| (new, Instant::now() + patience));
            }
        }
        Ok(())
    }

    /// Has the watchers of the next channel look into their log. Tells when to do so again.
    fn patrol(&mut self) -> Duration {
        if self.patrol.is_empty() {
            self.patrol.extend(self.channels.keys().cloned());
        }
        if let Some(watchers) = self.patrol.pop_front().and_then(|it| self.channels.get(&it)) {
            watchers.send_modify(|heard| heard.patrols += 1);
        }
        let channels = u32::try_from(self.channels.len()).unwrap_or(u32::MAX).max(1);
        jittered((self.patrol_interval / channels).max(PATROL_GAP))
    }

    /// True when nothing has come about the channel since the doubt.
    fn is_deaf(&self, doubt: &Doubt) -> bool {
        self.channels
            .get(&doubt.channel)
            .is_some_and(|watchers| watchers.borrow().messages == doubt.messages)
    }

    async fn follow(&mut self, sink: &mut PubSubSink, follow: Follow) -> Result<(), Failure> {
        if !self.channels.contains_key(&follow.channel) {
            if let Err(failure) = self.confirmed(sink.subscribe(&follow.channel)).await {
                let is_refused = matches!(failure, Failure::Refused(_));
                let is_new = self.trouble.lock().replace(failure.clone()).is_none();
                if is_refused && is_new {
                    let error = failure.clone().into_store_error();
                    tracing::warn!(error = %Chain(&error), "Redis refuses a subscription");
                }
                let _ = follow.reply.send(Err(failure.clone()));
                // The others may listen on.
                return if is_refused { Ok(()) } else { Err(failure) };
            }
            *self.trouble.lock() = None;
            self.channels.insert(follow.channel.clone(), watch::Sender::default());
        }
        if let Some(watchers) = self.channels.get(&follow.channel) {
            // The caller may have given up waiting, which is no trouble of ours.
            let _ = follow.reply.send(Ok(watchers.subscribe()));
        }
        self.sweep(sink).await
    }

    async fn announce(&mut self, sink: &mut PubSubSink, channel: &str) -> Result<(), Failure> {
        let Some(watchers) = self.channels.get(channel) else { return Ok(()) };
        if watchers.receiver_count() == 0 {
            self.channels.remove(channel);
            return self.confirmed(sink.unsubscribe(channel)).await;
        }
        watchers.send_modify(|heard| heard.messages += 1);
        Ok(())
    }

    /// Leaves the channels that nobody watches, once there may be as many as are watched.
    async fn sweep(&mut self, sink: &mut PubSubSink) -> Result<(), Failure> {
        if self.channels.len() < self.sweep_at {
            return Ok(());
        }
        let idle: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, watchers)| watchers.receiver_count() == 0)
            .map(|(channel, _)| channel.clone())
            .collect();
        for channels in idle.chunks(AT_ONCE) {
            for channel in channels {
                self.channels.remove(channel);
            }
            self.confirmed(sink.unsubscribe(channels)).await?;
        }
        self.sweep_at = 2 * self.channels.len() + 16;
        Ok(())
    }
}

/// About that long, so that processes do not act in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::random_range(0.75..1.25))
}
