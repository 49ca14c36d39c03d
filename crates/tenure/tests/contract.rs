//! Every case of the contract, on every backend: one line each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

#[cfg(feature = "file")]
mod file_harness;

#[cfg(feature = "file")]
use file_harness::FileHarness;
use tenure::store::contract::MemoryHarness;

tenure::contract_suite!(memory, MemoryHarness::default());
#[cfg(feature = "file")]
tenure::contract_suite!(file, FileHarness::new());
