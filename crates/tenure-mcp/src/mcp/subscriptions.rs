//! Telling clients of changed resources, whichever replica changed them.
//!
//! Clients of the revision 2026-07-28 listen with a filter; those before it subscribe to single
//! URIs, and are told of a changed list without asking.

use std::collections::{HashMap, HashSet};
use std::future::{Future, pending, ready};

use futures::stream::{self, BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use rmcp::model::{ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{Peer, RequestContext, SubscriptionContext, SubscriptionSink};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tenure::resources::{ResourceError, ResourceEvent, ResourceKey, ResourceStore, Scope};
use tenure::store::{PageRequest, Revision};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::identity::Caller;
use crate::mcp::error;
use crate::mcp::resources::{failed, key, may_read};
use crate::mcp::wrapper::{DurableServer, party};
use crate::owner_limiter::Permit;

/// Resources that one client follows.
const MAX_URIS: usize = 100;
/// Resources that are known to be in a list. Beyond, a client is told once more than it need be.
const MAX_KNOWN: usize = 10_000;

/// What is told.
#[derive(Debug, Clone)]
enum News {
    Updated(String),
    List,
}

/// Of what is told an error is the last.
type Feed = BoxStream<'static, Result<News, ErrorData>>;

/// What one client of an older revision follows. It ends with the client's session.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_uri: Mutex<HashMap<String, DropGuard>>,
    list: Mutex<Option<DropGuard>>,
}

impl<H: ServerHandler> DurableServer<H> {
    /// What of the request is ours to accept, added to what the inner handler accepts.
    pub(super) fn accept_ours(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let theirs = self.shared.inner.accepted_subscription_filter(requested);
        if !self.shows_resources() {
            return theirs;
        }
        let mut accepted = theirs.unwrap_or_default();
        if requested.resources_list_changed == Some(true) {
            accepted.resources_list_changed = Some(true);
        }
        let ours = our_uris(requested);
        if !ours.is_empty() {
            accepted.resource_subscriptions.get_or_insert_default().extend(ours);
        }
        Some(accepted)
    }

    /// Runs the inner handler's part of a subscription beside ours. Both end when one of them does:
    /// a stream that tells only half of what it was asked for would be taken for the whole.
    pub(super) async fn listen_with_ours(
        &self,
        caller: &Caller,
        cx: SubscriptionContext,
    ) -> Result<(), ErrorData> {
        let theirs = self.shared.inner.accepted_subscription_filter(cx.requested()).is_some();
        let ours = self.tell_ours(caller, cx.accepted().clone(), cx.sink().clone());
        let rest = async {
            if theirs {
                return self.shared.inner.listen(cx).await;
            }
            cx.cancelled().await;
            Ok(())
        };
        tokio::select! {
            done = rest => done,
            told = ours => told,
        }
    }

    /// Tells our part of a subscription, as long as the client is there.
    async fn tell_ours(
        &self,
        caller: &Caller,
        accepted: SubscriptionFilter,
        sink: SubscriptionSink,
    ) -> Result<(), ErrorData> {
        // Whoever listens watches over the credential: the end of a feed would be an error.
        let changes = async { self.feed(caller, &accepted, pending).await.map_err(failed) };
        let changes = self.in_time(changes).await?;
        if changes.is_empty() {
            return pending().await;
        }
        // The SDK acknowledges before it asks us, so what is listened to may have changed since.
        let first = our_uris(&accepted)
            .into_iter()
            .filter(|uri| key(uri).is_some_and(|key| may_read(caller, &key)));
        let first: Vec<_> = first.map(|uri| Ok(News::Updated(uri))).collect();
        let mut feed = stream::iter(first).chain(changes);
        while let Some(news) = feed.next().await {
            let told = match news? {
                News::Updated(uri) => sink.notify_resource_updated(uri).await,
                News::List => sink.notify_resource_list_changed().await,
            };
            if told.is_err() {
                // The client has gone.
                break;
            }
        }
        Ok(())
    }

    /// `resources/subscribe` of the older revisions, for one of ours.
    pub(super) async fn subscribe_to_ours(
        &self,
        uri: String,
        key: Option<ResourceKey>,
        cx: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = party(&cx.extensions)?;
        let key = key.filter(|key| may_read(&caller, key));
        let key = key.ok_or_else(|| ErrorData::resource_not_found("resource not found", None))?;
        let place = self.shared.legacy_feeds.take(caller.owner())?;
        let ended = caller.ended(self.tasks().clock());
        let changes = updates(self.resources(), &key, uri.clone(), ended);
        let feed = self.in_time(async { changes.await.map_err(failed) }).await?;
        let mut subscriptions = self.subscriptions.by_uri.lock();
        if subscriptions.len() >= MAX_URIS && !subscriptions.contains_key(&uri) {
            let message = format!("at most {MAX_URIS} resources can be subscribed to");
            return Err(ErrorData::invalid_params(message, None));
        }
        subscriptions.insert(uri, self.tell(cx.peer, feed, place));
        Ok(())
    }

    pub(super) fn unsubscribe_from_ours(&self, uri: &str) {
        self.subscriptions.by_uri.lock().remove(uri);
    }

    /// Tells a client of an older revision that its list has changed, as long as its session lasts.
    pub(super) async fn announce_list_changes(&self, caller: &Caller, peer: Peer<RoleServer>) {
        let mut filter = SubscriptionFilter::new();
        filter.resources_list_changed = Some(true);
        let place = self.shared.legacy_feeds.take(caller.owner());
        let ended = || caller.ended(self.tasks().clock());
        let feed = async { self.feed(caller, &filter, ended).await.map_err(failed) };
        let (Ok(place), Ok(feed)) = (place, self.in_time(feed).await) else {
            tracing::warn!("a client will not be told of changes of its list of resources");
            return;
        };
        let guard = self.tell(peer, feed.boxed(), place);
        *self.subscriptions.list.lock() = Some(guard);
    }

    fn tell(&self, peer: Peer<RoleServer>, mut feed: Feed, place: Permit) -> DropGuard {
        let (ended, closing) = (CancellationToken::new(), self.shared.closing.clone());
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _place = place;
            let tell = async {
                // These revisions have no way to say that a subscription has ended, so the last
                // news of one that fails is that its resource has to be read again.
                while let Some(Ok(news)) = feed.next().await {
                    let told = match news {
                        News::Updated(uri) => {
                            let params = ResourceUpdatedNotificationParam::new(uri);
                            peer.notify_resource_updated(params).await
                        }
                        News::List => peer.notify_resource_list_changed().await,
                    };
                    if told.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = tell => {}
                () = ended.cancelled() => {}
                () = closing.cancelled() => {}
            }
        });
        guard
    }

    /// What a filter asks for, as far as the caller may read it, until `ended`. What it may not read
    /// never changes.
    async fn feed<E: Future<Output = ()> + Send + 'static>(
        &self,
        caller: &Caller,
        filter: &SubscriptionFilter,
        ended: impl Fn() -> E,
    ) -> Result<SelectAll<Feed>, ResourceError> {
        let mut feed = SelectAll::new();
        for uri in our_uris(filter) {
            if let Some(key) = key(&uri).filter(|key| may_read(caller, key)) {
                feed.push(updates(self.resources(), &key, uri, ended()).await?);
            }
        }
        if filter.resources_list_changed == Some(true) {
            for project in self.listed_projects(caller) {
                feed.push(list_changes(self.resources(), &project, ended()).await?);
            }
        }
        Ok(feed)
    }
}

