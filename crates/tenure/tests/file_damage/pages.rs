//! Pages whose links lead to no page, or to another than their next.

use tenure::store::{Precondition, StorageBackend as _, StoreError, Write};

use crate::fixture::{Fixture, PAGE, assert_damaged, key};

/// No file has so many pages.
const NO_PAGE: u32 = u32::MAX;
/// Pages of a long value, beside that of its row.
const LONG_VALUE_PAGES: usize = 9;

fn long_value(byte: u8) -> Write {
    Write::new(vec![byte; LONG_VALUE_PAGES * (PAGE - 4) + 2_000])
}

#[tokio::test]
async fn a_value_whose_pages_are_damaged_hides_no_other() {
    let fixture = Fixture::new().await;
    fixture.put(&["a"]).await;
    fixture.store.put(&key("b"), long_value(b'b')).await.unwrap();
    fixture.put(&["c"]).await;
    fixture.damage_pages(b'b', 0, NO_PAGE);
    assert_eq!(fixture.listed(10).await, ("ac".into(), "b".into()));
    assert_damaged(fixture.store.get(&key("b")).await, "b");
    fixture.store.get(&key("a")).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_value_whose_pages_are_damaged_is_refused_to_writers_by_its_name() {
    for (nth, link) in [(0, NO_PAGE), (0, 0), (LONG_VALUE_PAGES - 2, 4_096)] {
        let fixture = Fixture::new().await;
        // A first version takes less room than those that follow.
        fixture.put(&["a", "b"]).await;
        fixture.store.put(&key("b"), long_value(b'b')).await.unwrap();
        fixture.damage_pages(b'b', nth, link);
        let (store, b) = (&fixture.store, &key("b"));
        for write in
            [Write::new("y"), Write::new("y").keeping(3), Write::new("y").counted_within(9)]
        {
            assert_damaged(store.put(b, write).await, "b");
        }
        // As long as what is there, the engine would write it along the damaged links.
        assert_damaged(store.put(b, long_value(b'y')).await, "b");
        assert_damaged(store.delete(b, Precondition::Any).await, "b");
        let (a, write) = (key("a"), || Write::new("y"));
        let (refused, done) = tokio::join!(store.put(b, write()), store.put(&a, write()));
        assert_damaged(refused, "b");
        done.unwrap();
        assert_eq!(fixture.listed(10).await, ("a".into(), "b".into()), "{nth}, {link}");
    }
}

#[tokio::test]
async fn expired_values_whose_pages_are_damaged_keep_no_other_from_being_reclaimed() {
    let fixture = Fixture::new().await;
    let at = fixture.clock.now().plus_millis(9);
    for byte in b'a'..=b'h' {
        let name = char::from(byte).to_string();
        fixture.store.put(&key(&name), long_value(byte).expires_at(at)).await.unwrap();
    }
    for byte in *b"adh" {
        fixture.damage_pages(byte, 3, NO_PAGE);
    }
    fixture.clock.advance_millis(9);
    let (cleanup, z) = (fixture.store.cleanup_expired(2), key("z"));
    let (reclaimed, put) = tokio::join!(cleanup, fixture.store.put(&z, Write::new("x")));
    put.unwrap();
    assert_eq!(reclaimed.unwrap(), 2);
    assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 3);
    assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 0);
    assert_eq!(fixture.names(), "adhz");
}

#[tokio::test]
async fn an_expired_value_whose_pages_are_damaged_is_absent_and_its_name_taken() {
    let fixture = Fixture::new().await;
    let at = fixture.clock.now().plus_millis(9);
    fixture.store.put(&key("b"), long_value(b'b').expires_at(at)).await.unwrap();
    fixture.damage_pages(b'b', 0, NO_PAGE);
    fixture.clock.advance_millis(9);
    let (store, b) = (&fixture.store, &key("b"));
    assert!(store.get(b).await.unwrap().is_none());
    assert!(store.history(b).await.unwrap().is_empty());
    assert_eq!(fixture.listed(10).await, Default::default());
    assert!(!store.delete(b, Precondition::Any).await.unwrap());
    // The engine has no way to free the pages, and none to set the row aside without that.
    assert_damaged(store.put_if_version(b, Write::new("y"), Precondition::Absent).await, "b");
    assert_damaged(store.put(b, long_value(b'y')).await, "b");
}

#[tokio::test]
async fn an_expired_value_whose_pages_are_damaged_takes_no_place_among_the_counted() {
    let fixture = Fixture::new().await;
    let at = fixture.clock.now().plus_millis(9);
    let counted = |write: Write| write.counted_within(2);
    fixture.store.put(&key("b"), counted(long_value(b'b')).expires_at(at)).await.unwrap();
    fixture.damage_pages(b'b', 0, NO_PAGE);
    fixture.clock.advance_millis(9);
    for name in ["a", "c"] {
        fixture.store.put(&key(name), counted(Write::new("x"))).await.unwrap();
    }
    let refused = fixture.store.put(&key("d"), counted(Write::new("x"))).await;
    assert!(matches!(refused, Err(StoreError::PartitionFull { limit: 2 })), "{refused:?}");
}

#[tokio::test]
async fn a_row_whose_columns_are_on_damaged_pages_is_refused_by_its_name() {
    let fixture = Fixture::new().await;
    // So long that the columns after it are on the next page.
    let long = "n".repeat(512);
    let at = fixture.clock.now().plus_millis(9);
    fixture.store.put(&key(&long), Write::new(vec![0; 3_800]).expires_at(at)).await.unwrap();
    fixture.put(&["a"]).await;
    fixture.damage_file(|bytes| {
        let link = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let is_rest = |page: usize| bytes.get((page - 1) * PAGE + 4) == Some(&b'n');
        let mut ends = (300..bytes.len() - 4).filter(|at| bytes[at - 300..*at] == [b'n'; 300]);
        (ends.find(|at| link(*at) > 0 && is_rest(link(*at))).unwrap(), NO_PAGE)
    });
    let (store, n) = (&fixture.store, key(&long));
    for _ in ["live", "expired"] {
        let (a, write) = (key("a"), || Write::new("y"));
        let (refused, done) = tokio::join!(store.put(&n, write()), store.put(&a, write()));
        assert_damaged(refused, &long);
        done.unwrap();
        assert_damaged(store.delete(&n, Precondition::Any).await, &long);
        assert_eq!(store.cleanup_expired(10).await.unwrap(), 0);
        fixture.clock.advance_millis(9);
    }
}
