//! A table for people, a document a line for programs.

use std::io::Write as _;

use tenure_mcp::http::tasks::TaskDocument;

use crate::error::printable;

pub(crate) struct Output {
    json: bool,
    headed: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, headed: false }
    }

    /// One line of a list.
    pub(crate) fn row(&mut self, task: &TaskDocument) {
        if self.json {
            return self.document(task);
        }
        if !self.headed {
            print_line(&format!(
                "{:<36}  {:<14}  {:<24}  {:<16}  MESSAGE",
                "TASK", "STATUS", "UPDATED", "TOOL"
            ));
            self.headed = true;
        }
        print_line(&format!(
            "{:<36}  {:<14}  {:<24}  {:<16}  {}",
            printable(&task.id),
            printable(&task.status),
            printable(&task.updated_at),
            printable(&task.tool),
            printable(task.status_message.as_deref().unwrap_or(""))
        ));
    }

    /// All of one task.
    pub(crate) fn task(&self, task: &TaskDocument) {
        if self.json {
            return self.document(task);
        }
        let line =
            |name: &str, value: &str| print_line(&format!("{name:<12} {}", printable(value)));
        line("task", &task.id);
        line("status", &task.status);
        if let Some(message) = &task.status_message {
            line("message", message);
        }
        line("tool", &task.tool);
        line("arguments", &json_of(&task.arguments));
        line("attempt", &task.attempt.to_string());
        line("created", &task.created_at);
        line("updated", &task.updated_at);
        if let Some(expires_at) = &task.expires_at {
            line("expires", expires_at);
        }
        if !task.variables.is_empty() {
            line("variables", &json_of(&task.variables));
        }
        for (key, request) in &task.input_requests {
            line(&format!("asks {key}"), &request.to_string());
        }
        for (name, value) in [("result", &task.result), ("error", &task.error)] {
            if let Some(value) = value {
                line(name, &value.to_string());
            }
        }
    }

    /// A remark, which is no part of the result.
    pub(crate) fn note(&self, text: &str) {
        eprintln!("tenure: {}", printable(text));
    }

    fn document(&self, task: &TaskDocument) {
        print_line(&json_of(task));
    }
}

/// The types of a document cannot fail to serialise.
fn json_of(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A reader that has seen enough, such as `head`, ends the program quietly.
fn print_line(line: &str) {
    if writeln!(std::io::stdout().lock(), "{line}").is_err() {
        std::process::exit(0);
    }
}
