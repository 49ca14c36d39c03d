//! Settling the claims that another identity left, a dead worker's or a former one of this process: each
//! task is adopted, failed or left.

use std::sync::Arc;

use futures::{StreamExt as _, stream};

use crate::Chain;
use crate::clock::Timestamp;
use crate::limits;
use crate::owner::Owner;
use crate::runtime::Failure;
use crate::runtime::active::ActiveTask;
use crate::runtime::claims::{self, Claim, StoredClaim};
use crate::runtime::fair_semaphore::Permit;
use crate::runtime::run::{Run, is_lost_for_good};
use crate::runtime::worker::{Generation, Shared};
use crate::store::{Cursor, StoreError};
use crate::tasks::{Fence, Phase, Task, TaskError, TaskRef, Transition, WorkerId};

/// Claims that are settled at the same time: each is a few writes, which a store does together.
pub(super) const SETTLED_AT_ONCE: usize = 16;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimOutcome {
    /// It is settled, and can be forgotten.
    Settled,
    /// Its task is in this worker's care now.
    Adopted,
    /// It is for another worker, or for later: this one has not got the tool or the room, shuts down,
    /// cannot read the task, or has it for expired.
    Kept,
    /// It is this process's own, and its owner has no room here yet.
    Crowded,
}

/// What became of a page of claims.
#[derive(Default)]
pub(super) struct Page {
    pub(super) next: Option<Cursor>,
    pub(super) some_kept: bool,
    crowded: Vec<(StoredClaim, Owner)>,
}

/// The claims of one identity, and the worker that settles them. Each step is conditional on what
/// it found, so a worker that was only slow, or a second heir, does no harm.
pub(super) struct Settlement<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) heir: &'a Arc<Generation>,
    pub(super) former: &'a WorkerId,
    pub(super) predecessor: Predecessor,
}

/// Whose claims are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predecessor {
    /// Another process, which is dead.
    Dead,
    /// This process, under its present or a former identity.
    Own,
    /// This process, which knows that it never called the handler, whatever is on record.
    OwnUnbegun,
}

