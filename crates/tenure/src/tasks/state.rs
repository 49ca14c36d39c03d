//! The transition table: pure, and the only code that changes a task.

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::tasks::{Fence, Input, Outcome, Phase, Status, Task, TaskError, WorkerId};

/// Something that happens to a task.
///
/// | | working | `input_required` | completed, failed, cancelled |
/// |---|---|---|---|
/// | adopt | the same, another worker | the same, another worker | refused |
/// | start | working, next attempt | the same, next attempt | refused |
/// | progress, variables | the same | the same | refused |
/// | request inputs, park | `input_required` | the same | refused |
/// | deliver inputs | the same | working once all are answered | refused |
/// | requeue | the same, no attempt | the same, no attempt | refused |
/// | complete, fail, cancel | that | that | refused |
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Transition {
    /// A worker takes the task over from one that died in this attempt.
    Adopt { worker: WorkerId, from: Fence },
    /// A handler starts; `from` is the attempt that it follows.
    Start { from: Fence },
    /// A word on the progress.
    Progress { message: Option<String> },
    /// Merges into the checkpoint; null deletes.
    SetVariables { changes: Map<String, Value> },
    /// Asks for input. Keys that were asked for before keep their request and their answer.
    RequestInputs { requests: Map<String, Value> },
    /// Asks for input and ends this attempt; the next one starts when all is answered. The
    /// checkpoint changes in the same step.
    Park { requests: Map<String, Value>, variables: Map<String, Value> },
    /// Answers. Keys that are unknown or answered are ignored.
    DeliverInputs { responses: Map<String, Value> },
    /// The handler gave up this attempt and will be started again.
    Requeue { message: Option<String> },
    /// The result.
    Complete { result: Value },
    /// The error, and a word on it.
    Fail { error: Value, message: Option<String> },
    /// The owner calls it off.
    Cancel { message: Option<String> },
}

/// Applies a transition. Tells whether the task is now different; if not, nothing is to be written.
pub(crate) fn apply(
    task: &mut Task,
    transition: &Transition,
    now: Timestamp,
) -> Result<bool, TaskError> {
    if task.status.is_terminal() {
        return Err(TaskError::Finished { status: task.status });
    }
    let before = task.clone();
    match transition {
        Transition::Adopt { worker, from } => {
            check_fence(task, from)?;
            task.worker = Some(worker.clone());
            if task.phase == Phase::Running {
                task.phase = Phase::Queued;
            }
        }
        Transition::Start { from } => {
            check_fence(task, from)?;
            task.attempt = task.attempt.saturating_add(1);
            task.phase = Phase::Running;
        }
        Transition::Progress { message } => task.status_message.clone_from(message),
        Transition::SetVariables { changes } => merge(&mut task.variables, changes),
        Transition::RequestInputs { requests } => ask(task, requests),
        Transition::Park { requests, variables } => {
            ask(task, requests);
            merge(&mut task.variables, variables);
            task.phase = Phase::Parked;
        }
        Transition::DeliverInputs { responses } => {
            for (key, response) in responses {
                if let Some(input) = task.inputs.get_mut(key) {
                    input.response.get_or_insert_with(|| response.clone());
                }
            }
        }
        Transition::Requeue { message } => {
            task.phase = Phase::Queued;
            if message.is_some() {
                task.status_message.clone_from(message);
            }
        }
        Transition::Complete { result } => {
            finish(task, Status::Completed, Some(Outcome::Result(result.clone())));
        }
        Transition::Fail { error, message } => {
            finish(task, Status::Failed, Some(Outcome::Error(error.clone())));
            if message.is_some() {
                task.status_message.clone_from(message);
            }
        }
        Transition::Cancel { message } => {
            finish(task, Status::Cancelled, None);
            if message.is_some() {
                task.status_message.clone_from(message);
            }
        }
    }
    if !task.status.is_terminal() {
        let waits = task.pending_inputs().next().is_some();
        task.status = if waits { Status::InputRequired } else { Status::Working };
    }
    let changed = *task != before;
    if changed {
        // A clock that was set back does not make a task older than it was.
        task.updated_at = now.max(before.updated_at);
    }
    Ok(changed)
}

fn check_fence(task: &Task, fence: &Fence) -> Result<(), TaskError> {
    if fence.admits(task) { Ok(()) } else { Err(TaskError::Superseded { attempt: task.attempt }) }
}

fn finish(task: &mut Task, status: Status, outcome: Option<Outcome>) {
    task.status = status;
    task.outcome = outcome;
}

fn ask(task: &mut Task, requests: &Map<String, Value>) {
    for (key, request) in requests {
        task.inputs
            .entry(key.clone())
            .or_insert_with(|| Input { request: request.clone(), response: None });
    }
}

fn merge(variables: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (name, value) in changes {
        if value.is_null() {
            variables.remove(name);
        } else {
            variables.insert(name.clone(), value.clone());
        }
    }
}
