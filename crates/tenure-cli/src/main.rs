//! The program `tenure`: a durable MCP server, and a look at its tasks and resources.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod bounds;
mod client;
mod demo;
mod error;
mod location;
mod output;
mod progress;
mod resources;
mod serve;
mod signals;
mod tasks;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::args::{Args, Command};
use crate::error::CliError;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::read();
    let filter = match log_filter() {
        Ok(filter) => filter,
        Err(error) => return ExitCode::from(tell(&error)),
    };
    // Standard output is for results, and for the protocol in `serve --stdio`.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would say that a line could not be written, and panic when that cannot be written either.
        .log_internal_errors(false)
        .init();
    let reads_stdin = matches!(&args.command, Command::Serve(options) if options.stdio);
    let done = match args.command {
        Command::Serve(options) => serve::run(options).await,
        Command::Resources(command) => resources::run(command).await,
        Command::Tasks(command) => tasks::run(command).await,
    };
    let code = match done {
        Ok(()) => 0,
        Err(error) if error.is_closed_output() => 0,
        Err(error) => tell(&error),
    };
    if reads_stdin {
        // The runtime would wait for the read of standard input, which nothing can interrupt.
        let _ = std::io::stdout().flush();
        std::process::exit(code.into());
    }
    ExitCode::from(code)
}

/// Says why the program ends, and with which exit code.
fn tell(error: &CliError) -> u8 {
    output::note(&error.describe());
    error.exit_code()
}

/// What of the log is shown. The filter would take any word for the name of a module.
fn log_filter() -> Result<EnvFilter, CliError> {
    let text = location::variable("TENURE_LOG")?.filter(|it| !it.is_empty());
    let text = text.unwrap_or_else(|| "warn".into());
    let is_level = |it: &str| it.contains('=') || it.parse::<LevelFilter>().is_ok();
    EnvFilter::try_new(&text).ok().filter(|_| text.split(',').all(is_level)).ok_or_else(|| {
        let known = "off, error, warn, info, debug or trace, or MODULE=LEVEL of them";
        CliError::Usage(format!("TENURE_LOG is {text:?}; it takes {known}"))
    })
}
