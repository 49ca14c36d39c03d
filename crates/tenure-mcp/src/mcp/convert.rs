//! Between the library's tasks and those of the protocol.

use rmcp::ErrorData;
use rmcp::model::{
    ClientCapabilities, ClientResult, DetailedTask, InputRequest, InputRequests, InputResponses,
    JsonObject, Task as WireTask, TaskPayload, TaskStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenure::clock::Timestamp;
use tenure::tasks::{Outcome, Status, Task};

use crate::mcp::error::unfit;
use crate::mcp::form;

/// What is stored with a call besides tool and arguments: all that a later run cannot learn from
/// a client, because there is none any more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CallContext {
    pub(crate) client_capabilities: ClientCapabilities,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) input_responses: Option<InputResponses>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_state: Option<String>,
}

impl CallContext {
    /// A task that another program has written need not have one: then nobody can be asked anything.
    pub(crate) fn restore(stored: &Value) -> Result<Self, ErrorData> {
        if stored.is_null() {
            return Ok(Self::default());
        }
        Self::deserialize(stored).map_err(|error| unfit("the context of the call", error))
    }
}

/// A task without what it asks for or what became of it.
pub(crate) fn summary(task: &Task) -> WireTask {
    let status = match task.status {
        Status::Working => TaskStatus::Working,
        Status::InputRequired => TaskStatus::InputRequired,
        Status::Completed => TaskStatus::Completed,
        Status::Failed => TaskStatus::Failed,
        Status::Cancelled => TaskStatus::Cancelled,
    };
    let mut wire =
        WireTask::new(task.id.as_str(), status, rfc3339(task.created_at), rfc3339(task.updated_at));
    wire.status_message.clone_from(&task.status_message);
    wire.ttl_ms = task.ttl_ms;
    wire.poll_interval_ms = task.poll_interval_ms;
    wire
}

/// A task with its open questions, its result or its error.
pub(crate) fn detailed(task: Task) -> Result<DetailedTask, ErrorData> {
    let wire = summary(&task);
    let payload = match task.status {
        Status::Working => TaskPayload::Working,
        Status::InputRequired => TaskPayload::InputRequired { input_requests: pending(&task)? },
        Status::Completed => TaskPayload::Completed { result: outcome(task)? },
        Status::Failed => TaskPayload::Failed { error: outcome(task)? },
        Status::Cancelled => TaskPayload::Cancelled,
    };
    Ok(DetailedTask::new(wire, payload))
}

fn pending(task: &Task) -> Result<InputRequests, ErrorData> {
    task.pending_inputs()
        .map(|(key, request)| {
            let request = InputRequest::deserialize(request)
                .map_err(|error| unfit("an input request", error))?;
            Ok((key.to_owned(), request))
        })
        .collect()
}

fn outcome(task: Task) -> Result<JsonObject, ErrorData> {
    match task.outcome {
        Some(Outcome::Result(Value::Object(fields)) | Outcome::Error(Value::Object(fields))) => {
            Ok(fields)
        }
        _ => Err(unfit("the outcome of the task", "it is not an object")),
    }
}

/// Reads `response` as the result of the stored `request`, and refuses what cannot be one.
pub(crate) fn check_response(request: &Value, response: &Value) -> Result<(), ErrorData> {
    let request =
        InputRequest::deserialize(request).map_err(|error| unfit("an input request", error))?;
    let answer = client_result(&request, response.clone())?;
    form::check_answer(&request, &answer)
        .map_err(|misfit| ErrorData::invalid_params(misfit.to_string(), None))
}

/// The answer to `request` as the SDK hands it to a tool.
pub(crate) fn client_result(
    request: &InputRequest,
    value: Value,
) -> Result<ClientResult, ErrorData> {
    let result = match request {
        InputRequest::Elicitation(_) => {
            Deserialize::deserialize(value).map(ClientResult::ElicitResult)
        }
        InputRequest::CreateMessage(_) => Deserialize::deserialize(value)
            .map(|result| ClientResult::CreateMessageResult(Box::new(result))),
        _ => Deserialize::deserialize(value).map(ClientResult::ListRootsResult),
    };
    result.map_err(|error| ErrorData::invalid_params(error.to_string(), None))
}

/// Whether a client with these capabilities can be asked this.
pub(crate) fn can_answer(capabilities: &ClientCapabilities, request: &InputRequest) -> bool {
    match request {
        InputRequest::Elicitation(_) => capabilities.elicitation.is_some(),
        InputRequest::CreateMessage(_) => capabilities.sampling.is_some(),
        InputRequest::ListRoots(_) => capabilities.roots.is_some(),
        _ => false,
    }
}

/// The stored form of a request. Its `_meta` names things of one session, such as a progress
/// token that counts up; with it, the same question would never be the same twice.
pub(crate) fn stored_request(request: &InputRequest) -> Result<Value, ErrorData> {
    let mut value =
        serde_json::to_value(request).map_err(|error| unfit("an input request", error))?;
    if let Some(Value::Object(params)) = value.get_mut("params") {
        params.remove("_meta");
    }
    Ok(value)
}

/// As `2026-07-28T12:00:00.123Z`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    // Years beyond 9999 have no such form; nobody's clock is there.
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_three_digits_and_a_z() {
        let text = |millis| rfc3339(Timestamp::from_millis(millis));
        assert_eq!(text(1_785_240_000_123), "2026-07-28T12:00:00.123Z");
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert!(text(u64::MAX).ends_with("Z"));
    }
}
