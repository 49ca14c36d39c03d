//! Reclaiming: expired records are erased, a bounded number in one transaction.

use std::collections::HashSet;

use rusqlite::{OptionalExtension as _, params};

use super::column::text;
use super::operation::Operation;
use super::transaction::{Failure, RowRef, Transaction};
use crate::store::Partition;

/// Where a row stands among those that expire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    expires_at: i64,
    id: i64,
}

impl Position {
    /// Before every row whose deadline is one.
    pub(super) const START: Self = Self { expires_at: 0, id: i64::MIN };
}

/// Both ends of the range are the index's: what is live is not looked at.
const EXPIRED: &str = "SELECT expires_at, id FROM records
    WHERE (expires_at, id) > (?1, ?2) AND expires_at <= ?3
    ORDER BY expires_at, id LIMIT ?4";

/// One step of `cleanup_expired`.
pub(super) struct Reclaim {
    after: Position,
    limit: usize,
    /// The row that is being erased.
    trying: Option<i64>,
    /// Rows of this step that cannot be erased.
    stuck: HashSet<i64>,
}

impl Reclaim {
    pub(super) fn new(after: Position, limit: usize) -> Self {
        Self { after, limit, trying: None, stuck: HashSet::new() }
    }
}

/// What a step did.
pub(super) struct Reclaimed {
    pub(super) count: usize,
    /// Where the next step begins, if there may be more.
    pub(super) next: Option<Position>,
}

impl Operation for Reclaim {
    type Output = Reclaimed;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Reclaimed, Failure> {
        self.trying = None;
        let expired = transaction.expired(self.after, self.limit)?;
        let mut count = 0;
        for Position { id, .. } in &expired {
            if !self.stuck.contains(id) {
                self.trying = Some(*id);
                count += usize::from(transaction.reclaim(*id)?);
            }
        }
        self.trying = None;
        let next = expired.last().copied().filter(|_| expired.len() == self.limit);
        Ok(Reclaimed { count, next })
    }

    fn skip_damaged(&mut self, cause: &rusqlite::Error) -> bool {
        let Some(id) = self.trying.take() else { return false };
        tracing::warn!(row = id, error = %cause, "an expired record cannot be erased");
        self.stuck.insert(id)
    }
}

impl Transaction<'_> {
    /// What has expired, from the index alone: it is known of records that cannot be read as well.
    fn expired(&self, after: Position, limit: usize) -> rusqlite::Result<Vec<Position>> {
        let mut statement = self.connection.prepare_cached(EXPIRED)?;
        let now = self.now.as_millis();
        let rows = statement.query_map(params![after.expires_at, after.id, now, limit], |row| {
            Ok(Position { expires_at: row.get(0)?, id: row.get(1)? })
        })?;
        rows.collect()
    }

    /// Erases one row, readable or not. False if only the index knows it.
    fn reclaim(&mut self, id: i64) -> Result<bool, Failure> {
        let row = self
            .connection
            .prepare_cached(
                "SELECT id, counted, former, partition, name FROM records WHERE id = ?1",
            )?
            .query_row([id], |row| {
                let partition = row.get_ref(3)?.as_str().map(Partition::stored);
                let name = text(row.get_ref(4)?.as_blob()?, 4).map(str::to_owned);
                Ok((RowRef::read(row, 0)?, partition.ok(), name.ok()))
            })
            .optional()?;
        let Some((place, partition, name)) = row else { return Ok(false) };
        match (partition, name) {
            (Some(partition), Some(name)) => self.remove(&partition.stored_key(&name), &place)?,
            // Nobody knows the name, so there is nobody to tell.
            (Some(partition), None) => {
                self.erase(&place)?;
                self.change_count(&partition, -i64::from(place.counted))?;
            }
            (None, _) => self.erase(&place)?,
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::file::schema;

    #[test]
    fn what_is_live_is_not_looked_at() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::create(&mut connection).unwrap();
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {EXPIRED}")).unwrap();
        let steps = plan.query_map([0, 0, 0, 0], |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<_> = steps.map(Result::unwrap).collect();
        let range = "COVERING INDEX records_by_deadline (expires_at>? AND expires_at<?)";
        assert_eq!(steps, [format!("SEARCH records USING {range}")]);
    }
}
