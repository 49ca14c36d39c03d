//! A disk that loses power, below SQLite.
//!
//! A [`Disk`] sits between SQLite and the files of a folder. It passes everything on, and keeps
//! apart what was written from what was synced. Now and then it takes a [`Cut`]: what a loss of
//! power at this moment might leave. Of what was not synced any part may be there, in any order, a
//! write half done included; what was synced is there.
//!
//! A disk may also be made slower than the machine's, to measure what a slow one would cost.
//!
//! Names of files are taken to be durable from the first sync of the file, which is when SQLite
//! syncs the folder, and shared memory is gone. Reads are not touched.
#![cfg(unix)]

mod disk;
mod image;
mod vfs;

pub use disk::{Cut, Disk};
pub use image::Fate;
