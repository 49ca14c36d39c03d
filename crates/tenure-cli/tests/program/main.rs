//! The program from the outside: what it prints, and the exit code that tells a script so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod bounds;
mod callers;
mod conditions;
#[cfg(target_os = "linux")]
mod disks;
#[cfg(unix)]
mod edit;
mod folders;
mod harness;
mod import;
mod location;
mod place;
mod refusals;
mod resources;
mod serve;
mod stub;
mod tasks;
#[cfg(unix)]
mod terminal;
mod trouble;
mod watch;