impl Settlement<'_> {
    /// Settles every claim. Those are left, with their owners, for which there is no room.
    pub(super) async fn settle_all(&self) -> Result<Vec<(StoredClaim, Owner)>, StoreError> {
        let (mut crowded, mut after) = (Vec::new(), None);
        loop {
            let page = self.settle_page(after).await?;
            crowded.extend(page.crowded);
            after = page.next;
            if after.is_none() {
                return Ok(crowded);
            }
        }
    }

    pub(super) async fn settle_page(&self, after: Option<Cursor>) -> Result<Page, StoreError> {
        let backend = &**self.shared.tasks.backend();
        let page = claims::list(backend, self.former, after).await?;
        // All of them come to their end before an error does: one that was dropped half-way could
        // be adopted and not run.
        let settled: Vec<_> = stream::iter(page.claims)
            .map(async |stored| {
                let outcome = self.settle_stored(&stored, None).await;
                self.count();
                (stored, outcome)
            })
            .buffer_unordered(SETTLED_AT_ONCE)
            .collect()
            .await;
        let mut done = Page { next: page.next, ..Page::default() };
        for (stored, outcome) in settled {
            match (outcome?, &stored.claim) {
                (ClaimOutcome::Crowded, Some(claim)) => {
                    let owner = claim.owner.clone();
                    done.crowded.push((stored, owner));
                }
                (outcome, _) => done.some_kept |= outcome == ClaimOutcome::Kept,
            }
        }
        Ok(done)
    }

    fn count(&self) {
        if self.predecessor == Predecessor::Dead {
            self.shared.takeover.send_modify(|takeover| takeover.tasks += 1);
        }
    }

    /// Settles one claim, with a permit if one is given.
    pub(super) async fn settle_stored(
        &self,
        stored: &StoredClaim,
        permit: Option<Permit>,
    ) -> Result<ClaimOutcome, StoreError> {
        let Some(claim) = &stored.claim else {
            // Nobody can tell which task it was for.
            let backend = &**self.shared.tasks.backend();
            backend.delete(&stored.key, crate::store::Precondition::Any).await?;
            return Ok(ClaimOutcome::Settled);
        };
        let absent = self.outcome_of_absent(stored.task_expires_at);
        let active = match self.shared.active.try_take(claim) {
            Some(active) => active,
            // What is in hand is as it should be.
            None if self.is_current() => return Ok(ClaimOutcome::Settled),
            None => match self.wait_for(claim).await? {
                Some(active) => active,
                None => {
                    let backend = &**self.shared.tasks.backend();
                    claims::remove(backend, self.former, &claim.id).await?;
                    return Ok(ClaimOutcome::Settled);
                }
            },
        };
        self.settle(claim, stored.from.as_ref(), absent, active, permit).await
    }

    /// Waits until nothing else here is busy with the task; `None` once it is in the heir's own
    /// care, where it may be busy for as long as the task lives. Whatever else has it in hand
    /// (a creation, an adoption, a run that has to stop) soon lets go of it, or makes it the heir's.
    async fn wait_for(&self, claim: &Claim) -> Result<Option<ActiveTask>, StoreError> {
        let mut round = 0_u32;
        loop {
            match self.shared.tasks.get(&claim.owner, &claim.id).await {
                Ok(task) if task.worker.as_ref() == Some(&self.heir.worker) => return Ok(None),
                Err(TaskError::Store(error)) if !matches!(error, StoreError::Damaged { .. }) => {
                    return Err(error);
                }
                _ => {}
            }
            tokio::select! {
                active = self.shared.active.take(claim) => return Ok(Some(active)),
                () = self.shared.tasks.clock().back_off_long(round) => {}
            }
            round = round.saturating_add(1);
        }
    }

    /// What becomes of the claim of a task that is not there. One that is there no more because it
    /// has expired may be at work yet by the clock of another worker, who has to find the claim; it
    /// goes by itself when no clock can have the task for live.
    fn outcome_of_absent(&self, task_expires_at: Option<Timestamp>) -> ClaimOutcome {
        let now = self.shared.tasks.clock().now();
        let has_expired = task_expires_at.is_some_and(|deadline| deadline <= now);
        if has_expired && !self.is_current() { ClaimOutcome::Kept } else { ClaimOutcome::Settled }
    }

    /// Settles one claim, and deletes it unless it is still of use. `from` is the worker from whom the task
    /// was to be adopted, and `absent` what becomes of the claim if its task is not there.
    pub(super) async fn settle(
        &self,
        claim: &Claim,
        from: Option<&WorkerId>,
        absent: ClaimOutcome,
        active: ActiveTask,
        permit: Option<Permit>,
    ) -> Result<ClaimOutcome, StoreError> {
        let backend = &**self.shared.tasks.backend();
        let (outcome, _active) = self.decide(claim, from, absent, active, permit).await?;
        let obsolete = match outcome {
            ClaimOutcome::Settled => true,
            ClaimOutcome::Adopted => !self.is_current(),
            ClaimOutcome::Kept | ClaimOutcome::Crowded => false,
        };
        if obsolete {
            claims::remove(backend, self.former, &claim.id).await?;
        }
        Ok(outcome)
    }

    /// Decides on one claim. What is in hand goes to the run, or comes back.
    async fn decide(
        &self,
        claim: &Claim,
        from: Option<&WorkerId>,
        absent: ClaimOutcome,
        active: ActiveTask,
        mut permit: Option<Permit>,
    ) -> Result<(ClaimOutcome, Option<ActiveTask>), StoreError> {
        let shared = self.shared;
        loop {
            let task = match shared.tasks.get(&claim.owner, &claim.id).await {
                Ok(task) => task,
                Err(TaskError::NotFound) => return Ok((absent, Some(active))),
                Err(TaskError::Store(error)) if !matches!(error, StoreError::Damaged { .. }) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(task = %claim.id, error = %Chain(&error), "left for a worker that can read it");
                    return Ok((ClaimOutcome::Kept, Some(active)));
                }
            };
            let Some(holder) = self.holder(&task, from) else {
                return Ok((ClaimOutcome::Settled, Some(active)));
            };
            let Some(policy) = shared.handler.policy(&task.call.tool) else {
                return Ok((ClaimOutcome::Kept, Some(active)));
            };
            if let Some(reason) = reason_not_to_rerun(&task, self.predecessor) {
                match self.fail(&task, holder, reason).await {
                    Err(TaskError::Superseded { .. }) => continue,
                    failed => return Ok((settled(failed)?, Some(active))),
                }
            }
            if shared.closing.is_cancelled() {
                // Its run would end before it began, and keep the task from others until the drain is over.
                return Ok((ClaimOutcome::Kept, Some(active)));
            }
            permit = permit.or_else(|| shared.capacity.try_take(&task.owner).ok());
            let Some(place) = permit else {
                // What is a dead worker's can be left for another heir. Nobody else may come to look
                // for what was this process's before.
                let is_dead = self.predecessor == Predecessor::Dead;
                let outcome = if is_dead { ClaimOutcome::Kept } else { ClaimOutcome::Crowded };
                return Ok((outcome, Some(active)));
            };
            match self.adopt(claim, &task, holder).await? {
                Ok(task) => {
                    let (shared, generation) = (Arc::clone(shared), Arc::clone(self.heir));
                    let runs = shared.runs.clone();
                    let run = Run { shared, generation, policy, task, permit: place, active };
                    runs.spawn(run.run(None));
                    return Ok((ClaimOutcome::Adopted, None));
                }
                Err(TaskError::Superseded { .. }) => permit = Some(place),
                refused => return Ok((settled(refused)?, Some(active))),
            }
        }
    }

    /// Whose the task is, if it is the one who claims it, or the one from whom that one was about to adopt
    /// it. That one is dead, too, or was it before; and the claimant may still come to adopt it, so
    /// the claim is not dropped before the task is somebody else's.
    fn holder<'b>(&self, task: &'b Task, from: Option<&WorkerId>) -> Option<&'b WorkerId> {
        let holder = task.worker.as_ref().filter(|_| !task.status.is_terminal())?;
        (holder == self.former || Some(holder) == from).then_some(holder)
    }

    async fn fail(
        &self,
        task: &Task,
        holder: &WorkerId,
        reason: &'static str,
    ) -> Result<Task, TaskError> {
        let Failure { error, message, .. } = Failure::of_worker(reason);
        let failed = self.change(task, holder, Transition::Fail { error, message }).await;
        if failed.is_ok() {
            let (tool, from) = (&task.call.tool, holder.as_str());
            tracing::warn!(task = %task.id, %tool, from, reason, "failed, since it may not run again");
        }
        failed
    }

    /// Claims the task, and adopts it. The outer error is the store's, which leaves open whether it is.
    async fn adopt(
        &self,
        claim: &Claim,
        task: &Task,
        holder: &WorkerId,
    ) -> Result<Result<Task, TaskError>, StoreError> {
        let worker = &self.heir.worker;
        let backend = &**self.shared.tasks.backend();
        if !self.is_current() {
            claims::put(backend, worker, claim, Some(holder), task.expires_at()).await?;
        }
        let from = Fence { worker: holder.clone(), attempt: task.attempt };
        match self.change(task, holder, Transition::Adopt { worker: worker.clone(), from }).await {
            Ok(task) => {
                tracing::info!(task = %claim.id, from = holder.as_str(), "adopted");
                Ok(Ok(task))
            }
            Err(TaskError::Store(error)) => {
                // It may have been adopted all the same: the new claim has to stay.
                self.shared.unsettled.notify_one();
                Err(error)
            }
            Err(error) => {
                if !self.is_current() {
                    claims::remove(backend, worker, &claim.id).await?;
                }
                Ok(Err(error))
            }
        }
    }

    async fn change(
        &self,
        task: &Task,
        holder: &WorkerId,
        transition: Transition,
    ) -> Result<Task, TaskError> {
        let reference =
            TaskRef::new(task.owner.clone(), task.id.clone()).fenced(holder.clone(), task.attempt);
        self.shared.tasks.change(&reference, &transition).await
    }

    /// True when a worker looks after its own claims, of which the adopted ones stay.
    fn is_current(&self) -> bool {
        *self.former == self.heir.worker
    }
}

