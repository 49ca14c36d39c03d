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
/// | deliver, withdraw inputs | the same | working once none is open | refused |
/// | requeue, retry | the same, no attempt | the same, no attempt | refused |
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
    /// Asks for input. Keys that were asked for before keep their request and their answer; what was
    /// withdrawn is open again.
    RequestInputs { requests: Map<String, Value> },
    /// Asks for input and ends this attempt; the next one starts when all is answered. The
    /// checkpoint changes in the same step.
    Park { requests: Map<String, Value>, variables: Map<String, Value> },
    /// Answers. Keys that are unknown, answered or withdrawn are ignored.
    DeliverInputs { responses: Map<String, Value> },
    /// Takes back questions that nobody waits for any more. What is answered stays answered.
    WithdrawInputs { keys: Vec<String> },
    /// The handler was stopped in this attempt and will be started again.
    Requeue,
    /// This attempt failed, with a word on it, and another one follows.
    Retry { message: Option<String> },
    /// The result.
    Complete { result: Value },
    /// The error, and a word on it.
    Fail { error: Value, message: Option<String> },
    /// The owner calls it off.
    Cancel { message: Option<String> },
}

/// Applies a transition. Returns the task as it was if it is now different; if not, nothing is to be
/// written.
pub(crate) fn apply(
    task: &mut Task,
    transition: &Transition,
    now: Timestamp,
) -> Result<Option<Task>, TaskError> {
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
            if task.phase == Phase::Retrying {
                // It said why the attempt before failed, and is no word on this one.
                task.status_message = None;
            }
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
                if let Some(input) = task.inputs.get_mut(key).filter(|input| input.is_open()) {
                    input.response = Some(response.clone());
                }
            }
        }
        Transition::WithdrawInputs { keys } => {
            for key in keys {
                if let Some(input) = task.inputs.get_mut(key).filter(|input| input.is_open()) {
                    input.withdrawn = true;
                }
            }
        }
        Transition::Requeue => task.phase = Phase::Queued,
        Transition::Retry { message } => {
            task.phase = Phase::Retrying;
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
    if *task == before {
        return Ok(None);
    }
    // A clock that was set back does not make a task older than it was.
    task.updated_at = now.max(before.updated_at);
    Ok(Some(before))
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
        let input = task.inputs.entry(key.clone()).or_insert_with(|| Input::new(request.clone()));
        input.withdrawn = false;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::owner::Owner;
    use crate::tasks::{Call, Rerun};

    const STATUSES: [Status; 5] = [
        Status::Working,
        Status::InputRequired,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
    ];

    /// Tells whether the task is now different.
    fn apply(task: &mut Task, what: &Transition, now: Timestamp) -> Result<bool, TaskError> {
        super::apply(task, what, now).map(|before| before.is_some())
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn fence(worker: &str, attempt: u32) -> Fence {
        Fence { worker: worker.into(), attempt }
    }

    fn one(key: &str, value: Value) -> Map<String, Value> {
        Map::from_iter([(key.to_owned(), value)])
    }

    /// A task of worker `w` in attempt 1 that was changed at 100 and, if it waits, asked for `a`.
    fn task(status: Status) -> Task {
        let mut task = Task {
            id: "t".into(),
            version: 1,
            owner: Owner::local(),
            status,
            status_message: Some("before".into()),
            created_at: at(50),
            updated_at: at(100),
            ttl_ms: Some(1_000),
            poll_interval_ms: None,
            call: Call::new("tool", Map::new()),
            rerun: Rerun::Never,
            phase: Phase::Running,
            attempt: 1,
            worker: Some("w".into()),
            variables: one("kept", json!(1)),
            inputs: Default::default(),
            outcome: None,
        };
        match status {
            Status::InputRequired => ask(&mut task, &one("a", json!("?"))),
            Status::Completed => task.outcome = Some(Outcome::Result(json!("result"))),
            Status::Failed => task.outcome = Some(Outcome::Error(json!("error"))),
            Status::Working | Status::Cancelled => {}
        }
        task
    }

    /// Every transition with what it makes of a working and of a waiting task.
    fn table() -> Vec<(Transition, Status, Status)> {
        use Status::{Cancelled, Completed, Failed, InputRequired, Working};
        let message = || Some("word".to_owned());
        vec![
            (Transition::Adopt { worker: "x".into(), from: fence("w", 1) }, Working, InputRequired),
            (Transition::Start { from: fence("w", 1) }, Working, InputRequired),
            (Transition::Progress { message: message() }, Working, InputRequired),
            (Transition::SetVariables { changes: one("v", json!(2)) }, Working, InputRequired),
            (
                Transition::RequestInputs { requests: one("b", json!("?")) },
                InputRequired,
                InputRequired,
            ),
            (
                Transition::Park { requests: one("b", json!("?")), variables: Map::new() },
                InputRequired,
                InputRequired,
            ),
            (Transition::DeliverInputs { responses: one("a", json!("!")) }, Working, Working),
            (Transition::DeliverInputs { responses: one("z", json!("!")) }, Working, InputRequired),
            (Transition::WithdrawInputs { keys: vec!["a".into()] }, Working, Working),
            (Transition::WithdrawInputs { keys: vec!["z".into()] }, Working, InputRequired),
            (Transition::Requeue, Working, InputRequired),
            (Transition::Retry { message: message() }, Working, InputRequired),
            (Transition::Complete { result: json!("new") }, Completed, Completed),
            (Transition::Fail { error: json!("new"), message: message() }, Failed, Failed),
            (Transition::Cancel { message: message() }, Cancelled, Cancelled),
        ]
    }

    #[test]
    fn every_transition_does_in_every_state_what_the_table_says() {
        for (transition, from_working, from_waiting) in table() {
            for status in STATUSES {
                let before = task(status);
                let mut after = before.clone();
                let applied = apply(&mut after, &transition, at(200));
                let expected = match status {
                    Status::Working => from_working,
                    Status::InputRequired => from_waiting,
                    frozen => {
                        let refused = matches!(applied, Err(TaskError::Finished { status }) if status == frozen);
                        assert!(refused, "{status}, {transition:?}: {applied:?}");
                        assert_eq!(after, before, "{status}, {transition:?}");
                        continue;
                    }
                };
                assert_eq!(after.status, expected, "{status}, {transition:?}");
                assert_eq!(applied.unwrap(), after != before, "{status}, {transition:?}");
                let updated_at = if after == before { at(100) } else { at(200) };
                assert_eq!(after.updated_at, updated_at, "{status}, {transition:?}");
                assert_eq!(
                    after.outcome.is_some(),
                    matches!(expected, Status::Completed | Status::Failed)
                );
            }
        }
    }

    #[test]
    fn a_transition_that_moves_the_fence_needs_the_one_before() {
        for wrong in [fence("w", 0), fence("w", 2), fence("x", 1)] {
            for transition in [
                Transition::Adopt { worker: "x".into(), from: wrong.clone() },
                Transition::Start { from: wrong.clone() },
            ] {
                let refused = apply(&mut task(Status::Working), &transition, at(200));
                assert!(
                    matches!(refused, Err(TaskError::Superseded { attempt: 1 })),
                    "{refused:?}"
                );
            }
        }
    }

    #[test]
    fn of_an_adopted_task_only_what_ran_is_queued_anew() {
        for (phase, expected) in [
            (Phase::Running, Phase::Queued),
            (Phase::Queued, Phase::Queued),
            (Phase::Retrying, Phase::Retrying),
            (Phase::Parked, Phase::Parked),
        ] {
            let mut task = Task { phase, ..task(Status::Working) };
            let adopt = Transition::Adopt { worker: "x".into(), from: fence("w", 1) };
            apply(&mut task, &adopt, at(200)).unwrap();
            assert_eq!((task.phase, task.attempt), (expected, 1));
            assert_eq!(task.worker, Some("x".into()));
        }
    }

    #[test]
    fn a_start_counts_an_attempt_and_never_wraps() {
        for (attempt, next) in [(0, 1), (1, 2), (u32::MAX, u32::MAX)] {
            let mut task = Task { attempt, phase: Phase::Queued, ..task(Status::Working) };
            apply(&mut task, &Transition::Start { from: fence("w", attempt) }, at(200)).unwrap();
            assert_eq!((task.attempt, task.phase), (next, Phase::Running));
        }
    }

    #[test]
    fn an_attempt_begins_without_the_word_on_the_failure_of_the_one_before() {
        let failed = Transition::Retry { message: None };
        for (end, word) in [(Transition::Requeue, Some("before")), (failed, None)] {
            let mut task = task(Status::Working);
            apply(&mut task, &end, at(200)).unwrap();
            let adopt = Transition::Adopt { worker: "x".into(), from: fence("w", 1) };
            apply(&mut task, &adopt, at(200)).unwrap();
            assert_eq!(task.status_message.as_deref(), Some("before"));
            apply(&mut task, &Transition::Start { from: fence("x", 1) }, at(200)).unwrap();
            assert_eq!(task.status_message.as_deref(), word);
        }
    }

    #[test]
    fn a_key_keeps_its_first_request_and_its_first_answer() {
        let mut task = task(Status::InputRequired);
        let ask = |value| Transition::RequestInputs { requests: one("a", value) };
        let answer = |value| Transition::DeliverInputs { responses: one("a", value) };
        assert!(!apply(&mut task, &ask(json!("other")), at(200)).unwrap());
        assert!(apply(&mut task, &answer(json!(1)), at(200)).unwrap());
        assert!(!apply(&mut task, &answer(json!(2)), at(200)).unwrap());
        assert!(!apply(&mut task, &ask(json!("again")), at(200)).unwrap());
        let kept = Input { response: Some(json!(1)), ..Input::new(json!("?")) };
        assert_eq!(task.inputs["a"], kept);
        assert_eq!(task.status, Status::Working);
    }

    #[test]
    fn a_task_works_on_once_the_last_of_its_questions_is_answered() {
        let mut task = task(Status::InputRequired);
        apply(&mut task, &Transition::RequestInputs { requests: one("b", json!("?")) }, at(200))
            .unwrap();
        apply(&mut task, &Transition::DeliverInputs { responses: one("a", json!(1)) }, at(200))
            .unwrap();
        assert_eq!(task.status, Status::InputRequired);
        apply(&mut task, &Transition::DeliverInputs { responses: one("b", Value::Null) }, at(200))
            .unwrap();
        assert_eq!(task.status, Status::Working, "null is an answer");
    }

    #[test]
    fn a_question_that_is_withdrawn_takes_no_answer_until_it_is_asked_anew() {
        let mut task = task(Status::InputRequired);
        let withdraw = Transition::WithdrawInputs { keys: vec!["a".into()] };
        let answer = Transition::DeliverInputs { responses: one("a", json!(1)) };
        let ask = Transition::RequestInputs { requests: one("a", json!("other")) };
        assert!(apply(&mut task, &withdraw, at(200)).unwrap());
        assert_eq!((task.status, task.pending_inputs().count()), (Status::Working, 0));
        assert!(!apply(&mut task, &withdraw, at(200)).unwrap());
        assert!(!apply(&mut task, &answer, at(200)).unwrap());
        assert!(apply(&mut task, &ask, at(200)).unwrap());
        assert_eq!(task.inputs["a"], Input::new(json!("?")));
        assert!(apply(&mut task, &answer, at(200)).unwrap());
        assert!(!apply(&mut task, &withdraw, at(200)).unwrap(), "it is answered");
        assert_eq!(task.inputs["a"].response, Some(json!(1)));
    }

    #[test]
    fn a_null_deletes_a_variable_and_what_is_not_named_stays() {
        let mut task = task(Status::Working);
        let set = |changes| Transition::SetVariables { changes };
        apply(&mut task, &set(one("v", json!({"deep": null}))), at(200)).unwrap();
        assert_eq!(task.variables["v"], json!({"deep": null}));
        apply(&mut task, &set(one("v", Value::Null)), at(200)).unwrap();
        assert_eq!(task.variables, one("kept", json!(1)));
        assert!(!apply(&mut task, &set(one("unknown", Value::Null)), at(300)).unwrap());
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_make_a_task_older() {
        let mut task = task(Status::Working);
        assert!(apply(&mut task, &Transition::Progress { message: None }, at(10)).unwrap());
        assert_eq!(task.updated_at, at(100));
    }

    #[test]
    fn an_end_without_a_word_keeps_the_last_one() {
        for end in [
            Transition::Complete { result: json!(1) },
            Transition::Fail { error: json!(1), message: None },
            Transition::Cancel { message: None },
        ] {
            let mut task = task(Status::Working);
            apply(&mut task, &end, at(200)).unwrap();
            assert_eq!(task.status_message.as_deref(), Some("before"));
        }
    }
}
