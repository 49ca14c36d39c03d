//! The figures of the file store, beside SQLite committing one by one. Prints medians of rounds:
//! `cargo bench -p tenure --bench file`. The disk is that of the target folder, or of `BENCH_DIR`.

use std::fs::OpenOptions;
use std::future::Future;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tenure::clock::Clock;
use tenure::store::{
    FileBackend, FileOptions, Key, PageRequest, Partition, StorageBackend as _, Write,
};

type Error = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 5;
const VALUE_BYTES: usize = 1_024;
const RECORDS: usize = 5_000;

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let folder = tempfile::tempdir_in(
        std::env::var_os("BENCH_DIR").unwrap_or(env!("CARGO_TARGET_TMPDIR").into()),
    )?;
    let sync = median((0..ROUNDS).map(|_| raw_fdatasync(folder.path())).collect::<Result<_, _>>()?);
    println!("raw fdatasync of 1 KB             {:>9.1} µs", micros(sync));
    runtime.block_on(commits(folder.path()))?;
    runtime.block_on(reads(folder.path()))?;
    runtime.block_on(quota(folder.path()))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median<T: PartialOrd + Copy>(mut samples: Vec<T>) -> T {
    samples.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    samples[samples.len() / 2]
}

fn raw_fdatasync(folder: &Path) -> Result<Duration, Error> {
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).open(folder.join("raw"))?;
    file.write_all(&vec![0; 1 << 20])?;
    file.sync_all()?;
    let started = Instant::now();
    for _ in 0..200 {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[1; VALUE_BYTES])?;
        file.sync_data()?;
    }
    Ok(started.elapsed() / 200)
}

fn key(partition: usize, name: usize) -> Result<Key, Error> {
    let owner = partition.to_string();
    Ok(Partition::new(["tasks", &owner])?.key(format!("task-{name:08}"))?)
}

