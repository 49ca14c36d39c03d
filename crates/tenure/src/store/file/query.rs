//! What is read, inside a snapshot.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::column::{current, deadline, text};
use super::damage::{self, is_damage};
use super::error::translate;
use super::transaction::HISTORY;
use super::values::Values;
use crate::clock::Timestamp;
use crate::limits::PAGE_BYTES;
use crate::store::{
    Change, ChangeKind, Current, Cursor, Damaged, Entry, Key, Page, Partition, Record, Revision,
    StoreError, Version, WatchEvent,
};

/// Changes that a watcher takes at a time.
const CHANGES: usize = 256;
/// Records that a page has room for at once; it grows where there are more.
const EXPECTED: usize = 128;
/// Above every name: no UTF-8 text begins with this byte.
const ABOVE_ALL: &[u8] = &[0xff];

/// One record, expired or not; of one that cannot be read, at least whether it has at `now`.
pub(super) fn get(
    connection: &Connection,
    key: &Key,
    now: Timestamp,
) -> Result<Option<Record>, StoreError> {
    let read = || {
        connection
            .prepare_cached(
                "SELECT version, stamp, tag, created_at, expires_at, value FROM records
                 WHERE partition = ?1 AND name = ?2",
            )?
            .query_row(params![key.partition().as_str(), key.name().as_bytes()], |row| {
                record(row, 0, Bytes::copy_from_slice)
            })
            .optional()
    };
    match read() {
        Err(error) if is_damage(&error) && damage::has_expired(connection, key, now) => Ok(None),
        Err(error) if is_damage(&error) => Err(damage::damaged(key, &error)),
        read => read.map_err(|error| translate(error, "reading a record")),
    }
}

/// The versions of a record, newest first, if it has not expired at `now`.
pub(super) fn history(
    connection: &Connection,
    key: &Key,
    now: Timestamp,
) -> Result<Vec<Version>, StoreError> {
    let read = || -> rusqlite::Result<Vec<Version>> {
        // One statement, one snapshot.
        let mut statement = connection.prepare_cached(
            "WITH live AS (SELECT id, version, stamp, tag, value FROM records
                 WHERE partition = ?1 AND name = ?2
                 AND (expires_at IS NULL OR expires_at NOT BETWEEN 0 AND ?3))
             SELECT version, stamp, tag, value FROM live
             UNION ALL
             SELECT former.version, former.stamp, former.tag, former.value
                 FROM live JOIN former ON former.record = live.id
             ORDER BY version DESC",
        )?;
        let (partition, name) = (key.partition().as_str(), key.name().as_bytes());
        let rows = statement.query_map(params![partition, name, now.as_millis()], |row| {
            let Current { token, tag } = current(row, 0)?;
            let value = Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?);
            Ok(Version { value, token, tag })
        })?;
        rows.collect()
    };
    read().map_err(|error| match error {
        error if is_damage(&error) => damage::damaged(key, &error),
        error => translate(error, "reading a history"),
    })
}

/// What a page asks for.
pub(super) struct Listing {
    pub(super) partition: Partition,
    pub(super) prefix: String,
    /// The last name of the page before.
    pub(super) after: Option<std::sync::Arc<str>>,
    pub(super) limit: usize,
    pub(super) now: Timestamp,
}

/// What a page holds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) damaged: Vec<Damaged>,
    /// Whether there is a next page.
    pub(super) more: bool,
    /// The bytes of all values.
    bytes: usize,
}

impl Found {
    pub(super) fn is_full(&self, limit: usize) -> bool {
        self.entries.len() + self.damaged.len() >= limit || self.bytes >= PAGE_BYTES
    }

    pub(super) fn push(&mut self, key: Key, record: Record) {
        self.bytes += record.value.len();
        self.entries.push(Entry { key, record });
    }
}

/// One page.
pub(super) fn list(connection: &Connection, listing: &Listing) -> Result<Page, StoreError> {
    let read = || -> rusqlite::Result<Page> {
        let revision = revision(connection)?;
        let found = match find(connection, listing) {
            Err(error) if is_damage(&error) => damage::list_one_by_one(connection, listing)?,
            found => found?,
        };
        let Found { entries, damaged, more, .. } = found;
        let mut page = Page { entries, damaged, next: None, revision };
        page.next = page
            .last()
            .filter(|_| more)
            .map(|last| Cursor::new(&listing.partition, &listing.prefix, last.shared_name()));
        Ok(page)
    };
    read().map_err(|error| translate(error, "listing"))
}

fn find(connection: &Connection, listing: &Listing) -> rusqlite::Result<Found> {
    let sql = if listing.after.is_some() {
        "SELECT name, version, stamp, tag, created_at, expires_at, value FROM records
         WHERE partition = ?1 AND name > ?2 AND name < ?3
         AND (expires_at IS NULL OR expires_at NOT BETWEEN 0 AND ?4) ORDER BY name LIMIT ?5"
    } else {
        "SELECT name, version, stamp, tag, created_at, expires_at, value FROM records
         WHERE partition = ?1 AND name >= ?2 AND name < ?3
         AND (expires_at IS NULL OR expires_at NOT BETWEEN 0 AND ?4) ORDER BY name LIMIT ?5"
    };
    let from = listing.after.as_deref().unwrap_or(&listing.prefix);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![
        listing.partition.as_str(),
        from.as_bytes(),
        end_of(&listing.prefix),
        listing.now.as_millis(),
        // One more than asked for tells whether there is a next page.
        listing.limit + 1,
    ])?;
    let entries = Vec::with_capacity(listing.limit.min(EXPECTED));
    let (mut found, mut values) = (Found { entries, ..Found::default() }, Values::default());
    while let Some(row) = rows.next()? {
        if found.is_full(listing.limit) {
            found.more = true;
            break;
        }
        let key = listing.partition.stored_key(text(row.get_ref(0)?.as_blob()?, 0)?);
        found.push(key, record(row, 1, |value| values.copy(value))?);
    }
    Ok(found)
}

