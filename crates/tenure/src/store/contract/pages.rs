//! Pages of a listing, and the cursors between them.

use futures::StreamExt as _;

use super::Harness;
use super::fixture::{Fixture, HOSTILE, names};
use crate::limits;
use crate::store::{PageRequest, StoreError};

async fn fill(it: &Fixture<'_>, count: usize) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|index| format!("{index:05}")).collect();
    futures::stream::iter(&names)
        .for_each_concurrent(32, async |name| {
            it.put(name, name).await;
        })
        .await;
    names
}

/// Pages of any size walk through every record exactly once, in order, each as full as it can be.
pub async fn pages_walk_everything_once_in_order(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let expected = fill(&it, 23).await;
    it.beside("other").put("00007a", "x").await;
    for limit in [1, 2, 5, 22, 23, 24] {
        assert_eq!(names(&it.walk("", limit).await), expected, "limit {limit}");
        let page = it.page("", PageRequest::first(limit)).await;
        assert_eq!(page.entries.len(), limit.min(23));
    }
    assert_eq!(names(&it.walk("0001", 3).await), expected[10..20]);
}

/// A limit of 0 is 1; a limit beyond the maximum is the maximum.
pub async fn page_limit_is_clamped(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let expected = fill(&it, limits::PAGE_RECORDS + 1).await;
    let page = it.page("", PageRequest::first(0)).await;
    assert_eq!(names(&page.entries), expected[..1]);
    let page = it.page("", PageRequest::first(usize::MAX)).await;
    assert_eq!(names(&page.entries), expected[..limits::PAGE_RECORDS]);
    let page = it.page("", PageRequest::after(page.next.unwrap(), usize::MAX)).await;
    assert_eq!(names(&page.entries), expected[limits::PAGE_RECORDS..]);
    assert_eq!(page.next, None);
}

/// Without a limit the maximum applies.
pub async fn page_without_limit_is_bounded(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    fill(&it, limits::PAGE_RECORDS + 1).await;
    let page = it.page("", PageRequest::default()).await;
    assert_eq!(page.entries.len(), limits::PAGE_RECORDS);
    assert!(page.next.is_some());
}

/// A page ends with the value that reaches the bound in bytes, however many were asked for.
pub async fn page_ends_once_its_values_reach_the_bound(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let value = "x".repeat(limits::VALUE_BYTES);
    let fitting = limits::PAGE_BYTES.div_ceil(limits::VALUE_BYTES);
    let expected: Vec<_> = (0..fitting + 2).map(|index| format!("{index:05}")).collect();
    for name in &expected {
        it.put(name, &value).await;
    }
    let page = it.page("", PageRequest::default()).await;
    assert_eq!(names(&page.entries), expected[..fitting]);
    let next = page.next.expect("the page that was cut says so");
    let page = it.page("", PageRequest::after(next, limits::PAGE_RECORDS)).await;
    assert_eq!(names(&page.entries), expected[fitting..]);
    assert_eq!(page.next, None);
    // One that is as heavy and has all there is says that it was the last.
    for name in &expected[fitting..] {
        it.delete(name).await;
    }
    let page = it.page("", PageRequest::default()).await;
    assert_eq!((names(&page.entries), page.next), (expected[..fitting].to_vec(), None));
}

/// A page that reaches the end says so, even when it is full to the last record.
pub async fn last_page_has_no_cursor(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    fill(&it, 4).await;
    it.put("1", "beyond the prefix").await;
    assert_eq!(it.page("0", PageRequest::first(4)).await.next, None);
    let first = it.page("0", PageRequest::first(2)).await;
    assert_eq!(it.page("0", PageRequest::after(first.next.unwrap(), 2)).await.next, None);
}

/// A cursor that went to a client and back is the same cursor.
pub async fn cursor_survives_text(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let expected = fill(&it, 3).await;
    let cursor = it.page("", PageRequest::first(1)).await.next.unwrap().to_string();
    let page = it.page("", PageRequest::after(cursor.parse().unwrap(), 9)).await;
    assert_eq!(names(&page.entries), expected[1..]);
}

/// Records that come and go between two pages neither repeat nor hide others.
pub async fn cursor_stays_put_while_records_come_and_go(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    fill(&it, 10).await;
    let first = it.page("", PageRequest::first(5)).await;
    it.delete("00001").await;
    it.delete("00006").await;
    it.put("00000a", "behind the cursor").await;
    it.put("00007a", "ahead of the cursor").await;
    it.put("00002", "rewritten").await;
    let rest = it.page("", PageRequest::after(first.next.unwrap(), 9)).await;
    assert_eq!(names(&rest.entries), ["00005", "00007", "00007a", "00008", "00009"]);
    assert_eq!(rest.next, None);
}

/// A cursor whose record is gone goes on behind it; it never starts over.
pub async fn cursor_of_a_deleted_record_goes_on(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    fill(&it, 10).await;
    let first = it.page("", PageRequest::first(5)).await;
    let cursor = first.next.unwrap();
    it.delete("00004").await;
    let rest = it.page("", PageRequest::after(cursor.clone(), 9)).await;
    assert_eq!(names(&rest.entries), ["00005", "00006", "00007", "00008", "00009"]);
    for name in names(&rest.entries) {
        it.delete(&name).await;
    }
    let rest = it.page("", PageRequest::after(cursor, 9)).await;
    assert!(rest.entries.is_empty() && rest.next.is_none());
}

/// A cursor of another partition or prefix is an error, never page one.
pub async fn cursor_of_another_listing_is_refused(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    let other = it.beside("other");
    fill(&it, 3).await;
    fill(&other, 3).await;
    let cursor = it.page("0", PageRequest::first(1)).await.next.unwrap();
    for (partition, prefix) in [(&other.partition, "0"), (&it.partition, ""), (&it.partition, "00")]
    {
        let page = PageRequest::after(cursor.clone(), 1);
        let refused = it.store.list_by_prefix(partition, prefix, page).await;
        assert!(matches!(refused, Err(StoreError::InvalidCursor)), "{partition:?} {prefix:?}");
    }
}

/// No name confuses the cursor that points at it.
pub async fn cursor_of_hostile_names_goes_on(harness: &dyn Harness) {
    let it = Fixture::new(harness).await;
    for name in HOSTILE {
        it.put(name, name).await;
    }
    assert_eq!(names(&it.walk("", 1).await), HOSTILE);
}