/// Why a task must not be started again, if so. Of its own tasks a worker knows that no server had
/// to stop for it to lose them.
fn reason_not_to_rerun(task: &Task, predecessor: Predecessor) -> Option<&'static str> {
    match predecessor {
        Predecessor::OwnUnbegun => return None,
        Predecessor::Own if is_lost_for_good(task) => {
            return Some(
                "the server lost hold of the tool while it was running, and the tool may not run twice",
            );
        }
        Predecessor::Dead if is_lost_for_good(task) => {
            return Some(
                "the server stopped while the tool was running or about to, and the tool may not run twice",
            );
        }
        Predecessor::Own | Predecessor::Dead => {}
    }
    // A call that takes every server down with it does not go round for ever.
    (task.phase == Phase::Running && task.attempt >= limits::ATTEMPTS)
        .then_some("the tool was started as often as allowed, and the server stopped each time")
}

/// Whoever was faster has settled it; only the store's trouble leaves it open.
fn settled(change: Result<Task, TaskError>) -> Result<ClaimOutcome, StoreError> {
    match change {
        Err(TaskError::Store(error)) => Err(error),
        // Whatever this worker cannot write, another may.
        Err(TaskError::Unreadable { .. } | TaskError::Contended | TaskError::Invalid { .. }) => {
            Ok(ClaimOutcome::Kept)
        }
        _ => Ok(ClaimOutcome::Settled),
    }
}
