//! Resources over HTTP and MCP: conditional requests, rights, watches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conditions;
mod connections;
mod harness;
mod large;
mod mcp;
mod refusals;
mod rights;
mod watch;
mod writes;
