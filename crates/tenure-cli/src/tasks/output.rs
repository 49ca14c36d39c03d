//! A table for people, a document a line for programs.

use serde_json::Value;
use tenure_mcp::http::tasks::TaskDocument;

use crate::error::CliError;
use crate::output::{document, json, line};

pub(crate) struct Output {
    json: bool,
    headed: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, headed: false }
    }

    /// One line of a list.
    pub(crate) fn row(&mut self, task: &TaskDocument) -> Result<(), CliError> {
        if self.json {
            return document(task);
        }
        if !self.headed {
            columns("TASK", "STATUS", "UPDATED", "TOOL", "MESSAGE")?;
            self.headed = true;
        }
        let message = task.status_message.as_deref().unwrap_or("");
        columns(&task.id, &task.status, &task.updated_at, &task.tool, message)
    }

    /// All of one task.
    pub(crate) fn task(&self, task: &TaskDocument) -> Result<(), CliError> {
        if self.json {
            return document(task);
        }
        field("task", &task.id)?;
        field("status", &task.status)?;
        if let Some(message) = &task.status_message {
            field("message", message)?;
        }
        field("tool", &task.tool)?;
        field("arguments", &json(&task.arguments)?)?;
        for (name, value) in [("phase", &task.phase), ("worker", &task.worker)] {
            if let Some(value) = value {
                field(name, value)?;
            }
        }
        field("attempt", &task.attempt.to_string())?;
        field("created", &task.created_at)?;
        field("updated", &task.updated_at)?;
        if let Some(expires_at) = &task.expires_at {
            field("expires", expires_at)?;
        }
        if !task.variables.is_empty() {
            field("variables", &json(&task.variables)?)?;
        }
        for (key, request) in &task.input_requests {
            match request.pointer("/params/message").and_then(Value::as_str) {
                Some(message) => field(&format!("asks {key}"), message)?,
                None => field(&format!("asks {key}"), &request.to_string())?,
            }
            if let Some(form) = request.pointer("/params/requestedSchema") {
                field(&format!("form {key}"), &form.to_string())?;
            }
        }
        for (name, value) in [("result", &task.result), ("error", &task.error)] {
            if let Some(value) = value {
                field(name, &value.to_string())?;
            }
        }
        Ok(())
    }
}

fn columns(
    id: &str,
    status: &str,
    updated: &str,
    tool: &str,
    message: &str,
) -> Result<(), CliError> {
    line(&format!("{id:<36}  {status:<14}  {updated:<24}  {tool:<16}  {message}"))
}

fn field(name: &str, value: &str) -> Result<(), CliError> {
    line(&format!("{name:<12} {value}"))
}
