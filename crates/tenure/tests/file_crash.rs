//! The file after kill -9, and under two processes at once. The processes are this test binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tenure::clock::Clock;
use tenure::store::{
    FileBackend, FileOptions, Key, PageRequest, Partition, Precondition, StorageBackend as _,
    StoreError, Write,
};

const CALLERS: usize = 12;
const KEYS_PER_CALLER: u64 = 7;
const COUNTED_LIMIT: u32 = 1_000;
const ROUNDS: u64 = 20;
const INCREMENTS: u64 = 300;

fn partition(caller: usize) -> Partition {
    Partition::new(["crash", &caller.to_string()]).unwrap()
}

fn key(caller: usize, number: u64) -> Key {
    partition(caller).key(format!("{}", number % KEYS_PER_CALLER)).unwrap()
}

/// A value that shows when it was torn: the number, many times.
fn value(number: u64) -> Vec<u8> {
    let repeats = 20 + usize::try_from(number * 37 % 700).unwrap();
    number.to_be_bytes().repeat(repeats)
}

fn number_in(value: &[u8]) -> u64 {
    let number = u64::from_be_bytes(value[..8].try_into().unwrap());
    assert_eq!(value, self::value(number), "torn");
    number
}

/// A process that runs one of the ignored tests below.
fn child(role: &str, file: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", role, "--ignored", "--nocapture", "--test-threads=1"])
        .env("TENURE_CRASH_FILE", file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn file_of_this_child() -> std::path::PathBuf {
    std::env::var_os("TENURE_CRASH_FILE").expect("started by another test").into()
}

/// Each caller writes its numbers in turn, deletes every tenth, and says what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that the crash test starts and kills"]
async fn write_until_killed() {
    let store = FileBackend::open(file_of_this_child(), Clock::system()).await.unwrap();
    let store = std::sync::Arc::new(store);
    let callers = (0..CALLERS).map(|caller| {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move {
            let mut number = 0;
            for slot in 0..KEYS_PER_CALLER {
                if let Some(record) = store.get(&key(caller, slot)).await.unwrap() {
                    number = number.max(number_in(&record.value) + 1);
                }
            }
            loop {
                let key = key(caller, number);
                let mut write = Write::new(value(number));
                if number.is_multiple_of(3) {
                    write = write.counted_within(COUNTED_LIMIT);
                }
                say(&format!("try {caller} {number}"));
                let token = store.put(&key, write).await.unwrap();
                say(&format!("put {caller} {number} {token}"));
                if number % 10 == 9 {
                    say(&format!("try-delete {caller} {number}"));
                    assert!(store.delete(&key, Precondition::Matches(token)).await.unwrap());
                    say(&format!("deleted {caller} {number}"));
                }
                number += 1;
            }
        })
    });
    futures::future::try_join_all(callers).await.unwrap();
}

/// One line, in one write, so that a kill leaves whole lines.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n:{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// What the children said about one key, latest last.
#[derive(Default, Debug, Clone)]
struct Expected {
    /// The last acknowledged state: the number and its token, or gone.
    acknowledged: Option<(u64, String)>,
    /// A write that may or may not have happened.
    put_open: Option<u64>,
    /// A delete that may or may not have happened.
    delete_open: bool,
}

fn note(expected: &mut BTreeMap<(usize, u64), Expected>, line: &str) {
    let words: Vec<_> = line.split(' ').collect();
    let number: u64 = words[2].parse().unwrap();
    let slot = expected.entry((words[1].parse().unwrap(), number % KEYS_PER_CALLER)).or_default();
    match words[0] {
        "try" => slot.put_open = Some(number),
        "put" => {
            *slot =
                Expected { acknowledged: Some((number, words[3].into())), ..Expected::default() }
        }
        "try-delete" => slot.delete_open = true,
        "deleted" => *slot = Expected::default(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn every_acknowledged_write_is_there_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenure.db");
    let mut expected = BTreeMap::new();
    let mut acknowledged = 0_usize;
    for round in 0..ROUNDS {
        let mut child = child("write_until_killed", &file);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Differs from round to round, in how much was written and so in where the kill falls.
        let wanted = 40 + round * 97 % 700;
        let mut heard = 0;
        while heard < wanted {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            if let Some(line) = line.strip_prefix(':') {
                note(&mut expected, line);
                heard += u64::from(!line.starts_with("try"));
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map(Result::unwrap) {
            if let Some(line) = line.strip_prefix(':') {
                note(&mut expected, line);
            }
        }
        acknowledged += expected.values().filter(|slot| slot.acknowledged.is_some()).count();
        settle(&file, &mut expected).await;
    }
    assert!(acknowledged > 100, "the children hardly wrote anything");
}

/// Holds the file against what was said, and takes over how the open writes turned out.
async fn settle(file: &Path, expected: &mut BTreeMap<(usize, u64), Expected>) {
    let store = FileBackend::open(file, Clock::system()).await.unwrap();
    for ((caller, slot), state) in expected.iter_mut() {
        let found = store.get(&key(*caller, *slot)).await.unwrap();
        let found = found.map(|it| (number_in(&it.value), it.token.to_string()));
        let kept = found == state.acknowledged;
        let put = found.as_ref().map(|it| it.0) == state.put_open && state.put_open.is_some();
        let deleted = found.is_none() && state.delete_open;
        assert!(kept || put || deleted, "caller {caller}, slot {slot}: {found:?} of {state:?}");
        *state = Expected { acknowledged: found, ..Expected::default() };
    }
    store.close().await;
    assert_consistent(file);
}

/// The engine's own check, and ours: the maintained counts are those of the records.
fn assert_consistent(file: &Path) {
    let file = rusqlite::Connection::open(file).unwrap();
    let text = |sql: &str| file.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let number = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    let wrong_counts = "SELECT count(*) FROM (
        SELECT partition, counted FROM counts
        EXCEPT SELECT partition, sum(counted) FROM records GROUP BY partition)";
    assert_eq!(number(wrong_counts), 0);
    assert_eq!(
        number("SELECT coalesce(sum(counted), 0) FROM records"),
        number("SELECT coalesce(sum(counted), 0) FROM counts"),
    );
    assert!(
        number("SELECT sequence FROM meta")
            >= number("SELECT coalesce(max(revision), 0) FROM records")
    );
}

fn counter() -> Key {
    Partition::new(["shared"]).unwrap().key("counter").unwrap()
}

/// Increments a shared counter by compare-and-set, and checks each of its own reads.
async fn increment(store: &FileBackend, times: u64) {
    for _ in 0..times {
        loop {
            let current = store.get(&counter()).await.unwrap();
            let (next, precondition) = match &current {
                None => (1, Precondition::Absent),
                Some(it) => (
                    u64::from_be_bytes(it.value[..].try_into().unwrap()) + 1,
                    Precondition::Matches(it.token),
                ),
            };
            let write = Write::new(next.to_be_bytes().to_vec());
            match store.put_if_version(&counter(), write, precondition).await {
                Ok(_) => {
                    let read = store.get(&counter()).await.unwrap().unwrap();
                    let read = u64::from_be_bytes(read.value[..].try_into().unwrap());
                    assert!(read >= next, "read {read} after writing {next}");
                    break;
                }
                Err(StoreError::VersionConflict { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// Whose turn it is may take a disk that stands still.
async fn open_patiently(file: &Path) -> FileBackend {
    let mut options = FileOptions::default();
    options.lock_wait_ms = 60_000;
    FileBackend::open_with(file, Clock::system(), options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process that the test of two processes starts"]
async fn increment_and_exit() {
    let store = open_patiently(&file_of_this_child()).await;
    tokio::join!(increment(&store, INCREMENTS / 2), increment(&store, INCREMENTS / 2));
    store.close().await;
}

#[tokio::test]
async fn two_processes_increment_one_counter_without_losing_any() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenure.db");
    let mut children: Vec<_> = (0..2).map(|_| child("increment_and_exit", &file)).collect();
    let store = open_patiently(&file).await;
    increment(&store, INCREMENTS).await;
    let ended = tokio::task::spawn_blocking(move || {
        children.iter_mut().all(|child| child.wait().unwrap().success())
    });
    let ended = tokio::time::timeout(Duration::from_secs(300), ended).await;
    assert!(ended.expect("the children end").unwrap());
    let record = store.get(&counter()).await.unwrap().unwrap();
    assert_eq!(record.value[..], (3 * INCREMENTS).to_be_bytes());
    assert_eq!(record.token.version(), 3 * INCREMENTS);
    let page =
        store.list_by_prefix(counter().partition(), "", PageRequest::default()).await.unwrap();
    assert_eq!(page.revision.sequence, 3 * INCREMENTS);
    store.close().await;
    assert_consistent(&file);
}
