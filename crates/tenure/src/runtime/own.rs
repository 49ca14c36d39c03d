//! Looking after what this process itself claims, now or under a former identity, and has not in hand.

use std::mem;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use crate::Chain;
use crate::runtime::claims::StoredClaim;
use crate::runtime::fair_semaphore::Permit;
use crate::runtime::settlement::{Predecessor, SETTLED_AT_ONCE, Settlement};
use crate::runtime::worker::{Generation, Shared};
use crate::store::StoreError;
use crate::tasks::WorkerId;

/// A claim whose owner had no room here. Nobody else may come to look, so it waits for its turn, and
/// holds up no other.
struct Crowded {
    former: WorkerId,
    stored: StoredClaim,
}

/// Those who wait for room. `FairSemaphore` has them in turns by owner.
type Line = FuturesUnordered<BoxFuture<'static, (Crowded, Permit)>>;

/// Settles the claims of this process whenever something may be left of them. Never returns.
pub(super) async fn look_after_own(shared: &Arc<Shared>, heir: &Arc<Generation>) {
    let mut line = Line::new();
    loop {
        tokio::select! {
            () = shared.unsettled.notified() => line = settle_through_trouble(shared, heir).await,
            Some(first) = line.next() => {
                let placed = and_all_that_are_ready(first, &mut line);
                settle_placed(shared, heir, placed).await;
                if line.is_empty() {
                    // Whose claims are all settled now is forgotten.
                    shared.unsettled.notify_one();
                }
            }
        }
    }
}

async fn settle_through_trouble(shared: &Arc<Shared>, heir: &Arc<Generation>) -> Line {
    let mut round = 0_u32;
    loop {
        match settle_own(shared, heir).await {
            Ok(line) => return line,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "looking after the own claims failed");
                shared.tasks.clock().back_off_long(round).await;
                round = round.saturating_add(1);
            }
        }
    }
}

/// Settles every claim for which there is room; the others are in the line.
async fn settle_own(shared: &Arc<Shared>, heir: &Arc<Generation>) -> Result<Line, StoreError> {
    let line = Line::new();
    let mut unsettled = Unsettled::take(shared);
    let former_ids = unsettled.ids.clone();
    for former in former_ids.iter().chain([&heir.worker]) {
        let crowded =
            Settlement { shared, heir, former, predecessor: Predecessor::Own }.settle_all().await?;
        if crowded.is_empty() {
            unsettled.ids.retain(|it| it != former);
        }
        for (stored, owner) in crowded {
            let (capacity, former) = (Arc::clone(&shared.capacity), former.clone());
            let turn = async move { (Crowded { former, stored }, capacity.take(&owner).await) };
            line.push(turn.boxed());
        }
    }
    Ok(line)
}

/// Former identities that are being looked at. They are taken out, so that what is scheduled meanwhile is
/// looked at again; those that are not done, also after an interruption, are put back.
struct Unsettled<'a> {
    shared: &'a Shared,
    ids: Vec<WorkerId>,
}

impl<'a> Unsettled<'a> {
    fn take(shared: &'a Shared) -> Self {
        let ids = mem::take(&mut *shared.former_ids.lock());
        Self { shared, ids }
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        let mut former_ids = self.shared.former_ids.lock();
        for id in self.ids.drain(..) {
            if !former_ids.contains(&id) {
                former_ids.push(id);
            }
        }
    }
}

fn and_all_that_are_ready(first: (Crowded, Permit), line: &mut Line) -> Vec<(Crowded, Permit)> {
    let mut placed = vec![first];
    while placed.len() < SETTLED_AT_ONCE
        && let Some(Some(next)) = line.next().now_or_never()
    {
        placed.push(next);
    }
    placed
}

