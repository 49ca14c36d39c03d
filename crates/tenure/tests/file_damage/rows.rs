//! Rows with columns that no write leaves so.

use futures::StreamExt as _;
use tenure::resources::{
    Document, ResourceError, ResourceEvent, ResourceKey, ResourceStore, Scope,
};
use tenure::store::{
    PageRequest, Precondition, StorageBackend as _, StoreError, WatchEvent, WatchFrom, Write,
};
use tenure::tasks::{Call, NewTask, TaskError, TaskEvent, TaskStore};

use crate::fixture::{Fixture, assert_damaged, key, partition};

/// What a row may hold that no write left.
const DAMAGES: [&str; 5] =
    ["version = -1", "tag = x'00'", "created_at = -1", "expires_at = -1", "tag = x''"];

#[tokio::test]
async fn a_damaged_row_hides_no_other_whatever_the_size_of_the_pages() {
    for damage in DAMAGES {
        let fixture = Fixture::new().await;
        fixture.put(&["a", "b", "c", "d", "e", "f"]).await;
        fixture.damage_records(&["b", "d", "f"], damage);
        for limit in 1..=7 {
            let expected = ("ace".to_owned(), "bdf".to_owned());
            assert_eq!(fixture.listed(limit).await, expected, "{damage}, pages of {limit}");
        }
    }
}

#[tokio::test]
async fn a_damaged_row_is_refused_by_name_and_left_as_it_is() {
    for damage in DAMAGES {
        let fixture = Fixture::new().await;
        fixture.put(&["a", "b"]).await;
        fixture.damage_records(&["b"], damage);
        let (store, write) = (&fixture.store, || Write::new("y").keeping(3));
        assert_damaged(store.get(&key("b")).await, "b");
        assert_damaged(store.put(&key("b"), write()).await, "b");
        assert_damaged(store.put_if_version(&key("b"), write(), Precondition::Absent).await, "b");
        assert_damaged(store.delete(&key("b"), Precondition::Any).await, "b");
        // A history tells no times.
        if !damage.ends_with("_at = -1") {
            assert_damaged(store.history(&key("b")).await, "b");
        }
        // Writes that are committed together with refused ones.
        let (a, b) = (key("a"), key("b"));
        let (refused, done) = tokio::join!(store.put(&b, write()), store.put(&a, write()));
        assert_damaged(refused, "b");
        done.unwrap();
        let sql = format!("UPDATE records SET revision = revision WHERE {damage}");
        assert_eq!(fixture.damage(&sql), 1, "{damage} is still there");
    }
}

#[tokio::test]
async fn what_is_no_name_hides_no_record() {
    let fixture = Fixture::new().await;
    fixture.put(&["a", "b", "c"]).await;
    fixture.damage("UPDATE records SET name = x'61ff' WHERE name = x'62'");
    for limit in 1..=4 {
        assert_eq!(fixture.listed(limit).await, ("ac".into(), String::new()), "{limit}");
    }
}

