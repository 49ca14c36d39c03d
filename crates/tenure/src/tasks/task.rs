//! What a task is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::owner::Owner;
use crate::tasks::ordered;

/// Names a task within its owner's partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Arc<str>);

impl TaskId {
    /// A fresh id: a version 7 UUID, so ids of one owner sort by creation; 74 of its bits are random.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text form, shared instead of copied.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl<T: Into<Arc<str>>> From<T> for TaskId {
    /// Any text may be asked for; what no task has is simply not found.
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({:?})", self.0)
    }
}

/// Names a worker process; drawn at random when it starts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    /// A fresh id.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for WorkerId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// Where a task stands, as MCP names it (SEP-2663).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is queued or runs.
    Working,
    /// It waits for answers to its input requests.
    InputRequired,
    /// It has a result.
    Completed,
    /// It has an error.
    Failed,
    /// Its owner called it off.
    Cancelled,
}

impl Status {
    /// True for the states that a task never leaves.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::InputRequired => "input_required",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What to run, kept so that it can be run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The tool.
    pub tool: String,
    /// What it is called with.
    #[serde(default, skip_serializing_if = "Map::is_empty", serialize_with = "ordered::object")]
    pub arguments: Map<String, Value>,
    /// What else the protocol layer needs to make the call again. Tenure does not look inside.
    #[serde(default, skip_serializing_if = "Value::is_null", serialize_with = "ordered::value")]
    pub context: Value,
}

impl Call {
    /// A call of `tool` with `arguments`.
    #[must_use]
    pub fn new(tool: impl Into<String>, arguments: Map<String, Value>) -> Self {
        Self { tool: tool.into(), arguments, context: Value::Null }
    }
}

/// Whether a handler that may have had effects may be started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rerun {
    /// Once started it is never started again after a crash, which fails the task. Only its policy's
    /// retries, of attempts that ended, start it again. A start is on record before the handler is
    /// called, so the crash may have come first.
    #[default]
    Never,
    /// It may run again after a crash: it is idempotent, read-only, or resumes from its variables.
    AfterCrash,
}

/// What the execution of a task is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not started, or about to be started again: no handler has it in hands.
    Queued,
    /// The last attempt failed, and the status message is its word on that; another one follows.
    Retrying,
    /// A handler runs it.
    Running,
    /// Its handler returned to wait for input, and is called again when all is answered.
    Parked,
}

/// A request for input, and its answer once there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What is asked, in the protocol's form: an object with a string `method`.
    #[serde(serialize_with = "ordered::value")]
    pub request: Value,
    /// What was answered. The first answer stands.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "ordered::optional",
        deserialize_with = "ordered::present"
    )]
    pub response: Option<Value>,
    /// The tool no longer waits for an answer: the request is not shown any more, and a late answer is
    /// ignored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

impl Input {
    /// A request without an answer.
    #[must_use]
    pub fn new(request: Value) -> Self {
        Self { request, response: None, withdrawn: false }
    }

    /// Whether it waits for an answer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.response.is_none() && !self.withdrawn
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The result of a completed task, in the protocol's form: an object.
    Result(#[serde(serialize_with = "ordered::value")] Value),
    /// The error of a failed task, in the protocol's form: an object with an integer `code` and a
    /// string `message`.
    Error(#[serde(serialize_with = "ordered::value")] Value),
}

/// A snapshot of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// How often it was written; of two snapshots the one with the higher version is the later.
    #[serde(skip)]
    pub version: u64,
    /// Who it belongs to.
    pub owner: Owner,
    /// Where it stands.
    pub status: Status,
    /// The latest word on its progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_message: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How long it is kept, counted from its creation; `None` for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// How long a client is asked to wait between two polls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_interval_ms: Option<u64>,
    /// What it runs.
    pub call: Call,
    /// Whether it may be run again.
    pub rerun: Rerun,
    /// What its execution is up to.
    pub phase: Phase,
    /// How often a handler was started for it.
    pub attempt: u32,
    /// The worker that has it in its care. Together with the attempt it is the fence: a handler's
    /// write that names another worker or attempt is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// The handler's checkpoint.
    #[serde(default, skip_serializing_if = "Map::is_empty", serialize_with = "ordered::object")]
    pub variables: Map<String, Value>,
    /// Every input it ever asked for, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Input>,
    /// How it ended: a result if completed, an error if failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl Task {
    /// When the task is gone, finished or not.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.ttl_ms.map(|ttl_ms| self.created_at.plus_millis(ttl_ms))
    }

    /// The input requests that wait for an answer.
    pub fn pending_inputs(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.inputs
            .iter()
            .filter(|(_, input)| input.is_open())
            .map(|(key, input)| (key.as_str(), &input.request))
    }
}

/// What a task is created from.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// What to run.
    pub call: Call,
    /// How long to keep it; the store applies its default and its maximum.
    pub ttl_ms: Option<u64>,
    /// How long a client is asked to wait between two polls.
    pub poll_interval_ms: Option<u64>,
    /// Whether it may be run again.
    pub rerun: Rerun,
    /// Makes the create safe to repeat: the same owner with the same key gets the same task. Its id
    /// follows from both, and so does its place in a list.
    pub idempotency_key: Option<String>,
    /// The first status message.
    pub status_message: Option<String>,
}

impl NewTask {
    /// A task that runs `call` once and is kept as long as the store's default says.
    #[must_use]
    pub fn new(call: Call) -> Self {
        Self {
            call,
            ttl_ms: None,
            poll_interval_ms: None,
            rerun: Rerun::Never,
            idempotency_key: None,
            status_message: None,
        }
    }
}

/// Which task a write is for, and on behalf of whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TaskRef {
    /// Whose task.
    pub owner: Owner,
    /// Which one.
    pub id: TaskId,
    /// Set when a handler writes: if another worker or attempt has taken over, it is refused.
    pub fence: Option<Fence>,
}

/// One worker's one attempt at a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The worker.
    pub worker: WorkerId,
    /// Its attempt.
    pub attempt: u32,
}

impl Fence {
    pub(crate) fn admits(&self, task: &Task) -> bool {
        task.attempt == self.attempt && task.worker.as_ref() == Some(&self.worker)
    }
}

impl TaskRef {
    /// The task `id` of `owner`, whoever works on it.
    #[must_use]
    pub fn new(owner: Owner, id: impl Into<TaskId>) -> Self {
        Self { owner, id: id.into(), fence: None }
    }

    /// The same task, but only while `worker` is in this attempt at it.
    #[must_use]
    pub fn fenced(mut self, worker: WorkerId, attempt: u32) -> Self {
        self.fence = Some(Fence { worker, attempt });
        self
    }
}
