//! What a write does inside its transaction.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::column::{current, deadline, text};
use crate::clock::Timestamp;
use crate::store::{
    Current, Key, Partition, Precondition, Record, StoreError, Tag, VersionToken, Write,
};

/// Deleted names are remembered for watchers until the store has made this many further changes.
pub(super) const HISTORY: u64 = 64 * crate::limits::WATCH_BACKLOG as u64;
/// Expired records that one write takes out of the count, at most.
const UNCOUNTED: usize = 256;

/// Why an operation wrote nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The contract forbids it. The transaction goes on.
    Refused(StoreError),
    /// The engine failed. The transaction must not be committed.
    Engine(rusqlite::Error),
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

/// One write of a caller. It may run again when the transaction it was part of did not commit.
pub(super) trait Operation: Send + 'static {
    /// What the caller learns.
    type Output: Send + 'static;
    /// Checks everything, then writes.
    fn run(&self, transaction: &mut Transaction<'_>) -> Result<Self::Output, Failure>;
}

/// What a transaction changed, for the cache and the watchers.
pub(super) type Changed = Vec<(Key, Option<Record>)>;

/// An open write transaction.
pub(super) struct Transaction<'a> {
    connection: &'a Connection,
    now: Timestamp,
    sequence: u64,
    changed: Changed,
}

struct Row {
    id: i64,
    current: Current,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    counted: bool,
    former: u32,
}

