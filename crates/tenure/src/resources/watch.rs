//! Watching resources: the state, a marker, then the changes.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};

use crate::resources::{ETag, ResourceError, ResourceKey, ResourceStore, Scope};
use crate::store::{
    Change, ChangeKind, Cursor, Key, PageRequest, Revision, StoreError, VersionToken, Watch,
    WatchEvent, WatchFrom,
};

/// Resources that are read at a time while the state is told.
const PAGE: usize = 200;

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
    let phase = match after {
        None => Phase::Priming(Priming::default()),
        Some(after) => Phase::Following { after, watch: None },
    };
    let watcher = Watcher { store, scope, phase, listed: Vec::new(), pending: VecDeque::new() };
    futures::stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(Some(event)) => Some((Ok(event), Some(watcher))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Watcher {
    store: ResourceStore,
    scope: Scope,
    phase: Phase,
    listed: Vec<Listed>,
    pending: VecDeque<ResourceEvent>,
}

enum Phase {
    Priming(Priming),
    Following { after: Revision, watch: Option<Watch> },
}

#[derive(Default)]
struct Priming {
    /// The position of the first page: from there on nothing is missed.
    begun: Option<Revision>,
    next: Option<Cursor>,
}

/// A page that was told. What it shows is the state at its own position, so changes of its names
/// up to there are old news, though the watch has to begin at the first page.
struct Listed {
    /// The last name of the page; `None` when it was the last page.
    up_to: Option<Arc<str>>,
    revision: Revision,
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<ResourceEvent>, ResourceError> {
        let mut round = 0;
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            let step = match &self.phase {
                Phase::Priming(_) => self.list().await,
                Phase::Following { .. } => self.follow().await,
            };
            match step {
                Ok(true) => round = 0,
                Ok(false) => return Ok(None),
                Err(error) if error.is_retryable() => {
                    self.store.clock.back_off_long(round).await;
                    round += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tells the next page of the state.
    async fn list(&mut self) -> Result<bool, StoreError> {
        let Phase::Priming(priming) = &mut self.phase else { return Ok(true) };
        let limit = self.scope.at_most().unwrap_or(PAGE);
        let request = PageRequest { limit: Some(limit), after: priming.next.clone() };
        let (partition, prefix) = (&self.scope.partition, &self.scope.prefix);
        let page = self.store.backend.list_by_prefix(partition, prefix, request).await?;
        let begun = *priming.begun.get_or_insert(page.revision);
        let last = page.last().map(Key::shared_name);
        // One page is all there can be of a single resource, whatever names begin alike.
        priming.next = page.next.filter(|_| self.scope.at_most().is_none());
        let up_to = last.filter(|_| priming.next.is_some());
        let done = priming.next.is_none();
        self.listed.push(Listed { up_to, revision: page.revision });
        for entry in &page.entries {
            let key = self.scope.find(&entry.key);
            if let (Some(key), Some(tag)) = (key, entry.record.tag) {
                let (etag, version) = (ETag::from_tag(tag), entry.record.token);
                self.pending.push_back(ResourceEvent::Present { key, etag, version });
            }
        }
        if done {
            self.pending.push_back(ResourceEvent::Primed(begun));
            self.phase = Phase::Following { after: begun, watch: None };
        }
        Ok(true)
    }

    /// Waits for the next change. False when the store is closed.
    async fn follow(&mut self) -> Result<bool, StoreError> {
        let Phase::Following { after, watch } = &mut self.phase else { return Ok(true) };
        let watch = match watch {
            Some(watch) => watch,
            None => {
                let from = WatchFrom::After(*after);
                watch.insert(self.store.backend.watch(&self.scope.partition, from).await?)
            }
        };
        match watch.next().await {
            None => return Ok(false),
            Some(Ok(WatchEvent::Change(change))) => {
                *after = change.revision;
                self.tell(change);
            }
            Some(Ok(WatchEvent::Resync(_))) => {
                self.listed.clear();
                self.phase = Phase::Priming(Priming::default());
                self.pending.push_back(ResourceEvent::Resync);
            }
            Some(Err(error)) => {
                // A failed watch is over; the next one goes on where this one was.
                self.phase = Phase::Following { after: *after, watch: None };
                return Err(error);
            }
        }
        Ok(true)
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
