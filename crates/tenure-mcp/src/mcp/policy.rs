//! How a tool takes part in tasks.

use rmcp::model::Tool;
use tenure::runtime::Policy;
use tenure::tasks::Rerun;

/// Whether a call of a tool becomes a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskSupport {
    /// Never: the call is answered inline.
    Never,
    /// A task for clients that declared the extension, inline for the others.
    Optional,
    /// Always: a client without the extension is refused with -32021 before the tool runs.
    Required,
}

/// How a tool takes part in tasks.
///
/// Unless it says otherwise, the tool's annotations decide whether it may be run again after a
/// crash: `readOnlyHint` and `idempotentHint` allow it, their absence does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPolicy {
    pub(crate) support: TaskSupport,
    pub(crate) rerun: Option<Rerun>,
    pub(crate) input_first: bool,
    pub(crate) max_attempts: u32,
    pub(crate) backoff_ms: u64,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) poll_interval_ms: u64,
}

impl TaskPolicy {
    fn new(support: TaskSupport) -> Self {
        Self {
            support,
            rerun: None,
            input_first: false,
            max_attempts: 1,
            backoff_ms: 1_000,
            ttl_ms: None,
            poll_interval_ms: 1_000,
        }
    }

    /// A task for clients that declared the extension, inline for the others.
    #[must_use]
    pub fn optional() -> Self {
        Self::new(TaskSupport::Optional)
    }

    /// Always a task; a client without the extension is refused before the tool runs.
    #[must_use]
    pub fn required() -> Self {
        Self::new(TaskSupport::Required)
    }

    /// Never a task, as every tool that is not named.
    #[must_use]
    pub fn never() -> Self {
        Self::new(TaskSupport::Never)
    }

    /// The tool may be started again after a crash: it is idempotent, or resumes from its
    /// variables.
    #[must_use]
    pub fn rerun_after_crash(mut self) -> Self {
        self.rerun = Some(Rerun::AfterCrash);
        self
    }

    /// The tool is not started again after a crash, whatever its annotations say: a crash fails its
    /// task.
    #[must_use]
    pub fn never_rerun(mut self) -> Self {
        self.rerun = Some(Rerun::Never);
        self
    }

    /// The tool's first call runs inline, so that it can ask for input before there is a task. The
    /// call that brings the answers becomes the task.
    #[must_use]
    pub fn input_first(mut self) -> Self {
        self.input_first = true;
        self
    }

    /// A call that fails with an internal error (-32603) or a panic is made again, up to
    /// `max_attempts` in all, the first time after `backoff_ms`. This is about calls that ended: one
    /// that a crash cut off is made again only if the tool may be rerun.
    #[must_use]
    pub fn retry(mut self, max_attempts: u32, backoff_ms: u64) -> Self {
        self.max_attempts = max_attempts.max(1);
        self.backoff_ms = backoff_ms;
        self
    }

    /// How long a task of this tool is kept, counted from its creation: the time that it waits and
    /// runs is part of it. One that is not finished by then is stopped, and gone.
    #[must_use]
    pub fn ttl_ms(mut self, ttl_ms: u64) -> Self {
        self.ttl_ms = Some(ttl_ms);
        self
    }

    /// How long clients are asked to wait between two polls.
    #[must_use]
    pub fn poll_interval_ms(mut self, poll_interval_ms: u64) -> Self {
        self.poll_interval_ms = poll_interval_ms;
        self
    }

    /// Settles what was left to the tool's annotations.
    pub(crate) fn rerun(&self, tool: Option<&Tool>) -> Rerun {
        self.rerun.unwrap_or_else(|| {
            let annotations = tool.and_then(|tool| tool.annotations.as_ref());
            let harmless = annotations.is_some_and(|annotations| {
                annotations.read_only_hint == Some(true)
                    || annotations.idempotent_hint == Some(true)
            });
            if harmless { Rerun::AfterCrash } else { Rerun::Never }
        })
    }

    pub(crate) fn execution(&self, tool: Option<&Tool>) -> Policy {
        Policy {
            rerun: self.rerun(tool),
            max_attempts: self.max_attempts,
            backoff_ms: self.backoff_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{JsonObject, ToolAnnotations};

    use super::*;

    #[test]
    fn annotations_decide_whether_a_tool_may_run_again_unless_the_policy_does() {
        let annotated =
            |annotations| Tool::new("t", "t", JsonObject::new()).with_annotations(annotations);
        let idempotent = annotated(ToolAnnotations::new().idempotent(true));
        let read_only = annotated(ToolAnnotations::new().read_only(true));
        let other = annotated(ToolAnnotations::new().destructive(false));
        let policy = TaskPolicy::optional();
        assert_eq!(policy.rerun(Some(&idempotent)), Rerun::AfterCrash);
        assert_eq!(policy.rerun(Some(&read_only)), Rerun::AfterCrash);
        assert_eq!(policy.rerun(Some(&other)), Rerun::Never);
        assert_eq!(policy.rerun(None), Rerun::Never);
        assert_eq!(policy.clone().rerun_after_crash().rerun(None), Rerun::AfterCrash);
        assert_eq!(policy.never_rerun().rerun(Some(&idempotent)), Rerun::Never);
    }
}
