//! Watching resources: the state, a marker, then the changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::{FutureExt as _, Stream, StreamExt as _};

use crate::limits::WATCH_BACKLOG;
use crate::resources::{ETag, ResourceError, ResourceKey, ResourceStore, Scope};
use crate::store::{
    Change, ChangeKind, Cursor, Key, Page, PageRequest, Revision, StoreError, VersionToken, Watch,
    WatchEvent, WatchFrom,
};

/// Resources that are read at a time while the state is told.
const PAGE: usize = 200;
/// Changes that are held back while a watch catches up, one per resource. Beyond, it begins anew.
const MAX_HELD: usize = 16_384;

/// What a watcher is told.
///
/// ```text
/// Present Present Present Primed   Put Deleted Put   Resync Present Present Primed   Put …
/// └──────── the state ─────────┘   └── changes ──┘   └──── after a gap, anew ────┘
/// ```
///
/// Changes come in order, though not every one in between: several of one resource may arrive as the
/// last of them. After [`Resync`](Self::Resync) forget what you know; what is not told again before
/// [`Primed`](Self::Primed) is gone. A watcher that resumes is told only what follows, or `Resync`
/// if that is no longer known. A slow watcher costs nobody anything; it is told to resync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceEvent {
    /// It is there.
    Present {
        /// Where it lives.
        key: ResourceKey,
        /// The name of its value.
        etag: ETag,
        /// The name of the write that left it.
        version: VersionToken,
    },
    /// The state is complete. From this position on a watch can resume.
    Primed(Revision),
    /// It was written.
    Put {
        /// Where it lives.
        key: ResourceKey,
        /// The name of its value.
        etag: ETag,
        /// The name of the write.
        version: VersionToken,
        /// The position of the change.
        revision: Revision,
    },
    /// It was deleted.
    Deleted {
        /// Where it lived.
        key: ResourceKey,
        /// The position of the change.
        revision: Revision,
    },
    /// Changes may have been missed. The state follows, as at the beginning.
    Resync,
}

impl ResourceEvent {
    /// The position after which a watch can resume, once this event has been dealt with.
    #[must_use]
    pub fn position(&self) -> Option<Revision> {
        match self {
            Self::Primed(revision)
            | Self::Put { revision, .. }
            | Self::Deleted { revision, .. } => Some(*revision),
            Self::Present { .. } | Self::Resync => None,
        }
    }
}

pub(super) fn watch(
    store: ResourceStore,
    scope: Scope,
    after: Option<Revision>,
) -> impl Stream<Item = Result<ResourceEvent, ResourceError>> + Send + use<> {
    let watcher = Watcher {
        store,
        scope,
        watch: None,
        after,
        priming: after.is_none().then(Priming::default),
        catching_up: after.is_none(),
        held: HashMap::new(),
        listed: Vec::new(),
        pending: VecDeque::new(),
    };
    // It ends after an error, too.
    futures::stream::try_unfold(watcher, |mut watcher| async {
        let event = watcher.next().await?;
        Ok(event.map(|event| (event, watcher)))
    })
    .boxed()
}

struct Watcher {
    store: ResourceStore,
    scope: Scope,
    watch: Option<Watch>,
    /// The position after which a watch that failed is made anew. What came before is told, held
    /// back, or shown by every page.
    after: Option<Revision>,
    /// While the state is told.
    priming: Option<Priming>,
    /// From the first page until the changes meanwhile are told as well. All that time the watch
    /// is listened to before anything is told, so however much is written, a backlog never decides.
    catching_up: bool,
    /// The latest change of each resource that has come in while catching up, by stored name.
    held: HashMap<Arc<str>, Held>,
    listed: Vec<Listed>,
    pending: VecDeque<ResourceEvent>,
}

/// A change that is held back, and where the watch stood before it. Only a position that was seen
/// can be resumed from: nobody knows which one is next to another.
struct Held {
    change: Change,
    after: Revision,
}

#[derive(Default)]
struct Priming {
    next: Option<Cursor>,
    /// All pages have been read.
    complete: bool,
}

/// A page that was told. What it shows is the state at its own position, so changes of its names
/// up to there are old news, though the watch has to begin at the first page.
struct Listed {
    /// The last name of the page; `None` when it was the last page.
    up_to: Option<Arc<str>>,
    revision: Revision,
}

