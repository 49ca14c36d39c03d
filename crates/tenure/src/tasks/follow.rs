//! Following tasks: one watch per owner, however many of its tasks are followed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::Chain;
use crate::owner::Owner;
use crate::store::{
    ChangeKind, StorageBackend, StoreError, VersionToken, Watch, WatchEvent, WatchFrom,
};
use crate::tasks::store::{TaskStore, partition};
use crate::tasks::{Task, TaskError, TaskId};

/// What is known of a followed task without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TaskSignal {
    /// It is at this write.
    At(VersionToken),
    /// Anything may have happened: read it.
    Unknown,
    /// The feed has ended, and tells nothing any more: make another.
    Ended,
}

#[derive(Default)]
struct Signs {
    by_task: HashMap<TaskId, Followed>,
    /// The watch is over; who comes now is told so at once.
    ended: bool,
}

/// A followed task, and how many follow it: counted under the lock, since a receiver ends after
/// whoever drops it has looked, and of two that end together neither would be the last.
struct Followed {
    sign: watch::Sender<TaskSignal>,
    followers: usize,
}

impl Signs {
    fn tell(&self, id: &TaskId, sign: TaskSignal) {
        if let Some(followed) = self.by_task.get(id) {
            followed.sign.send_replace(sign);
        }
    }

    fn tell_all(&self, sign: TaskSignal) {
        for followed in self.by_task.values() {
            followed.sign.send_replace(sign);
        }
    }

    fn subscribe(&mut self, id: &TaskId) -> watch::Receiver<TaskSignal> {
        let first = if self.ended { TaskSignal::Ended } else { TaskSignal::Unknown };
        let first = || Followed { sign: watch::Sender::new(first), followers: 0 };
        let followed = self.by_task.entry(id.clone()).or_insert_with(first);
        followed.followers += 1;
        followed.sign.subscribe()
    }

    /// Takes note that a follower has left.
    fn leave(&mut self, id: &TaskId) {
        if let Some(followed) = self.by_task.get_mut(id) {
            followed.followers -= 1;
            if followed.followers == 0 {
                self.by_task.remove(id);
            }
        }
    }
}

/// The live feeds, one per followed owner.
#[derive(Clone)]
pub(super) struct Feeds {
    backend: Arc<dyn StorageBackend>,
    live: Arc<Mutex<HashMap<Owner, Weak<Feed>>>>,
}

/// The watch of one owner's partition, passed on by task. It ends when its last follower leaves.
struct Feed {
    owner: Owner,
    signs: Arc<Mutex<Signs>>,
    live: Arc<Mutex<HashMap<Owner, Weak<Self>>>>,
    pump: AbortOnDropHandle<()>,
}

impl Feeds {
    pub(super) fn new(backend: Arc<dyn StorageBackend>) -> Self {
        Self { backend, live: Arc::default() }
    }

    async fn of(&self, owner: &Owner) -> Result<Arc<Feed>, StoreError> {
        if let Some(feed) = self.existing(owner) {
            return Ok(feed);
        }
        let watch = self.backend.watch(&partition(owner)?, WatchFrom::Now).await?;
        let signs = Arc::<Mutex<Signs>>::default();
        let pump = AbortOnDropHandle::new(tokio::spawn(pump(watch, Arc::clone(&signs))));
        let live = Arc::clone(&self.live);
        let feed = Arc::new(Feed { owner: owner.clone(), signs, live, pump });
        // Somebody may have been faster; two feeds of one owner would still both be right.
        self.live.lock().insert(owner.clone(), Arc::downgrade(&feed));
        Ok(feed)
    }

    fn existing(&self, owner: &Owner) -> Option<Arc<Feed>> {
        let feed = self.live.lock().get(owner)?.upgrade()?;
        (!feed.pump.is_finished()).then_some(feed)
    }
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeds").field("owners", &self.live.lock().len()).finish()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut live = self.live.lock();
        if live.get(&self.owner).is_some_and(|feed| feed.strong_count() == 0) {
            live.remove(&self.owner);
        }
    }
}

/// Passes the events of a watch on, until it ends.
async fn pump(mut watch: Watch, signs: Arc<Mutex<Signs>>) {
    while let Some(event) = watch.next().await {
        match event {
            Ok(WatchEvent::Change(change)) => {
                let sign = match change.kind {
                    ChangeKind::Put { token, .. } => TaskSignal::At(token),
                    ChangeKind::Gone => TaskSignal::Unknown,
                };
                signs.lock().tell(&TaskId::from(change.key.shared_name()), sign);
            }
            Ok(WatchEvent::Resync(_)) => signs.lock().tell_all(TaskSignal::Unknown),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the watch of an owner's tasks has failed");
                break;
            }
        }
    }
    let mut signs = signs.lock();
    signs.ended = true;
    signs.tell_all(TaskSignal::Ended);
}

/// What one follower hears of one task. Dropping it takes it off the feed.
struct Subscription {
    feed: Arc<Feed>,
    id: TaskId,
    sign: watch::Receiver<TaskSignal>,
}

impl Subscription {
    async fn new(feeds: &Feeds, owner: &Owner, id: &TaskId) -> Result<Self, StoreError> {
        let feed = feeds.of(owner).await?;
        let sign = feed.signs.lock().subscribe(id);
        Ok(Self { feed, id: id.clone(), sign })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.feed.signs.lock().leave(&self.id);
    }
}

/// One follower of one task.
struct Follower {
    tasks: TaskStore,
    feeds: Feeds,
    subscription: Subscription,
    owner: Owner,
    id: TaskId,
    last: Option<(VersionToken, Task)>,
    on_lasting: OnLasting,
    /// Feeds in a row that ended before they told anything.
    endings: u32,
    over: bool,
}

