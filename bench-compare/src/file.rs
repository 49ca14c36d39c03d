//! The file store, beside SQLite committing one by one and beside another task store on SQLite.

mod commits;
mod plain;
mod reads;
mod tasks;

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use tenure::store::{Key, Partition};

use crate::measure::{Effort, median, per_call};
use crate::table::{self, Figure};

const VALUE: [u8; 1_024] = [7; 1_024];
const SQLITE: &str = "plain SQLite";

/// Measures, and prints the table.
pub async fn run(effort: Effort, folder: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(folder)?;
    let syncs = (0..effort.rounds).map(|_| raw_fdatasync(folder.path()));
    let sync = median(syncs.collect::<Result<_>>()?);
    let mut rows = commits::run(effort, folder.path(), sync).await?;
    rows.extend(reads::run(effort, folder.path()).await?);
    let (of_tasks, note) = tasks::run(effort, folder.path()).await?;
    rows.extend(of_tasks);
    let disk = format!(
        "A raw write of 1 KB with fdatasync took {} in this run, on this disk.",
        Figure::Time(sync)
    );
    table::print("File", &rows, &[disk, note]);
    Ok(())
}

/// Nanoseconds of the least that durability costs: 1 KB over allocated bytes, and fdatasync.
fn raw_fdatasync(folder: &Path) -> Result<f64> {
    const CALLS: usize = 100;
    let path = folder.join("raw");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    file.write_all(&vec![0; 1 << 20])?;
    file.sync_all()?;
    let started = Instant::now();
    for _ in 0..CALLS {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&VALUE)?;
        file.sync_data()?;
    }
    Ok(per_call(started.elapsed(), CALLS))
}

fn key(owner: usize, record: usize) -> Result<Key> {
    Ok(Partition::new(["tasks", &owner.to_string()])?.key(format!("task-{record:08}"))?)
}
