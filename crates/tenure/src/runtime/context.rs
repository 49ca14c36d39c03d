//! What a running handler holds of its task.

use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::Chain;
use crate::owner::Owner;
use crate::runtime::questions::Questions;
use crate::runtime::slot::Slot;
use crate::tasks::{Call, Task, TaskError, TaskId, TaskRef, TaskStore, Transition, WorkerId};

/// A handler's hold on its task. Clones are the same hold.
///
/// Every write is fenced: once the task has ended or another worker has taken it over, writes are
/// refused, and the handler should return. While the store takes no writes (it is away, read-only or
/// full) a write waits for it, as long as the task is wanted.
#[derive(Clone)]
pub struct TaskContext(Arc<Hold>);

struct Hold {
    tasks: TaskStore,
    this: TaskRef,
    call: Call,
    attempt: u32,
    latest: watch::Sender<Task>,
    cancellation: CancellationToken,
    interruption: OnceLock<Interruption>,
    slot: Slot,
    questions: Questions,
}

/// Why a handler whose task has not ended is to return.
#[derive(Debug, Clone, Copy)]
pub(super) enum Interruption {
    /// The task has expired, or was deleted.
    Gone,
    /// It is in another worker's care, or in that of nobody.
    Superseded,
    /// What is stored of it cannot be read here.
    Unreadable,
    /// The worker shuts down.
    ShuttingDown,
}

impl TaskContext {
    pub(super) fn new(tasks: TaskStore, worker: WorkerId, task: Task, slot: Slot) -> Self {
        Self(Arc::new(Hold {
            tasks,
            this: TaskRef::new(task.owner.clone(), task.id.clone()).fenced(worker, task.attempt),
            call: task.call.clone(),
            attempt: task.attempt,
            latest: watch::Sender::new(task),
            cancellation: CancellationToken::new(),
            interruption: OnceLock::new(),
            slot,
            questions: Questions::default(),
        }))
    }