fn our_uris(filter: &SubscriptionFilter) -> Vec<String> {
    let uris = filter.resource_subscriptions.iter().flatten();
    uris.filter(|uri| key(uri).is_some()).take(MAX_URIS).cloned().collect()
}

/// The changes of one resource, from the moment that this returns, until the caller's credential has
/// `ended`.
async fn updates(
    resources: &ResourceStore,
    key: &ResourceKey,
    uri: String,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<Feed, ResourceError> {
    let now = position(resources, key.project()).await?;
    let watch = resources.watch(Scope::resource(key), Some(now)).take_until(ended);
    let last = News::Updated(uri.clone());
    let news = watch.filter_map(move |event| {
        ready(match event {
            // After a gap the state is told again, and may be another.
            Ok(
                ResourceEvent::Put { .. }
                | ResourceEvent::Deleted { .. }
                | ResourceEvent::Primed(_),
            ) => Some(Ok(News::Updated(uri.clone()))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    });
    Ok(until_it_fails(news, last))
}

/// Where the changes of a project stand.
async fn position(resources: &ResourceStore, project: &str) -> Result<Revision, ResourceError> {
    Ok(resources.list(project, None, PageRequest::first(1)).await?.revision)
}

/// What comes into the list of a project, and what leaves it, from now on.
async fn list_changes(
    resources: &ResourceStore,
    project: &str,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<Feed, ResourceError> {
    let now = position(resources, project).await?;
    let watch = resources.watch(Scope::project(project)?, Some(now)).take_until(ended);
    // A creation and the writes after it may arrive as the last of them, so the first write of a
    // resource that nothing is known of counts as one.
    let mut known = HashSet::new();
    let news = watch.filter_map(move |event| {
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let changed = match event {
            Ok(ResourceEvent::Put { key, .. }) => known.insert(key),
            Ok(ResourceEvent::Deleted { key, .. }) => {
                known.remove(&key);
                true
            }
            Ok(ResourceEvent::Resync) => {
                // What is known may have been deleted in the gap.
                known.clear();
                true
            }
            Ok(_) => false,
            Err(error) => return ready(Some(Err(error))),
        };
        ready(changed.then_some(Ok(News::List)))
    });
    Ok(until_it_fails(news, News::List))
}

/// What a watch tells. When it ends, that is told too: by the last news, and an error.
fn until_it_fails(
    news: impl Stream<Item = Result<News, ResourceError>> + Send + 'static,
    last: News,
) -> Feed {
    let told = news.map(|news| news.map_err(failed));
    let closed = stream::once(ready(Err(error::unavailable())));
    told.chain(closed)
        .flat_map(move |news| match news {
            Ok(news) => stream::iter(vec![Ok(news)]),
            Err(error) => stream::iter(vec![Ok(last.clone()), Err(error)]),
        })
        .boxed()
}
