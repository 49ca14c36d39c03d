//! Durable commits: the writes of concurrent callers share an fdatasync, or they do not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tenure::clock::Clock;
use tenure::store::{FileBackend, StorageBackend as _, Write};
use tenure_power_loss::Disk;

use super::plain::Plain;
use super::{SQLITE, VALUE, key};
use crate::measure::{Effort, alternate, concurrent, rate};
use crate::table::{Figure, Row, Target};

const CALLS: usize = 1_920;
/// Above this time of a raw fdatasync, sharing it has to be worth more.
const SLOW_SYNC_NANOS: f64 = 1e6;
/// What a disk that is slower than this one takes longer for a sync.
const SYNC_DELAY: Duration = Duration::from_millis(2);

/// On this disk, and on one that is slower, under both contenders alike.
pub async fn run(effort: Effort, folder: &Path, sync: f64) -> Result<Vec<Row>> {
    let mut rows = on_disk(effort, folder, "", CALLS, sync).await?;
    let slow = folder.join("slow");
    std::fs::create_dir(&slow)?;
    let _disk = Disk::slow(&slow, SYNC_DELAY);
    let sync = sync + SYNC_DELAY.as_nanos() as f64;
    let disk = format!(", a sync takes {} more", Figure::Time(SYNC_DELAY.as_nanos() as f64));
    rows.extend(on_disk(effort, &slow, &disk, CALLS / 4, sync).await?);
    Ok(rows)
}

async fn on_disk(
    effort: Effort,
    folder: &Path,
    disk: &str,
    calls: usize,
    sync: f64,
) -> Result<Vec<Row>> {
    let store = Arc::new(FileBackend::open(folder.join("ours.db"), Clock::system()).await?);
    let plain = Arc::new(Plain::open(&folder.join("plain.db"))?);
    let mut rows = Vec::new();
    for callers in [1, 8, 64] {
        let calls = (effort.calls(calls) / callers).max(1);
        let (us, them) = alternate(
            effort,
            async || ours(&store, callers, calls).await,
            async || {
                let plain = Arc::clone(&plain);
                tokio::task::spawn_blocking(move || plain.commit_one_by_one(callers, calls)).await?
            },
        )
        .await?;
        let target = match callers {
            64 if sync > SLOW_SYNC_NANOS => Target::Ratio(10.0),
            64 => Target::Ratio(2.5),
            _ => Target::None,
        };
        rows.push(Row {
            what: format!("durable commits, {callers} callers{disk}"),
            ours: Figure::Rate(rate(us)),
            theirs: Some((SQLITE, Figure::Rate(rate(them)))),
            target,
        });
    }
    Ok(rows)
}

async fn ours(store: &Arc<FileBackend>, callers: usize, calls: usize) -> Result<f64> {
    concurrent(callers, callers * calls, |caller| {
        let store = Arc::clone(store);
        async move {
            for call in 0..calls {
                store.put(&key(caller, call % 50)?, Write::new(VALUE.to_vec())).await?;
            }
            Ok(())
        }
    })
    .await
}
