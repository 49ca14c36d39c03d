//! What is particular to the file: opening, refusing, sharing, filling up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use tenure::clock::{Clock, Timestamp};
use tenure::store::{
    ChangeKind, FileBackend, FileOptions, Key, PageRequest, Partition, Precondition,
    StorageBackend as _, StoreError, WatchEvent, WatchFrom, Write,
};

fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(1_000))
}

fn partition() -> Partition {
    Partition::new(["tasks", "owner"]).unwrap()
}

fn key(name: &str) -> Key {
    partition().key(name).unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("tenure.db")
    }

    async fn open(&self) -> FileBackend {
        FileBackend::open(self.file(), clock()).await.unwrap()
    }
}

#[tokio::test]
async fn after_a_checkpoint_a_copy_of_the_file_alone_is_whole() {
    let (folder, copy) = (Folder::new(), Folder::new());
    let store = folder.open().await;
    for name in ["a", "b"] {
        store.put(&key(name), Write::new("1")).await.unwrap();
    }
    store.checkpoint().await.unwrap();
    std::fs::copy(folder.file(), copy.file()).unwrap();
    let copied = copy.open().await;
    let page = copied.list_by_prefix(&partition(), "", PageRequest::default()).await.unwrap();
    assert_eq!(page.entries.len(), 2);
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let folder = Folder::new();
    let store = folder.open().await;
    let token = store.put(&key("a"), Write::new("1")).await.unwrap();
    let revision =
        store.list_by_prefix(&partition(), "", PageRequest::default()).await.unwrap().revision;
    store.close().await;
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 1, "only the file is left");

    let store = folder.open().await;
    let record = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((record.token, &*record.value), (token, &b"1"[..]));
    store.delete(&key("a"), Precondition::Matches(token)).await.unwrap();
    let mut watch = store.watch(&partition(), WatchFrom::After(revision)).await.unwrap();
    let Some(Ok(WatchEvent::Change(change))) = watch.next().await else { panic!("no change") };
    assert_eq!((change.key, change.kind), (key("a"), ChangeKind::Gone));
}

#[tokio::test]
async fn a_read_sees_what_another_backend_on_the_same_file_acknowledged() {
    let folder = Folder::new();
    let (one, other) = (folder.open().await, folder.open().await);
    for round in 0..50_u8 {
        let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        writer.put(&key("a"), Write::new(vec![round])).await.unwrap();
        writer.put(&key("b"), Write::new(vec![round])).await.unwrap();
        for name in ["a", "b", "a"] {
            for store in [writer, reader] {
                assert_eq!(store.get(&key(name)).await.unwrap().unwrap().value[..], [round]);
            }
        }
    }
}

#[tokio::test]
async fn a_read_that_went_past_the_cache_hides_no_commit_of_another_backend() {
    let folder = Folder::new();
    let (one, other) = (folder.open().await, folder.open().await);
    let value =
        async |store: &FileBackend, name| store.get(&key(name)).await.unwrap().unwrap().value;
    for name in ["a", "b", "c"] {
        one.put(&key(name), Write::new("old")).await.unwrap();
        assert_eq!(value(&other, name).await, "old");
    }
    one.put(&key("a"), Write::new("new")).await.unwrap();
    one.put(&key("d"), Write::new("old")).await.unwrap();
    // Nobody else has read this one, so the cache was of no use.
    assert_eq!(value(&other, "d").await, "old");
    assert_eq!(value(&other, "a").await, "new");
    assert_eq!(value(&other, "d").await, "old");
    one.put(&key("d"), Write::new("new")).await.unwrap();
    assert_eq!(value(&other, "d").await, "new");
    assert_eq!(value(&other, "b").await, "old");
}

#[tokio::test]
async fn a_watcher_hears_of_another_backends_changes() {
    let folder = Folder::new();
    let (one, other) = (folder.open().await, folder.open().await);
    let mut watch = one.watch(&partition(), WatchFrom::Now).await.unwrap();
    let token = other.put(&key("a"), Write::new("1")).await.unwrap();
    let Some(Ok(WatchEvent::Change(change))) = watch.next().await else { panic!("no change") };
    assert_eq!(change.kind, ChangeKind::Put { token, tag: None, expires_at: None });
}

fn refused(result: Result<FileBackend, StoreError>) -> String {
    match result {
        Err(StoreError::Foreign(text)) => text,
        other => panic!("expected Foreign, got {other:?}"),
    }
}

