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

use tenure::clock::Clock;
use tenure::store::{InMemoryBackend, Partition, StorageBackend};

use history::{Op, Record, Ret, judge};

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
    let mut record = Record::default();
    let first = record.invoked(0, Op::Put(1));
    let second = record.invoked(1, Op::Put(2));
    record.returned(second, Ret::Written(2));
    record.returned(first, Ret::Written(3));
    assert!(!record.is_linearizable());
}

#[test]
fn a_read_of_what_was_replaced_before_it_began_is_found_out() {
    let mut record = Record::default();
    for (op, ret) in [
        (Op::Put(1), Ret::Written(1)),
        (Op::Replace(1, 2), Ret::Written(2)),
        (Op::Get, Ret::Found(Some((1, 1)))),
    ] {
        let call = record.invoked(0, op);
        record.returned(call, ret);
    }
    assert!(!record.is_linearizable());
}

#[test]
fn a_call_without_an_outcome_may_land_late_or_never_and_one_that_was_not_done_may_not() {
    for (not_done, found, is_linearizable) in [
        (false, None, true),
        (false, Some((1, 1)), true),
        (true, None, true),
        (true, Some((1, 1)), false),
    ] {
        let mut record = Record::default();
        let lost = record.invoked(0, Op::Put(1));
        if not_done {
            record.not_done(lost);
        }
        for found in [None, found] {
            let read = record.invoked(1, Op::Get);
            record.returned(read, Ret::Found(found));
        }
        assert_eq!(record.is_linearizable(), is_linearizable, "{not_done} {found:?}");
    }
}