enum Step {
    /// Something is told.
    Told(ResourceEvent),
    /// There may be something to tell now.
    On,
    /// The store is closed.
    Closed,
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<ResourceEvent>, ResourceError> {
        let mut round = 0;
        loop {
            let step = self.step().await;
            match step {
                Ok(Step::Told(event)) => return Ok(Some(event)),
                Ok(Step::Closed) => return Ok(None),
                Ok(Step::On) => round = 0,
                Err(error) if error.is_retryable() => {
                    self.store.clock.back_off_long(round).await;
                    round += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn step(&mut self) -> Result<Step, StoreError> {
        if self.catching_up && !self.drain()? {
            return Ok(Step::Closed);
        }
        if let Some(event) = self.pending.pop_front() {
            return Ok(Step::Told(event));
        }
        match &self.priming {
            Some(Priming { complete: false, next }) => {
                let next = next.clone();
                self.opened().await?;
                let limit = self.scope.at_most().unwrap_or(PAGE);
                let request = PageRequest { limit: Some(limit), after: next };
                let (partition, prefix) = (&self.scope.partition, &self.scope.prefix);
                let page = self.store.backend.list_by_prefix(partition, prefix, request).await?;
                self.show(page);
                Ok(Step::On)
            }
            Some(Priming { complete: true, .. }) => {
                self.priming = None;
                self.release(true);
                Ok(Step::On)
            }
            None if !self.held.is_empty() => {
                self.release(false);
                Ok(Step::On)
            }
            None => {
                self.catching_up = false;
                let event = self.opened().await?.next().await;
                Ok(if self.note(event)? { Step::On } else { Step::Closed })
            }
        }
    }

    async fn opened(&mut self) -> Result<&mut Watch, StoreError> {
        match &mut self.watch {
            Some(watch) => Ok(watch),
            closed => {
                let from = self.after.map_or(WatchFrom::Now, WatchFrom::After);
                let watch = self.store.backend.watch(&self.scope.partition, from).await?;
                Ok(closed.insert(watch))
            }
        }
    }

    /// Takes in what the watch has by now. False when the store is closed.
    fn drain(&mut self) -> Result<bool, StoreError> {
        for _ in 0..WATCH_BACKLOG {
            let event = self.watch.as_mut().and_then(|watch| watch.next().now_or_never());
            let Some(event) = event else { break };
            if !self.note(event)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells a page of the state.
    fn show(&mut self, page: Page) {
        let Some(priming) = &mut self.priming else { return };
        self.after.get_or_insert(page.revision);
        let last = page.last().map(Key::shared_name);
        // One page is all there can be of a single resource, whatever names begin alike.
        priming.next = page.next.filter(|_| self.scope.at_most().is_none());
        let up_to = last.filter(|_| priming.next.is_some());
        // This page, and those to come, show what was there at its position.
        let from = self.listed.last().and_then(|listed| listed.up_to.clone());
        self.held.retain(|name, Held { change, .. }| {
            change.revision.sequence > page.revision.sequence
                || from.as_ref().is_some_and(|from| name <= from)
        });
        priming.complete = priming.next.is_none();
        self.listed.push(Listed { up_to, revision: page.revision });
        for entry in &page.entries {
            let key = self.scope.find(&entry.key);
            if let (Some(key), Some(tag)) = (key, entry.record.tag) {
                let (etag, version) = (ETag::from_tag(tag), entry.record.token);
                self.pending.push_back(ResourceEvent::Present { key, etag, version });
            }
        }
    }

    /// Tells what was held back, behind the marker of a complete state if there is one to set.
    fn release(&mut self, marked: bool) {
        let mut held: Vec<Held> = std::mem::take(&mut self.held).into_values().collect();
        held.sort_unstable_by_key(|held| held.change.revision.sequence);
        // Whoever resumes from the marker is told all that is held back.
        let before = held.first().map(|held| held.after).or(self.after);
        if let (true, Some(position)) = (marked, before) {
            self.pending.push_back(ResourceEvent::Primed(position));
        }
        for Held { change, .. } in held {
            self.tell(change);
        }
    }

    /// Takes in what the watch yields. False when the store is closed.
    fn note(&mut self, event: Option<Result<WatchEvent, StoreError>>) -> Result<bool, StoreError> {
        match event {
            None => return Ok(false),
            Some(Ok(WatchEvent::Change(change))) => {
                // Before anything is known, whoever resumes begins anew.
                let unknown = Revision { sequence: 0, ..change.revision };
                let after = self.after.replace(change.revision).unwrap_or(unknown);
                let name = change.key.shared_name();
                if !self.catching_up {
                    self.tell(change);
                } else if self.scope.find(&change.key).is_none() {
                    // Nothing that this watch tells.
                } else if self.held.len() < MAX_HELD || self.held.contains_key(&name) {
                    self.held.insert(name, Held { change, after });
                } else {
                    self.begin_anew();
                }
            }
            Some(Ok(WatchEvent::Resync(revision))) => {
                self.after = Some(revision);
                self.begin_anew();
            }
            Some(Err(error)) => {
                // A failed watch is over; the next one goes on where this one was.
                self.watch = None;
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Tells the whole state again.
    fn begin_anew(&mut self) {
        self.listed.clear();
        self.held.clear();
        // What is left of the state before is not worth telling any more.
        self.pending.clear();
        self.priming = Some(Priming::default());
        self.catching_up = true;
        self.pending.push_back(ResourceEvent::Resync);
    }

    fn tell(&mut self, change: Change) {
        if self.is_old_news(&change) {
            return;
        }
        let Some(key) = self.scope.find(&change.key) else { return };
        let revision = change.revision;
        match change.kind {
            ChangeKind::Gone => {
                self.pending.push_back(ResourceEvent::Deleted { key, revision });
            }
            ChangeKind::Put { token: version, tag: Some(tag), .. } => {
                let etag = ETag::from_tag(tag);
                self.pending.push_back(ResourceEvent::Put { key, etag, version, revision });
            }
            ChangeKind::Put { tag: None, .. } => {
                tracing::warn!(?key, "a record among the resources has no ETag");
            }
        }
    }

    fn is_old_news(&mut self, change: &Change) -> bool {
        let Some(latest) = self.listed.last() else { return false };
        if change.revision.sequence > latest.revision.sequence {
            self.listed.clear();
            return false;
        }
        let covers = |listed: &&Listed| {
            listed.up_to.as_deref().is_none_or(|up_to| change.key.name() <= up_to)
        };
        let page = self.listed.iter().find(covers);
        page.is_some_and(|page| change.revision.sequence <= page.revision.sequence)
    }
}
