//! Taking over from a dead worker.

use std::sync::Arc;

use crate::runtime::Failure;
use crate::runtime::claims::{self, Claim};
use crate::runtime::liveness::Dead;
use crate::runtime::run::{Run, is_lost_for_good};
use crate::runtime::worker::{Generation, Shared};
use crate::store::{Cursor, Precondition, StoreError};
use crate::tasks::{Fence, Task, TaskError, TaskRef, Transition, WorkerId};

/// What became of a claim.
pub(super) enum Fate {
    /// It is settled, and can be forgotten.
    Settled,
    /// It is for another worker: this one has not got the tool, or cannot read the task.
    Kept,
}

/// Adopts, fails or drops every task of a dead worker. Each step is conditional on what it found,
/// so a worker that was only slow, or a second heir, does no harm.
pub(super) async fn take_over(
    shared: &Arc<Shared>,
    generation: &Arc<Generation>,
    mut dead: Dead,
) -> Result<(), StoreError> {
    let backend = &**shared.tasks.backend();
    let mut kept = false;
    let mut after = None;
    loop {
        // Once a page: the inheritance is a heartbeat too, and lapses if this worker dies.
        if !dead.inherit(backend).await? {
            return Ok(());
        }
        let (next, some_kept) = settle_page(shared, generation, &dead.worker, after).await?;
        kept |= some_kept;
        after = next;
        if after.is_none() {
            break;
        }
    }
    if !kept {
        dead.bury(backend).await?;
    }
    Ok(())
}

/// Settles what this process still holds under an identity that it has lost.
pub(super) async fn reclaim(
    shared: &Arc<Shared>,
    generation: &Arc<Generation>,
    former: &WorkerId,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        (after, _) = settle_page(shared, generation, former, after).await?;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Settles a page of claims; tells where the next begins, and whether any claim was kept.
async fn settle_page(
    shared: &Arc<Shared>,
    generation: &Arc<Generation>,
    former: &WorkerId,
    after: Option<Cursor>,
) -> Result<(Option<Cursor>, bool), StoreError> {
    let backend = &**shared.tasks.backend();
    let page = claims::list(backend, former, after).await?;
    let mut kept = false;
    for (key, claim) in page.claims {
        let fate = match claim {
            Some(claim) => settle(shared, generation, former, claim).await?,
            // Nobody can tell which task it was for.
            None => Fate::Settled,
        };
        match fate {
            Fate::Kept => kept = true,
            Fate::Settled => {
                backend.delete(&key, Precondition::Any).await?;
            }
        }
    }
    Ok((page.next, kept))
}

pub(super) async fn settle(
    shared: &Arc<Shared>,
    generation: &Arc<Generation>,
    dead: &WorkerId,
    claim: Claim,
) -> Result<Fate, StoreError> {
    let task = match shared.tasks.get(&claim.owner, &claim.id).await {
        Ok(task) => task,
        Err(TaskError::NotFound) => return Ok(Fate::Settled),
        Err(TaskError::Store(error)) => return Err(error),
        Err(error) => {
            tracing::warn!(task = %claim.id, %error, "left for a worker that can read it");
            return Ok(Fate::Kept);
        }
    };
    if task.status.is_terminal() || task.worker.as_ref() != Some(dead) {
        return Ok(Fate::Settled);
    }
    let Some(policy) = shared.handler.policy(&task.call.tool) else { return Ok(Fate::Kept) };
    let from = Fence { worker: dead.clone(), attempt: task.attempt };
    if is_lost_for_good(&task) {
        let Failure { error, message, .. } = Failure::of_worker(
            "the server stopped while the tool was running, and the tool may not run twice",
        );
        return settled(change(shared, &task, &from, Transition::Fail { error, message }).await);
    }
    let Ok(place) = Arc::clone(&shared.capacity).acquire_owned().await else {
        return Ok(Fate::Kept);
    };
    let worker = generation.worker.clone();
    let backend = &**shared.tasks.backend();
    claims::put(backend, &worker, &claim, task.expires_at()).await?;
    let adopt = Transition::Adopt { worker, from: from.clone() };
    match change(shared, &task, &from, adopt).await {
        Ok(task) => {
            tracing::info!(task = %task.id, from = dead.as_str(), "adopted");
            let (shared, generation) = (Arc::clone(shared), Arc::clone(generation));
            let runs = shared.runs.clone();
            runs.spawn(Run { shared, generation, policy, task, place }.drive(None));
            Ok(Fate::Settled)
        }
        Err(error) => {
            claims::remove(backend, &generation.worker, &claim.id).await?;
            settled(Err(error))
        }
    }
}

async fn change(
    shared: &Shared,
    task: &Task,
    from: &Fence,
    transition: Transition,
) -> Result<Task, TaskError> {
    let reference =
        TaskRef::new(task.owner.clone(), task.id.clone()).fenced(from.worker.clone(), from.attempt);
    shared.tasks.change(&reference, &transition).await
}

/// Whoever was faster has settled it; only the store's trouble leaves it open.
fn settled(change: Result<Task, TaskError>) -> Result<Fate, StoreError> {
    match change {
        Err(TaskError::Store(error)) => Err(error),
        Err(TaskError::Unreadable { .. } | TaskError::Contended) => Ok(Fate::Kept),
        _ => Ok(Fate::Settled),
    }
}
