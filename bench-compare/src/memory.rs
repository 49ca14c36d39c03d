//! The storage contract in memory: our backend beside that of pmcp-tasks.
//!
//! A writer serialises its record into a fresh buffer and gives that to the store, as the task
//! stores of both crates do: ours takes the buffer over, pmcp-tasks copies it. In the rows "of a
//! borrowed value" nothing is serialised, so that the copy is the caller's in ours. Keys are made
//! beforehand.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use pmcp_tasks::store::backend::StorageBackend as _;
use tenure::clock::Clock;
use tenure::store::{InMemoryBackend, Key, Partition, Precondition, StorageBackend as _, Write};

use crate::measure::{Effort, alternate, concurrent};
use crate::table::{self, Figure, Row, Target};

const PEER: &str = "pmcp-tasks";
const VALUE: [u8; 1_024] = [7; 1_024];
const OWNERS: usize = 64;
const RECORDS: usize = 8_192;
const CALLS: usize = 200_000;

#[derive(Clone, Copy)]
enum Operation {
    Get,
    Put,
    PutIfVersion,
    PutBorrowed,
    PutIfVersionBorrowed,
}

/// Measures, and prints the table.
pub async fn run(effort: Effort) -> Result<()> {
    let ours = Ours::filled().await?;
    let theirs = Theirs::filled().await?;
    let mut rows = Vec::new();
    for (name, operation) in [
        ("get", Operation::Get),
        ("put", Operation::Put),
        ("put_if_version", Operation::PutIfVersion),
        ("put of a borrowed value", Operation::PutBorrowed),
        ("put_if_version of a borrowed value", Operation::PutIfVersionBorrowed),
    ] {
        for callers in [1, 8, 64] {
            let calls = effort.calls(CALLS) / callers;
            let (us, them) = alternate(
                effort,
                || ours.run(operation, callers, calls),
                || theirs.run(operation, callers, calls),
            )
            .await?;
            rows.push(Row {
                what: format!("{name}, {callers} callers"),
                ours: Figure::Time(us),
                theirs: Some((PEER, Figure::Time(them))),
                target: Target::Ratio(1.0),
            });
        }
    }
    let note = format!(
        "1 KB values, {RECORDS} records of {OWNERS} owners, all callers on the same two worker \
         threads; time is wall time divided by the calls of all callers."
    );
    table::print("Memory", &rows, &[note]);
    Ok(())
}

/// Stands for a record that a caller has just serialised.
fn serialised() -> Vec<u8> {
    std::hint::black_box(&VALUE).to_vec()
}

/// The records that a caller works on: its own, so that no precondition fails.
fn share<T: Clone>(records: &[T], caller: usize, callers: usize) -> Vec<T> {
    // A stride that is coprime to the number of records visits them out of order.
    let order = (0..RECORDS).map(|index| index * 3_001 % RECORDS);
    order.skip(caller).step_by(callers).filter_map(|index| records.get(index).cloned()).collect()
}

struct Ours {
    store: Arc<InMemoryBackend>,
    keys: Vec<Key>,
}

impl Ours {
    async fn filled() -> Result<Self> {
        let store = Arc::new(InMemoryBackend::new(Clock::system()));
        let owners = (0..OWNERS)
            .map(|owner| Partition::new(["tasks", &format!("owner-{owner}")]))
            .collect::<Result<Vec<_>, _>>()?;
        let mut keys = Vec::with_capacity(RECORDS);
        for record in 0..RECORDS {
            let key = owners[record % OWNERS].key(format!("task-{record:032}"))?;
            store.put(&key, Write::new(VALUE.to_vec())).await?;
            keys.push(key);
        }
        Ok(Self { store, keys })
    }

    async fn run(&self, operation: Operation, callers: usize, calls: usize) -> Result<f64> {
        let mut work = Vec::new();
        for caller in 0..callers {
            let mut records = Vec::new();
            for key in share(&self.keys, caller, callers) {
                let token = self.store.get(&key).await?.context("missing")?.token;
                records.push((key, token));
            }
            work.push(records);
        }
        let work = std::cell::RefCell::new(work);
        concurrent(callers, callers * calls, |caller| {
            let store = Arc::clone(&self.store);
            let mut records = std::mem::take(&mut work.borrow_mut()[caller]);
            async move {
                let size = records.len();
                for call in 0..calls {
                    let (key, token) = &mut records[call % size];
                    match operation {
                        Operation::Get => {
                            std::hint::black_box(store.get(key).await?).context("missing")?;
                        }
                        Operation::Put | Operation::PutBorrowed => {
                            store.put(key, Write::new(serialised())).await?;
                        }
                        Operation::PutIfVersion | Operation::PutIfVersionBorrowed => {
                            let write = Write::new(serialised());
                            let precondition = Precondition::Matches(*token);
                            *token = store.put_if_version(key, write, precondition).await?;
                        }
                    }
                }
                Ok(())
            }
        })
        .await
    }
}

struct Theirs {
    store: Arc<pmcp_tasks::InMemoryBackend>,
    keys: Vec<String>,
}

impl Theirs {
    async fn filled() -> Result<Self> {
        let store = Arc::new(pmcp_tasks::InMemoryBackend::new());
        let mut keys = Vec::with_capacity(RECORDS);
        for record in 0..RECORDS {
            let key = format!("owner-{}:task-{record:032}", record % OWNERS);
            store.put(&key, &VALUE).await?;
            keys.push(key);
        }
        Ok(Self { store, keys })
    }

    async fn run(&self, operation: Operation, callers: usize, calls: usize) -> Result<f64> {
        let mut work = Vec::new();
        for caller in 0..callers {
            let mut records = Vec::new();
            for key in share(&self.keys, caller, callers) {
                let version = self.store.get(&key).await?.version;
                records.push((key, version));
            }
            work.push(records);
        }
        let work = std::cell::RefCell::new(work);
        concurrent(callers, callers * calls, |caller| {
            let store = Arc::clone(&self.store);
            let mut records = std::mem::take(&mut work.borrow_mut()[caller]);
            async move {
                let size = records.len();
                for call in 0..calls {
                    let (key, version) = &mut records[call % size];
                    match operation {
                        Operation::Get => {
                            std::hint::black_box(store.get(key).await?);
                        }
                        Operation::Put => {
                            store.put(key, &serialised()).await?;
                        }
                        Operation::PutIfVersion => {
                            *version = store.put_if_version(key, &serialised(), *version).await?;
                        }
                        Operation::PutBorrowed => {
                            store.put(key, &VALUE).await?;
                        }
                        Operation::PutIfVersionBorrowed => {
                            *version = store.put_if_version(key, &VALUE, *version).await?;
                        }
                    }
                }
                Ok(())
            }
        })
        .await
    }
}
