//! What this process wrote last, so that its next change of the same task need not read first.

use hashlink::LruCache;
use parking_lot::Mutex;

use crate::store::{Key, Record};

/// Records that are kept, at most: as many tasks as one process has at work at a time.
const RECORDS: usize = 1_024;
/// Bytes of one record that is kept: most tasks are far smaller, and a large one is not worth it.
/// All together take no more than 16 MiB.
const RECORD_BYTES: usize = 16 * 1_024;

/// Records as this process wrote them. Each is a guess: another process may have written since, so
/// it serves for a write that names its version and for nothing else.
pub(super) struct Recent(Mutex<LruCache<Key, Record>>);

impl Recent {
    /// Remembers a record.
    pub(super) fn put(&self, key: Key, record: Record) {
        if record.value.len() <= RECORD_BYTES {
            self.0.lock().insert(key, record);
        }
    }

    /// Takes a record out: of two changes at the same time one would only fail with it.
    pub(super) fn take(&self, key: &Key) -> Option<Record> {
        self.0.lock().remove(key)
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(RECORDS)))
    }
}

impl std::fmt::Debug for Recent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recent").field("records", &self.0.lock().len()).finish()
    }
}
