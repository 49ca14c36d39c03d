//! Rows that hold what Tenure never wrote: each is named, and hides no other.

use bytes::Bytes;
use rusqlite::{Connection, Error, ErrorCode, OptionalExtension as _, params};

use super::column::{deadline, text};
use super::query::{Found, Listing, end_of, record};
use crate::clock::Timestamp;
use crate::store::{Damaged, Key, Record, StoreError};

/// True when a row was found and cannot be what a write left.
pub(super) fn is_damage(error: &Error) -> bool {
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => true,
        other => is_corrupt(other),
    }
}

/// True when the engine met pages that cannot be what it wrote: mostly those of a value, since of a
/// damaged index every statement would say so. It refuses all further writes of a transaction.
pub(super) fn is_corrupt(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
}

/// Names what is wrong with the row of `key`.
pub(super) fn damaged(key: &Key, error: &Error) -> StoreError {
    Damaged { key: key.clone(), reason: error.to_string() }.into()
}

/// True when the record is absent whatever else is wrong with it: its deadline has passed.
pub(super) fn has_expired(connection: &Connection, key: &Key, now: Timestamp) -> bool {
    let read = || {
        connection
            .prepare_cached("SELECT expires_at FROM records WHERE partition = ?1 AND name = ?2")?
            .query_row(params![key.partition().as_str(), key.name().as_bytes()], |row| {
                deadline(row, 0)
            })
    };
    matches!(read(), Ok(Some(deadline)) if deadline <= now)
}

/// A page of which some row cannot be read: the names from the index, then each record by itself.
pub(super) fn list_one_by_one(
    connection: &Connection,
    listing: &Listing,
) -> rusqlite::Result<Found> {
    let mut names = connection.prepare_cached(
        "SELECT name, id FROM records
         WHERE partition = ?1 AND name >= ?2 AND name < ?3 ORDER BY name",
    )?;
    let from = listing.after.as_deref().unwrap_or(&listing.prefix);
    let mut rows = names.query(params![
        listing.partition.as_str(),
        from.as_bytes(),
        end_of(&listing.prefix),
    ])?;
    let mut found = Found::default();
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_blob()?;
        if listing.after.as_deref().is_some_and(|after| name == after.as_bytes()) {
            continue;
        }
        let Ok(name) = text(name, 0) else {
            tracing::warn!(partition = ?listing.partition, ?name, "a record's name is not text");
            continue;
        };
        let item = match by_id(connection, row.get(1)?, listing.now) {
            Ok(None) => continue,
            Ok(Some(record)) => Ok(record),
            Err(error) if is_damage(&error) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        if found.is_full(listing.limit) {
            found.more = true;
            break;
        }
        let key = listing.partition.stored_key(name);
        match item {
            Ok(record) => found.push(key, record),
            Err(reason) => found.damaged.push(Damaged { key, reason }),
        }
    }
    Ok(found)
}

fn by_id(connection: &Connection, id: i64, now: Timestamp) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached(
            "SELECT version, stamp, tag, created_at, expires_at, value FROM records
             WHERE id = ?1 AND (expires_at IS NULL OR expires_at NOT BETWEEN 0 AND ?2)",
        )?
        .query_row(params![id, now.as_millis()], |row| record(row, 0, Bytes::copy_from_slice))
        .optional()
}
