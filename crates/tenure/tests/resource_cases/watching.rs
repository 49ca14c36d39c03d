//! Watches: state, marker, changes; and what happens to those that were away or slow.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures::future::join_all;
use futures::{Stream, StreamExt as _};
use tenure::limits::WATCH_BACKLOG;
use tenure::resources::{
    ETag, KindPattern, ResourceError, ResourceEvent, ResourceKey, ResourceStore, Scope, Written,
};
use tenure::store::contract::Harness;
use tenure::store::{PageRequest, Revision};

use super::{key, open, planner, put};

const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

type Events = Pin<Box<dyn Stream<Item = Result<ResourceEvent, ResourceError>> + Send>>;

fn watch(resources: &ResourceStore, scope: Scope, after: Option<Revision>) -> Events {
    Box::pin(resources.watch(scope, after))
}

fn all() -> Scope {
    Scope::project("acme").unwrap()
}

async fn next(events: &mut Events) -> ResourceEvent {
    tokio::time::timeout(EVENT_TIMEOUT, events.next())
        .await
        .expect("no event in time")
        .expect("the watch ended")
        .expect("the watch failed")
}

#[track_caller]
fn assert_put(event: &ResourceEvent, expected: &ResourceKey, written: Written) -> Revision {
    let ResourceEvent::Put { key, etag, version, revision } = event else { panic!("{event:?}") };
    assert_eq!((key, *etag, *version), (expected, written.etag, written.version));
    assert_eq!(event.position(), Some(*revision));
    *revision
}

async fn expect_put(events: &mut Events, key: &ResourceKey, written: Written) -> Revision {
    assert_put(&next(events).await, key, written)
}

async fn expect_deleted(events: &mut Events, expected: &ResourceKey) -> Revision {
    match next(events).await {
        ResourceEvent::Deleted { key, revision } if key == *expected => revision,
        other => panic!("the end of {expected:?} was expected, not {other:?}"),
    }
}

/// The state that is told before the marker, and the marker's position.
async fn prime(events: &mut Events) -> (BTreeMap<ResourceKey, ETag>, Revision) {
    let mut state = BTreeMap::new();
    loop {
        match next(events).await {
            ResourceEvent::Present { key, etag, .. } => {
                assert_eq!(state.insert(key.clone(), etag), None, "{key:?} was told twice");
            }
            ResourceEvent::Primed(revision) => return (state, revision),
            other => panic!("the state was expected, not {other:?}"),
        }
    }
}

pub(crate) async fn a_watch_tells_the_state_and_then_each_change(harness: &dyn Harness) {
    let resources = open(harness).await;
    let (a, b) = (key("agent", "a"), key("tool", "b"));
    let first = put(&resources, &a, 1).await;
    put(&resources, &b, 1).await;
    resources.delete(&b).await.unwrap();
    let mut events = watch(&resources, all(), None);
    let (state, primed) = prime(&mut events).await;
    assert_eq!(state, BTreeMap::from([(a.clone(), first.etag)]));
    let mut last = primed;
    for round in 0..3 {
        let revision = expect_put(&mut events, &b, put(&resources, &b, round).await).await;
        assert_eq!(revision.epoch, last.epoch);
        assert!(revision.sequence > last.sequence);
        resources.delete(&b).await.unwrap();
        last = expect_deleted(&mut events, &b).await;
        assert!(last.sequence > revision.sequence);
    }
    // Of those that nobody reads in between, the order is that of the writes.
    let written = [put(&resources, &b, 7).await, put(&resources, &a, 8).await];
    expect_put(&mut events, &b, written[0]).await;
    expect_put(&mut events, &a, written[1]).await;
}

pub(crate) async fn a_watch_keeps_to_its_scope(harness: &dyn Harness) {
    let resources = open(harness).await;
    let patterns = ["agent*", "*/x"].map(|it| KindPattern::new(it).unwrap());
    let mut by_kind = watch(&resources, Scope::kind("acme", "agent").unwrap(), None);
    let mut by_pattern = watch(&resources, Scope::kinds("acme", patterns).unwrap(), None);
    let mut by_key = watch(&resources, Scope::resource(&planner()), None);
    let longer = key("agent", "planner 2");
    put(&resources, &longer, 0).await;
    assert_eq!(prime(&mut by_kind).await.0.len(), 1);
    assert_eq!(prime(&mut by_pattern).await.0.len(), 1);
    // A resource whose name begins alike is another one.
    assert!(prime(&mut by_key).await.0.is_empty());
    let elsewhere = ResourceKey::new("other", "agent", "planner").unwrap();
    put(&resources, &elsewhere, 1).await;
    put(&resources, &key("tool", "planner"), 1).await;
    let agents = put(&resources, &key("agents", "a"), 1).await;
    let slash = put(&resources, &key("a/x", "a"), 1).await;
    let two = put(&resources, &longer, 1).await;
    let one = put(&resources, &planner(), 1).await;
    expect_put(&mut by_key, &planner(), one).await;
    expect_put(&mut by_kind, &longer, two).await;
    expect_put(&mut by_kind, &planner(), one).await;
    for (key, written) in [
        (key("agents", "a"), agents),
        (key("a/x", "a"), slash),
        (longer.clone(), two),
        (planner(), one),
    ] {
        expect_put(&mut by_pattern, &key, written).await;
    }
    resources.delete(&longer).await.unwrap();
    resources.delete(&planner()).await.unwrap();
    expect_deleted(&mut by_key, &planner()).await;
    expect_deleted(&mut by_kind, &longer).await;
    expect_deleted(&mut by_kind, &planner()).await;
    put(&resources, &longer, 2).await;
    let again = put(&resources, &planner(), 2).await;
    let mut primed = watch(&resources, Scope::resource(&planner()), None);
    assert_eq!(prime(&mut primed).await.0, BTreeMap::from([(planner(), again.etag)]));
}

