//! Histories of concurrent calls are linearizable on the backends that need no server.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code, and nobody's interface"
)]

mod history;

use std::sync::Arc;

use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester};
use tenure::clock::Clock;
use tenure::store::{InMemoryBackend, Partition, StorageBackend};

use history::{Op, Register, Ret, judge};

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_linearizable() {
    let store: Arc<dyn StorageBackend> = Arc::new(InMemoryBackend::new(Clock::system()));
    for round in 0..50 {
        let key = Partition::new(["p"]).unwrap().key(format!("{round}")).unwrap();
        judge(&[Arc::clone(&store)], &key, 10).await;
    }
}

/// Three backends on one file, as three processes would have them: no cache may answer for another.
#[cfg(feature = "file")]
#[tokio::test(flavor = "multi_thread")]
async fn three_openings_of_one_file_are_linearizable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut stores: Vec<Arc<dyn StorageBackend>> = Vec::new();
    for _ in 0..3 {
        let store = tenure::store::FileBackend::open(&path, Clock::system()).await.unwrap();
        stores.push(Arc::new(store));
    }
    for round in 0..20 {
        let key = Partition::new(["p"]).unwrap().key(format!("{round}")).unwrap();
        judge(&stores, &key, 10).await;
    }
}

#[test]
fn a_write_that_is_applied_twice_is_found_out() {
    let mut tester = LinearizabilityTester::new(Register::default());
    tester.on_invoke(1, Op::Put(1)).unwrap();
    tester.on_invoke(2, Op::Put(2)).unwrap();
    tester.on_return(2, Ret::Written(2)).unwrap();
    tester.on_return(1, Ret::Written(3)).unwrap();
    assert!(!tester.is_consistent());
}