/// The first byte string above everything that starts with `prefix`.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // No byte of UTF-8 is 0xff, so there is a next one.
        Some(last) => *last += 1,
        None => end.extend(ABOVE_ALL),
    }
    end
}

/// The record in the columns from `first` on, its value as `copy` makes it.
pub(super) fn record(
    row: &rusqlite::Row<'_>,
    first: usize,
    copy: impl FnOnce(&[u8]) -> Bytes,
) -> rusqlite::Result<Record> {
    let Current { token, tag } = current(row, first)?;
    Ok(Record {
        token,
        tag,
        created_at: Timestamp::from_millis(row.get(first + 3)?),
        expires_at: deadline(row, first + 4)?,
        value: copy(row.get_ref(first + 5)?.as_blob()?),
    })
}

/// How many records of a partition count: by the table of counts, but for the expired that nobody
/// has taken out of it yet.
pub(super) fn counted(
    connection: &Connection,
    partition: &Partition,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let read = || {
        connection
            .prepare_cached(
                "SELECT max(0, coalesce((SELECT counted FROM counts WHERE partition = ?1), 0)
                     - (SELECT count(*) FROM records WHERE partition = ?1
                        AND counted = 1 AND expires_at <= ?2))",
            )?
            .query_row(params![partition.as_str(), now.as_millis()], |row| row.get(0))
    };
    read().map_err(|error| translate(error, "counting"))
}

/// The position of the store: of the last change, in whichever partition.
pub(super) fn revision(connection: &Connection) -> rusqlite::Result<Revision> {
    connection.prepare_cached("SELECT epoch, sequence FROM meta")?.query_row([], |row| {
        let epoch: i64 = row.get(0)?;
        Ok(Revision { epoch: epoch.cast_unsigned(), sequence: row.get(1)? })
    })
}

/// What a watcher is to be told next, and where it stands after that.
pub(super) struct Changes {
    pub(super) events: Vec<WatchEvent>,
    pub(super) position: Revision,
    /// There may be more right away.
    pub(super) more: bool,
}

impl Changes {
    fn lost(position: Revision) -> Self {
        Self { events: vec![WatchEvent::Resync(position)], position, more: false }
    }
}

/// The changes of a partition after a position, or the news that they are no longer all known.
///
/// The records themselves are the log: each bears the position of its last write, and only the
/// deleted need a table. So changes of one key coalesce, and only the deleted are ever forgotten.
/// Of a record that cannot be read nobody knows which write left it: the listing names it.
pub(super) fn changes(
    connection: &Connection,
    partition: &Partition,
    after: Revision,
) -> Result<Changes, StoreError> {
    let read = || -> rusqlite::Result<Changes> {
        let position = revision(connection)?;
        let known = position.sequence.saturating_sub(HISTORY)..=position.sequence;
        if after.epoch != position.epoch || !known.contains(&after.sequence) {
            return Ok(Changes::lost(position));
        }
        let mut changes = match written_and_deleted(connection, partition, after) {
            Err(error) if is_damage(&error) => return Ok(Changes::lost(position)),
            changes => changes?,
        };
        changes.sort_unstable_by_key(|change| change.revision.sequence);
        // Either list may have been cut off at the limit; up to there the merged one is complete.
        let more = changes.len() >= CHANGES;
        changes.truncate(CHANGES);
        let reached = changes.last().filter(|_| more).map_or(position, |last| last.revision);
        let events = changes.into_iter().map(WatchEvent::Change).collect();
        Ok(Changes { events, position: reached, more })
    };
    read().map_err(|error| translate(error, "reading changes"))
}

fn written_and_deleted(
    connection: &Connection,
    partition: &Partition,
    after: Revision,
) -> rusqlite::Result<Vec<Change>> {
    let mut changes = written(connection, partition, after)?;
    changes.extend(deleted(connection, partition, after)?);
    Ok(changes)
}

fn written(
    connection: &Connection,
    partition: &Partition,
    after: Revision,
) -> rusqlite::Result<Vec<Change>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, revision, version, stamp, tag, expires_at FROM records
         WHERE partition = ?1 AND revision > ?2 ORDER BY revision LIMIT ?3",
    )?;
    let rows =
        statement.query_map(params![partition.as_str(), after.sequence, CHANGES], |row| {
            let Current { token, tag } = current(row, 2)?;
            Ok(Change {
                key: partition.stored_key(text(row.get_ref(0)?.as_blob()?, 0)?),
                revision: Revision { epoch: after.epoch, sequence: row.get(1)? },
                kind: ChangeKind::Put { token, tag, expires_at: deadline(row, 5)? },
            })
        })?;
    rows.collect()
}

fn deleted(
    connection: &Connection,
    partition: &Partition,
    after: Revision,
) -> rusqlite::Result<Vec<Change>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, revision FROM gone
         WHERE partition = ?1 AND revision > ?2 ORDER BY revision LIMIT ?3",
    )?;
    let rows =
        statement.query_map(params![partition.as_str(), after.sequence, CHANGES], |row| {
            Ok(Change {
                key: partition.stored_key(text(row.get_ref(0)?.as_blob()?, 0)?),
                revision: Revision { epoch: after.epoch, sequence: row.get(1)? },
                kind: ChangeKind::Gone,
            })
        })?;
    rows.collect()
}
