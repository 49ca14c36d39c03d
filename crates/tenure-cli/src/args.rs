//! The command line.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args as ClapArgs, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::bounds::Bounds;
use crate::location::{Location, StoreArgs};
use crate::resources::ResourcesCommand;

/// Durable tasks for MCP servers.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// What the command line says, and the environment where it says nothing.
    pub(crate) fn read() -> Self {
        Self::try_parse().unwrap_or_else(|mut error| {
            if let Some(variable) = blamed(&error) {
                error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
            }
            error.exit()
        })
    }
}

/// The variable that has the value of an error, for which clap blames the flag.
fn blamed(error: &clap::Error) -> Option<String> {
    let is_of_a_value = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidUtf8);
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    // As in `--connections <COUNT>`.
    let flag = argument.split(' ').next().filter(|_| is_of_a_value)?;
    let is_given =
        std::env::args_os().any(|it| it.to_string_lossy().split('=').next() == Some(flag));
    if is_given { None } else { variable(&Args::command(), flag.strip_prefix("--")?) }
}

fn variable(command: &clap::Command, flag: &str) -> Option<String> {
    let mut flags = command.get_arguments().filter(|it| it.get_long() == Some(flag));
    let here = flags.find_map(|it| it.get_env()).map(|it| it.to_string_lossy().into_owned());
    here.or_else(|| command.get_subcommands().find_map(|it| variable(it, flag)))
}

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 failed · 2 wrong usage · 3 not found, or no rights to see it · \
4 the task has already ended · 5 not reachable, locked or too busy at the moment, try again · \
6 no token, or not allowed · 7 the resource has changed, or exists already · \
8 the task that was watched failed · 9 it was cancelled · 130 interrupted
Logs go to standard error; TENURE_LOG sets their level (off, error, warn, info, debug, trace).";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve durable MCP tasks, with a few tools that show the point, and resources.
    ///
    /// The tools are for trying it: report resumes after a crash, approve waits for a person, fail
    /// fails. Tools of your own go into a server of your own, which the library wraps. Resources are
    /// served as they are in the store.
    Serve(ServeArgs),
    /// Look at tasks, and cancel them.
    #[command(subcommand)]
    Tasks(TasksCommand),
    /// Read, write and watch versioned values.
    #[command(subcommand)]
    Resources(ResourcesCommand),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Where to listen. Addresses that others can reach need --tokens. Of a host name's addresses it
    /// is the first that is free.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8765",
        value_parser = host_and_port
    )]
    pub(crate) listen: String,
    /// Speak MCP on standard input and output instead of HTTP.
    #[arg(long, conflicts_with_all = ["listen", "tokens"])]
    pub(crate) stdio: bool,
    /// Who may call: a TOML file that has a token, an owner and rights on projects of each caller.
    /// Instead of the file, TENURE_TOKENS may hold its text, on one line as
    /// caller = [{ token = "…", owner = "…" }].
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// A project whose resources MCP clients list; give it several times for several.
    #[arg(long = "project", value_name = "NAME", default_value = "default")]
    pub(crate) projects: Vec<String>,
    /// Refuse changes of resources without If-Match, If-None-Match or Tenure-If-Version.
    #[arg(long)]
    pub(crate) conditions_required: bool,
    /// How long running tools may take to finish at a shutdown, in milliseconds. Before that, open
    /// requests get as much, at most 5000, and streams as long again.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub(crate) drain_ms: u64,
    /// After how many milliseconds without a heartbeat another server takes over.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub(crate) heartbeat_timeout_ms: u64,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
}

fn host_and_port(text: &str) -> Result<String, &'static str> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    let is_port = port.is_some_and(|port| port.parse::<u16>().is_ok());
    if is_port { Ok(text.into()) } else { Err("it is no host with a port, as 127.0.0.1:8765 is") }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TasksCommand {
    /// List tasks, oldest first. Those with an idempotency key are in between, whenever created.
    List {
        #[command(flatten)]
        place: TaskLocation,
        /// Only tasks in this state.
        #[arg(long)]
        status: Option<StatusFilter>,
        /// At most so many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        limit: u64,
    },
    /// Show one task.
    Get {
        /// The task.
        id: String,
        #[command(flatten)]
        place: TaskLocation,
    },
    /// Cancel a task that has not ended.
    Cancel {
        /// The task.
        id: String,
        #[command(flatten)]
        place: TaskLocation,
    },
    /// Follow one task to its end, or all of them until Ctrl-C, over restarts of the server. The exit
    /// code tells how the one ended: 0 completed, 8 failed, 9 cancelled.
    Watch {
        /// The task; all of them if not given.
        id: Option<String>,
        #[command(flatten)]
        place: TaskLocation,
    },
}

/// Which tasks: those in a store, or those of a running server.
#[derive(Debug, ClapArgs)]
pub(crate) struct TaskLocation {
    #[command(flatten)]
    pub(crate) location: Location,
    /// Whose tasks in the store; local if not given.
    #[arg(long, conflicts_with = "server")]
    pub(crate) owner: Option<String>,
    /// Print JSON, one document a line, instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum StatusFilter {
    Working,
    InputRequired,
    Completed,
    Failed,
    Cancelled,
    /// Working or waiting for input.
    Unfinished,
}

impl StatusFilter {
    pub(crate) fn admits(self, status: &str) -> bool {
        match self {
            Self::Unfinished => matches!(status, "working" | "input_required"),
            other => other.to_possible_value().is_some_and(|value| value.get_name() == status),
        }
    }
}