async fn assert_refused_and_untouched(path: &Path, reason: &str) {
    let before = std::fs::read(path).unwrap();
    let text = refused(FileBackend::open(path, clock()).await);
    assert!(text.contains(reason), "{text}");
    assert_eq!(std::fs::read(path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    for content in [&b"x"[..], &[0; 5_000], b"SQLite format 3\0 and so on", &[b'#'; 4_096]] {
        std::fs::write(folder.file(), content).unwrap();
        assert_refused_and_untouched(&folder.file(), "not a Tenure store").await;
    }
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_as_it_is() {
    for setup in [
        "CREATE TABLE meta (epoch, sequence); INSERT INTO meta VALUES (1, 2);",
        "PRAGMA application_id = 77; CREATE TABLE t (x);",
        "PRAGMA journal_mode = wal; CREATE TABLE t (x);",
        "PRAGMA user_version = 1;",
    ] {
        let folder = Folder::new();
        rusqlite::Connection::open(folder.file()).unwrap().execute_batch(setup).unwrap();
        assert_refused_and_untouched(&folder.file(), "not a Tenure store").await;
        assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 1, "{setup}");
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    folder.open().await.close().await;
    let file = rusqlite::Connection::open(folder.file()).unwrap();
    file.execute_batch("PRAGMA user_version = 2; PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
    drop(file);
    assert_refused_and_untouched(&folder.file(), "format 2").await;
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_as_it_is() {
    let folder = Folder::new();
    let store = folder.open().await;
    for index in 0..100 {
        store.put(&key(&format!("{index}")), Write::new(vec![7; 1_000])).await.unwrap();
    }
    store.close().await;
    let sound = std::fs::read(folder.file()).unwrap();

    std::fs::write(folder.file(), &sound[..sound.len() / 2]).unwrap();
    assert_refused_and_untouched(&folder.file(), "damaged").await;

    for page in 1..sound.len() / 4_096 {
        let mut torn = sound.clone();
        torn[page * 4_096..][..512].fill(0xa5);
        std::fs::write(folder.file(), &torn).unwrap();
        assert_refused_and_untouched(&folder.file(), "damaged").await;
    }
}

#[tokio::test]
async fn a_missing_folder_and_a_folder_in_place_of_a_file_are_named() {
    let folder = Folder::new();
    let missing = folder.0.path().join("missing/tenure.db");
    for path in [missing.as_path(), folder.0.path()] {
        match FileBackend::open(path, clock()).await {
            Err(StoreError::InvalidLocation(text)) => assert!(text.contains("folder"), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let folder = Folder::new();
    std::fs::write(folder.file(), "").unwrap();
    folder.open().await.put(&key("a"), Write::new("1")).await.unwrap();
}

#[tokio::test]
async fn a_read_only_store_reads_and_refuses_writes() {
    let folder = Folder::new();
    let options = || {
        let mut options = FileOptions::default();
        options.read_only = true;
        options
    };
    assert!(matches!(
        FileBackend::open_with(folder.file(), clock(), options()).await,
        Err(StoreError::InvalidLocation(_))
    ));
    let writable = folder.open().await;
    writable.put(&key("a"), Write::new("1")).await.unwrap();
    let store = FileBackend::open_with(folder.file(), clock(), options()).await.unwrap();
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, "1");
    assert!(matches!(store.put(&key("a"), Write::new("2")).await, Err(StoreError::ReadOnly(_))));
    writable.put(&key("a"), Write::new("3")).await.unwrap();
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().value, "3");
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Change(_)))));
}

#[tokio::test]
async fn a_full_file_refuses_what_does_not_fit_and_nothing_else() {
    let folder = Folder::new();
    let mut options = FileOptions::default();
    options.max_bytes = Some(400 * 1_024);
    let store = FileBackend::open_with(folder.file(), clock(), options).await.unwrap();
    let write = |index: usize| {
        let size = if index.is_multiple_of(2) { 100_000 } else { 10 };
        let (key, store) = (key(&format!("{index:02}")), &store);
        async move { (index, store.put(&key, Write::new(vec![1; size])).await) }
    };
    let outcomes = futures::future::join_all((0..20).map(write)).await;
    let mut large = 0;
    for (index, outcome) in outcomes {
        match outcome {
            Ok(token) => {
                large += usize::from(index.is_multiple_of(2));
                let found = store.get(&key(&format!("{index:02}"))).await.unwrap().unwrap();
                assert_eq!(found.token, token);
            }
            Err(StoreError::Full(_)) if index.is_multiple_of(2) => {}
            Err(error) => panic!("{index}: {error}"),
        }
    }
    assert!((1..10).contains(&large), "{large} large records fit");
    for index in (0..20).step_by(2) {
        store.delete(&key(&format!("{index:02}")), Precondition::Any).await.unwrap();
    }
    store.put(&key("later"), Write::new(vec![1; 100_000])).await.unwrap();
}

#[tokio::test]
async fn a_locked_file_is_unavailable_after_a_bounded_wait() {
    let folder = Folder::new();
    let mut options = FileOptions::default();
    options.lock_wait_ms = 20;
    let store = FileBackend::open_with(folder.file(), clock(), options).await.unwrap();
    let lock = rusqlite::Connection::open(folder.file()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = store.put(&key("a"), Write::new("1")).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(store.get(&key("a")).await.unwrap().is_none());
    lock.execute_batch("ROLLBACK").unwrap();
    store.put(&key("a"), Write::new("1")).await.unwrap();
}

/// Nobody can tell from the file alone that it is in use: there is no log beside it.
#[tokio::test]
async fn a_file_that_is_in_use_while_it_is_opened_is_not_taken_for_one_that_can_only_be_read() {
    let folder = Folder::new();
    folder.open().await.close().await;
    let lock = rusqlite::Connection::open(folder.file()).unwrap();
    lock.execute_batch("PRAGMA journal_mode = delete; BEGIN EXCLUSIVE").unwrap();
    let open = async |lock_wait_ms| {
        let mut options = FileOptions::default();
        options.lock_wait_ms = lock_wait_ms;
        FileBackend::open_with(folder.file(), clock(), options).await
    };
    let error = open(20).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    open(5_000).await.unwrap().put(&key("a"), Write::new("1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_opens_a_new_file_at_the_same_time_as_others_can_write() {
    for _ in 0..10 {
        let folder = Folder::new();
        let opening = (0..6).map(|_| tokio::spawn(FileBackend::open(folder.file(), clock())));
        for (number, store) in futures::future::join_all(opening).await.into_iter().enumerate() {
            let store = store.unwrap().unwrap();
            store.put(&key(&format!("{number}")), Write::new("1")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_capacity_is_free_again_when_many_counted_records_expire() {
    let folder = Folder::new();
    let clock = clock();
    let store = FileBackend::open(folder.file(), clock.clone()).await.unwrap();
    let put = |index: usize, limit: u32, ttl: u64| {
        let write = Write::new("x").counted_within(limit);
        let write = write.expires_at(clock.now().plus_millis(ttl));
        let (key, store) = (key(&format!("{index}")), &store);
        async move { store.put(&key, write).await }
    };
    futures::future::try_join_all((0..600).map(|index| put(index, 600, 10))).await.unwrap();
    assert!(matches!(put(600, 600, 10).await, Err(StoreError::PartitionFull { limit: 600 })));
    clock.advance_millis(10);
    // 600 expired ones still count in the file; at most 256 of them are looked at each time.
    for index in 1_000..1_005 {
        put(index, 5, 1_000).await.unwrap();
    }
    assert!(matches!(put(1_005, 5, 10).await, Err(StoreError::PartitionFull { limit: 5 })));
    // An expired record that was counted is counted anew.
    assert!(matches!(put(0, 5, 10).await, Err(StoreError::PartitionFull { limit: 5 })));
    put(0, 6, 10).await.unwrap();
    assert!(matches!(put(1, 6, 10).await, Err(StoreError::PartitionFull { limit: 6 })));
    assert_eq!(store.cleanup_expired(10_000).await.unwrap(), 599);
    assert!(matches!(put(1, 6, 10).await, Err(StoreError::PartitionFull { limit: 6 })));
}

#[tokio::test]
async fn the_log_stays_bounded_while_somebody_reads() {
    let folder = Folder::new();
    let store = folder.open().await;
    let write = |index: usize| {
        let (key, store) = (key(&format!("{}", index % 40)), &store);
        async move {
            store.put(&key, Write::new(vec![7; 100_000])).await.unwrap();
            store.list_by_prefix(&partition(), "", PageRequest::first(3)).await.unwrap();
        }
    };
    for round in 0..20 {
        futures::future::join_all((0..40).map(|index| write(round * 40 + index))).await;
    }
    let log = std::fs::metadata(folder.0.path().join("tenure.db-wal")).unwrap().len();
    assert!(log < 40 << 20, "80 MB were written, and {log} bytes are in the log");
}

#[tokio::test]
async fn dropping_the_store_ends_its_watches() {
    let folder = Folder::new();
    let store = folder.open().await;
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    store.close().await;
    assert!(watch.next().await.is_none());
}

#[test]
fn a_write_nobody_waits_for_is_finished_before_the_store_is_gone() {
    let folder = Folder::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = runtime.block_on(folder.open());
    runtime.block_on(async {
        let key = key("a");
        let write = store.put(&key, Write::new("1"));
        assert!(futures::poll!(Box::pin(write)).is_pending());
    });
    drop(store);
    let store = runtime.block_on(folder.open());
    assert!(runtime.block_on(store.get(&key("a"))).unwrap().is_some());
}
