//! What goes wrong, and the exit code that tells a script so.

use std::path::PathBuf;
use std::time::Duration;

use tenure::Chain;
use tenure::resources::ResourceError;
use tenure::store::StoreError;
use tenure::tasks::TaskError;
use tenure_mcp::OpenError;
use tenure_mcp::http::ServeError;
use tenure_mcp::identity::CallersError;

/// Why the program stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("there is no such task of the owner {owner:?}; --owner names another")]
    NoTask { owner: String },
    #[error("{0}")]
    Usage(String),
    #[error("interrupted")]
    Interrupted,
    #[error("{}", changed(.current.as_deref()))]
    Changed { current: Option<String> },
    #[error("the resource exists already: its ETag is {current}")]
    Exists { current: String },
    #[error(transparent)]
    Resource(ResourceError),
    #[error("{}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Value(String),
    #[error("{}your version is kept in {}", before(.earlier), .path.display())]
    Kept { path: PathBuf, earlier: Vec<PathBuf>, source: Box<CliError> },
    #[error(transparent)]
    Task(TaskError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no file {0}")]
    NoStore(String),
    #[error("the store {store} cannot be opened")]
    Open { store: String, source: Box<CliError> },
    #[error("the worker cannot be started")]
    Worker(#[source] TaskError),
    #[error(transparent)]
    Start(OpenError),
    #[error(transparent)]
    Callers(#[from] CallersError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("cannot listen on {address}")]
    Listen { address: String, source: std::io::Error },
    #[error("standard input or output failed")]
    Stdio(#[from] std::io::Error),
    #[error("requests cannot be sent from here")]
    Client(#[source] reqwest::Error),
    #[error("the server at {url} cannot be reached")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("the server cannot answer at the moment: {0}")]
    Busy(String),
    #[error("the server at {url} does not answer; gave up after {} s", .waited.as_secs())]
    Silent { url: String, waited: Duration },
    #[error("the server at {url} did not answer: the change may or may not have happened")]
    InDoubt { url: String, source: Option<reqwest::Error> },
    #[error("there is no Tenure server at {0}")]
    NoServer(String),
    #[error("the server refuses the token, or the token does not allow this")]
    NotAllowed,
    #[error("the server needs a token: --token or TENURE_TOKEN")]
    NeedsToken,
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    AlreadyEnded(String),
    #[error("the task failed")]
    TaskFailed,
    #[error("the task was cancelled")]
    TaskCancelled,
    #[error("the server's answer is not understood")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<TaskError> for CliError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::NotFound => Self::NotFound("task"),
            TaskError::Finished { .. } => Self::AlreadyEnded(error.to_string()),
            TaskError::Store(error) => Self::Store(error),
            other => Self::Task(other),
        }
    }
}

impl From<ResourceError> for CliError {
    fn from(error: ResourceError) -> Self {
        match error {
            ResourceError::NotFound => Self::NotFound("resource"),
            ResourceError::ETagMismatch { current, .. }
            | ResourceError::AlreadyExists { current, .. } => {
                Self::Changed { current: Some(current.to_string()) }
            }
            ResourceError::Store(error) => Self::Store(error),
            other => Self::Resource(other),
        }
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => Self::Store(error),
            OpenError::Worker(error) => Self::Worker(error),
            other => Self::Start(other),
        }
    }
}

impl CliError {
    /// The same of opening a store, which it names. A location that is none names itself.
    pub(crate) fn opening(self, store: String) -> Self {
        match self {
            Self::Store(StoreError::InvalidLocation(_)) => self,
            other => Self::Open { store, source: Box::new(other) },
        }
    }

    /// The same of a change that was to make something new.
    pub(crate) fn creating(self) -> Self {
        match self {
            Self::Changed { current: Some(current) } => Self::Exists { current },
            other => other,
        }
    }
}

fn changed(current: Option<&str>) -> String {
    match current {
        Some(etag) => format!("the resource is not the one expected: its ETag is {etag}"),
        None => "the resource is not the one expected: there is none".into(),
    }
}

fn before(earlier: &[PathBuf]) -> String {
    let earlier: Vec<_> = earlier.iter().map(|it| it.display().to_string()).collect();
    match earlier.as_slice() {
        [] => String::new(),
        _ => format!("what you wrote before is kept in {}, and ", earlier.join(", ")),
    }
}

impl CliError {
    /// The error and its causes in one line, safe to print to a terminal.
    pub(crate) fn describe(&self) -> String {
        printable(&Chain(self).to_string())
    }

    /// Whether the same may go well with another resource.
    pub(crate) fn is_about_one_resource(&self) -> bool {
        matches!(
            self,
            Self::Changed { .. }
                | Self::Resource(_)
                | Self::Refused(_)
                | Self::Value(_)
                | Self::File { .. }
        )
    }

    /// Whether who reads the output, such as `head`, has seen enough. That is no failure.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Stdio(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Documented in the help of the program.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Kept { source, .. } | Self::Open { source, .. } => source.exit_code(),
            Self::Usage(_) | Self::Store(StoreError::InvalidLocation(_)) => 2,
            Self::Interrupted => 130,
            Self::NotFound(_) | Self::NoTask { .. } => 3,
            Self::AlreadyEnded(_) => 4,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Busy(_) => 5,
            Self::Store(error) if error.is_retryable() => 5,
            Self::Worker(error) if error.is_retryable() => 5,
            Self::NotAllowed | Self::NeedsToken => 6,
            Self::Changed { .. } | Self::Exists { .. } => 7,
            Self::TaskFailed => 8,
            Self::TaskCancelled => 9,
            _ => 1,
        }
    }
}

/// Text from elsewhere, without what would move the cursor or change colours.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || Some("disk I/O error".into());
        let error = StoreError::Engine { reason: "writing".into(), source: cause() };
        let told = CliError::from(TaskError::from(error)).describe();
        assert_eq!(told, "storage engine: writing: disk I/O error");
        let error = OpenError::Store(StoreError::Full(cause()));
        let told = "the store is full: disk I/O error";
        assert_eq!(CliError::from(error).describe(), told);
    }

    #[test]
    fn what_is_printed_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
