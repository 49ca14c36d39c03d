//! Tasks that the server itself starts.

// Sampling and roots are deprecated, and still to be asked for.
#![expect(deprecated)]

use rmcp::ServerHandler;
use rmcp::model::{
    ClientCapabilities, ElicitationCapability, FormElicitationCapability, UrlElicitationCapability,
};
use serde_json::{Map, Value};
use tenure::Owner;
use tenure::tasks::{Call, NewTask, Task, TaskError};

use crate::mcp::convert::CallContext;
use crate::mcp::policy::{TaskPolicy, TaskSupport};
use crate::mcp::wrapper::DurableServer;

impl<H: ServerHandler> DurableServer<H> {
    /// Runs a tool as a task of `owner`, with no client attached, on the terms that were declared
    /// for it.
    ///
    /// What the tool asks for waits for whoever answers it through `tasks/update`: any client of the
    /// owner, who finds the task under `/v1/tasks`, or is told its id.
    ///
    /// ```
    /// # use rmcp::ServerHandler;
    /// # async fn nightly<H: ServerHandler>(
    /// #     server: tenure_mcp::DurableServer<H>,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let arguments = serde_json::from_value(serde_json::json!({ "section": "sales" }))?;
    /// let task = server.submit(&tenure::Owner::new("alice")?, "report", arguments).await?;
    /// println!("{} is {}", task.id, task.status);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TaskError::Invalid`] for a tool that is not declared, or is declared as never a task; and as
    /// [`Worker::submit`](tenure::runtime::Worker::submit).
    pub async fn submit(
        &self,
        owner: &Owner,
        tool: impl Into<String>,
        arguments: Map<String, Value>,
    ) -> Result<Task, TaskError> {
        let mut call = Call::new(tool, arguments);
        let policy = self.shared.tools.get(&call.tool);
        let policy = policy.filter(|policy| policy.support != TaskSupport::Never);
        let policy = policy.ok_or_else(|| TaskError::Invalid {
            what: "tool",
            reason: format!("{:?} is not declared as one that runs as a task", call.tool),
        })?;
        let context = CallContext { client_capabilities: anybody(), ..CallContext::default() };
        call.context = serde_json::to_value(context)
            .map_err(|error| TaskError::Invalid { what: "context", reason: error.to_string() })?;
        self.shared.worker.submit(owner, self.on_terms(policy, call)).await
    }

    /// The task of a call on the terms of its tool.
    pub(super) fn on_terms(&self, policy: &TaskPolicy, call: Call) -> NewTask {
        let tool = self.shared.inner.get_tool(&call.tool);
        let mut new = NewTask::new(call);
        new.rerun = policy.rerun(tool.as_ref());
        new.ttl_ms = policy.ttl_ms;
        new.poll_interval_ms = Some(policy.poll_interval_ms);
        new
    }
}

/// What can be asked of a client that is not known yet: everything. Nobody has declared otherwise.
fn anybody() -> ClientCapabilities {
    let mut capabilities = ClientCapabilities::builder()
        .enable_roots()
        .enable_sampling()
        .enable_sampling_tools()
        .enable_sampling_context()
        .build();
    let elicitation = ElicitationCapability::new()
        .with_form(FormElicitationCapability::new())
        .with_url(UrlElicitationCapability::default());
    capabilities.elicitation = Some(elicitation);
    capabilities
}
