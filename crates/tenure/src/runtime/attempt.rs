//! One attempt at a task: the handler's call, what ends it, and what is put on record of that.

use std::future::pending;
use std::sync::Arc;

use futures::StreamExt as _;
use serde_json::{Map, Value};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use crate::runtime::context::Interruption;
use crate::runtime::fair_semaphore::Permit;
use crate::runtime::run::{Next, Run, States};
use crate::runtime::slot::Slot;
use crate::runtime::{Exit, Failure, TaskContext};
use crate::tasks::{Rerun, Transition};

type Running = AbortOnDropHandle<Result<Exit, Failure>>;
type Ended = Result<Result<Exit, Failure>, JoinError>;

/// Why nothing more is waited for.
enum Stop {
    /// The handler has ended.
    Ended(Ended),
    /// There is nothing to run any more.
    Over(Next),
    /// Others have taken this worker for dead.
    Lost,
    /// The worker shuts down, and has no more time for this attempt.
    ShutDown,
}

impl Run {
    /// Runs one attempt. The task is on record as running.
    pub(super) async fn attempt(&mut self, states: &mut States, slot: Permit) -> Next {
        let slot = Slot::new(Arc::clone(&self.shared.slots), self.task.owner.clone(), slot);
        let worker = self.generation.worker.clone();
        let context = TaskContext::new(self.shared.tasks.clone(), worker, self.task.clone(), slot);
        let handler = Arc::clone(&self.shared.handler);
        let running = {
            let context = context.clone();
            async move { handler.run(context).await }
        };
        let mut running = AbortOnDropHandle::new(tokio::spawn(running));
        match self.watch_over(&context, states, &mut running).await {
            Stop::Ended(ended) => self.end(&context, ended).await,
            Stop::Over(over) => {
                self.stop(&context, self.reason(&over), running).await;
                over
            }
            Stop::Lost => {
                let closes = self.shared.closing.is_cancelled();
                let why =
                    if closes { Interruption::ShuttingDown } else { Interruption::Superseded };
                self.stop(&context, why, running).await;
                Next::Left
            }
            Stop::ShutDown => {
                let ended = self.stop(&context, Interruption::ShuttingDown, running).await;
                match self.withdraw_dropped_questions(&context).await {
                    Ok(()) => self.interrupt(ended).await,
                    Err(over) => over,
                }
            }
        }
    }

    /// Waits for the attempt's end, or for what ends it. Meanwhile the handler hears of changes of its task,
    /// and what it has stopped asking is withdrawn.
    async fn watch_over(
        &mut self,
        context: &TaskContext,
        states: &mut States,
        running: &mut Running,
    ) -> Stop {
        let withdrawing = context.withdraw_dropped_questions();
        tokio::pin!(withdrawing);
        loop {
            tokio::select! {
                // First: what has ended by itself was not interrupted.
                biased;
                ended = &mut *running => return Stop::Ended(ended),
                state = states.next() => {
                    let over = self.note(state);
                    context.observe(&self.task);
                    if let Some(over) = over {
                        return Stop::Over(over);
                    }
                }
                () = self.generation.lost.cancelled() => return Stop::Lost,
                () = self.is_to_stop(context) => return Stop::ShutDown,
                () = &mut withdrawing => {}
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
        running: Running,
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

    /// The attempt has ended by itself. Whoever goes on, or has to wait for answers first, finds no
    /// question that nobody waits for. A result needs nothing before it.
    async fn end(&mut self, context: &TaskContext, ended: Ended) -> Next {
        let is_last = match &ended {
            Ok(end) => matches!(end, Ok(Exit::Complete(_))),
            Err(end) => end.is_cancelled(),
        };
        if !is_last && let Err(over) = self.withdraw_dropped_questions(context).await {
            return over;
        }
        self.conclude(ended).await
    }

    async fn withdraw_dropped_questions(&mut self, context: &TaskContext) -> Result<(), Next> {
        let keys = context.questions().dropped();
        if keys.is_empty() {
            return Ok(());
        }
        // One of them may be on its way to the store.
        let _alone = tokio::select! {
            biased;
            alone = context.questions().while_none_is_asked() => alone,
            () = self.generation.lost.cancelled() => return Err(Next::Left),
            () = self.shared.abandoned.cancelled() => return Err(Next::Left),
        };
        self.write(Transition::WithdrawInputs { keys }).await
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::owner::Owner;
    use crate::runtime::claims::Claim;
    use crate::runtime::pending::Pending;
    use crate::runtime::{Policy, Worker, WorkerOptions};
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
