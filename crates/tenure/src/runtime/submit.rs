//! Submissions: a claim, a task, a run, in this order.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crate::Chain;
use crate::owner::Owner;
use crate::runtime::Policy;
use crate::runtime::active::ActiveTask;
use crate::runtime::claims::{self, Claim};
use crate::runtime::fair_semaphore::Permit;
use crate::runtime::run::Run;
use crate::runtime::settlement::{ClaimOutcome, Predecessor, Settlement};
use crate::runtime::worker::{Generation, Shared};
use crate::store::StoreError;
use crate::tasks::{Assignment, NewTask, Task, TaskError, TaskStore};
use futures::FutureExt as _;

/// Submits a task. A panic below leaves its claim to be looked after, as an unknown outcome does.
pub(super) async fn submit_through_panics(
    shared: Arc<Shared>,
    owner: Owner,
    new: NewTask,
) -> Result<Task, TaskError> {
    let worker = shared.generation().worker.clone();
    let submission = submit(Arc::clone(&shared), owner, new);
    AssertUnwindSafe(submission).catch_unwind().await.unwrap_or_else(|_| {
        shared.schedule_settlement(worker);
        Err(StoreError::OutcomeUnknown(None).into())
    })
}

/// Creates a task and starts its run. Once begun it has to be carried through: a task that is
/// created and not run would stay as it is for as long as this worker lives.
async fn submit(shared: Arc<Shared>, owner: Owner, mut new: NewTask) -> Result<Task, TaskError> {
    if shared.closing.is_cancelled() {
        return Err(TaskError::ShuttingDown);
    }
    let policy = shared.handler.policy(&new.call.tool).ok_or_else(|| TaskError::Invalid {
        what: "tool",
        reason: "this server does not have it".into(),
    })?;
    new.rerun = policy.rerun;
    let claim = Claim { id: TaskStore::id_for(&owner, &new)?, owner };
    let active = match take(&shared, &claim, &new).await? {
        Taken::ActiveTask(active) => active,
        Taken::Existing(task) => return Ok(*task),
    };
    let taken = shared.capacity.try_take(&claim.owner);
    let permit = taken.map_err(|limit| TaskError::QueueFull { limit })?;
    Submission { shared, policy, claim, active, permit }.carry_out(new).await
}

enum Taken {
    ActiveTask(ActiveTask),
    Existing(Box<Task>),
}