/// What a follower does about trouble of the store that lasts until somebody sees to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnLasting {
    /// Ends with the error: whoever listens is told.
    End,
    /// Waits, as for trouble that passes: a tool that runs goes on meanwhile.
    Wait,
}

pub(super) async fn follow(
    tasks: TaskStore,
    feeds: &Feeds,
    owner: &Owner,
    id: &TaskId,
    on_lasting: OnLasting,
) -> Result<impl Stream<Item = Result<Task, TaskError>> + Send + use<>, TaskError> {
    let subscription = Subscription::new(feeds, owner, id).await?;
    let mut follower = Follower {
        tasks,
        feeds: feeds.clone(),
        subscription,
        owner: owner.clone(),
        id: id.clone(),
        last: None,
        on_lasting,
        endings: 0,
        over: false,
    };
    // Whoever begins to follow is told of trouble; whoever follows waits until it is over.
    let first = match follower.look().await {
        Err(error @ TaskError::Store(_)) => return Err(error),
        first => follower.told(first),
    };
    let later = futures::stream::unfold(follower, Follower::next);
    Ok(futures::stream::iter(first).chain(later).boxed())
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Task, TaskError>, Self)> {
        if self.over {
            return None;
        }
        let mut round = 0_u32;
        self.wait().await;
        loop {
            match self.look().await {
                Ok(None) => self.wait().await,
                Err(error) if self.waits_out(&error) => {
                    if round.is_power_of_two() {
                        let error = Chain(&error);
                        tracing::warn!(task = %self.id, %error, round, "looking at the task again");
                    }
                    self.tasks.clock().back_off_long(round).await;
                    round = round.saturating_add(1);
                }
                looked => return self.told(looked).map(|told| (told, self)),
            }
        }
    }

    /// What passes is waited out; of what lasts, the stream says so and ends.
    fn waits_out(&self, error: &TaskError) -> bool {
        match self.on_lasting {
            OnLasting::End => error.is_retryable(),
            OnLasting::Wait => matches!(error, TaskError::Store(_)),
        }
    }

    /// Reads the task, on a feed that lives; `None` if it is as it was told last.
    async fn look(&mut self) -> Result<Option<Task>, TaskError> {
        // What changes from here on counts as news, so nothing between the read and the wait
        // is missed.
        let sign = *self.subscription.sign.borrow_and_update();
        if sign == TaskSignal::Ended {
            // A watch may fail as fast as it is made.
            self.tasks.clock().back_off_long(self.endings).await;
            self.endings = self.endings.saturating_add(1);
            self.resubscribe().await?;
        }
        let (task, record) = self.tasks.read(&self.owner, &self.id).await?;
        if self.last.as_ref().is_some_and(|(token, _)| *token == record.token) {
            return Ok(None);
        }
        self.last = Some((record.token, task.clone()));
        Ok(Some(task))
    }

    /// Notes whether this is the last that is told.
    fn told(&mut self, looked: Result<Option<Task>, TaskError>) -> Option<Result<Task, TaskError>> {
        let told = looked.transpose()?;
        self.over = told.as_ref().map_or(true, |task| task.status.is_terminal());
        Some(told)
    }

    /// Waits for news since the last look at the sign, or for the task to expire.
    async fn wait(&mut self) {
        let Some((token, task)) = &self.last else { return };
        let news = async {
            // The feed may have ended before it was subscribed to.
            if *self.subscription.sign.borrow() == TaskSignal::Ended {
                return;
            }
            // Our own latest read is no news. The sender outlives us: the feed is ours.
            while self.subscription.sign.changed().await.is_ok()
                && *self.subscription.sign.borrow_and_update() == TaskSignal::At(*token)
            {
            }
            if *self.subscription.sign.borrow() != TaskSignal::Ended {
                self.endings = 0;
            }
        };
        match task.expires_at() {
            None => news.await,
            Some(deadline) => tokio::select! {
                () = news => {}
                () = self.tasks.clock().sleep_until(deadline) => {}
            },
        }
    }

    async fn resubscribe(&mut self) -> Result<(), StoreError> {
        self.subscription = Subscription::new(&self.feeds, &self.owner, &self.id).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::store::InMemoryBackend;

    #[test]
    fn of_followers_that_leave_together_one_is_the_last() {
        let (mut signs, id) = (Signs::default(), TaskId::from("t"));
        // Both take their leave before the receiver of either ends.
        let receivers = [signs.subscribe(&id), signs.subscribe(&id)];
        signs.leave(&id);
        assert_eq!(signs.by_task.len(), 1);
        signs.leave(&id);
        assert_eq!(signs.by_task.len(), 0);
        drop(receivers);
    }

    #[tokio::test]
    async fn a_task_is_on_its_owners_feed_for_as_long_as_it_is_followed() {
        let clock = Clock::manual(Timestamp::from_millis(1));
        let feeds = Feeds::new(Arc::new(InMemoryBackend::new(clock)));
        let alice = Owner::new("alice").unwrap();
        let follow = async |id: &str| Subscription::new(&feeds, &alice, &id.into()).await.unwrap();
        // Keeps the feed, which would take every entry with it.
        let lasting = follow("lasting").await;
        let entries = || lasting.feed.signs.lock().by_task.len();
        let (first, second) = (follow("t").await, follow("t").await);
        drop(first);
        assert_eq!(entries(), 2);
        drop(second);
        assert_eq!(entries(), 1);
        drop(lasting);
        assert!(feeds.live.lock().is_empty());
    }
}
