//! Rows of the file that Tenure did not write so: each is named and refused, and hides no other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt as _;
use tenure::clock::{Clock, Timestamp};
use tenure::resources::{
    Document, ResourceError, ResourceEvent, ResourceKey, ResourceStore, Scope,
};
use tenure::store::{
    FileBackend, Key, PageRequest, Partition, Precondition, StorageBackend, StoreError, WatchEvent,
    WatchFrom, Write,
};
use tenure::tasks::{Call, NewTask, TaskError, TaskStore};

/// What a row may hold that no write left.
const DAMAGES: [&str; 5] =
    ["version = -1", "tag = x'00'", "created_at = -1", "expires_at = -1", "tag = x''"];

const PAGE: usize = 4_096;
/// No file has so many pages.
const NO_PAGE: u32 = u32::MAX;
/// Pages of a long value, beside that of its row.
const LONG_VALUE_PAGES: usize = 9;

fn long_value(byte: u8) -> Write {
    Write::new(vec![byte; LONG_VALUE_PAGES * (PAGE - 4) + 2_000])
}

struct Fixture {
    folder: tempfile::TempDir,
    clock: Clock,
    store: Arc<FileBackend>,
}

impl Fixture {
    async fn new() -> Self {
        let (folder, clock) =
            (tempfile::tempdir().unwrap(), Clock::manual(Timestamp::from_millis(1_000)));
        let path = folder.path().join("tenure.db");
        let store = Arc::new(FileBackend::open(path, clock.clone()).await.unwrap());
        Self { folder, clock, store }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("tenure.db")
    }

    /// Does to the file what somebody else may, and tells how many rows that met.
    fn damage(&self, sql: &str) -> usize {
        rusqlite::Connection::open(self.path()).unwrap().execute(sql, []).unwrap()
    }

    /// Names of all rows there are.
    fn names(&self) -> String {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        let mut names = connection.prepare("SELECT CAST(name AS TEXT) FROM records").unwrap();
        let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.collect::<Result<_, _>>().unwrap()
    }

    fn damage_records(&self, names: &[&str], assignment: &str) {
        for name in names {
            let sql =
                format!("UPDATE records SET {assignment} WHERE name = CAST('{name}' AS BLOB)");
            assert_eq!(self.damage(&sql), 1, "{sql}");
        }
    }

    /// Writes a link to a page at a place that is found in the file.
    fn damage_file(&self, find: impl FnOnce(&[u8]) -> (usize, u32)) {
        let other = rusqlite::Connection::open(self.path()).unwrap();
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let (at, link) = find(&std::fs::read(self.path()).unwrap());
        let file = std::fs::OpenOptions::new().write(true).open(self.path()).unwrap();
        file.write_all_at(&link.to_be_bytes(), at as u64).unwrap();
        // Whoever remembers pages forgets them at somebody else's commit.
        other.execute("UPDATE meta SET sequence = sequence + 1", []).unwrap();
    }

    /// Makes a page of the value that is filled with `byte` link to another page than its next.
    fn damage_pages(&self, byte: u8, nth: usize, link: u32) {
        self.damage_file(|bytes| {
            // Where the next page is, and then nothing but the value.
            let mut pages = (0..bytes.len())
                .step_by(PAGE)
                .filter(|at| bytes[at + 4..][..PAGE - 4] == [byte; PAGE - 4]);
            (pages.nth(nth).unwrap(), link)
        });
    }

    async fn put(&self, names: &[&str]) {
        for name in names {
            self.store.put(&key(name), Write::new("x")).await.unwrap();
        }
    }

    /// Names of the sound and of the damaged, gathered from pages of `limit`.
    async fn listed(&self, limit: usize) -> (String, String) {
        let (mut names, mut damaged) = (String::new(), String::new());
        let mut request = PageRequest::first(limit);
        loop {
            let page = self.store.list_by_prefix(&partition(), "", request).await.unwrap();
            assert!(page.items().len() <= limit);
            names.extend(page.entries.iter().map(|it| it.key.name()));
            damaged.extend(page.damaged.iter().map(|it| it.key.name()));
            match page.next {
                Some(next) => request = PageRequest::after(next, limit),
                None => return (names, damaged),
            }
        }
    }
}

