//! One task in a worker's care, from its first attempt here to its end.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Map, Value};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use crate::Chain;
use crate::runtime::active::ActiveTask;
use crate::runtime::context::Interruption;
use crate::runtime::fair_semaphore::Permit;
use crate::runtime::slot::Slot;
use crate::runtime::worker::{Generation, Shared};
use crate::runtime::{Exit, Failure, Policy, TaskContext, claims};
use crate::store::StoreError;
use crate::tasks::{Fence, Phase, Rerun, Task, TaskError, TaskRef, Transition};

type States = BoxStream<'static, Result<Task, TaskError>>;
type Ended = Result<Result<Exit, Failure>, JoinError>;

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
enum Next {
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

    /// Runs one attempt. The task is on record as running.
    async fn attempt(&mut self, states: &mut States, slot: Permit) -> Next {
        let slot = Slot::new(Arc::clone(&self.shared.slots), self.task.owner.clone(), slot);
        let worker = self.generation.worker.clone();
        let context = TaskContext::new(self.shared.tasks.clone(), worker, self.task.clone(), slot);
        let handler = Arc::clone(&self.shared.handler);
        let running = {
            let context = context.clone();
            async move { handler.run(context).await }
        };
        let mut running = AbortOnDropHandle::new(tokio::spawn(running));
        loop {
            tokio::select! {
                // First: what has ended by itself was not interrupted.
                biased;
                ended = &mut running => return self.conclude(ended).await,
                state = states.next() => {
                    let over = self.note(state);
                    context.observe(&self.task);
                    if let Some(over) = over {
                        self.stop(&context, self.reason(&over), running).await;
                        return over;
                    }
                }
                () = self.generation.lost.cancelled() => {
                    let closes = self.shared.closing.is_cancelled();
                    let why =
                        if closes { Interruption::ShuttingDown } else { Interruption::Superseded };
                    self.stop(&context, why, running).await;
                    return Next::Left;
                }
                () = self.is_to_stop(&context) => {
                    let ended = self.stop(&context, Interruption::ShuttingDown, running).await;
                    return self.interrupt(ended).await;
                }
            }
        }
    }

