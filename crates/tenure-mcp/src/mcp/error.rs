//! What clients of MCP are told when an operation on a task fails. For resources it is
//! [`failed`](crate::mcp::resources::failed); what both say of the store is [`Trouble`].
//!
//! | what happened | code |
//! |---|---|
//! | no such task: unknown, expired or somebody else's | -32602, `unknown task: ID` |
//! | malformed parameters, beyond a limit, another call under a used idempotency key | -32602 |
//! | the owner has too many unfinished tasks | -32600, `retryable` |
//! | the queue is full, the server is shutting down, the store is out of reach | -32603, `retryable` |
//! | the store is read-only, full or damaged | -32603 |
//! | the answer to a write was lost, or does not come in time: `it is unknown whether …` | -32603, not `retryable` |
//! | the tasks extension was not declared | -32021 |
//!
//! Whatever is the server's fault goes to the log with its causes, and to the client without them:
//! keys, paths and owners are nobody else's business.

use rmcp::ErrorData;
use rmcp::model::ClientCapabilities;
use serde_json::json;
use tenure::Chain;
use tenure::limits::ID_BYTES;
use tenure::tasks::TaskError;

use crate::trouble::Trouble;

/// The one answer to an id that is not a task of the caller. An id that is too long to be one is
/// cut, so that the answer stays small.
pub(crate) fn unknown_task(id: &str) -> ErrorData {
    ErrorData::invalid_params(format!("unknown task: {}", cut(id, ID_BYTES)), None)
}

/// The client did not declare the tasks extension.
pub(crate) fn tasks_not_declared() -> ErrorData {
    ErrorData::missing_required_client_capability(
        ClientCapabilities::builder().enable_tasks().build(),
    )
}

/// What a client is told about a failed operation on the task `id`.
pub(crate) fn of_task(id: &str, error: TaskError) -> ErrorData {
    match error {
        TaskError::NotFound => unknown_task(id),
        error => of_call(error),
    }
}

/// What a client is told about a failed operation.
pub(crate) fn of_call(error: TaskError) -> ErrorData {
    let retryable = error.is_retryable();
    if !error.is_client_fault() {
        tracing::error!(error = %Chain(&error), retryable, "a task operation failed");
    }
    let message = match &error {
        TaskError::QuotaExceeded { .. } => {
            return ErrorData::invalid_request(
                error.to_string(),
                Some(json!({ "retryable": true })),
            );
        }
        error if error.is_client_fault() => {
            return ErrorData::invalid_params(error.to_string(), None);
        }
        TaskError::Store(error) => Trouble::of(error).message("the task store"),
        TaskError::Unreadable { id, .. } => format!("task {id} cannot be read"),
        error => error.to_string(),
    };
    ErrorData::internal_error(message, Some(json!({ "retryable": retryable })))
}

/// The store does not answer.
pub(crate) fn unavailable() -> ErrorData {
    let retryable = Some(json!({ "retryable": true }));
    ErrorData::internal_error(Trouble::Unavailable.message("the store"), retryable)
}

/// A value that ought to serialise did not, or did not come back as what it was.
pub(crate) fn unfit(what: &str, error: impl std::fmt::Display) -> ErrorData {
    tracing::error!(what, %error, "a value has an unexpected form");
    ErrorData::internal_error(format!("{what} has an unexpected form"), None)
}

/// The first `bytes` bytes of a text, or a little less: no character is torn apart.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use rmcp::model::ErrorCode;
    use tenure::store::StoreError;

    use super::*;

    #[test]
    fn the_causes_of_a_store_failure_stay_in_the_log() {
        let error = of_call(TaskError::Store(StoreError::Unavailable {
            reason: "GET {tasks:alice}:17 from 10.0.0.1".into(),
            source: Some("password rejected".into()),
        }));
        assert_eq!(error.code, ErrorCode::INTERNAL_ERROR);
        assert_eq!(error.message, "the task store is unavailable");
        assert_eq!(error.data, Some(json!({ "retryable": true })));
    }

    #[test]
    fn the_fault_of_a_client_is_told_from_the_fault_of_the_server() {
        let codes = [
            TaskError::QuotaExceeded { limit: 3 },
            TaskError::IdempotencyMismatch,
            TaskError::QueueFull { limit: 3 },
            TaskError::ShuttingDown,
            TaskError::Store(StoreError::Full(None)),
        ]
        .map(|error| of_call(error).code.0);
        assert_eq!(codes, [-32600, -32602, -32603, -32603, -32603]);
    }

    #[test]
    fn an_absurd_id_is_cut_at_a_character() {
        let message = unknown_task(&"é".repeat(1_000_000)).message;
        assert_eq!(message, format!("unknown task: {}", "é".repeat(64)));
        assert_eq!(unknown_task(&format!("a{}", "é".repeat(99))).message.len(), 14 + 127);
    }
}
