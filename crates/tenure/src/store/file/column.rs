//! Columns as what they stand for.

use crate::clock::Timestamp;
use crate::store::{Current, Tag, VersionToken};

/// The token in two adjacent columns.
fn token(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<VersionToken> {
    let stamp: i64 = row.get(column + 1)?;
    Ok(VersionToken::from_parts(row.get(column)?, stamp.cast_unsigned()))
}

/// Token and tag in three adjacent columns.
pub(super) fn current(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Current> {
    let tag: Option<[u8; Tag::BYTES]> = row.get(column + 2)?;
    Ok(Current { token: token(row, column)?, tag: tag.map(Tag::new) })
}

/// A deadline column.
pub(super) fn deadline(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<u64>>(column)?.map(Timestamp::from_millis))
}

/// A name column.
pub(super) fn text(bytes: &[u8], column: usize) -> rusqlite::Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let kind = rusqlite::types::Type::Blob;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}
