//! From the engine's errors to those of the contract.

use std::fmt;

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// An error of SQLite in its own words, with its code. It names no source: that of rusqlite's error
/// says the same once more.
#[derive(Debug)]
pub(super) struct SqliteError(pub(super) rusqlite::Error);

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            rusqlite::Error::SqliteFailure(failure, Some(message)) => {
                write!(f, "{message} (SQLite error {})", failure.extended_code)
            }
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for SqliteError {}

/// Names an engine's failure in the contract's terms. `doing` says what was tried.
pub(super) fn translate(error: rusqlite::Error, doing: &str) -> StoreError {
    let reason = doing.to_owned();
    let error = SqliteError(error);
    match error.0.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(Some(error.into())),
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly(Some(error.into())),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory,
        ) => StoreError::Unavailable { reason, source: Some(error.into()) },
        Some(ErrorCode::NotADatabase) => StoreError::Foreign("not a Tenure store".into()),
        Some(ErrorCode::DatabaseCorrupt) => {
            StoreError::Foreign(format!("the file is damaged ({doing}: {error})"))
        }
        _ => StoreError::Engine { reason, source: Some(error.into()) },
    }
}

/// The store's threads are gone: it was closed, or one of them died.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable { reason: "the store is closed".into(), source: None }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;
    use crate::Chain;

    #[test]
    fn the_reason_of_sqlite_is_told_once() {
        let failure = |code, message: Option<&str>| {
            let failure = ffi::Error::new(code);
            let error = rusqlite::Error::SqliteFailure(failure, message.map(Into::into));
            Chain(&translate(error, "writing")).to_string()
        };
        assert_eq!(
            failure(ffi::SQLITE_IOERR_WRITE, Some("disk I/O error")),
            "storage engine: writing: disk I/O error (SQLite error 778)"
        );
        assert_eq!(
            failure(ffi::SQLITE_IOERR_WRITE, None),
            "storage engine: writing: Error code 778: disk I/O error"
        );
        assert_eq!(
            failure(ffi::SQLITE_FULL, Some("database or disk is full")),
            "the store is full: database or disk is full (SQLite error 13)"
        );
    }
}
