//! One task in a worker's care, from its first attempt here to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};

use crate::Chain;
use crate::runtime::active::ActiveTask;
use crate::runtime::fair_semaphore::Permit;
use crate::runtime::worker::{Generation, Shared};
use crate::runtime::{Failure, Policy, claims};
use crate::store::StoreError;
use crate::tasks::{Fence, Phase, Rerun, Task, TaskError, TaskRef, Transition};

pub(super) type States = BoxStream<'static, Result<Task, TaskError>>;

pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    pub(super) generation: Arc<Generation>,
    pub(super) policy: Policy,
    pub(super) task: Task,
    /// Its share of the worker's capacity, held to the end.
    pub(super) permit: Permit,
    /// Nothing else in this process is busy with the task.
    pub(super) active: ActiveTask,
}

/// What follows an attempt, or a wait.
pub(super) enum Next {
    /// Another attempt, after a wait.
    Attempt { after_ms: u64 },
    /// Nothing: the task has ended.
    Ended,
    /// Nothing here: it is, or will be, in another worker's care.
    Left,
}

impl Run {
    /// Runs the task to its end, and settles its claim whatever ends the run. `slot` is given when
    /// its first attempt is already on record.
    pub(super) async fn run(mut self, slot: Option<Permit>) {
        // After a panic the task is read and judged afresh, as that of a dead worker is, so it does
        // not matter in which state it left this run.
        let settled = AssertUnwindSafe(self.run_to_end(slot)).catch_unwind().await;
        let panicked = settled.is_err();
        if settled.unwrap_or(false) {
            return;
        }
        if panicked {
            // Whatever panics each time does not keep the processor busy. The panic hook has told
            // of it; a log line could be what panics.
            self.shared.tasks.clock().back_off_long(u32::MAX).await;
        }
        // The claim is still there, for an heir or for this worker itself.
        let Self { shared, generation, permit, active, .. } = self;
        drop((permit, active));
        if !shared.closing.is_cancelled() && !generation.lost.is_cancelled() {
            shared.schedule_settlement(generation.worker.clone());
        }
    }

    /// Runs the task to its end. Tells whether it has ended and nothing of it is left to do.
    async fn run_to_end(&mut self, mut slot: Option<Permit>) -> bool {
        let mut wait_ms = 0;
        let mut states = match self.states().await {
            Ok(states) => states,
            Err(error) => {
                tracing::error!(task = %self.task.id, error = %Chain(&error), "the task cannot be followed");
                return false;
            }
        };
        loop {
            let next = match slot.take() {
                Some(slot) => self.attempt(&mut states, slot).await,
                None => self.start(&mut states, wait_ms).await,
            };
            match next {
                Next::Attempt { after_ms } => wait_ms = after_ms,
                Next::Ended => return self.unclaim().await,
                Next::Left => return false,
            }
        }
    }

    async fn states(&self) -> Result<States, TaskError> {
        let mut round = 0_u32;
        loop {
            match self.shared.tasks.follow_patiently(&self.task.owner, &self.task.id).await {
                Ok(states) => return Ok(states.boxed()),
                Err(error) if self.gives_up() => return Err(error),
                // Lasting ones, too: who mends them finds the task where it was.
                Err(error) => {
                    if round.is_power_of_two() {
                        tracing::warn!(task = %self.task.id, error = %Chain(&error), round, "following the task again");
                    }
                    self.shared.tasks.clock().back_off_long(round).await;
                    round = round.saturating_add(1);
                }
            }
        }
    }

    /// Waits until the task may start, starts it on record, and runs the attempt.
    async fn start(&mut self, states: &mut States, wait_ms: u64) -> Next {
        let slot = {
            let (shared, generation) = (Arc::clone(&self.shared), Arc::clone(&self.generation));
            let owner = self.task.owner.clone();
            let timer = shared.tasks.clock().sleep_millis(wait_ms);
            let turn = async {
                timer.await;
                shared.slots.take(&owner).await
            };
            tokio::pin!(turn);
            loop {
                let answered = self.task.pending_inputs().next().is_none();
                tokio::select! {
                    // In this order: a slot that is free is none to take in a worker that closes.
                    biased;
                    state = states.next() => if let Some(over) = self.note(state) { return over },
                    () = generation.lost.cancelled() => return Next::Left,
                    () = shared.closing.cancelled() => return Next::Left,
                    slot = &mut turn, if answered => break slot,
                }
            }
        };
        match self.write(Transition::Start { from: self.fence() }).await {
            Ok(()) => self.attempt(states, slot).await,
            Err(over) => over,
        }
    }

