//! Rows of the file that Tenure did not write so: each is named and refused, and hides no other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod counts;
mod fixture;
mod pages;
mod rows;
