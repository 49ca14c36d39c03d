//! What a write does inside its transaction.

use super::transaction::{Failure, Transaction};
use crate::store::{Key, Precondition, Record, VersionToken, Write};

/// One write of a caller. It may run again when the transaction it was part of did not commit.
pub(super) trait Operation: Send + 'static {
    /// What the caller learns.
    type Output: Send + 'static;
    /// Checks everything, then writes.
    fn run(&self, transaction: &mut Transaction<'_>) -> Result<Self::Output, Failure>;
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
            && !live.is_some_and(|row| row.place.counted)
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
            Some(row) if row.place.counted => transaction.is_counted(row.place.id)?,
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
            transaction.remove(&self.key, &row.place)?;
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
        Ok(transaction.reclaim(self.limit)?)
    }
}