    /// Waits until the worker shuts down and has no more time for this attempt. One that waits for a
    /// person and may run again gets none: the answer finds the task with another worker.
    async fn is_to_stop(&self, context: &TaskContext) {
        let waits_in_vain = async {
            self.shared.closing.cancelled().await;
            context.is_waiting().await;
            if self.task.rerun == Rerun::Never {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.shared.stopping.cancelled() => {}
            () = waits_in_vain => {}
        }
    }

    /// Why there is nothing to run any more, after what was noted of the task.
    fn reason(&self, over: &Next) -> Interruption {
        match over {
            Next::Ended => Interruption::Gone,
            _ if self.task.worker.as_ref() == Some(&self.generation.worker) => {
                Interruption::Unreadable
            }
            _ => Interruption::Superseded,
        }
    }

    /// Asks the handler to return; past the grace period it is dropped at its next await.
    async fn stop(
        &self,
        context: &TaskContext,
        why: Interruption,
        running: AbortOnDropHandle<Result<Exit, Failure>>,
    ) -> Option<Ended> {
        context.interrupt(why);
        let grace_ms = self.shared.options.cancel_grace_ms;
        tokio::select! {
            // First: a process that stood still finds the time over and the handler done.
            biased;
            ended = running => Some(ended),
            () = self.shared.tasks.clock().sleep_millis(grace_ms) => None,
        }
    }

    /// Takes note of a newer state of the task; tells what follows if there is nothing to run.
    fn note(&mut self, state: Option<Result<Task, TaskError>>) -> Option<Next> {
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

    /// Puts on record how the attempt ended.
    async fn conclude(&mut self, ended: Ended) -> Next {
        let failure = match ended {
            Ok(Ok(Exit::Complete(result))) => {
                return self.finish(Transition::Complete { result }).await;
            }
            Ok(Ok(Exit::Park { requests, variables })) => {
                return self.park(requests, variables).await;
            }
            Ok(Err(failure)) => failure,
            // The runtime goes down, and the process with it or not: the task is for an heir.
            Err(end) if end.is_cancelled() => return Next::Left,
            Err(panic) => {
                tracing::error!(task = %self.task.id, tool = %self.task.call.tool, %panic, "the tool panicked");
                // A panic may pass as any failure may.
                Failure { retryable: true, ..Failure::of_worker("the tool panicked") }
            }
        };
        let Failure { error, message, retryable } = failure;
        // A word that is too long costs neither the error nor the retry.
        let message = message.map(|message| self.shared.tasks.limits().cut_message(message));
        if retryable && self.task.attempt < self.policy.max_attempts {
            let after_ms = self.policy.backoff_ms(self.task.attempt);
            return match self.write(Transition::Retry { message }).await {
                Ok(()) => Next::Attempt { after_ms },
                Err(over) => over,
            };
        }
        self.finish(Transition::Fail { error, message }).await
    }

    async fn park(&mut self, requests: Map<String, Value>, variables: Map<String, Value>) -> Next {
        match self.write(Transition::Park { requests, variables }).await {
            Ok(()) => Next::Attempt { after_ms: 0 },
            Err(over) => over,
        }
    }

    /// The worker shuts down and the attempt did not get through.
    async fn interrupt(&mut self, ended: Option<Ended>) -> Next {
        if let Some(Ok(Ok(exit))) = ended {
            return match self.conclude(Ok(Ok(exit))).await {
                Next::Attempt { .. } => Next::Left,
                over => over,
            };
        }
        if self.task.rerun == Rerun::Never {
            let failure = Failure::of_worker("the server shut down while the tool was running");
            let Failure { error, message, .. } = failure;
            return self.finish(Transition::Fail { error, message }).await;
        }
        match self.write(Transition::Requeue).await {
            Ok(()) => Next::Left,
            Err(over) => over,
        }
    }

    async fn finish(&mut self, transition: Transition) -> Next {
        match self.write(transition).await {
            Ok(()) => Next::Ended,
            Err(over) => over,
        }
    }

    /// Writes a transition on behalf of this attempt, through the store's bad moments. `Ok` means
    /// that this very transition is on record. `Err` is what follows if it is not: the task is no
    /// longer ours to write, or it was refused and the task has failed for it.
    async fn write(&mut self, transition: Transition) -> Result<(), Next> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::owner::Owner;
    use crate::runtime::claims::Claim;
    use crate::runtime::pending::Pending;
    use crate::runtime::{Worker, WorkerOptions};
    use crate::store::InMemoryBackend;
    use crate::tasks::{Assignment, Call, NewTask, Status, TaskStore};

    /// A run of a task whose only attempt is on record.
    async fn run() -> (Run, Worker) {
        let clock = Clock::manual(Timestamp::from_millis(1));
        let tasks = TaskStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock);
        let worker =
            Worker::start(tasks, Arc::new(Pending), WorkerOptions::default()).await.unwrap();
        let shared = Arc::clone(worker.shared());
        let (generation, owner) = (shared.generation(), Owner::local());
        let assignment = Assignment { worker: Some(generation.worker.clone()), started: true };
        let new = NewTask::new(Call::new("tool", Map::new()));
        let created = shared.tasks.create_for(&owner, "t".into(), new, assignment).await;
        let task = created.unwrap().0;
        let claim = Claim { owner: owner.clone(), id: task.id.clone() };
        let active = shared.active.try_take(&claim).unwrap();
        let permit = shared.capacity.try_take(&owner).ok().unwrap();
        let policy = Policy::default();
        (Run { shared, generation, policy, task, permit, active }, worker)
    }

    #[tokio::test]
    async fn a_tool_that_ends_with_its_runtime_has_not_panicked_and_is_left_to_an_heir() {
        let (mut run, _worker) = run().await;
        let tool = tokio::spawn(std::future::pending());
        tool.abort();
        let next = run.conclude(tool.await).await;
        assert!(matches!(next, Next::Left));
        let stored = run.shared.tasks.get(&run.task.owner, &run.task.id).await.unwrap();
        assert_eq!((stored.status, stored.status_message), (Status::Working, None));
    }

    #[tokio::test]
    async fn no_attempt_follows_a_transition_that_was_refused_and_failed_the_task() {
        let (mut run, _worker) = run().await;
        let requests = Map::from_iter([("a".into(), "x".repeat(1 << 20).into())]);
        let next = run.conclude(Ok(Ok(Exit::Park { requests, variables: Map::new() }))).await;
        assert!(matches!(next, Next::Ended));
        assert_eq!(run.task.status, Status::Failed);
    }
}
