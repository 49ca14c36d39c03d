//! What the tools really did, in a file outside of Tenure that outlives every kill.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One thing that a tool's body did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The client's own name for the call.
    pub(crate) label: String,
    pub(crate) task: String,
    pub(crate) attempt: u32,
    pub(crate) event: Event,
    pub(crate) at_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// The body began.
    Start,
    /// The round of a tool that asks by returning began.
    Round(usize),
    /// A step began.
    Step(u64),
    /// The checkpoint after a step was acknowledged.
    Saved(u64),
    /// The checkpoint was refused.
    Refused,
    /// An answer arrived.
    Woke,
    /// The cancellation arrived.
    Cancelled,
    /// The body came to its end.
    End,
}

/// The one clock of all processes on this machine.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    /// Appends an entry with one write, so that entries of several processes do not mix.
    pub(crate) fn write(&self, label: &str, task: &str, attempt: u32, event: Event) {
        let (label, task) = (label.to_owned(), task.to_owned());
        let entry = Entry { label, task, attempt, event, at_us: now_us() };
        // On a line of its own, even after one whose writer was killed in it.
        let line = format!("\n{}\n", serde_json::to_string(&entry).unwrap());
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

/// The entries so far, without one that is being written: who reads a file may see half of a write.
pub(crate) fn read(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty()).map(serde_json::from_str);
    lines
        .filter(|entry| !matches!(entry, Err(error) if error.is_eof()))
        .map(Result::unwrap)
        .collect()
}
