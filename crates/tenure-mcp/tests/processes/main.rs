//! Servers as processes: killed at any moment, and several on one store. The server's process is
//! this test binary; what its tools do is written to a ledger that Tenure knows nothing of.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod audit;
mod client;
mod clients;
mod fencing;
mod kill_loop;
mod latency;
mod ledger;
mod quota;
#[cfg(feature = "redis-tests")]
mod redis;
mod replicas;
mod server;
mod tools;
