//! The file store on a disk that loses power.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tenure::clock::Clock;
use tenure::store::{
    Durability, FileBackend, FileOptions, Key, Partition, StorageBackend as _, Write,
};
use tenure_power_loss::{Cut, Disk, Fate};

const CALLERS: usize = 12;
/// Enough for the write-ahead log to be moved into the file and to start over several times.
const WRITES: u64 = 250;
const KEYS: u64 = 40;
const FILE: &str = "tenure.db";

fn key(caller: usize, number: u64) -> Key {
    let partition = Partition::new(["power", &caller.to_string()]).unwrap();
    partition.key((number % KEYS).to_string()).unwrap()
}

/// A value that shows when it was torn: the number, many times.
fn value(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(50 + usize::try_from(number * 37 % 300).unwrap())
}

/// Each caller writes the numbers from 1 on, and the disk's power is lost again and again.
async fn write(durability: Durability) -> (Vec<Cut>, Arc<Disk>) {
    let folder = tempfile::tempdir().unwrap();
    let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..CALLERS).map(|_| 0.into()).collect());
    let witness = Arc::clone(&acknowledged);
    let witness = move || witness.iter().map(|it| it.load(Ordering::SeqCst)).collect();
    let disk = Disk::below(folder.path(), 200, 7, Box::new(witness));
    let mut options = FileOptions::default();
    options.durability = durability;
    let file = folder.path().join(FILE);
    let store = Arc::new(FileBackend::open_with(file, Clock::system(), options).await.unwrap());
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
        callers.spawn(async move {
            for number in 1..=WRITES {
                store.put(&key(caller, number), Write::new(value(number))).await.unwrap();
                acknowledged[caller].store(number, Ordering::SeqCst);
            }
        });
    }
    callers.join_all().await;
    let cuts = disk.take_cuts();
    (cuts, disk)
}

/// The acknowledged writes that are not there after the power came back. What is there is whole.
async fn lost(cut: &Cut, fate: Fate) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    cut.restore(folder.path(), fate).unwrap();
    let file = folder.path().join(FILE);
    let store = FileBackend::open(&file, Clock::system()).await.unwrap();
    let mut lost = 0;
    for (caller, &acknowledged) in cut.witnessed.iter().enumerate() {
        for slot in 0..KEYS {
            // The last number up to the acknowledged one that went to this key.
            let expected =
                (1..=acknowledged).rev().take(KEYS as usize).find(|it| it % KEYS == slot);
            let found = store.get(&key(caller, slot)).await.unwrap().map(|record| {
                let number = u64::from_be_bytes(record.value[..8].try_into().unwrap());
                assert_eq!(record.value, value(number), "torn");
                assert_eq!(number % KEYS, slot);
                assert!(number <= acknowledged + 1, "{number} of {acknowledged}");
                number
            });
            lost += u64::from(found < expected);
        }
    }
    store.close().await;
    assert_whole(&file);
    lost
}

fn assert_whole(file: &Path) {
    let file = rusqlite::Connection::open(file).unwrap();
    let text = |sql: &str| file.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text("PRAGMA integrity_check"), "ok");
}

/// Of every cut, the worst, the best, and something in between.
async fn lost_of_all(cuts: &[Cut]) -> u64 {
    let mut all = 0;
    for (seed, cut) in cuts.iter().enumerate() {
        let chance = Fate::Chance(Box::new(StdRng::seed_from_u64(seed as u64)));
        for fate in [Fate::Lost, Fate::Kept, chance] {
            all += lost(cut, fate).await;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_survives_a_loss_of_power() {
    let (cuts, disk) = write(Durability::Full).await;
    // Otherwise moving the log into the file was not among what was cut short.
    assert!(disk.syncs(FILE) >= 3, "{} syncs of the file", disk.syncs(FILE));
    assert!(cuts.len() >= 20, "{} cuts", cuts.len());
    assert!(cuts.iter().any(|cut| cut.witnessed.iter().any(|it| *it > 0)));
    assert_eq!(lost_of_all(&cuts).await, 0);
}

/// The documented price of the relaxed mode, and the proof that the test above can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_syncs_writes_are_lost_and_the_file_stays_whole() {
    let (cuts, _) = write(Durability::Relaxed).await;
    assert!(lost_of_all(&cuts).await > 0);
}

#[tokio::test]
async fn a_disk_is_below_its_folder_whatever_link_leads_there() {
    let folder = tempfile::tempdir().unwrap();
    let (there, link) = (folder.path().join("there"), folder.path().join("link"));
    std::fs::create_dir(&there).unwrap();
    std::os::unix::fs::symlink(&there, &link).unwrap();
    let disk = Disk::below(&link, u32::MAX, 7, Box::new(Vec::new));
    let store = FileBackend::open(link.join(FILE), Clock::system()).await.unwrap();
    store.put(&key(0, 1), Write::new(value(1))).await.unwrap();
    assert!(disk.syncs(FILE) > 0);
}

/// What the comparison measures on a slow disk is measured on one.
#[test]
fn a_sync_on_a_slow_disk_takes_as_long_as_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let delay = std::time::Duration::from_millis(20);
    let disk = Disk::slow(folder.path(), delay);
    let database = rusqlite::Connection::open(folder.path().join("slow.db")).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = FULL; CREATE TABLE numbers (number);",
        )
        .unwrap();
    let synced = || disk.syncs("slow.db-wal") + disk.syncs("slow.db");
    let (before, started) = (synced(), std::time::Instant::now());
    for number in 0..5 {
        database.execute("INSERT INTO numbers VALUES (?1)", [number]).unwrap();
    }
    let syncs = u32::try_from(synced() - before).unwrap();
    assert!(syncs >= 5, "{syncs}");
    assert!(started.elapsed() >= syncs * delay);
}