    /// The task's name.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.0.this.id
    }

    /// Whose task it is.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.0.this.owner
    }

    /// What to run.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.0.call
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The task as last seen, without reading it.
    #[must_use]
    pub fn task(&self) -> Task {
        self.0.latest.borrow().clone()
    }

    /// The variables as last seen: in a further attempt, what the ones before left.
    #[must_use]
    pub fn variables(&self) -> Map<String, Value> {
        self.0.latest.borrow().variables.clone()
    }

    /// Fires when the task is cancelled, has expired, was taken over, or the worker shuts down.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.0.cancellation
    }

    /// Replaces the status message. A longer one than the limit is cut.
    ///
    /// # Errors
    /// [`TaskError::Finished`], [`TaskError::Superseded`], [`TaskError::NotFound`], or the store's.
    pub async fn set_status(&self, message: impl Into<String>) -> Result<(), TaskError> {
        let message = self.0.tasks.limits().cut_message(message.into());
        self.write_in_turn(&Transition::Progress { message: Some(message) }).await
    }

    /// Merges into the variables, durably: what a further attempt starts from. A null deletes.
    ///
    /// # Errors
    /// As [`set_status`](Self::set_status), and [`TaskError::Invalid`] beyond the limits.
    pub async fn set_variables(&self, changes: Map<String, Value>) -> Result<(), TaskError> {
        self.write_in_turn(&Transition::SetVariables { changes }).await
    }

    /// Sets one variable.
    ///
    /// # Errors
    /// As [`set_variables`](Self::set_variables).
    pub async fn checkpoint(
        &self,
        name: impl Into<String>,
        value: impl Into<Value>,
    ) -> Result<(), TaskError> {
        self.set_variables(Map::from_iter([(name.into(), value.into())])).await
    }

    /// Asks for input and waits for all of the answers; meanwhile the task occupies no slot. What
    /// was asked under the same key before is not asked again, so a handler that runs again gets
    /// the answers that were given.
    ///
    /// The slot is that of the whole handler: what it computes beside a wait (in another branch of a
    /// `join!`, say) is not counted against the worker's `concurrency`. A worker that shuts down does not
    /// wait for the answers of a task that may run again: it has the handler return at once.
    ///
    /// A wait may be dropped, by a timeout for one. Its questions are then withdrawn, a moment later:
    /// they are not shown any more, an answer that comes too late is ignored, and the task is
    /// working again if nothing else is asked. Asked anew under its key, a question is open again as it
    /// was, and an answer from in between is lost; another one wants another key. If the process
    /// dies in that moment, the question stays, and the next run waits for its answer. Withdrawn
    /// questions count against the size of all. What is dropped because the handler has to stop stays
    /// open, for its next run. A handler that has dropped a wait goes on at once, in line for a slot:
    /// [`resume`](Self::resume) waits for its turn, and so does whatever it writes or asks next.
    ///
    /// # Errors
    /// As [`set_variables`](Self::set_variables). Why a wait is cut short: [`TaskError::Finished`]
    /// when the task is cancelled, [`TaskError::NotFound`] when it has expired,
    /// [`TaskError::Superseded`] when another worker has it, [`TaskError::Unreadable`] when a newer
    /// program has written it, [`TaskError::ShuttingDown`].
    pub async fn request_inputs(
        &self,
        requests: Map<String, Value>,
    ) -> Result<Map<String, Value>, TaskError> {
        let asking = self.0.questions.ask(requests.keys().cloned().collect(), &self.0.cancellation);
        self.write_in_turn(&Transition::RequestInputs { requests }).await?;
        let is_answered = |task: &Task| {
            let answered = |key| task.inputs.get(key).is_some_and(|input| input.response.is_some());
            asking.keys().iter().all(answered)
        };
        if !is_answered(&self.0.latest.borrow()) {
            self.wait_until(is_answered).await?;
        }
        let inputs = self.task().inputs;
        let response = |key: String| Some((key.clone(), inputs.get(&key)?.response.clone()?));
        Ok(asking.end().into_iter().filter_map(response).collect())
    }

    /// Waits until the handler has its slot again, after a wait for an answer that was dropped. Else,
    /// and when the handler is to stop, it returns at once.
    pub async fn resume(&self) {
        tokio::select! {
            biased;
            () = self.0.slot.regain() => {}
            () = self.0.cancellation.cancelled() => {}
        }
    }

    /// Waits, without the slot, for a state of the task. It has the slot again when it returns.
    async fn wait_until(&self, satisfied: impl Fn(&Task) -> bool) -> Result<(), TaskError> {
        let cancellation = &self.0.cancellation;
        let wait = self.0.slot.give_back(cancellation);
        let mut latest = self.0.latest.subscribe();
        let reached = async {
            let over = |task: &Task| task.status.is_terminal() || satisfied(task);
            // The sender is ours.
            let status = latest.wait_for(over).await.map(|task| task.status);
            if let Ok(status) = status
                && status.is_terminal()
            {
                return Err(TaskError::Finished { status });
            }
            wait.end().await;
            Ok(())
        };
        tokio::select! {
            // First: an answer that is there counts, unless there is no slot to go on with.
            biased;
            reached = reached => reached,
            () = cancellation.cancelled() => Err(self.interruption()),
        }
    }

    /// Waits until the handler waits for answers.
    pub(super) async fn is_waiting(&self) {
        self.0.slot.is_waiting().await;
    }

    /// What the handler asks, and has stopped waiting for.
    pub(super) fn questions(&self) -> &Questions {
        &self.0.questions
    }

    /// Withdraws such questions as soon as there are any. Never returns.
    pub(super) async fn withdraw_dropped_questions(&self) {
        let questions = &self.0.questions;
        let mut round = 0_u32;
        loop {
            questions.next_dropped().await;
            let alone = questions.while_none_is_asked().await;
            let keys = questions.dropped();
            let written = self.write(&Transition::WithdrawInputs { keys: keys.clone() }).await;
            drop(alone);
            match written {
                Ok(()) => {
                    questions.withdrawn(&keys);
                    round = 0;
                }
                // The task has ended, say. If not, the end of the attempt withdraws them.
                Err(error) => {
                    tracing::debug!(task = %self.id(), error = %Chain(&error), "not withdrawn yet");
                    self.0.tasks.clock().back_off_long(round).await;
                    round = round.saturating_add(1);
                }
            }
        }
    }

    /// Asks the handler to return.
    pub(super) fn interrupt(&self, why: Interruption) {
        // The first reason stands.
        let _ = self.0.interruption.set(why);
        self.0.cancellation.cancel();
    }

    fn interruption(&self) -> TaskError {
        let task = self.0.latest.borrow();
        if task.status.is_terminal() {
            return TaskError::Finished { status: task.status };
        }
        match self.0.interruption.get() {
            Some(Interruption::Gone) => TaskError::NotFound,
            Some(Interruption::ShuttingDown) => TaskError::ShuttingDown,
            Some(Interruption::Unreadable) => TaskError::Unreadable {
                id: task.id.clone(),
                reason: "it was rewritten while it ran".into(),
            },
            // Or the handler itself has fired the token.
            Some(Interruption::Superseded) | None => {
                TaskError::Superseded { attempt: task.attempt }
            }
        }
    }

    /// Takes note of a newer state.
    pub(super) fn observe(&self, task: &Task) {
        self.0.latest.send_if_modified(|latest| {
            // What was read and what was written may arrive crosswise.
            let newer = task.version > latest.version;
            if newer {
                latest.clone_from(task);
            }
            newer
        });
    }

    /// Writes for the handler, which goes on only with its slot.
    async fn write_in_turn(&self, transition: &Transition) -> Result<(), TaskError> {
        self.resume().await;
        self.write(transition).await
    }

    /// Writes through the store's bad moments, for as long as the handler is wanted. Each of these
    /// transitions may be repeated when it is not known whether it happened.
    async fn write(&self, transition: &Transition) -> Result<(), TaskError> {
        let clock = self.0.tasks.clock();
        let mut round = 0_u32;
        loop {
            match self.change(transition).await {
                Ok(task) => {
                    self.observe(&task);
                    return Ok(());
                }
                Err(error) if error.is_waited_out() && !self.is_over() => {
                    tokio::select! {
                        () = clock.back_off_long(round) => round = round.saturating_add(1),
                        () = self.0.cancellation.cancelled() => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What asks comes to its end although the handler stops waiting for it: a question that is dropped on
    /// its way to the store might get there after it was withdrawn.
    async fn change(&self, transition: &Transition) -> Result<Task, TaskError> {
        let Transition::RequestInputs { .. } = transition else {
            return self.0.tasks.change(&self.0.this, transition).await;
        };
        let asking = self.0.questions.while_none_is_withdrawn().await;
        let (tasks, this, ask) = (self.0.tasks.clone(), self.0.this.clone(), transition.clone());
        let change = tokio::spawn(async move {
            let _asking = asking;
            tasks.change(&this, &ask).await
        });
        match change.await.map_err(JoinError::try_into_panic) {
            Ok(changed) => changed,
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime goes down.
            Err(Err(_)) => Err(TaskError::ShuttingDown),
        }
    }

    fn is_over(&self) -> bool {
        let now = self.0.tasks.clock().now();
        let deadline = self.0.latest.borrow().expires_at();
        self.0.cancellation.is_cancelled() || deadline.is_some_and(|deadline| deadline <= now)
    }
}

impl std::fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskContext").field("task", &self.0.this).finish_non_exhaustive()
    }
}
