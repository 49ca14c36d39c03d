//! A file that is damaged below an open store.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tenure::clock::{Clock, Timestamp};
use tenure::store::{
    FileBackend, Key, PageRequest, Partition, StorageBackend as _, StoreError, Write,
};

pub(crate) const PAGE: usize = 4_096;

pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<FileBackend>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let (folder, clock) =
            (tempfile::tempdir().unwrap(), Clock::manual(Timestamp::from_millis(1_000)));
        let path = folder.path().join("tenure.db");
        let store = Arc::new(FileBackend::open(path, clock.clone()).await.unwrap());
        Self { folder, clock, store }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("tenure.db")
    }

    /// Does to the file what somebody else may, and tells how many rows that met.
    pub(crate) fn damage(&self, sql: &str) -> usize {
        rusqlite::Connection::open(self.path()).unwrap().execute(sql, []).unwrap()
    }

    /// Names of all rows there are.
    pub(crate) fn names(&self) -> String {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        let mut names = connection.prepare("SELECT CAST(name AS TEXT) FROM records").unwrap();
        let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.collect::<Result<_, _>>().unwrap()
    }

    pub(crate) fn damage_records(&self, names: &[&str], assignment: &str) {
        for name in names {
            let sql =
                format!("UPDATE records SET {assignment} WHERE name = CAST('{name}' AS BLOB)");
            assert_eq!(self.damage(&sql), 1, "{sql}");
        }
    }

    /// Writes a link to a page at a place that is found in the file.
    pub(crate) fn damage_file(&self, find: impl FnOnce(&[u8]) -> (usize, u32)) {
        let other = rusqlite::Connection::open(self.path()).unwrap();
        other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let (at, link) = find(&std::fs::read(self.path()).unwrap());
        let file = std::fs::OpenOptions::new().write(true).open(self.path()).unwrap();
        file.write_all_at(&link.to_be_bytes(), at as u64).unwrap();
        // Whoever remembers pages forgets them at somebody else's commit.
        other.execute("UPDATE meta SET sequence = sequence + 1", []).unwrap();
    }

    /// Makes a page of the value that is filled with `byte` link to another page than its next.
    pub(crate) fn damage_pages(&self, byte: u8, nth: usize, link: u32) {
        self.damage_file(|bytes| {
            // Where the next page is, and then nothing but the value.
            let mut pages = (0..bytes.len())
                .step_by(PAGE)
                .filter(|at| bytes[at + 4..][..PAGE - 4] == [byte; PAGE - 4]);
            (pages.nth(nth).unwrap(), link)
        });
    }

    pub(crate) async fn put(&self, names: &[&str]) {
        for name in names {
            self.store.put(&key(name), Write::new("x")).await.unwrap();
        }
    }

    /// Names of the sound and of the damaged, gathered from pages of `limit`.
    pub(crate) async fn listed(&self, limit: usize) -> (String, String) {
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

pub(crate) fn partition() -> Partition {
    Partition::new(["p"]).unwrap()
}

pub(crate) fn key(name: &str) -> Key {
    partition().key(name).unwrap()
}

pub(crate) fn assert_damaged<T: std::fmt::Debug>(refused: Result<T, StoreError>, name: &str) {
    match refused {
        Err(StoreError::Damaged { key: found, .. }) => assert_eq!(found, key(name)),
        other => panic!("{name}: {other:?}"),
    }
}
