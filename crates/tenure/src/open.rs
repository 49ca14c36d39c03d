//! A store from a URL, so that outgrowing one is a change of one string.

use std::sync::Arc;

use crate::clock::Clock;
use crate::store::{InMemoryBackend, StorageBackend, StoreError};

/// Opens the store that `url` names.
///
/// | URL | store | feature |
/// |---|---|---|
/// | `memory:` | this process's memory | |
/// | `file:PATH` | one crash-safe file | `file` |
///
/// # Errors
/// [`StoreError::InvalidLocation`] for a URL that names no store, or one whose feature is not
/// built in; otherwise what the backend says.
pub async fn open(url: &str, clock: Clock) -> Result<Arc<dyn StorageBackend>, StoreError> {
    let invalid = |reason: String| Err(StoreError::InvalidLocation(reason));
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(InMemoryBackend::new(clock))),
        Some(("file", "")) => invalid("file: needs a path, as in file:./tenure.db".into()),
        #[cfg(feature = "file")]
        Some(("file", path)) => {
            let _ = path;
            invalid("not yet".into())
        }
        _ => invalid(format!("{url:?} names no store; try memory: or file:PATH")),
    }
}
