//! From the engine's errors to those of the contract.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// Names an engine's failure in the contract's terms. `doing` says what was tried.
pub(super) fn translate(error: rusqlite::Error, doing: &str) -> StoreError {
    let reason = doing.to_owned();
    match error.sqlite_error_code() {
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