#[tokio::test]
async fn expired_is_absent_and_reclaimed_whatever_else_is_damaged() {
    for damage in ["version = -1", "tag = x'00'", "created_at = -1", "former = -1", "name = x'ff'"]
    {
        let fixture = Fixture::new().await;
        let write =
            || Write::new("x").counted_within(2).expires_at(fixture.clock.now().plus_millis(9));
        for name in ["a", "b"] {
            fixture.store.put(&key(name), write()).await.unwrap();
        }
        fixture.damage_records(&["a"], damage);
        fixture.clock.advance_millis(9);
        assert!(fixture.store.get(&key("a")).await.unwrap().is_none(), "{damage}");
        assert_eq!(fixture.listed(5).await, Default::default(), "{damage}");
        assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 2, "{damage}");
        assert_eq!(fixture.damage("UPDATE counts SET counted = 0"), 0, "{damage}: none counts");
        fixture.store.put(&key("a"), Write::new("new")).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_takes_the_place_of_an_expired_record_that_is_damaged() {
    let fixture = Fixture::new().await;
    let write = Write::new("x").expires_at(fixture.clock.now().plus_millis(9));
    fixture.store.put(&key("a"), write).await.unwrap();
    fixture.damage_records(&["a"], "version = -1");
    fixture.clock.advance_millis(9);
    let token = fixture
        .store
        .put_if_version(&key("a"), Write::new("new"), Precondition::Absent)
        .await
        .unwrap();
    assert_eq!(token.version(), 1);
    assert_eq!(fixture.store.get(&key("a")).await.unwrap().unwrap().value, "new");
}

#[tokio::test]
async fn a_deadline_that_is_none_is_not_reclaimed() {
    let fixture = Fixture::new().await;
    fixture.put(&["a"]).await;
    fixture.damage_records(&["a"], "expires_at = -1");
    assert_eq!(fixture.store.cleanup_expired(10).await.unwrap(), 0);
    assert_eq!(fixture.listed(5).await, (String::new(), "a".into()));
}

#[tokio::test]
async fn a_watch_that_comes_by_a_damaged_row_resyncs_once_and_goes_on() {
    for damage in DAMAGES {
        if damage == "created_at = -1" {
            continue; // No watch tells it.
        }
        let fixture = Fixture::new().await;
        let start =
            fixture.store.list_by_prefix(&partition(), "", PageRequest::default()).await.unwrap();
        fixture.put(&["a", "b"]).await;
        fixture.damage_records(&["a"], damage);
        let from = WatchFrom::After(start.revision);
        let mut watch = fixture.store.watch(&partition(), from).await.unwrap();
        let told = watch.next().await.unwrap().unwrap();
        assert!(matches!(told, WatchEvent::Resync(_)), "{damage}: {told:?}");
        fixture.put(&["c"]).await;
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Change(change) => assert_eq!(change.key, key("c"), "{damage}"),
            other => panic!("{damage}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn tasks_and_resources_are_listed_and_watched_around_what_cannot_be_read() {
    let fixture = Fixture::new().await;
    let tasks = TaskStore::new(fixture.store.clone(), fixture.clock.clone());
    let owner = tenure::Owner::new("me").unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let task = NewTask::new(Call::new("tool", Default::default()));
        ids.push(tasks.create(&owner, task).await.unwrap().id);
    }
    ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    fixture.damage_records(&[ids[1].as_str()], "version = -1");
    let page = tasks.list(&owner, PageRequest::default()).await.unwrap().tasks;
    assert!(
        matches!(&page[..], [Ok(a), Err(TaskError::Unreadable { id, .. }), Ok(c)]
        if a.id == ids[0] && *id == ids[1] && c.id == ids[2]),
        "{page:?}"
    );

    let resources = ResourceStore::new(fixture.store.clone(), fixture.clock.clone());
    for id in ["a", "b", "c"] {
        let key = ResourceKey::new("acme", "agent", id).unwrap();
        resources.put(&key, &Document::parse("{}").unwrap()).await.unwrap();
    }
    let sql = "UPDATE records SET tag = x'00' WHERE partition LIKE '%acme%' AND name LIKE '%b'";
    assert_eq!(fixture.damage(sql), 1);
    let page = resources.list("acme", None, PageRequest::default()).await.unwrap().items;
    match &page[..] {
        [Ok(_), Err(ResourceError::Store(StoreError::Damaged { key, .. })), Ok(_)] => {
            assert!(key.name().ends_with('b'), "{key:?}");
        }
        _ => panic!("{page:?}"),
    }
    let watch = resources.watch(Scope::project("acme").unwrap(), None);
    let told: Vec<_> = watch.take(3).map(Result::unwrap).collect().await;
    assert!(
        matches!(&told[..], [
            ResourceEvent::Present { key: a, .. },
            ResourceEvent::Present { key: c, .. },
            ResourceEvent::Primed(_),
        ] if a.id() == "a" && c.id() == "c"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_watch_of_tasks_tells_of_a_damaged_row_and_goes_on() {
    let fixture = Fixture::new().await;
    let tasks = TaskStore::new(fixture.store.clone(), fixture.clock.clone());
    let owner = tenure::Owner::new("me").unwrap();
    let create = || async {
        let new = NewTask::new(Call::new("tool", Default::default()));
        tasks.create(&owner, new).await.unwrap().id
    };
    let mut watch = tasks.watch(&owner).await.unwrap();
    let ids = [create().await, create().await];
    // A change tells no time of creation, so the change is told and the record cannot be read.
    fixture.damage_records(&[ids[0].as_str()], "created_at = -1");
    // Listed, and then told as changed.
    for round in ["listed", "changed"] {
        match [watch.next().await, watch.next().await].map(|it| it.unwrap().unwrap()) {
            [TaskEvent::Unreadable(TaskError::Unreadable { id, .. }), TaskEvent::Task(sound)] => {
                assert_eq!([id, sound.id], ids, "{round}");
            }
            other => panic!("{round}: {other:?}"),
        }
    }
    let later = create().await;
    let told = watch.next().await.unwrap().unwrap();
    assert!(matches!(&told, TaskEvent::Task(task) if task.id == later), "{told:?}");
}
