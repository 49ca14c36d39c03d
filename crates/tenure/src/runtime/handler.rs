//! What a worker runs.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::runtime::TaskContext;
use crate::tasks::Rerun;

/// Runs the tools of a process.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The terms on which a tool runs; `None` if this process does not have it, so that its tasks
    /// are left to a worker that has.
    fn policy(&self, tool: &str) -> Option<Policy>;

    /// Runs a task from its variables to its end, or to the next input.
    ///
    /// When [`TaskContext::cancellation`] fires it should return soon, with anything; after a
    /// grace period it is dropped at its next await. A panic is a retryable failure: it fails the task
    /// unless the policy allows another attempt.
    async fn run(&self, task: TaskContext) -> Result<Exit, Failure>;
}

/// The terms on which a tool runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether it may be started again after a crash.
    pub rerun: Rerun,
    /// Attempts before a retryable failure, or a panic, is final. 1 never retries.
    pub max_attempts: u32,
    /// The wait before the second attempt; it doubles with each further one, up to 5 minutes.
    pub backoff_ms: u64,
}

impl Default for Policy {
    /// Once, never again.
    fn default() -> Self {
        Self { rerun: Rerun::Never, max_attempts: 1, backoff_ms: 1_000 }
    }
}

impl Policy {
    /// A tool that may run again after a crash.
    #[must_use]
    pub fn rerun_after_crash() -> Self {
        Self { rerun: Rerun::AfterCrash, ..Self::default() }
    }

    /// The wait after the attempt `attempt` has failed.
    pub(crate) fn backoff_ms(&self, attempt: u32) -> u64 {
        let doublings = attempt.saturating_sub(1).min(32);
        self.backoff_ms.saturating_mul(1 << doublings).min(5 * 60 * 1_000)
    }
}

/// How an attempt ended well.
#[derive(Debug, Clone, PartialEq)]
pub enum Exit {
    /// With the result of the task, an object. What is none fails the task.
    Complete(Value),
    /// With questions. [`Handler::run`] is called again, as the next attempt, once all of them
    /// are answered. Until then the task occupies no slot, and it survives any crash, whatever
    /// its [`Rerun`] says: nothing runs.
    Park {
        /// What is asked, by keys that the task has not used before: objects with a string `method`,
        /// and for clients of MCP each an `InputRequest`. Others fail the task.
        requests: Map<String, Value>,
        /// Changes of the variables, in the same write.
        variables: Map<String, Value>,
    },
}

/// How an attempt ended badly.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The error, in the protocol's form: an object with an integer `code` and a string `message`.
    /// For one of another form, clients are told that the output was refused.
    pub error: Value,
    /// A word for people. A longer one than the limit is cut.
    pub message: Option<String>,
    /// Whether another attempt may help. The tool's [`Policy`] says how many there are.
    pub retryable: bool,
}

impl Failure {
    /// A final failure.
    #[must_use]
    pub fn new(error: Value, message: impl Into<String>) -> Self {
        Self { error, message: Some(message.into()), retryable: false }
    }

    /// A failure that another attempt may not meet.
    #[must_use]
    pub fn retryable(error: Value, message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::new(error, message) }
    }

    /// What the worker itself has to say, in the shape of a JSON-RPC internal error, which is what
    /// clients of a failed task are told to expect.
    pub(crate) fn of_worker(message: impl Into<String>) -> Self {
        let message = message.into();
        let error = serde_json::json!({ "code": -32603, "message": message });
        Self::new(error, message)
    }
}