fn partition() -> Partition {
    Partition::new(["p"]).unwrap()
}

fn key(name: &str) -> Key {
    partition().key(name).unwrap()
}

fn assert_damaged<T: std::fmt::Debug>(refused: Result<T, StoreError>, name: &str) {
    match refused {
        Err(StoreError::Damaged { key: found, .. }) => assert_eq!(found, key(name)),
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn a_damaged_row_hides_no_other_whatever_the_size_of_the_pages() {
    for damage in DAMAGES {
        let fixture = Fixture::new().await;
        fixture.put(&["a", "b", "c", "d", "e", "f"]).await;
        fixture.damage_records(&["b", "d", "f"], damage);
        for limit in 1..=7 {
            let expected = ("ace".to_owned(), "bdf".to_owned());
            assert_eq!(fixture.listed(limit).await, expected, "{damage}, pages of {limit}");
        }
    }
}

#[tokio::test]
async fn a_damaged_row_is_refused_by_name_and_left_as_it_is() {
    for damage in DAMAGES {
        let fixture = Fixture::new().await;
        fixture.put(&["a", "b"]).await;
        fixture.damage_records(&["b"], damage);
        let (store, write) = (&fixture.store, || Write::new("y").keeping(3));
        assert_damaged(store.get(&key("b")).await, "b");
        assert_damaged(store.put(&key("b"), write()).await, "b");
        assert_damaged(store.put_if_version(&key("b"), write(), Precondition::Absent).await, "b");
        assert_damaged(store.delete(&key("b"), Precondition::Any).await, "b");
        // A history tells no times.
        if !damage.ends_with("_at = -1") {
            assert_damaged(store.history(&key("b")).await, "b");
        }
        // Writes that are committed together with refused ones.
        let (a, b) = (key("a"), key("b"));
        let (refused, done) = tokio::join!(store.put(&b, write()), store.put(&a, write()));
        assert_damaged(refused, "b");
        done.unwrap();
        let sql = format!("UPDATE records SET revision = revision WHERE {damage}");
        assert_eq!(fixture.damage(&sql), 1, "{damage} is still there");
    }
}

#[tokio::test]
async fn a_value_whose_pages_are_damaged_hides_no_other() {
    let fixture = Fixture::new().await;
    fixture.put(&["a"]).await;
    fixture.store.put(&key("b"), long_value(b'b')).await.unwrap();
    fixture.put(&["c"]).await;
    fixture.damage_pages(b'b', 0, NO_PAGE);
    assert_eq!(fixture.listed(10).await, ("ac".into(), "b".into()));
    assert_damaged(fixture.store.get(&key("b")).await, "b");
    fixture.store.get(&key("a")).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_no_name_hides_no_record() {
    let fixture = Fixture::new().await;
    fixture.put(&["a", "b", "c"]).await;
    fixture.damage("UPDATE records SET name = x'61ff' WHERE name = x'62'");
    for limit in 1..=4 {
        assert_eq!(fixture.listed(limit).await, ("ac".into(), String::new()), "{limit}");
    }
}

#[tokio::test]
async fn expired_is_absent_and_reclaimed_whatever_else_is_damaged() {
    for damage in ["version = -1", "tag = x'00'", "created_at = -1", "former = -1", "name = x'ff'"]
    {
        let fixture = Fixture::new().await;
        let write =
            || Write::new("x").counted_within(2).expires_at(fixture.clock.now().plus_millis(9));
        for name in ["a", "b"] {
            fixture.store.put(&key(name), write()).await.unwrap();
        }
        fixture.damage_records(&["a"], damage);
        fixture.clock.advance_millis(9);
        assert!(fixture.store.get(&key("a")).await.unwrap().is_none(), "{damage}");
        assert_eq!(fixture.listed(5).await, Default::default(), "{damage}");
        assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 2, "{damage}");
        assert_eq!(fixture.damage("UPDATE counts SET counted = 0"), 0, "{damage}: none counts");
        fixture.store.put(&key("a"), Write::new("new")).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_takes_the_place_of_an_expired_record_that_is_damaged() {
    let fixture = Fixture::new().await;
    let write = Write::new("x").expires_at(fixture.clock.now().plus_millis(9));
    fixture.store.put(&key("a"), write).await.unwrap();
    fixture.damage_records(&["a"], "version = -1");
    fixture.clock.advance_millis(9);
    let token = fixture
        .store
        .put_if_version(&key("a"), Write::new("new"), Precondition::Absent)
        .await
        .unwrap();
    assert_eq!(token.version(), 1);
    assert_eq!(fixture.store.get(&key("a")).await.unwrap().unwrap().value, "new");
}

#[tokio::test]
async fn a_deadline_that_is_none_is_not_reclaimed() {
    let fixture = Fixture::new().await;
    fixture.put(&["a"]).await;
    fixture.damage_records(&["a"], "expires_at = -1");
    assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 0);
    assert_eq!(fixture.listed(5).await, (String::new(), "a".into()));
}

#[tokio::test]
async fn a_watch_that_comes_by_a_damaged_row_resyncs_once_and_goes_on() {
    for damage in DAMAGES {
        if damage == "created_at = -1" {
            continue; // No watch tells it.
        }
        let fixture = Fixture::new().await;
        let start =
            fixture.store.list_by_prefix(&partition(), "", PageRequest::default()).await.unwrap();
        fixture.put(&["a", "b"]).await;
        fixture.damage_records(&["a"], damage);
        let from = WatchFrom::After(start.revision);
        let mut watch = fixture.store.watch(&partition(), from).await.unwrap();
        let told = watch.next().await.unwrap().unwrap();
        assert!(matches!(told, WatchEvent::Resync(_)), "{damage}: {told:?}");
        fixture.put(&["c"]).await;
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Change(change) => assert_eq!(change.key, key("c"), "{damage}"),
            other => panic!("{damage}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn tasks_and_resources_are_listed_and_watched_around_what_cannot_be_read() {
    let fixture = Fixture::new().await;
    let tasks = TaskStore::new(fixture.store.clone(), fixture.clock.clone());
    let owner = tenure::Owner::new("me").unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let task = NewTask::new(Call::new("tool", Default::default()));
        ids.push(tasks.create(&owner, task).await.unwrap().id);
    }
    ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    fixture.damage_records(&[ids[1].as_str()], "version = -1");
    let page = tasks.list(&owner, PageRequest::default()).await.unwrap().tasks;
    assert!(
        matches!(&page[..], [Ok(a), Err(TaskError::Unreadable { id, .. }), Ok(c)]
        if a.id == ids[0] && *id == ids[1] && c.id == ids[2]),
        "{page:?}"
    );

    let resources = ResourceStore::new(fixture.store.clone(), fixture.clock.clone());
    for id in ["a", "b", "c"] {
        let key = ResourceKey::new("acme", "agent", id).unwrap();
        resources.put(&key, &Document::parse("{}").unwrap()).await.unwrap();
    }
    let sql = "UPDATE records SET tag = x'00' WHERE partition LIKE '%acme%' AND name LIKE '%b'";
    assert_eq!(fixture.damage(sql), 1);
    let page = resources.list("acme", None, PageRequest::default()).await.unwrap().items;
    match &page[..] {
        [Ok(_), Err(ResourceError::Store(StoreError::Damaged { key, .. })), Ok(_)] => {
            assert!(key.name().ends_with('b'), "{key:?}");
        }
        _ => panic!("{page:?}"),
    }
    let watch = resources.watch(Scope::project("acme").unwrap(), None);
    let told: Vec<_> = watch.take(3).map(Result::unwrap).collect().await;
    assert!(
        matches!(&told[..], [
            ResourceEvent::Present { key: a, .. },
            ResourceEvent::Present { key: c, .. },
            ResourceEvent::Primed(_),
        ] if a.id() == "a" && c.id() == "c"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_value_whose_pages_are_damaged_is_refused_to_writers_by_its_name() {
    for (nth, link) in [(0, NO_PAGE), (0, 0), (LONG_VALUE_PAGES - 2, 4_096)] {
        let fixture = Fixture::new().await;
        // A first version takes less room than those that follow.
        fixture.put(&["a", "b"]).await;
        fixture.store.put(&key("b"), long_value(b'b')).await.unwrap();
        fixture.damage_pages(b'b', nth, link);
        let (store, b) = (&fixture.store, &key("b"));
        for write in
            [Write::new("y"), Write::new("y").keeping(3), Write::new("y").counted_within(9)]
        {
            assert_damaged(store.put(b, write).await, "b");
        }
        // As long as what is there, the engine would write it along the damaged links.
        assert_damaged(store.put(b, long_value(b'y')).await, "b");
        assert_damaged(store.delete(b, Precondition::Any).await, "b");
        let (a, write) = (key("a"), || Write::new("y"));
        let (refused, done) = tokio::join!(store.put(b, write()), store.put(&a, write()));
        assert_damaged(refused, "b");
        done.unwrap();
        assert_eq!(fixture.listed(10).await, ("a".into(), "b".into()), "{nth}, {link}");
    }
}

#[tokio::test]
async fn expired_values_whose_pages_are_damaged_keep_no_other_from_being_reclaimed() {
    let fixture = Fixture::new().await;
    let at = fixture.clock.now().plus_millis(9);
    for byte in b'a'..=b'h' {
        let name = char::from(byte).to_string();
        fixture.store.put(&key(&name), long_value(byte).expires_at(at)).await.unwrap();
    }
    for byte in *b"adh" {
        fixture.damage_pages(byte, 3, NO_PAGE);
    }
    fixture.clock.advance_millis(9);
    let (cleanup, z) = (fixture.store.cleanup_expired(2), key("z"));
    let (reclaimed, put) = tokio::join!(cleanup, fixture.store.put(&z, Write::new("x")));
    put.unwrap();
    assert_eq!(reclaimed.unwrap(), 2);
    assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 3);
    assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 0);
    assert_eq!(fixture.names(), "adhz");
}

#[tokio::test]
async fn an_expired_value_whose_pages_are_damaged_is_absent_and_its_name_taken() {
    let fixture = Fixture::new().await;
    let at = fixture.clock.now().plus_millis(9);
    fixture.store.put(&key("b"), long_value(b'b').expires_at(at)).await.unwrap();
    fixture.damage_pages(b'b', 0, NO_PAGE);
    fixture.clock.advance_millis(9);
    let (store, b) = (&fixture.store, &key("b"));
    assert!(store.get(b).await.unwrap().is_none());
    assert!(store.history(b).await.unwrap().is_empty());
    assert_eq!(fixture.listed(10).await, Default::default());
    assert!(!store.delete(b, Precondition::Any).await.unwrap());
    // The engine has no way to free the pages, and none to set the row aside without that.
    assert_damaged(store.put_if_version(b, Write::new("y"), Precondition::Absent).await, "b");
    assert_damaged(store.put(b, long_value(b'y')).await, "b");
}

#[tokio::test]
async fn an_expired_value_whose_pages_are_damaged_takes_no_place_among_the_counted() {
    let fixture = Fixture::new().await;
    let at = fixture.clock.now().plus_millis(9);
    let counted = |write: Write| write.counted_within(2);
    fixture.store.put(&key("b"), counted(long_value(b'b')).expires_at(at)).await.unwrap();
    fixture.damage_pages(b'b', 0, NO_PAGE);
    fixture.clock.advance_millis(9);
    for name in ["a", "c"] {
        fixture.store.put(&key(name), counted(Write::new("x"))).await.unwrap();
    }
    let refused = fixture.store.put(&key("d"), counted(Write::new("x"))).await;
    assert!(matches!(refused, Err(StoreError::PartitionFull { limit: 2 })), "{refused:?}");
}

#[tokio::test]
async fn what_is_wrongly_counted_stops_no_counted_write() {
    // The count is none, or what an earlier version may have left.
    for count in [None, Some(-1)] {
        let fixture = Fixture::new().await;
        let at = fixture.clock.now().plus_millis(9);
        for name in ["a", "b"] {
            fixture.store.put(&key(name), Write::new("x").expires_at(at)).await.unwrap();
        }
        fixture.damage_records(&["a", "b"], "counted = 1");
        if let Some(count) = count {
            fixture.damage(&format!("INSERT INTO counts VALUES ('p', {count})"));
        }
        fixture.clock.advance_millis(9);
        assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 2);
        assert_eq!(fixture.damage("DELETE FROM counts"), 0, "none counts");
        let write = || Write::new("x").counted_within(1);
        fixture.store.put(&key("c"), write()).await.unwrap();
        let refused = fixture.store.put(&key("d"), write()).await;
        assert!(matches!(refused, Err(StoreError::PartitionFull { limit: 1 })), "{refused:?}");
    }
}

#[tokio::test]
async fn more_wrongly_counted_than_the_count_says_stop_no_counted_write() {
    let fixture = Fixture::new().await;
    let at = fixture.clock.now().plus_millis(9);
    let write = || Write::new("x").counted_within(1);
    fixture.store.put(&key("a"), write().expires_at(at)).await.unwrap();
    fixture.store.put(&key("b"), Write::new("x").expires_at(at)).await.unwrap();
    fixture.damage_records(&["b"], "counted = 1");
    fixture.clock.advance_millis(9);
    fixture.store.put(&key("c"), write()).await.unwrap();
    let refused = fixture.store.put(&key("d"), write()).await;
    assert!(matches!(refused, Err(StoreError::PartitionFull { limit: 1 })), "{refused:?}");
}

#[tokio::test]
async fn a_negative_count_is_none() {
    let fixture = Fixture::new().await;
    fixture.store.put(&key("a"), Write::new("x").counted_within(1)).await.unwrap();
    assert_eq!(fixture.damage("UPDATE counts SET counted = -5"), 1);
    fixture.store.put(&key("b"), Write::new("x").counted_within(2)).await.unwrap();
    assert_eq!(fixture.damage("DELETE FROM counts WHERE counted = 1"), 1);
}

#[tokio::test]
async fn a_row_whose_columns_are_on_damaged_pages_is_refused_by_its_name() {
    let fixture = Fixture::new().await;
    // So long that the columns after it are on the next page.
    let long = "n".repeat(512);
    let at = fixture.clock.now().plus_millis(9);
    fixture.store.put(&key(&long), Write::new(vec![0; 3_800]).expires_at(at)).await.unwrap();
    fixture.put(&["a"]).await;
    fixture.damage_file(|bytes| {
        let link = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let is_rest = |page: usize| bytes.get((page - 1) * PAGE + 4) == Some(&b'n');
        let mut ends = (300..bytes.len() - 4).filter(|at| bytes[at - 300..*at] == [b'n'; 300]);
        (ends.find(|at| link(*at) > 0 && is_rest(link(*at))).unwrap(), NO_PAGE)
    });
    let (store, n) = (&fixture.store, key(&long));
    for _ in ["live", "expired"] {
        let (a, write) = (key("a"), || Write::new("y"));
        let (refused, done) = tokio::join!(store.put(&n, write()), store.put(&a, write()));
        assert_damaged(refused, &long);
        done.unwrap();
        assert_damaged(store.delete(&n, Precondition::Any).await, &long);
        assert_eq!(store.cleanup_expired(10).await.unwrap(), 0);
        fixture.clock.advance_millis(9);
    }
}