async fn settle_placed(
    shared: &Arc<Shared>,
    heir: &Arc<Generation>,
    placed: Vec<(Crowded, Permit)>,
) {
    let settling = placed.into_iter().map(|(Crowded { former, stored }, permit)| async move {
        let settlement =
            Settlement { shared, heir, former: &former, predecessor: Predecessor::Own };
        settlement.settle_stored(&stored, Some(permit)).await
    });
    for settled in futures::future::join_all(settling).await {
        if let Err(error) = settled {
            tracing::warn!(error = %Chain(&error), "a claim that had waited for room was not settled");
            // A further round finds it.
            shared.unsettled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::{Map, json};

    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::owner::Owner;
    use crate::runtime::claims::{self, Claim};
    use crate::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
    use crate::store::InMemoryBackend;
    use crate::tasks::{Assignment, Call, NewTask, Status, Task, TaskRef, TaskStore};

    /// Every task of which waits for an answer.
    struct Parks;

    #[async_trait]
    impl Handler for Parks {
        fn policy(&self, _: &str) -> Option<Policy> {
            Some(Policy::default())
        }

        async fn run(&self, _: TaskContext) -> Result<Exit, Failure> {
            let requests = Map::from_iter([("ok".into(), json!({ "method": "ask" }))]);
            Ok(Exit::Park { requests, variables: Map::new() })
        }
    }

    fn call() -> NewTask {
        NewTask::new(Call::new("tool", Map::new()))
    }

    /// A task of a former identity that nobody has in hand.
    async fn leave(shared: &Shared, former: &WorkerId, owner: &Owner, id: String) -> Task {
        let claim = Claim { owner: owner.clone(), id: id.as_str().into() };
        claims::put(&**shared.tasks.backend(), former, &claim, None, None).await.unwrap();
        let assignment = Assignment { worker: Some(former.clone()), started: false };
        shared.tasks.create_for(owner, claim.id, call(), assignment).await.unwrap().0
    }

    async fn settle() {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_owner_without_room_holds_up_no_other_and_loses_no_claim() {
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let tasks = TaskStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock);
        let options =
            WorkerOptions { capacity: 3, capacity_per_owner: Some(2), ..WorkerOptions::default() };
        let worker = Worker::start(tasks.clone(), Arc::new(Parks), options).await.unwrap();
        let [alice, bob] = ["alice", "bob"].map(|name| Owner::new(name).unwrap());
        // All the room that she may have.
        for _ in 0..2 {
            worker.submit(&alice, call()).await.unwrap();
        }
        let (shared, former) = (worker.shared(), WorkerId::random());
        for number in 0..2 * SETTLED_AT_ONCE {
            leave(shared, &former, &alice, format!("a{number:02}")).await;
        }
        let his = leave(shared, &former, &bob, "b".into()).await;
        shared.schedule_settlement(former.clone());
        settle().await;
        let his = tasks.get(&bob, &his.id).await.unwrap();
        assert_eq!((his.status, his.worker), (Status::InputRequired, Some(worker.id())));

        // Hers come in as room becomes free.
        let mut ended = 0;
        loop {
            let page = tasks.list(&alice, Default::default()).await.unwrap().tasks;
            let hers = page.into_iter().map(Result::unwrap);
            let hers: Vec<_> = hers.filter(|it| !it.status.is_terminal()).collect();
            let in_care = hers.iter().filter(|it| it.worker == Some(worker.id()));
            assert_eq!(in_care.clone().count(), hers.len().min(2));
            let Some(first) = in_care.clone().next() else { break };
            tasks.cancel(&TaskRef::new(alice.clone(), first.id.clone()), None).await.unwrap();
            ended += 1;
            settle().await;
        }
        assert_eq!(ended, 2 + 2 * SETTLED_AT_ONCE);
        let left = claims::list(&**tasks.backend(), &former, None).await.unwrap();
        assert!(left.claims.is_empty());
        assert!(shared.former_ids.lock().is_empty(), "it is forgotten");
    }

    #[tokio::test]
    async fn a_former_identity_is_forgotten_only_if_nothing_came_up_while_it_was_looked_at() {
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let tasks = TaskStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock);
        let worker = Worker::start(tasks, Arc::new(Parks), WorkerOptions::default()).await.unwrap();
        let (shared, former) = (worker.shared(), WorkerId::random());
        shared.schedule_settlement(former.clone());
        let mut looked_at = Unsettled::take(shared);
        shared.schedule_settlement(former.clone());
        looked_at.ids.clear();
        drop(looked_at);
        assert!(shared.former_ids.lock().contains(&former), "it was scheduled again");
        drop(Unsettled::take(shared));
        assert!(shared.former_ids.lock().contains(&former), "it was interrupted");
        Unsettled::take(shared).ids.clear();
        assert!(shared.former_ids.lock().is_empty());
    }

    #[tokio::test]
    async fn a_former_claim_of_a_task_that_this_worker_has_at_work_is_dropped_at_once() {
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let tasks = TaskStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock);
        let options = WorkerOptions::default();
        let worker = Worker::start(tasks.clone(), Arc::new(Parks), options).await.unwrap();
        let (shared, former, alice) =
            (worker.shared(), WorkerId::random(), Owner::new("alice").unwrap());
        let task = leave(shared, &former, &alice, "a".into()).await;
        shared.schedule_settlement(former.clone());
        settle().await;
        assert_eq!(tasks.get(&alice, &task.id).await.unwrap().worker, Some(worker.id()));
        // As if the store had refused to delete it.
        let claim = Claim { owner: alice.clone(), id: task.id.clone() };
        claims::put(&**tasks.backend(), &former, &claim, None, None).await.unwrap();
        shared.schedule_settlement(former.clone());
        settle().await;
        let left = claims::list(&**tasks.backend(), &former, None).await.unwrap();
        assert!(left.claims.is_empty());
        assert!(shared.former_ids.lock().is_empty(), "it is forgotten");
    }
}
