//! What a task may weigh.

use serde::Serialize;
use serde_json::Value;

use crate::limits::ID_BYTES;
use crate::tasks::{Call, Outcome, Task, TaskError, form};

/// What a worker itself has to say of a task always fits, whatever the bounds: a task that it could
/// not even fail would be at work until it expires.
const WORKER_MESSAGE_BYTES: usize = 256;
const WORKER_ERROR_BYTES: usize = 512;
const WORKER_ERROR_DEPTH: usize = 2;

/// Bounds of tasks. Together they stay below [`VALUE_BYTES`](crate::limits::VALUE_BYTES). A change is
/// held against them by what it changes: a task that was made under wider ones can still end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskLimits {
    /// How long a task is kept if nobody says.
    pub default_ttl_ms: u64,
    /// How long a task is kept at most; a longer wish is shortened to it.
    pub max_ttl_ms: u64,
    /// Unfinished tasks of one owner.
    pub unfinished_per_owner: u32,
    /// Bytes of the arguments and context of a call, as JSON.
    pub call_bytes: usize,
    /// Bytes of all variables of a task, as JSON.
    pub variables_bytes: usize,
    /// Bytes of all input requests and answers of a task, as JSON.
    pub inputs_bytes: usize,
    /// Bytes of a result or an error, as JSON; 512 at least.
    pub outcome_bytes: usize,
    /// Bytes of a status message; 256 at least.
    pub message_bytes: usize,
    /// Bytes of one string inside variables and inputs.
    pub string_bytes: usize,
    /// Nesting of variables, inputs, arguments and outcomes.
    pub depth: usize,
}

impl Default for TaskLimits {
    fn default() -> Self {
        Self {
            default_ttl_ms: 24 * 60 * 60 * 1_000,
            max_ttl_ms: 7 * 24 * 60 * 60 * 1_000,
            unfinished_per_owner: 1_000,
            call_bytes: 64 * 1_024,
            variables_bytes: 64 * 1_024,
            inputs_bytes: 64 * 1_024,
            outcome_bytes: 160 * 1_024,
            message_bytes: 1_024,
            string_bytes: 16 * 1_024,
            depth: 32,
        }
    }
}

impl TaskLimits {
    /// The time to live that a task gets for this wish. It is never 0: a task that is gone before
    /// anybody can see it is nobody's wish.
    #[must_use]
    pub fn ttl_ms(&self, wish: Option<u64>) -> u64 {
        wish.unwrap_or(self.default_ttl_ms).min(self.max_ttl_ms).max(1)
    }

    /// Holds a new task against the bounds.
    pub(crate) fn check(&self, task: &Task) -> Result<(), TaskError> {
        self.check_call(&task.call)?;
        self.check_message(task.status_message.as_deref())?;
        self.check_variables(task.variables.iter())?;
        at_most("variables", json_bytes(&task.variables), self.variables_bytes)?;
        self.check_outcome(task.outcome.as_ref())
    }

    /// Holds what a change of a task brought against the bounds, and against the forms that clients
    /// rely on. What was there before may be beyond them, if they were lowered since: the task can
    /// still go on and end.
    pub(crate) fn check_change(&self, before: &Task, task: &Task) -> Result<(), TaskError> {
        if task.status_message != before.status_message {
            self.check_message(task.status_message.as_deref())?;
        }
        if task.variables != before.variables {
            let changed = |name: &String, value| before.variables.get(name) != Some(value);
            self.check_variables(
                task.variables.iter().filter(|(name, value)| changed(name, value)),
            )?;
            let (size, size_before) = (json_bytes(&task.variables), json_bytes(&before.variables));
            at_most_or_less("variables", size, self.variables_bytes, size_before)?;
        }
        if task.inputs != before.inputs {
            self.check_changed_inputs(before, task)?;
        }
        self.check_outcome(task.outcome.as_ref())
    }

    fn check_call(&self, call: &Call) -> Result<(), TaskError> {
        at_most("tool", call.tool.len(), ID_BYTES)?;
        for value in call.arguments.values().chain([&call.context]) {
            check_shape("arguments", value, self.depth, usize::MAX)?;
        }
        at_most("call", json_bytes(call), self.call_bytes)
    }

    fn message_limit(&self) -> usize {
        self.message_bytes.max(WORKER_MESSAGE_BYTES)
    }

