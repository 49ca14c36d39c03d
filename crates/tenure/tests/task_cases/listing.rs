//! Pages of tasks, and what cannot be read.

use super::*;

/// A record that cannot be read, of a newer schema or damaged, is named, hides nothing, and is
/// left as it is.
pub(crate) async fn what_cannot_be_read_is_named_and_never_overwritten(fixture: Fixture) {
    for bytes in [r#"{"schema":2,"task":{"steps":[]}}"#, "damaged", "", "{}", "[]"] {
        let tasks = &fixture.tasks;
        let (before, broken, after) =
            (fixture.create().await, fixture.create().await, fixture.create().await);
        fixture.overwrite(&broken.id, bytes).await;
        let this = fixture.this(&broken);
        for refused in [
            tasks.get(&broken.owner, &broken.id).await,
            tasks.update_status(&this, None).await,
            tasks.complete(&this, result(1)).await,
            tasks.cancel(&this, None).await,
        ] {
            assert!(
                matches!(&refused, Err(TaskError::Unreadable { id, .. }) if *id == broken.id),
                "{refused:?}"
            );
            assert!(!refused.unwrap_err().is_client_fault());
        }
        let page = tasks.list(&fixture.alice, PageRequest::default()).await.unwrap();
        let listed = |task: &Task| page.tasks.iter().flatten().any(|it| it.id == task.id);
        assert!(listed(&before) && listed(&after));
        let named = |it: &Result<Task, TaskError>| matches!(it, Err(TaskError::Unreadable { id, .. }) if *id == broken.id);
        assert_eq!(page.tasks.iter().filter(|it| named(it)).count(), 1);
        assert_eq!(fixture.bytes(&broken.id).await, bytes);
    }
}

pub(crate) async fn a_walk_meets_every_task_once_oldest_first(fixture: Fixture) {
    let mut created = Vec::new();
    // All at the same millisecond of the store's clock.
    for _ in 0..25 {
        created.push(fixture.create().await.id);
    }
    for limit in [1, 7, 25, 26, usize::MAX] {
        assert_eq!(fixture.ids(limit).await, created, "{limit}");
    }
    assert_eq!(fixture.ids(0).await.len(), 25, "a page of none is a page of one");
}

/// A key fixes the id, so it fixes the place: the others are still oldest first around it.
pub(crate) async fn a_task_with_a_key_has_its_place_by_the_key_and_moves_no_other(
    fixture: Fixture,
) {
    let mut created = Vec::new();
    for key in 0..8 {
        created.push(fixture.create().await.id);
        let keyed = NewTask { idempotency_key: Some(key.to_string()), ..new() };
        fixture.tasks.create(&fixture.alice, keyed).await.unwrap();
    }
    let walked = fixture.ids(5).await;
    assert_eq!(walked.len(), 16);
    assert!(walked.is_sorted());
    let others: Vec<_> = walked.into_iter().filter(|id| created.contains(id)).collect();
    assert_eq!(others, created);
}

/// What lies in an owner's partition and says that it is somebody else's is nobody's.
pub(crate) async fn a_record_of_another_owner_is_named_as_unreadable_and_hides_nothing(
    fixture: Fixture,
) {
    let bob = owner("bob");
    let (before, foreign, after) = (
        fixture.create().await,
        fixture.tasks.create(&bob, new()).await.unwrap(),
        fixture.create().await,
    );
    let key = Partition::new(["tasks", "bob"]).unwrap().key(foreign.id.as_str()).unwrap();
    let record = fixture.backend.get(&key).await.unwrap().unwrap();
    let bytes = String::from_utf8(record.value.to_vec()).unwrap();
    fixture.overwrite(&foreign.id, &bytes).await;

    let page = fixture.tasks.list(&fixture.alice, PageRequest::default()).await.unwrap();
    let [Ok(first), Err(TaskError::Unreadable { id, reason }), Ok(last)] = &page.tasks[..] else {
        panic!("{page:?}")
    };
    assert_eq!((&first.id, id, &last.id), (&before.id, &foreign.id, &after.id));
    assert!(reason.contains("another task or owner") && !reason.contains("bob"), "{reason}");
    let read = fixture.tasks.get(&fixture.alice, &foreign.id).await;
    assert!(matches!(read, Err(TaskError::Unreadable { .. })), "{read:?}");
    let this = TaskRef::new(fixture.alice.clone(), id.clone());
    let cancelled = fixture.tasks.cancel(&this, None).await;
    assert!(matches!(cancelled, Err(TaskError::Unreadable { .. })));
    assert_eq!(fixture.tasks.get(&bob, &foreign.id).await.unwrap(), foreign, "bob's own is his");
}

pub(crate) async fn a_cursor_survives_the_task_that_it_names(fixture: Fixture) {
    let limits = TaskLimits { unfinished_per_owner: 100, ..TaskLimits::default() };
    let fixture = fixture.limited(limits);
    let brief = NewTask { ttl_ms: Some(10), ..new() };
    fixture.tasks.create(&fixture.alice, brief).await.unwrap();
    let lasting = fixture.create().await;
    let page = fixture.tasks.list(&fixture.alice, PageRequest::first(1)).await.unwrap();
    fixture.clock.advance_millis(10);
    fixture.tasks.cleanup(10).await.unwrap();
    let next = PageRequest::after(page.next.unwrap(), 1);
    let page = fixture.tasks.list(&fixture.alice, next).await.unwrap();
    assert_eq!(page.tasks[0].as_ref().unwrap().id, lasting.id);
}

pub(crate) async fn a_cursor_of_another_owner_is_refused(fixture: Fixture) {
    for _ in 0..2 {
        fixture.create().await;
    }
    let page = fixture.tasks.list(&fixture.alice, PageRequest::first(1)).await.unwrap();
    let foreign: Cursor = page.next.unwrap().to_string().parse().unwrap();
    let refused = fixture.tasks.list(&owner("alice2"), PageRequest::after(foreign, 1)).await;
    assert!(matches!(refused, Err(TaskError::Store(StoreError::InvalidCursor))));
}