/// Takes a task in hand that is about to be created. The same submission may be under way, or its
/// task in work; then that task is the answer.
async fn take(shared: &Arc<Shared>, claim: &Claim, new: &NewTask) -> Result<Taken, TaskError> {
    let mut round = 0;
    loop {
        if let Some(active) = shared.active.try_take(claim) {
            return Ok(Taken::ActiveTask(active));
        }
        match shared.tasks.get(&claim.owner, &claim.id).await {
            Ok(task) if task.call == new.call => return Ok(Taken::Existing(task.into())),
            Ok(_) => return Err(TaskError::IdempotencyMismatch),
            // What is not there yet may never be.
            Err(TaskError::NotFound) if shared.closing.is_cancelled() => {
                return Err(TaskError::ShuttingDown);
            }
            Err(TaskError::NotFound) => {
                shared.tasks.clock().back_off_long(round).await;
                round += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

struct Submission {
    shared: Arc<Shared>,
    policy: Policy,
    claim: Claim,
    active: ActiveTask,
    permit: Permit,
}

impl Submission {
    async fn carry_out(self, new: NewTask) -> Result<Task, TaskError> {
        let shared = Arc::clone(&self.shared);
        let generation = shared.generation();
        let ttl_ms = shared.tasks.limits().ttl_ms(new.ttl_ms);
        let expires_at = shared.tasks.clock().now().plus_millis(ttl_ms);
        let backend = &**shared.tasks.backend();
        let is_keyed = new.idempotency_key.is_some();
        // The claim comes first: a task without one would be lost with this process, a claim
        // without a task harms nobody.
        let claimed =
            claims::put(backend, &generation.worker, &self.claim, None, Some(expires_at)).await;
        if let Err(error) = claimed {
            return Err(self.withdraw(&generation, is_keyed, error.into()).await);
        }
        // What is on record as running can no longer show an heir that it had not begun. So whoever
        // may count as dead does not start it with its creation.
        let slot = (!may_be_dead(&shared, &generation))
            .then(|| shared.slots.try_take(&self.claim.owner).ok())
            .flatten();
        let assignment =
            Assignment { worker: Some(generation.worker.clone()), started: slot.is_some() };
        let Claim { owner, id } = self.claim.clone();
        match shared.tasks.create_for(&owner, id, new, assignment).await {
            Ok((task, true)) if is_still(&shared, &generation).await => {
                tracing::debug!(task = %task.id, tool = %task.call.tool, "created");
                let Self { policy, active, permit, .. } = self;
                let run = Run { shared, generation, policy, task: task.clone(), permit, active };
                let runs = run.shared.runs.clone();
                runs.spawn(run.run(slot));
                Ok(task)
            }
            Ok((task, true)) => {
                drop(slot);
                self.readopt(&generation, task).await
            }
            Ok((task, false)) => {
                // An earlier submission may have made it, and have lost hold of it.
                let is_ours = task.worker.as_ref() == Some(&generation.worker);
                self.unclaim(&generation, is_ours && !task.status.is_terminal()).await;
                Ok(task)
            }
            Err(error) => Err(self.withdraw(&generation, is_keyed, error).await),
        }
    }

    /// The process stood still for so long that others may have taken it for dead; an heir may
    /// have looked for the task before it was there. It is adopted under the new identity.
    async fn readopt(self, former: &Generation, task: Task) -> Result<Task, TaskError> {
        let Self { shared, claim, active, permit, .. } = self;
        let mut heir = shared.generation();
        let mut round = 0;
        while heir.worker == former.worker {
            if shared.abandoned.is_cancelled() {
                // The task is there, and so is its claim: whoever takes over runs it.
                return Ok(task);
            }
            shared.tasks.clock().back_off_long(round).await;
            round += 1;
            heir = shared.generation();
        }
        let (former, predecessor) = (&former.worker, Predecessor::OwnUnbegun);
        let settlement = Settlement { shared: &shared, heir: &heir, former, predecessor };
        match settlement.settle(&claim, None, ClaimOutcome::Settled, active, Some(permit)).await {
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(task = %task.id, error = %Chain(&error), "a task is looked after later");
                shared.schedule_settlement(former.clone());
            }
        }
        Ok(task)
    }

    /// The task was not created, or perhaps it was; with a key perhaps by an earlier submission.
    async fn withdraw(
        self,
        generation: &Generation,
        is_keyed: bool,
        error: TaskError,
    ) -> TaskError {
        let is_unknown = matches!(error, TaskError::Store(StoreError::OutcomeUnknown(_)));
        self.unclaim(generation, is_unknown || is_keyed).await;
        error
    }

    /// Takes the claim back; if that fails, or it may be needed, it is looked after later.
    async fn unclaim(self, generation: &Generation, may_be_needed: bool) {
        let Self { shared, claim, active, permit, .. } = self;
        let (backend, worker) = (&**shared.tasks.backend(), &generation.worker);
        let is_back = !may_be_needed && claims::remove(backend, worker, &claim.id).await.is_ok();
        // Before that is looked at: what is in hand counts as looked after.
        drop((active, permit));
        if !is_back {
            shared.schedule_settlement(worker.clone());
        }
    }
}

/// Whether others may have taken this worker for dead.
fn may_be_dead(shared: &Shared, generation: &Generation) -> bool {
    let silence_ms = generation.silence_ms(shared.tasks.clock());
    generation.lost.is_cancelled() || silence_ms >= shared.options.heartbeat_timeout_ms
}

/// Whether a task that was just created is in this worker's care.
async fn is_still(shared: &Shared, generation: &Generation) -> bool {
    if !may_be_dead(shared, generation) {
        return true;
    }
    tokio::select! {
        outlives = generation.outlives() => outlives,
        () = shared.abandoned.cancelled() => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::owner::Owner;
    use crate::runtime::pending::Pending;
    use crate::runtime::{Worker, WorkerOptions};
    use crate::store::InMemoryBackend;
    use crate::store::contract::{Mood, Unsteady};
    use crate::tasks::{Assignment, Call};

    #[tokio::test]
    async fn a_repeated_create_that_waits_for_the_first_is_told_of_a_shutdown() {
        let clock = Clock::manual(Timestamp::from_millis(1));
        let tasks = TaskStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock);
        let worker =
            Worker::start(tasks, Arc::new(Pending), WorkerOptions::default()).await.unwrap();
        let owner = Owner::local();
        let new = NewTask {
            idempotency_key: Some("k".into()),
            ..NewTask::new(Call::new("tool", Map::new()))
        };
        // The first is under way, and its task is not there yet.
        let claim = Claim { id: TaskStore::id_for(&owner, &new).unwrap(), owner: owner.clone() };
        let _first = worker.shared().active.try_take(&claim).unwrap();
        let repeated = async { worker.submit(&owner, new).await };
        let shutdown = async {
            tokio::task::yield_now().await;
            worker.shutdown(0).await;
        };
        let (told, ()) = tokio::join!(repeated, shutdown);
        assert!(matches!(told, Err(TaskError::ShuttingDown)), "{told:?}");
    }

    /// A task of a former identity, created under a heartbeat that was stale, and the store that it is in.
    async fn late() -> (Submission, Arc<Unsteady>, Worker, Arc<Generation>, Task) {
        let clock = Clock::manual(Timestamp::from_millis(1));
        let store = Arc::new(Unsteady::new(clock.clone()));
        let tasks = TaskStore::new(Arc::clone(&store) as _, clock.clone());
        let worker =
            Worker::start(tasks, Arc::new(Pending), WorkerOptions::default()).await.unwrap();
        let (shared, former) = (Arc::clone(worker.shared()), Generation::new(&clock));
        let owner = Owner::local();
        let assignment = Assignment { worker: Some(former.worker.clone()), started: false };
        let new = NewTask::new(Call::new("tool", Map::new()));
        let task = shared.tasks.create_for(&owner, "t".into(), new, assignment).await.unwrap().0;
        let claim = Claim { owner: owner.clone(), id: task.id.clone() };
        let active = shared.active.try_take(&claim).unwrap();
        let permit = shared.capacity.try_take(&owner).ok().unwrap();
        let submission = Submission { shared, policy: Policy::default(), claim, active, permit };
        (submission, store, worker, former, task)
    }

    #[tokio::test]
    async fn a_task_that_is_there_is_told_although_it_is_looked_after_later() {
        let (submission, store, worker, former, task) = late().await;
        store.set(Mood::Away);
        let told = submission.readopt(&former, task.clone()).await.unwrap();
        assert_eq!(told.id, task.id);
        assert!(worker.shared().former_ids.lock().contains(&former.worker), "it is forgotten");
    }

    #[tokio::test]
    async fn a_task_that_is_there_is_told_although_the_worker_ends_first() {
        let (submission, _store, worker, _, task) = late().await;
        worker.shared().abandoned.cancel();
        let present = worker.shared().generation();
        assert_eq!(submission.readopt(&present, task.clone()).await.unwrap().id, task.id);
    }
}
