//! The open transaction that writes share, and what they find and change in it.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::column::{current, deadline};
use super::damage::{damaged, has_expired, is_corrupt, is_damage};
use crate::clock::Timestamp;
use crate::store::{Current, Key, Partition, Record, StoreError, Tag};

/// Deleted names are remembered for watchers until the store has made this many further changes.
pub(super) const HISTORY: u64 = 64 * crate::limits::WATCH_BACKLOG as u64;
/// Expired records that one write takes out of the count, at most.
const UNCOUNTED: usize = 256;
/// Values up to this size lie on their row's own page, however long the other columns are.
const INLINE_BYTES: u64 = 2_048;

/// Why an operation wrote nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The contract forbids it. The transaction goes on.
    Refused(StoreError),
    /// The engine failed. The transaction must not be committed.
    Engine(rusqlite::Error),
    /// The record of this name cannot be changed, because its pages are damaged. The transaction
    /// must not be committed: the engine may have freed some of the pages.
    Stuck(Key, rusqlite::Error),
}

impl Failure {
    /// What it means that the row of `key` could not be read or changed.
    pub(super) fn at(key: &Key) -> impl FnOnce(rusqlite::Error) -> Self {
        move |error| match error {
            error if is_corrupt(&error) => Self::Stuck(key.clone(), error),
            error => Self::Engine(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

/// What a transaction changed, for the cache and the watchers.
pub(super) type Changed = Vec<(Key, Option<Record>)>;

/// An open write transaction.
pub(super) struct Transaction<'a> {
    pub(super) connection: &'a Connection,
    pub(super) now: Timestamp,
    sequence: u64,
    pub(super) changed: Changed,
}

pub(super) struct Row {
    pub(super) place: RowRef,
    pub(super) current: Current,
    pub(super) created_at: Timestamp,
    expires_at: Option<Timestamp>,
    value_bytes: u64,
}

/// What a row takes up, readable or not.
pub(super) struct RowRef {
    pub(super) id: i64,
    pub(super) counted: bool,
    former: u32,
}

impl RowRef {
    /// From three adjacent columns.
    pub(super) fn read(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(column)?,
            counted: row.get(column + 1).unwrap_or(false),
            // Who looks for more than there is finds what there is.
            former: row.get(column + 2).unwrap_or(u32::MAX),
        })
    }
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            place: RowRef::read(row, 0)?,
            current: current(row, 3)?,
            created_at: Timestamp::from_millis(row.get(6)?),
            expires_at: deadline(row, 7)?,
            value_bytes: row.get(8)?,
        })
    }

    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|deadline| now < deadline)
    }
}

impl<'a> Transaction<'a> {
    /// Continues from where the last committed transaction left off. The write lock is held.
    pub(super) fn new(connection: &'a Connection, now: Timestamp) -> rusqlite::Result<Self> {
        let sequence = connection
            .prepare_cached("SELECT sequence FROM meta")?
            .query_row([], |row| row.get(0))?;
        Ok(Self { connection, now, sequence, changed: Changed::new() })
    }

    /// Writes down the position that was reached, and tells what changed.
    pub(super) fn finish(self) -> rusqlite::Result<(u64, Changed)> {
        if !self.changed.is_empty() {
            self.connection
                .prepare_cached("UPDATE meta SET sequence = ?1")?
                .execute([self.sequence])?;
            self.connection
                .prepare_cached("DELETE FROM gone WHERE revision <= ?1")?
                .execute([self.sequence.saturating_sub(HISTORY)])?;
        }
        Ok((self.sequence, self.changed))
    }

    /// What is there, expired or not. What cannot be read is left as it is until it expires.
    pub(super) fn row(&mut self, key: &Key) -> Result<Option<Row>, Failure> {
        let at = params![key.partition().as_str(), key.name().as_bytes()];
        let row = self
            .connection
            .prepare_cached(
                "SELECT id, counted, former, version, stamp, tag, created_at, expires_at,
                 length(value) FROM records WHERE partition = ?1 AND name = ?2",
            )?
            .query_row(at, Row::read)
            .optional();
        match row {
            // The engine lets nothing of this transaction be committed.
            Err(error) if is_corrupt(&error) => Err(Failure::at(key)(error)),
            Err(error) if is_damage(&error) => {
                if !has_expired(self.connection, key, self.now) {
                    return Err(damaged(key, &error).into());
                }
                let place = self
                    .connection
                    .prepare_cached(
                        "SELECT id, counted, former FROM records
                         WHERE partition = ?1 AND name = ?2",
                    )?
                    .query_row(at, |row| RowRef::read(row, 0))
                    .map_err(Failure::at(key))?;
                self.remove(key, &place)?;
                Ok(None)
            }
            row => Ok(row?),
        }
    }

