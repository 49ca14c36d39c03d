//! A tool that asks by returning: each `input_required` ends a round, and the next call brings the
//! answers and the tool's own state. All of it is data in the task, so it survives a restart.

use std::collections::BTreeMap;

use rmcp::ErrorData;
use rmcp::model::{CallToolRequestParams, ClientCapabilities, InputRequiredResult, InputResponses};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tenure::tasks::Task;

use crate::mcp::convert::{CallContext, can_answer, stored_request};
use crate::mcp::error::unfit;

/// The variable that holds the round. Its prefix is kept from tools by convention.
const VARIABLE: &str = "io.tenure/round";
/// Calls of one tool for one task. A tool that always wants another one does not end by itself.
const MAX_ROUNDS: u32 = 1_000;

/// How far the questions and answers have come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Round {
    /// Rounds that have ended.
    number: u32,
    /// The task's key of each question of the last round, by the tool's key.
    keys: BTreeMap<String, String>,
    /// What the tool wants back.
    request_state: Option<String>,
}

/// What a round leaves behind: questions for the client, if any, and a variable.
#[derive(Debug)]
pub(crate) struct Questions {
    pub(crate) requests: Map<String, Value>,
    pub(crate) variables: Map<String, Value>,
}

impl Round {
    pub(crate) fn restore(task: &Task) -> Result<Self, ErrorData> {
        task.variables.get(VARIABLE).map_or_else(
            || Ok(Self::default()),
            |stored| Self::deserialize(stored).map_err(|error| unfit(VARIABLE, error)),
        )
    }

    /// The call that opens the next round.
    pub(crate) fn request(&self, task: &Task, context: &CallContext) -> CallToolRequestParams {
        let mut request = CallToolRequestParams::new(task.call.tool.clone())
            .with_arguments(task.call.arguments.clone());
        if self.number == 0 {
            request.input_responses.clone_from(&context.input_responses);
            request.request_state.clone_from(&context.request_state);
        } else {
            request.input_responses = Some(self.answers(task));
            request.request_state.clone_from(&self.request_state);
        }
        request
    }

    fn answers(&self, task: &Task) -> InputResponses {
        let answer = |key| task.inputs.get(key).and_then(|input| input.response.clone());
        self.keys.iter().filter_map(|(name, key)| Some((name.clone(), answer(key)?))).collect()
    }

    /// Ends the round with what the tool returned. Its keys get the number of the round in front:
    /// a key is never used twice in the life of a task, whatever the tool calls its questions.
    pub(crate) fn end(
        &mut self,
        asked: InputRequiredResult,
        capabilities: &ClientCapabilities,
    ) -> Result<Questions, ErrorData> {
        self.number += 1;
        if self.number > MAX_ROUNDS {
            return Err(ErrorData::internal_error("the tool asks without end", None));
        }
        self.request_state = asked.request_state;
        self.keys.clear();
        let mut requests = Map::new();
        for (name, request) in asked.input_requests.unwrap_or_default() {
            if !can_answer(capabilities, &request) {
                return Err(cannot_ask());
            }
            let key = format!("r{}.{name}", self.number);
            requests.insert(key.clone(), stored_request(&request)?);
            self.keys.insert(name, key);
        }
        let variable = serde_json::to_value(&*self).map_err(|error| unfit(VARIABLE, error))?;
        let variables = Map::from_iter([(VARIABLE.to_owned(), variable)]);
        Ok(Questions { requests, variables })
    }

    /// How long to wait before a round that asked for nothing but to be called again.
    pub(crate) fn pause_ms(&self) -> u64 {
        (100 << self.number.min(8)).min(10_000)
    }
}

/// The tool asks for something that the client said it cannot give.
pub(crate) fn cannot_ask() -> ErrorData {
    ErrorData::invalid_request("the client did not declare that it can be asked for this", None)
}
