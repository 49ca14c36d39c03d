//! Counts of a partition that do not agree with its rows.

use tenure::store::{StorageBackend as _, StoreError, Write};

use crate::fixture::{Fixture, key};

#[tokio::test]
async fn what_is_wrongly_counted_stops_no_counted_write() {
    // The count is none, or what an earlier version may have left.
    for count in [None, Some(-1)] {
        let fixture = Fixture::new().await;
        let at = fixture.clock.now().plus_millis(9);
        for name in ["a", "b"] {
            fixture.store.put(&key(name), Write::new("x").expires_at(at)).await.unwrap();
        }
        fixture.damage_records(&["a", "b"], "counted = 1");
        if let Some(count) = count {
            fixture.damage(&format!("INSERT INTO counts VALUES ('p', {count})"));
        }
        fixture.clock.advance_millis(9);
        assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 2);
        assert_eq!(fixture.damage("DELETE FROM counts"), 0, "none counts");
        let write = || Write::new("x").counted_within(1);
        fixture.store.put(&key("c"), write()).await.unwrap();
        let refused = fixture.store.put(&key("d"), write()).await;
        assert!(matches!(refused, Err(StoreError::PartitionFull { limit: 1 })), "{refused:?}");
    }
}

#[tokio::test]
async fn more_wrongly_counted_than_the_count_says_stop_no_counted_write() {
    let fixture = Fixture::new().await;
    let at = fixture.clock.now().plus_millis(9);
    let write = || Write::new("x").counted_within(1);
    fixture.store.put(&key("a"), write().expires_at(at)).await.unwrap();
    fixture.store.put(&key("b"), Write::new("x").expires_at(at)).await.unwrap();
    fixture.damage_records(&["b"], "counted = 1");
    fixture.clock.advance_millis(9);
    fixture.store.put(&key("c"), write()).await.unwrap();
    let refused = fixture.store.put(&key("d"), write()).await;
    assert!(matches!(refused, Err(StoreError::PartitionFull { limit: 1 })), "{refused:?}");
}

#[tokio::test]
async fn a_negative_count_is_none() {
    let fixture = Fixture::new().await;
    fixture.store.put(&key("a"), Write::new("x").counted_within(1)).await.unwrap();
    assert_eq!(fixture.damage("UPDATE counts SET counted = -5"), 1);
    fixture.store.put(&key("b"), Write::new("x").counted_within(2)).await.unwrap();
    assert_eq!(fixture.damage("DELETE FROM counts WHERE counted = 1"), 1);
}
