//! Telling clients of changed resources, whichever replica changed them.
//!
//! Clients of the revision 2026-07-28 listen with a filter; those before it subscribe to single
//! URIs, and are told of a changed list without asking.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream, SelectAll};
use parking_lot::Mutex;
use rmcp::model::{ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{Peer, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tenure::resources::{ResourceError, ResourceEvent, ResourceKey, ResourceStore, Scope};
use tenure::store::{PageRequest, Revision};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::identity::Caller;
use crate::mcp::resources::{SCHEME, failed, key, may_read};
use crate::mcp::wrapper::{DurableServer, party};

/// Resources that one client follows.
const MAX_URIS: usize = 100;
/// Resources that are known to be in a list. Beyond, a client is told once more than it need be.
const MAX_KNOWN: usize = 10_000;

/// What is told.
#[derive(Debug)]
enum News {
    Updated(String),
    List,
}

type Feed = BoxStream<'static, News>;

/// What one client of an older revision follows, by URI. It ends with the client's session.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Mutex<HashMap<String, DropGuard>>);

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

    /// Runs the inner handler's part of a subscription beside ours.
    pub(super) async fn listen_with_ours(&self, cx: SubscriptionContext) -> Result<(), ErrorData> {
        let theirs = self.shared.inner.accepted_subscription_filter(cx.requested()).is_some();
        let _permit = self.listener()?;
        let caller = party(&cx.request_context().extensions)?;
        let changes = self.feed(&caller, cx.accepted()).await.map_err(failed)?;
        // The SDK acknowledges before it asks us, so what is listened to may have changed since.
        let first = our_uris(cx.accepted())
            .into_iter()
            .filter(|uri| key(uri).is_some_and(|key| may_read(&caller, &key)));
        let first: Vec<_> = first.map(News::Updated).collect();
        let mut feed = stream::iter(first).chain(changes);
        let sink = cx.sink().clone();
        let tell = async {
            while let Some(news) = feed.next().await {
                let told = match news {
                    News::Updated(uri) => sink.notify_resource_updated(uri).await,
                    News::List => sink.notify_resource_list_changed().await,
                };
                if told.is_err() {
                    // The client has gone.
                    return;
                }
            }
            std::future::pending().await
        };
        let rest = async {
            if theirs {
                return self.shared.inner.listen(cx).await;
            }
            cx.cancelled().await;
            Ok(())
        };
        tokio::select! {
            done = rest => done,
            () = tell => Ok(()),
            () = self.shared.closing.cancelled() => Ok(()),
        }
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
        if self.subscriptions.0.lock().len() >= MAX_URIS {
            let message = format!("at most {MAX_URIS} resources can be subscribed to");
            return Err(ErrorData::invalid_params(message, None));
        }
        let feed = updates(self.resources(), &key, uri.clone()).await.map_err(failed)?;
        let guard = self.tell(cx.peer, feed, self.listener()?);
        self.subscriptions.0.lock().insert(uri, guard);
        Ok(())
    }

    pub(super) fn unsubscribe_from_ours(&self, uri: &str) {
        self.subscriptions.0.lock().remove(uri);
    }

    /// Tells a client of an older revision that its list has changed, as long as its session lasts.
    pub(super) async fn announce_list_changes(&self, caller: &Caller, peer: Peer<RoleServer>) {
        let mut filter = SubscriptionFilter::new();
        filter.resources_list_changed = Some(true);
        let (Ok(permit), Ok(feed)) = (self.listener(), self.feed(caller, &filter).await) else {
            tracing::warn!("a client will not be told of changes of its list of resources");
            return;
        };
        let guard = self.tell(peer, feed.boxed(), permit);
        // No resource has this URI.
        self.subscriptions.0.lock().insert(SCHEME.into(), guard);
    }

    fn tell(
        &self,
        peer: Peer<RoleServer>,
        mut feed: Feed,
        permit: OwnedSemaphorePermit,
    ) -> DropGuard {
        let (ended, closing) = (CancellationToken::new(), self.shared.closing.clone());
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _permit = permit;
            let tell = async {
                while let Some(news) = feed.next().await {
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

    fn listener(&self) -> Result<OwnedSemaphorePermit, ErrorData> {
        let listeners = Arc::clone(&self.shared.listeners);
        listeners.try_acquire_owned().map_err(|_| {
            let retryable = Some(serde_json::json!({ "retryable": true }));
            ErrorData::internal_error("too many clients are listening", retryable)
        })
    }

    /// What a filter asks for, as far as the caller may read it. What it may not read never changes.
    async fn feed(
        &self,
        caller: &Caller,
        filter: &SubscriptionFilter,
    ) -> Result<SelectAll<Feed>, ResourceError> {
        let mut feed = SelectAll::new();
        for uri in our_uris(filter) {
            if let Some(key) = key(&uri).filter(|key| may_read(caller, key)) {
                feed.push(updates(self.resources(), &key, uri).await?);
            }
        }
        if filter.resources_list_changed == Some(true) {
            for project in self.listed_projects(caller) {
                feed.push(list_changes(self.resources(), &project).await?);
            }
        }
        Ok(feed)
    }
}

fn our_uris(filter: &SubscriptionFilter) -> Vec<String> {
    let uris = filter.resource_subscriptions.iter().flatten();
    uris.filter(|uri| key(uri).is_some()).take(MAX_URIS).cloned().collect()
}

/// The changes of one resource, from the moment that this returns.
async fn updates(
    resources: &ResourceStore,
    key: &ResourceKey,
    uri: String,
) -> Result<Feed, ResourceError> {
    let now = position(resources, key.project()).await?;
    let watch = resources.watch(Scope::resource(key), Some(now));
    let news = watch.filter_map(move |event| {
        let news = match event {
            // After a gap the state is told again, and may be another.
            Ok(
                ResourceEvent::Put { .. }
                | ResourceEvent::Deleted { .. }
                | ResourceEvent::Primed(_),
            ) => true,
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "a subscription to a resource ends");
                false
            }
        };
        std::future::ready(news.then(|| News::Updated(uri.clone())))
    });
    Ok(news.boxed())
}

/// Where the changes of a project stand.
async fn position(resources: &ResourceStore, project: &str) -> Result<Revision, ResourceError> {
    Ok(resources.list(project, None, PageRequest::first(1)).await?.revision)
}

/// What comes into the list of a project, and what leaves it, from now on.
async fn list_changes(resources: &ResourceStore, project: &str) -> Result<Feed, ResourceError> {
    let now = position(resources, project).await?;
    let watch = resources.watch(Scope::project(project)?, Some(now));
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
            Err(error) => {
                tracing::warn!(%error, "a subscription to a list of resources ends");
                false
            }
        };
        std::future::ready(changed.then_some(News::List))
    });
    Ok(news.boxed())
}
