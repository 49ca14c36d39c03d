//! What a write does inside its transaction.

use super::transaction::{Failure, Transaction};
use crate::store::{Key, Precondition, Record, VersionToken, Write};

/// One write of a caller. It may run again when the transaction it was part of did not commit.
pub(super) trait Operation: Send + 'static {
    /// What the caller learns.
    type Output: Send + 'static;
    /// Checks everything, then writes.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<Self::Output, Failure>;
    /// Damaged pages were met, and all was rolled back. True if another run would go around them.
    fn skip_damaged(&mut self, _cause: &rusqlite::Error) -> bool {
        false
    }
}

/// `put` and `put_if_version`.
pub(super) struct Put {
    key: Key,
    write: Write,
    precondition: Precondition,
    /// Damage was met elsewhere than in the record itself.
    around: bool,
}

impl Put {
    pub(super) fn new(key: Key, write: Write, precondition: Precondition) -> Self {
        Self { key, write, precondition, around: false }
    }
}

impl Operation for Put {
    type Output = VersionToken;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<VersionToken, Failure> {
        let partition = self.key.partition();
        let row = transaction.row(&self.key)?;
        let live = row.as_ref().filter(|row| row.is_live(transaction.now));
        let current = live.map(|row| row.current);
        self.precondition.check(current)?;
        if let Some(limit) = self.write.capacity
            && !live.is_some_and(|row| row.place.counted)
        {
            transaction.check_capacity(partition, limit, self.around)?;
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
            Some(row) => transaction
                .update(&row, &record, counted, self.write.kept)
                .map_err(Failure::at(&self.key))?,
            None => transaction.insert(&self.key, &record, counted)?,
        }
        transaction.change_count(partition, i64::from(counted) - i64::from(was_counted))?;
        let token = record.token;
        transaction.changed.push((self.key.clone(), Some(record)));
        Ok(token)
    }

    /// The capacity check changes other records, expired ones, and can do without.
    fn skip_damaged(&mut self, _cause: &rusqlite::Error) -> bool {
        self.write.capacity.is_some() && !std::mem::replace(&mut self.around, true)
    }
}

/// `delete`.
pub(super) struct Delete {
    key: Key,
    precondition: Precondition,
    /// The record's pages are damaged.
    around: bool,
}

impl Delete {
    pub(super) fn new(key: Key, precondition: Precondition) -> Self {
        Self { key, precondition, around: false }
    }
}

impl Operation for Delete {
    type Output = bool;

    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<bool, Failure> {
        let row = transaction.row(&self.key)?;
        let live = row.as_ref().filter(|row| row.is_live(transaction.now));
        let current = live.map(|row| row.current);
        self.precondition.check(current)?;
        if let Some(row) = row.as_ref().filter(|_| current.is_some() || !self.around) {
            transaction.remove(&self.key, &row.place)?;
        }
        Ok(current.is_some())
    }

    /// What has expired need not be erased to be absent.
    fn skip_damaged(&mut self, _cause: &rusqlite::Error) -> bool {
        !std::mem::replace(&mut self.around, true)
    }
}