    /// As much of a status message as may be stored.
    pub(crate) fn cut_message(&self, mut message: String) -> String {
        message.truncate(message.floor_char_boundary(self.message_limit()));
        message
    }

    fn check_message(&self, message: Option<&str>) -> Result<(), TaskError> {
        let limit = self.message_limit();
        message.map_or(Ok(()), |message| at_most("status message", message.len(), limit))
    }

    fn check_variables<'a>(
        &self,
        mut variables: impl Iterator<Item = (&'a String, &'a Value)>,
    ) -> Result<(), TaskError> {
        variables.try_for_each(|(_, value)| {
            check_shape("variables", value, self.depth, self.string_bytes)
        })
    }

    /// New questions have to fit; those of wider limits can still be answered.
    fn check_changed_inputs(&self, before: &Task, task: &Task) -> Result<(), TaskError> {
        let mut answers_only = true;
        for (key, input) in &task.inputs {
            let known = before.inputs.get(key);
            if known.is_none() {
                answers_only = false;
                at_most("input key", key.len(), ID_BYTES)?;
                form::check_request(&input.request)?;
                check_shape("inputs", &input.request, self.depth, self.string_bytes)?;
            }
            if let Some(response) = &input.response
                && known.is_none_or(|it| it.response.is_none())
            {
                check_shape("inputs", response, self.depth, self.string_bytes)?;
            }
        }
        let (size, size_before) = (inputs_bytes(task), inputs_bytes(before));
        if answers_only && size_before > self.inputs_bytes {
            return at_most("inputs", size.saturating_sub(size_before), self.inputs_bytes);
        }
        at_most_or_less("inputs", size, self.inputs_bytes, size_before)
    }

    fn check_outcome(&self, outcome: Option<&Outcome>) -> Result<(), TaskError> {
        let Some(outcome) = outcome else { return Ok(()) };
        form::check_outcome(outcome)?;
        let (Outcome::Result(value) | Outcome::Error(value)) = outcome;
        check_shape("outcome", value, self.depth.max(WORKER_ERROR_DEPTH), usize::MAX)?;
        at_most("outcome", json_bytes(value), self.outcome_bytes.max(WORKER_ERROR_BYTES))
    }
}

fn check_shape(
    what: &'static str,
    value: &Value,
    depth: usize,
    string_bytes: usize,
) -> Result<(), TaskError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(TaskError::Invalid { what, reason: "nested too deep".into() });
    };
    match value {
        Value::String(text) => at_most(what, text.len(), string_bytes),
        Value::Array(items) => {
            items.iter().try_for_each(|item| check_shape(what, item, depth, string_bytes))
        }
        Value::Object(fields) => fields.iter().try_for_each(|(name, item)| {
            at_most(what, name.len(), string_bytes)?;
            check_shape(what, item, depth, string_bytes)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn at_most(what: &'static str, actual: usize, limit: usize) -> Result<(), TaskError> {
    if actual > limit {
        let reason = format!("{actual} bytes exceed the limit of {limit}");
        return Err(TaskError::Invalid { what, reason });
    }
    Ok(())
}

/// The same of what may be beyond the limit already, and may then only become less.
fn at_most_or_less(
    what: &'static str,
    actual: usize,
    limit: usize,
    before: usize,
) -> Result<(), TaskError> {
    at_most(what, actual, limit.max(before))
}

/// The size of all inputs. What is open counts as if it were withdrawn, so that it always can be.
fn inputs_bytes(task: &Task) -> usize {
    json_bytes(&task.inputs) + task.pending_inputs().count() * r#","withdrawn":true"#.len()
}

/// The size of a value as JSON, without building the text.
fn json_bytes(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither the sink nor the types of a task can fail to serialise.
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nesting_is_bounded_without_recursing_into_the_excess() {
        let mut value = json!(1);
        for _ in 0..31 {
            value = json!([value]);
        }
        assert!(check_shape("variables", &value, 32, 10).is_ok());
        assert!(check_shape("variables", &json!([value]), 32, 10).is_err());
    }

    #[test]
    fn a_ttl_has_a_default_and_a_maximum() {
        let limits = TaskLimits { default_ttl_ms: 5, max_ttl_ms: 10, ..TaskLimits::default() };
        assert_eq!(
            (limits.ttl_ms(None), limits.ttl_ms(Some(7)), limits.ttl_ms(Some(11))),
            (5, 7, 10)
        );
    }
}
