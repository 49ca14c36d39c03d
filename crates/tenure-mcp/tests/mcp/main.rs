//! The protocol from the outside: requests go through the whole HTTP stack, in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod embedding;
mod expiry;
mod full_store;
mod harness;
mod http_2;
mod isolation;
mod legacy;
mod listen;
mod network;
mod outage;
mod plain_http;
mod restart;
mod sep_2663;
mod stdio;
mod submit;
mod tools;
mod wrapper;