pub(crate) async fn a_watch_serves_several_watchers_and_replicas(harness: &dyn Harness) {
    let replicas = [open(harness).await, open(harness).await];
    let mut watches = Vec::new();
    for index in 0..6 {
        watches.push(watch(&replicas[index % 2], all(), None));
        prime(&mut watches[index]).await;
        let written = put(&replicas[(index / 2) % 2], &planner(), index as u64).await;
        for events in &mut watches {
            expect_put(events, &planner(), written).await;
        }
    }
    // One that leaves takes nothing from the others.
    watches.truncate(3);
    let written = put(&replicas[1], &planner(), 99).await;
    for events in &mut watches {
        expect_put(events, &planner(), written).await;
    }
}

pub(crate) async fn a_watch_resumes_after_a_position(harness: &dyn Harness) {
    let (here, there) = (open(harness).await, open(harness).await);
    let (a, b, c) = (key("agent", "a"), key("agent", "b"), key("agent", "c"));
    put(&here, &c, 0).await;
    let mut events = watch(&here, all(), None);
    let (_, primed) = prime(&mut events).await;
    let seen = expect_put(&mut events, &a, put(&here, &a, 1).await).await;
    drop(events);
    let written = put(&here, &b, 1).await;
    here.delete(&c).await.unwrap();
    // Through another replica, after what was seen; the position survives its text form.
    let seen = seen.to_string().parse().unwrap();
    let mut resumed = watch(&there, all(), Some(seen));
    expect_put(&mut resumed, &b, written).await;
    expect_deleted(&mut resumed, &c).await;
    let mut resumed = watch(&there, Scope::resource(&c), Some(primed));
    expect_deleted(&mut resumed, &c).await;
    let page = here.list("acme", None, PageRequest::default()).await.unwrap();
    let mut resumed = watch(&there, all(), Some(page.revision));
    expect_put(&mut resumed, &c, put(&here, &c, 2).await).await;
}

fn numbered(index: usize) -> ResourceKey {
    key("agent", &format!("{index:03}"))
}

async fn fill(resources: &ResourceStore, count: usize) {
    join_all((0..count).map(async |index| put(resources, &numbered(index), 0).await)).await;
}

pub(crate) async fn a_watch_resumes_from_a_marker_that_held_something_back(harness: &dyn Harness) {
    let resources = open(harness).await;
    fill(&resources, 450).await;
    let mut events = watch(&resources, all(), None);
    for _ in 0..250 {
        assert!(matches!(next(&mut events).await, ResourceEvent::Present { .. }));
    }
    // It has been told already, so this change waits for the marker.
    let written = put(&resources, &numbered(0), 1).await;
    let (_, primed) = prime(&mut events).await;
    expect_put(&mut events, &numbered(0), written).await;
    let mut resumed = watch(&resources, all(), Some(primed));
    expect_put(&mut resumed, &numbered(0), written).await;
}

pub(crate) async fn a_watch_from_another_history_resyncs(harness: &dyn Harness) {
    let resources = open(harness).await;
    let written = put(&resources, &planner(), 1).await;
    let page = resources.list("acme", None, PageRequest::default()).await.unwrap();
    let foreign = Revision { epoch: !page.revision.epoch, ..page.revision };
    let mut events = watch(&resources, all(), Some(foreign));
    assert_eq!(next(&mut events).await, ResourceEvent::Resync);
    assert_eq!(prime(&mut events).await.0, BTreeMap::from([(planner(), written.etag)]));
    expect_put(&mut events, &planner(), put(&resources, &planner(), 2).await).await;
}

/// A watcher as it is meant to be, for any backend: it applies what it is told.
struct Follower {
    events: Events,
    state: BTreeMap<ResourceKey, ETag>,
    /// What is being told anew after a gap.
    fresh: Option<BTreeMap<ResourceKey, ETag>>,
    resyncs: usize,
}

impl Follower {
    async fn step(&mut self) {
        match next(&mut self.events).await {
            ResourceEvent::Resync => {
                self.resyncs += 1;
                self.fresh = Some(BTreeMap::new());
            }
            ResourceEvent::Present { key, etag, .. } => {
                self.fresh.as_mut().expect("a state begins with a resync").insert(key, etag);
            }
            ResourceEvent::Primed(_) => self.state = self.fresh.take().expect("a state"),
            ResourceEvent::Put { key, etag, .. } => {
                self.state.insert(key, etag);
            }
            ResourceEvent::Deleted { key, .. } => {
                self.state.remove(&key);
            }
        }
    }

