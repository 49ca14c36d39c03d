//! The file backend under test.

use std::sync::Arc;

use async_trait::async_trait;
use tenure::clock::{Clock, Timestamp};
use tenure::store::contract::Harness;
use tenure::store::{FileBackend, StorageBackend};

/// One file; each connection is a backend of its own on it.
pub(crate) struct FileHarness {
    clock: Clock,
    folder: tempfile::TempDir,
}

impl FileHarness {
    pub(crate) fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_123));
        Self { clock, folder: tempfile::tempdir().unwrap() }
    }
}

#[async_trait]
impl Harness for FileHarness {
    async fn connect(&self) -> Arc<dyn StorageBackend> {
        let path = self.folder.path().join("tenure.db");
        Arc::new(FileBackend::open(path, self.clock.clone()).await.unwrap())
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }
}