    fn count(&self, partition: &Partition) -> rusqlite::Result<u64> {
        let count = self
            .connection
            .prepare_cached("SELECT max(0, counted) FROM counts WHERE partition = ?1")?
            .query_row([partition.as_str()], |row| row.get(0))
            .optional()?;
        Ok(count.unwrap_or(0))
    }

    /// A count that damaged rows made wrong does not stay below none.
    pub(super) fn change_count(&self, partition: &Partition, by: i64) -> rusqlite::Result<()> {
        if by == 0 {
            return Ok(());
        }
        self.connection
            .prepare_cached(
                "INSERT INTO counts (partition, counted) VALUES (?1, ?2)
                 ON CONFLICT (partition) DO UPDATE SET counted = max(0, counted) + ?2",
            )?
            .execute(params![partition.as_str(), by])?;
        if by < 0 {
            self.connection
                .prepare_cached("DELETE FROM counts WHERE partition = ?1 AND counted <= 0")?
                .execute([partition.as_str()])?;
        }
        Ok(())
    }

    /// Refuses one counted record more than `limit`.
    ///
    /// The count includes the expired that nobody looked at yet. Only when it says full are they
    /// taken out of it, a bounded number each time; if that does not settle it, the live ones are
    /// counted up to the limit. Where that would meet `damage`, they are counted at once.
    pub(super) fn check_capacity(
        &self,
        partition: &Partition,
        limit: u32,
        damage: bool,
    ) -> Result<(), Failure> {
        let limit_rows = u64::from(limit);
        let mut count = self.count(partition)?;
        if count >= limit_rows && damage {
            count = self.live_counted(partition, limit)?;
        } else if count >= limit_rows {
            let uncounted = self
                .connection
                .prepare_cached(
                    "UPDATE records SET counted = 0 WHERE id IN (
                         SELECT id FROM records WHERE partition = ?1 AND counted = 1
                         AND expires_at <= ?2 ORDER BY expires_at LIMIT ?3)",
                )?
                .execute(params![partition.as_str(), self.now.as_millis(), UNCOUNTED])?;
            self.change_count(partition, -i64::try_from(uncounted).unwrap_or(i64::MAX))?;
            count = count.saturating_sub(uncounted as u64);
            if uncounted == UNCOUNTED && count >= limit_rows {
                count = self.live_counted(partition, limit)?;
            }
        }
        if count >= limit_rows {
            return Err(StoreError::PartitionFull { limit }.into());
        }
        Ok(())
    }

    fn live_counted(&self, partition: &Partition, limit: u32) -> rusqlite::Result<u64> {
        self.connection
            .prepare_cached(
                "SELECT (SELECT count(*) FROM (SELECT 1 FROM records WHERE partition = ?1
                         AND counted = 1 AND expires_at IS NULL LIMIT ?3))
                      + (SELECT count(*) FROM (SELECT 1 FROM records WHERE partition = ?1
                         AND counted = 1 AND expires_at > ?2 LIMIT ?3))",
            )?
            .query_row(params![partition.as_str(), self.now.as_millis(), limit], |row| row.get(0))
    }

    /// The capacity check may just have taken a record that expired out of the count.
    pub(super) fn is_counted(&self, id: i64) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached("SELECT counted FROM records WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
    }

    fn next_revision(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    pub(super) fn insert(
        &mut self,
        key: &Key,
        record: &Record,
        counted: bool,
    ) -> rusqlite::Result<()> {
        let revision = self.next_revision();
        self.connection
            .prepare_cached(
                "INSERT INTO records
                 (partition, name, version, stamp, tag, created_at, expires_at, counted, former,
                  revision, value)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10)",
            )?
            .execute(params![
                key.partition().as_str(),
                key.name().as_bytes(),
                record.token.version(),
                record.token.stamp().cast_signed(),
                record.tag.as_ref().map(Tag::as_bytes),
                record.created_at.as_millis(),
                record.expires_at.map(Timestamp::as_millis),
                counted,
                revision,
                &*record.value,
            ])?;
        Ok(())
    }

    pub(super) fn update(
        &mut self,
        row: &Row,
        record: &Record,
        counted: bool,
        kept: u32,
    ) -> rusqlite::Result<()> {
        self.check_pages(row)?;
        let former = self.move_to_history(row, kept)?;
        let revision = self.next_revision();
        self.connection
            .prepare_cached(
                "UPDATE records SET version = ?2, stamp = ?3, tag = ?4, created_at = ?5,
                 expires_at = ?6, counted = ?7, former = ?8, revision = ?9, value = ?10
                 WHERE id = ?1",
            )?
            .execute(params![
                row.place.id,
                record.token.version(),
                record.token.stamp().cast_signed(),
                record.tag.as_ref().map(Tag::as_bytes),
                record.created_at.as_millis(),
                record.expires_at.map(Timestamp::as_millis),
                counted,
                former,
                revision,
                &*record.value,
            ])?;
        Ok(())
    }

    /// Reads all pages of a row that is about to be replaced. If the new one is as long, the engine
    /// writes it over whatever they link to, and says that this is done.
    fn check_pages(&self, row: &Row) -> rusqlite::Result<()> {
        if row.value_bytes <= INLINE_BYTES {
            return Ok(());
        }
        self.connection
            .prepare_cached("SELECT value FROM records WHERE id = ?1")?
            .query_row([row.place.id], |_| Ok(()))
    }

    /// Moves what is about to be replaced into the history of the record, of which `kept` versions
    /// stay; an expired one has none. Tells how many there are then.
    fn move_to_history(&self, row: &Row, kept: u32) -> rusqlite::Result<u32> {
        let kept = if row.is_live(self.now) { kept } else { 0 };
        let former = row.place.former.saturating_add(u32::from(kept > 0));
        if kept > 0 && row.place.former == kept && self.overwrite_oldest(row)? {
            return Ok(kept);
        }
        if kept > 0 {
            self.connection
                .prepare_cached(
                    "INSERT INTO former (record, version, stamp, tag, value)
                     SELECT id, version, stamp, tag, value FROM records WHERE id = ?1",
                )?
                .execute([row.place.id])?;
        }
        if former > kept {
            let newest = row.current.token.version();
            self.connection
                .prepare_cached("DELETE FROM former WHERE record = ?1 AND version <= ?2")?
                .execute(params![row.place.id, newest.saturating_sub(u64::from(kept))])?;
        }
        Ok(former.min(kept))
    }

    /// Puts what is about to be replaced in the place of its oldest former version. A history that
    /// is full stays on the pages that it has: a new row and a deleted one would change twice as
    /// many. Tells whether that version was there; one with pages of its own stays, as what is as
    /// long would be written over whatever they link to.
    fn overwrite_oldest(&self, row: &Row) -> rusqlite::Result<bool> {
        let oldest = row.current.token.version().checked_sub(u64::from(row.place.former));
        let overwritten = self
            .connection
            .prepare_cached(
                "UPDATE former SET (version, stamp, tag, value) =
                     (SELECT version, stamp, tag, value FROM records WHERE id = ?1)
                 WHERE record = ?1 AND version = ?2 AND length(value) <= ?3",
            )?
            .execute(params![row.place.id, oldest, INLINE_BYTES])?;
        Ok(overwritten == 1)
    }

    pub(super) fn remove(&mut self, key: &Key, place: &RowRef) -> Result<(), Failure> {
        self.erase(place).map_err(Failure::at(key))?;
        self.change_count(key.partition(), -i64::from(place.counted))?;
        let revision = self.next_revision();
        self.connection
            .prepare_cached("INSERT INTO gone (revision, partition, name) VALUES (?1, ?2, ?3)")?
            .execute(params![revision, key.partition().as_str(), key.name().as_bytes()])?;
        self.changed.push((key.clone(), None));
        Ok(())
    }

    pub(super) fn erase(&self, place: &RowRef) -> rusqlite::Result<()> {
        self.connection.prepare_cached("DELETE FROM records WHERE id = ?1")?.execute([place.id])?;
        if place.former > 0 {
            self.connection
                .prepare_cached("DELETE FROM former WHERE record = ?1")?
                .execute([place.id])?;
        }
        Ok(())
    }
}