    /// Takes note of a newer state of the task; tells what follows if there is nothing to run.
    pub(super) fn note(&mut self, state: Option<Result<Task, TaskError>>) -> Option<Next> {
        match state {
            Some(Ok(task)) => {
                let ours = task.worker.as_ref() == Some(&self.generation.worker);
                let ended = task.status.is_terminal();
                if task.version > self.task.version {
                    self.task = task;
                }
                if ended {
                    Some(Next::Ended)
                } else if ours {
                    None
                } else {
                    Some(Next::Left)
                }
            }
            // Expired or deleted.
            Some(Err(TaskError::NotFound)) | None => Some(Next::Ended),
            // Damaged, or written by a newer program: nothing can be written to it here, and its
            // claim stays for a worker that can read it.
            Some(Err(error)) => {
                tracing::warn!(task = %self.task.id, error = %Chain(&error), "left for a worker that can read it");
                Some(Next::Left)
            }
        }
    }

    /// Writes a transition on behalf of this attempt, through the store's bad moments. `Ok` means
    /// that this very transition is on record. `Err` is what follows if it is not: the task is no
    /// longer ours to write, or it was refused and the task has failed for it.
    pub(super) async fn write(&mut self, transition: Transition) -> Result<(), Next> {
        let mut transition = transition;
        let mut is_refused = false;
        let mut round = 0_u32;
        loop {
            match self.shared.tasks.change(&self.reference(), &transition).await {
                Ok(task) => {
                    let (tool, status, phase) = (&task.call.tool, task.status, task.phase);
                    tracing::debug!(task = %task.id, %tool, ?status, ?phase, attempt = task.attempt, "on record");
                    self.task = task;
                    return if is_refused { Err(Next::Ended) } else { Ok(()) };
                }
                Err(TaskError::Finished { .. } | TaskError::NotFound) => return Err(Next::Ended),
                Err(TaskError::Superseded { .. }) => return Err(Next::Left),
                Err(
                    error @ (TaskError::Unreadable { .. }
                    | TaskError::Store(StoreError::Damaged { .. })),
                ) => {
                    tracing::warn!(task = %self.task.id, error = %Chain(&error), "left for a worker that can read it");
                    return Err(Next::Left);
                }
                Err(
                    error @ (TaskError::Invalid { .. }
                    | TaskError::Store(StoreError::TooLarge { .. })),
                ) if !is_refused => {
                    // The worker's own words fit. A failure may be refused as a result may.
                    is_refused = true;
                    let Failure { error, message, .. } =
                        Failure::of_worker(format!("the tool's output was refused: {error}"));
                    transition = Transition::Fail { error, message };
                }
                Err(error) if self.gives_up() => {
                    tracing::error!(task = %self.task.id, error = %Chain(&error), "gave up writing to the task");
                    return Err(Next::Left);
                }
                // In doubt for good: whether a start is on record has to be found out afresh.
                Err(TaskError::Store(StoreError::OutcomeUnknown(_)))
                    if matches!(transition, Transition::Start { .. }) =>
                {
                    return Err(Next::Left);
                }
                Err(error) => {
                    if round.is_power_of_two() {
                        tracing::warn!(task = %self.task.id, error = %Chain(&error), round, "writing to the task again");
                    }
                    self.shared.tasks.clock().back_off_long(round).await;
                    round = round.saturating_add(1);
                }
            }
        }
    }

    /// Whether to stop trying to reach the store: the task is for others, or gone.
    fn gives_up(&self) -> bool {
        let now = self.shared.tasks.clock().now();
        self.generation.lost.is_cancelled()
            || self.shared.abandoned.is_cancelled()
            || self.task.expires_at().is_some_and(|deadline| deadline <= now)
    }

    fn fence(&self) -> Fence {
        Fence { worker: self.generation.worker.clone(), attempt: self.task.attempt }
    }

    fn reference(&self) -> TaskRef {
        let Fence { worker, attempt } = self.fence();
        TaskRef::new(self.task.owner.clone(), self.task.id.clone()).fenced(worker, attempt)
    }

    /// Forgets the claim. Tells whether that worked.
    async fn unclaim(&self) -> bool {
        let backend = self.shared.tasks.backend();
        let removed = claims::remove(&**backend, &self.generation.worker, &self.task.id).await;
        if let Err(error) = &removed {
            tracing::debug!(task = %self.task.id, error = %Chain(&error), "a claim was left behind");
        }
        removed.is_ok()
    }
}

/// True for a task that a handler had in hands and that must not be started again.
pub(super) fn is_lost_for_good(task: &Task) -> bool {
    task.phase == Phase::Running && task.rerun == Rerun::Never
}