    async fn converge(&mut self, resources: &ResourceStore) {
        let page = resources.list("acme", None, PageRequest::default()).await.unwrap();
        let truth: BTreeMap<_, _> =
            page.items.into_iter().map(|it| it.map(|it| (it.key, it.meta.etag)).unwrap()).collect();
        while self.state != truth || self.fresh.is_some() {
            self.step().await;
        }
    }
}

pub(crate) async fn a_slow_watcher_ends_up_right_and_learns_of_deletes(harness: &dyn Harness) {
    let resources = open(harness).await;
    let (gone, busy) = (key("agent", "gone"), key("agent", "busy"));
    put(&resources, &gone, 1).await;
    put(&resources, &busy, 0).await;
    let mut events = watch(&resources, all(), None);
    let (state, primed) = prime(&mut events).await;
    let mut slow = Follower { events, state: state.clone(), fresh: None, resyncs: 0 };
    // Nobody reads while this is written, and nobody waits for that.
    resources.delete(&gone).await.unwrap();
    for n in 0..WATCH_BACKLOG as u64 {
        put(&resources, &busy, n + 1).await;
        put(&resources, &key("tool", &(n % 50).to_string()), n).await;
    }
    slow.converge(&resources).await;
    assert!(!slow.state.contains_key(&gone));
    let events = watch(&resources, all(), Some(primed));
    let mut away = Follower { events, state, fresh: None, resyncs: 0 };
    away.converge(&resources).await;
    assert_eq!(slow.resyncs, away.resyncs);
    // And then it is a watcher like any other.
    resources.delete(&busy).await.unwrap();
    slow.converge(&resources).await;
}

/// The state takes several reads, and changes in between. Nothing is missed, and no resource is
/// ever told to be in an earlier state than it was before.
pub(crate) async fn a_state_of_many_pages_is_told_while_it_changes(harness: &dyn Harness) {
    let resources = open(harness).await;
    fill(&resources, 450).await;
    let mut events = watch(&resources, all(), None);
    let (mut told, mut primed) = (BTreeMap::new(), false);
    let mut changed = 0;
    let expected = loop {
        match next(&mut events).await {
            ResourceEvent::Present { key, version, .. } => {
                assert!(!primed && told.insert(key, version.version()).is_none());
                // Ahead of what was told, behind it, and in the page that was read already.
                if told.len() % 50 == 1 && changed < 8 {
                    for index in [changed, 100 + changed, 440 + changed] {
                        put(&resources, &numbered(index), 1).await;
                    }
                    changed += 1;
                }
            }
            ResourceEvent::Primed(_) => {
                primed = true;
                put(&resources, &numbered(449), 2).await;
            }
            ResourceEvent::Put { key, version, .. } => {
                let version = version.version();
                let before = told.insert(key.clone(), version);
                assert!(before < Some(version), "{key:?}: {version} after {before:?}");
                if key == numbered(449) {
                    break 450;
                }
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told.len(), expected);
    for (key, version) in told {
        assert_eq!(resources.get(&key).await.unwrap().meta.version.version(), version, "{key:?}");
    }
}

/// More is written while the state is told than any backlog holds, and still it is told once.
pub(crate) async fn a_state_is_told_to_its_end_however_much_is_written(harness: &dyn Harness) {
    let resources = open(harness).await;
    fill(&resources, 450).await;
    let mut events = watch(&resources, all(), None);
    let (mut told, mut taken, mut writes) = (BTreeMap::new(), 0, 0);
    let mut position = None;
    let mut last = None;
    while last.is_none_or(|last| told.get(&numbered(449)) != Some(&last)) {
        match next(&mut events).await {
            ResourceEvent::Present { key, version, .. } => {
                assert!(position.is_none() && told.insert(key, version.version()).is_none());
            }
            ResourceEvent::Primed(primed) => {
                assert_eq!((told.len(), position.replace(primed)), (450, None));
            }
            ResourceEvent::Put { key, version, revision, .. } => {
                assert!(position.is_some_and(|primed| revision.sequence > primed.sequence));
                let before = told.insert(key.clone(), version.version());
                assert!(before < Some(version.version()), "{key:?}: {version} after {before:?}");
            }
            // A server's messages may be late by more than any backlog. Then all is told again.
            ResourceEvent::Resync if harness.reclaims_by_itself() => {
                told.clear();
                position = None;
            }
            other => panic!("{other:?}"),
        }
        taken += 1;
        // Also while the changes are told that have come in while the state was told.
        if taken % 50 == 0 && last.is_none() {
            for index in 0..WATCH_BACKLOG / 4 {
                put(&resources, &numbered(index * 7 % 450), writes).await;
                writes += 1;
            }
            if taken >= 500 {
                last = Some(put(&resources, &numbered(449), writes).await.version.version());
            }
        }
    }
    assert!(writes > 2 * WATCH_BACKLOG as u64);
    for (key, version) in told {
        assert_eq!(resources.get(&key).await.unwrap().meta.version.version(), version, "{key:?}");
    }
}
