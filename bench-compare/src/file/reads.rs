//! Reading: one record, and a page of 100. Beside ours runs SQLite on the caller's own thread,
//! which no async server may do: it is the floor, not a rival.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tenure::clock::Clock;
use tenure::store::{FileBackend, FileOptions, Key, PageRequest, StorageBackend as _, Write};

use super::plain::Plain;
use super::{SQLITE, VALUE, key};
use crate::measure::{Effort, alternate, concurrent, per_call};
use crate::table::{Figure, Row, Target};

const RECORDS: usize = 10_000;
const PAGE: usize = 100;

pub async fn run(effort: Effort, folder: &Path) -> Result<Vec<Row>> {
    let keys = (0..RECORDS).map(|record| key(0, record)).collect::<Result<Vec<_>>>()?;
    let path = folder.join("ours-reads.db");
    let warm = std::sync::Arc::new(FileBackend::open(&path, Clock::system()).await?);
    let share = RECORDS / 100;
    concurrent(100, RECORDS, |caller| {
        let (store, keys) = (warm.clone(), keys[caller * share..(caller + 1) * share].to_vec());
        async move {
            for key in &keys {
                store.put(key, Write::new(VALUE.to_vec())).await?;
            }
            Ok(())
        }
    })
    .await?;
    let mut options = FileOptions::default();
    options.cache_bytes = 0;
    let cold = FileBackend::open_with(&path, Clock::system(), options).await?;
    let plain = Plain::open(&folder.join("plain-reads.db"))?;
    plain.fill(&keys)?;
    let mut rows = Vec::new();
    for (name, store, target) in [
        ("get, recently used", &*warm, Target::TimeBelow(10_000.0)),
        ("get, not in the cache", &cold, Target::TimeBelow(10_000.0)),
    ] {
        let calls = effort.calls(10_000);
        let (us, them) = alternate(
            effort,
            async || get(store, &keys, calls).await,
            async || timed(calls, |call| plain.get(&keys[order(call)])),
        )
        .await?;
        rows.push(row(name.into(), us, them, target));
    }
    let calls = effort.calls(500);
    let (us, them) = alternate(
        effort,
        async || page(&warm, &keys, calls).await,
        async || timed(calls, |_| plain.page(&keys[0], PAGE)),
    )
    .await?;
    rows.push(row(format!("page of {PAGE}"), us, them, Target::TimeBelow(150_000.0)));
    Ok(rows)
}

fn row(what: String, us: f64, them: f64, target: Target) -> Row {
    Row { what, ours: Figure::Time(us), theirs: Some((SQLITE, Figure::Time(them))), target }
}

fn order(call: usize) -> usize {
    call * 7_919 % RECORDS
}

async fn get(store: &FileBackend, keys: &[Key], calls: usize) -> Result<f64> {
    let started = Instant::now();
    for call in 0..calls {
        let record = store.get(&keys[order(call)]).await?;
        std::hint::black_box(record).context("missing")?;
    }
    Ok(per_call(started.elapsed(), calls))
}

async fn page(store: &FileBackend, keys: &[Key], calls: usize) -> Result<f64> {
    let partition = keys[0].partition();
    let started = Instant::now();
    for _ in 0..calls {
        let page = store.list_by_prefix(partition, "task-", PageRequest::first(PAGE)).await?;
        ensure!(page.entries.len() == PAGE, "short page");
    }
    Ok(per_call(started.elapsed(), calls))
}

fn timed(calls: usize, call: impl Fn(usize) -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    (0..calls).try_for_each(call)?;
    Ok(per_call(started.elapsed(), calls))
}