/// Runs `calls` of `call` on each of `callers` tasks, and gives the time of one call, amortised.
async fn amortised<F, R>(callers: usize, calls: usize, call: F) -> Result<Duration, Error>
where
    F: Fn(usize, usize) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), Error>> + Send,
{
    let started = Instant::now();
    let tasks = (0..callers).map(|caller| {
        let call = call.clone();
        tokio::spawn(async move {
            for index in 0..calls {
                call(caller, index).await?;
            }
            Ok::<(), Error>(())
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    Ok(started.elapsed() / u32::try_from(callers * calls)?)
}

async fn commits(folder: &Path) -> Result<(), Error> {
    for callers in [1, 8, 64] {
        let calls = 4_000 / callers;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let name = format!("ours-{callers}-{round}.db");
            let store = Arc::new(FileBackend::open(folder.join(name), Clock::system()).await?);
            let write = |caller: usize, index: usize, store: Arc<FileBackend>| async move {
                let write = Write::new(vec![7; VALUE_BYTES]);
                store.put(&key(caller, index % 50)?, write).await?;
                Ok(())
            };
            let shared = Arc::clone(&store);
            let time =
                amortised(callers, calls, move |a, b| write(a, b, Arc::clone(&shared))).await?;
            ours.push(1.0 / time.as_secs_f64());
            let path = folder.join(format!("theirs-{callers}-{round}.db"));
            let time =
                tokio::task::spawn_blocking(move || one_by_one(&path, callers, calls)).await??;
            theirs.push(1.0 / time.as_secs_f64());
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{callers:>2} callers: durable commits/s     {ours:>9.0}   one by one {theirs:>7.0}   \
             ratio {:.1}",
            ours / theirs
        );
    }
    Ok(())
}

/// The same writes by as many threads, each a transaction of its own: WAL, FULL, one connection.
fn one_by_one(path: &Path, callers: usize, calls: usize) -> Result<Duration, Error> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = wal; PRAGMA synchronous = FULL;
         CREATE TABLE records (id INTEGER PRIMARY KEY, partition TEXT NOT NULL, name BLOB NOT NULL,
             version INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE (partition, name));",
    )?;
    let connection = Mutex::new(connection);
    let barrier = Barrier::new(callers);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads = (0..callers).map(|caller| {
            let (connection, barrier) = (&connection, &barrier);
            scope.spawn(move || -> Result<(), Error> {
                barrier.wait();
                for index in 0..calls {
                    let key = key(caller, index % 50)?;
                    let connection = connection.lock().map_err(|_| "poisoned")?;
                    connection
                        .prepare_cached(
                            "INSERT INTO records (partition, name, version, value)
                             VALUES (?1, ?2, 1, ?3) ON CONFLICT (partition, name)
                             DO UPDATE SET version = version + 1, value = excluded.value",
                        )?
                        .execute(params![
                            key.partition().as_str(),
                            key.name().as_bytes(),
                            [7_u8; VALUE_BYTES],
                        ])?;
                }
                Ok(())
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().map_err(|_| "panicked")??;
        }
        Ok::<(), Error>(())
    })?;
    Ok(started.elapsed() / u32::try_from(callers * calls)?)
}

async fn reads(folder: &Path) -> Result<(), Error> {
    let path = folder.join("reads.db");
    let warm = Arc::new(FileBackend::open(&path, Clock::system()).await?);
    let shared = Arc::clone(&warm);
    amortised(50, RECORDS / 50, move |caller, index| {
        let store = Arc::clone(&shared);
        async move {
            let write = Write::new(vec![7; VALUE_BYTES]);
            store.put(&key(0, caller * (RECORDS / 50) + index)?, write).await?;
            Ok(())
        }
    })
    .await?;
    let mut options = FileOptions::default();
    options.cache_bytes = 0;
    let cold = Arc::new(FileBackend::open_with(&path, Clock::system(), options).await?);
    for (name, store) in [("cached", &warm), ("from the file", &cold)] {
        for callers in [1, 8, 64] {
            let mut samples = Vec::new();
            for _ in 0..ROUNDS {
                let shared = Arc::clone(store);
                let get = move |caller: usize, index: usize| {
                    let store = Arc::clone(&shared);
                    async move {
                        let found =
                            store.get(&key(0, (caller * 797 + index * 31) % RECORDS)?).await?;
                        found.map(|_| ()).ok_or_else(|| "missing".into())
                    }
                };
                samples.push(amortised(callers, 40_000 / callers, get).await?);
            }
            println!("{callers:>2} callers: get, {name:<14} {:>9.2} µs", micros(median(samples)));
        }
    }
    for callers in [1, 8, 64] {
        let mut samples = Vec::new();
        for _ in 0..ROUNDS {
            let shared = Arc::clone(&warm);
            let list = move |_: usize, _: usize| {
                let store = Arc::clone(&shared);
                async move {
                    let page = PageRequest::first(100);
                    let partition = key(0, 0)?.partition().clone();
                    let page = store.list_by_prefix(&partition, "task-", page).await?;
                    (page.entries.len() == 100).then_some(()).ok_or_else(|| "short page".into())
                }
            };
            samples.push(amortised(callers, 2_000 / callers, list).await?);
        }
        println!("{callers:>2} callers: page of 100          {:>9.1} µs", micros(median(samples)));
    }
    Ok(())
}

/// Creating a counted record beside none and beside 1,000 live ones of its partition.
async fn quota(folder: &Path) -> Result<(), Error> {
    let store = FileBackend::open(folder.join("quota.db"), Clock::system()).await?;
    let create = async |partition: usize, name: usize| {
        let write = Write::new(vec![7; VALUE_BYTES]).counted_within(10_000);
        store.put(&key(partition, name)?, write).await?;
        Ok::<(), Error>(())
    };
    for name in 0..1_000 {
        create(0, name).await?;
    }
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for round in 0..200 {
        let started = Instant::now();
        create(1 + round, 0).await?;
        few.push(started.elapsed());
        let started = Instant::now();
        create(0, 1_000 + round).await?;
        many.push(started.elapsed());
    }
    println!("create counted beside 0           {:>9.1} µs", micros(median(few)));
    println!("create counted beside 1,000       {:>9.1} µs", micros(median(many)));
    Ok(())
}