impl Row {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            current: current(row, 1)?,
            created_at: Timestamp::from_millis(row.get(4)?),
            expires_at: deadline(row, 5)?,
            counted: row.get(6)?,
            former: row.get(7)?,
        })
    }

    fn is_live(&self, now: Timestamp) -> bool {
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

    fn row(&self, key: &Key) -> rusqlite::Result<Option<Row>> {
        self.connection
            .prepare_cached(
                "SELECT id, version, stamp, tag, created_at, expires_at, counted, former
                 FROM records WHERE partition = ?1 AND name = ?2",
            )?
            .query_row(params![key.partition().as_str(), key.name().as_bytes()], Row::read)
            .optional()
    }

    fn count(&self, partition: &Partition) -> rusqlite::Result<u64> {
        let count = self
            .connection
            .prepare_cached("SELECT counted FROM counts WHERE partition = ?1")?
            .query_row([partition.as_str()], |row| row.get(0))
            .optional()?;
        Ok(count.unwrap_or(0))
    }

    fn change_count(&self, partition: &Partition, by: i64) -> rusqlite::Result<()> {
        if by == 0 {
            return Ok(());
        }
        self.connection
            .prepare_cached(
                "INSERT INTO counts (partition, counted) VALUES (?1, ?2)
                 ON CONFLICT (partition) DO UPDATE SET counted = counted + excluded.counted",
            )?
            .execute(params![partition.as_str(), by])?;
        if by < 0 {
            self.connection
                .prepare_cached("DELETE FROM counts WHERE partition = ?1 AND counted = 0")?
                .execute([partition.as_str()])?;
        }
        Ok(())
    }

    /// Refuses one counted record more than `limit`.
    ///
    /// The count includes the expired that nobody looked at yet. Only when it says full are they
    /// taken out of it, a bounded number each time; if that does not settle it, the live ones are
    /// counted up to the limit.
    fn check_capacity(&self, partition: &Partition, limit: u32) -> Result<(), Failure> {
        let limit_rows = u64::from(limit);
        let mut count = self.count(partition)?;
        if count >= limit_rows {
            let uncounted = self
                .connection
                .prepare_cached(
                    "UPDATE records SET counted = 0 WHERE id IN (
                         SELECT id FROM records WHERE partition = ?1 AND counted = 1
                         AND expires_at <= ?2 ORDER BY expires_at LIMIT ?3)",
                )?
                .execute(params![partition.as_str(), self.now.as_millis(), UNCOUNTED])?;
            self.change_count(partition, -i64::try_from(uncounted).unwrap_or(i64::MAX))?;
            count -= uncounted as u64;
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

    fn expired(&self, limit: usize) -> rusqlite::Result<Vec<(Key, Row)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, version, stamp, tag, created_at, expires_at, counted, former,
                    partition, name FROM records
             WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2",
        )?;
        let rows = statement.query_map(params![self.now.as_millis(), limit], |row| {
            let partition = Partition::stored(row.get_ref(8)?.as_str()?);
            let key = partition.stored_key(text(row.get_ref(9)?.as_blob()?, 9)?);
            Ok((key, Row::read(row)?))
        })?;
        rows.collect()
    }

    /// The capacity check may just have taken a record that expired out of the count.
    fn is_counted(&self, id: i64) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached("SELECT counted FROM records WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
    }

    fn next_revision(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn insert(&mut self, key: &Key, record: &Record, counted: bool) -> rusqlite::Result<()> {
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

    fn update(
        &mut self,
        row: &Row,
        record: &Record,
        counted: bool,
        kept: u32,
    ) -> rusqlite::Result<()> {
        let former = self.move_to_history(row, kept)?;
        let revision = self.next_revision();
        self.connection
            .prepare_cached(
                "UPDATE records SET version = ?2, stamp = ?3, tag = ?4, created_at = ?5,
                 expires_at = ?6, counted = ?7, former = ?8, revision = ?9, value = ?10
                 WHERE id = ?1",
            )?
            .execute(params![
                row.id,
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

    /// Moves what is about to be replaced into the history of the record, of which `kept` versions
    /// stay; an expired one has none. Tells how many there are then.
    fn move_to_history(&self, row: &Row, kept: u32) -> rusqlite::Result<u32> {
        let kept = if row.is_live(self.now) { kept } else { 0 };
        let former = row.former + u32::from(kept > 0);
        if kept > 0 {
            self.connection
                .prepare_cached(
                    "INSERT INTO former (record, version, stamp, tag, value)
                     SELECT id, version, stamp, tag, value FROM records WHERE id = ?1",
                )?
                .execute([row.id])?;
        }
        if former > kept {
            let newest = row.current.token.version();
            self.connection
                .prepare_cached("DELETE FROM former WHERE record = ?1 AND version <= ?2")?
                .execute(params![row.id, newest.saturating_sub(u64::from(kept))])?;
        }
        Ok(former.min(kept))
    }

    fn remove(&mut self, key: &Key, row: &Row) -> rusqlite::Result<()> {
        self.connection.prepare_cached("DELETE FROM records WHERE id = ?1")?.execute([row.id])?;
        if row.former > 0 {
            self.connection
                .prepare_cached("DELETE FROM former WHERE record = ?1")?
                .execute([row.id])?;
        }
        self.change_count(key.partition(), -i64::from(row.counted))?;
        let revision = self.next_revision();
        self.connection
            .prepare_cached("INSERT INTO gone (revision, partition, name) VALUES (?1, ?2, ?3)")?
            .execute(params![revision, key.partition().as_str(), key.name().as_bytes()])?;
        self.changed.push((key.clone(), None));
        Ok(())
    }
}

/// `put` and `put_if_version`.
pub(super) struct Put {
    pub(super) key: Key,
    pub(super) write: Write,
    pub(super) precondition: Precondition,
}

impl Operation for Put {
    type Output = VersionToken;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<VersionToken, Failure> {
        let partition = self.key.partition();
        let row = transaction.row(&self.key)?;
        let live = row.as_ref().filter(|row| row.is_live(transaction.now));
        let current = live.map(|row| row.current);
        self.precondition.check(current)?;
        if let Some(limit) = self.write.capacity
            && !live.is_some_and(|row| row.counted)
        {
            transaction.check_capacity(partition, limit)?;
        }
        let counted = self.write.capacity.is_some();
        let record = Record {
            value: self.write.value.clone(),
            token: VersionToken::new(current.map_or(1, |it| it.token.version() + 1)),
            tag: self.write.tag,
            created_at: live.map_or(transaction.now, |row| row.created_at),
            expires_at: self.write.expires_at,
        };
        let was_counted = match &row {
            Some(row) if row.counted => transaction.is_counted(row.id)?,
            _ => false,
        };
        match row {
            Some(row) => transaction.update(&row, &record, counted, self.write.kept)?,
            None => transaction.insert(&self.key, &record, counted)?,
        }
        transaction.change_count(partition, i64::from(counted) - i64::from(was_counted))?;
        let token = record.token;
        transaction.changed.push((self.key.clone(), Some(record)));
        Ok(token)
    }
}

/// `delete`.
pub(super) struct Delete {
    pub(super) key: Key,
    pub(super) precondition: Precondition,
}

impl Operation for Delete {
    type Output = bool;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<bool, Failure> {
        let row = transaction.row(&self.key)?;
        let live = row.as_ref().filter(|row| row.is_live(transaction.now));
        let current = live.map(|row| row.current);
        self.precondition.check(current)?;
        if let Some(row) = &row {
            transaction.remove(&self.key, row)?;
        }
        Ok(current.is_some())
    }
}

/// One step of `cleanup_expired`.
pub(super) struct Reclaim {
    pub(super) limit: usize,
}

impl Operation for Reclaim {
    type Output = usize;

    fn run(&self, transaction: &mut Transaction<'_>) -> Result<usize, Failure> {
        let expired = transaction.expired(self.limit)?;
        for (key, row) in &expired {
            transaction.remove(key, row)?;
        }
        Ok(expired.len())
    }
}
