//! Names, listings and pages.

use tenure::resources::{ResourceError, ResourceKey};
use tenure::store::contract::Harness;
use tenure::store::{Cursor, PageRequest, StoreError};

use super::{key, open, put};

const HOSTILE: [&str; 12] = ["", "/", "//", "%", "%2F", "a", "a/", "a/b", "\0", "*", ":", "é{}"];

pub(crate) async fn get_many_answers_each_key_in_order(harness: &dyn Harness) {
    let resources = open(harness).await;
    let keys: Vec<_> = (0..100).map(|index| key("agent", &index.to_string())).collect();
    for index in [0, 7, 99] {
        put(&resources, &keys[index], index as u64).await;
    }
    let (elsewhere, wanted) = (resources.clone(), keys.clone());
    let found = tokio::spawn(async move { elsewhere.get_many(&wanted).await }).await.unwrap();
    let found = found.unwrap();
    for (index, result) in found.into_iter().enumerate() {
        match result {
            Ok(resource) => assert_eq!(resource.key, keys[index]),
            Err(ResourceError::NotFound) => assert!(![0, 7, 99].contains(&index)),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(resources.get_many(&[]).await.unwrap().is_empty());
    let too_many: Vec<_> = (0..101).map(|_| keys[0].clone()).collect();
    let refused = resources.get_many(&too_many).await;
    assert!(matches!(refused, Err(ResourceError::TooMany { limit: 100, .. })));
}

pub(crate) async fn hostile_names_are_distinct_resources(harness: &dyn Harness) {
    let resources = open(harness).await;
    let names = HOSTILE.iter().flat_map(|kind| HOSTILE.map(|id| (*kind, id)));
    for (index, (kind, id)) in names.clone().enumerate() {
        let written = put(&resources, &key(kind, id), index as u64).await;
        assert_eq!(written.version.version(), 1, "{kind:?} {id:?}");
    }
    for (index, (kind, id)) in names.clone().enumerate() {
        let value = resources.get(&key(kind, id)).await.unwrap().value().unwrap();
        assert_eq!(value["n"], index, "{kind:?} {id:?}");
    }
    let page = resources.list("acme", None, PageRequest::default()).await.unwrap();
    let mut listed: Vec<_> = page.items.into_iter().map(|it| it.unwrap().key).collect();
    let mut expected: Vec<_> = names.map(|(kind, id)| key(kind, id)).collect();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
}

pub(crate) async fn projects_have_nothing_in_common(harness: &dyn Harness) {
    let resources = open(harness).await;
    for (n, project) in HOSTILE.into_iter().enumerate() {
        let key = ResourceKey::new(project, "agent", "planner").unwrap();
        assert_eq!(put(&resources, &key, n as u64).await.version.version(), 1, "{project:?}");
    }
    for (n, project) in HOSTILE.into_iter().enumerate() {
        let page = resources.list_with_values(project, None, PageRequest::default()).await.unwrap();
        let [Ok(resource)] = &page.items[..] else { panic!("{page:?}") };
        assert_eq!((resource.key.project(), &resource.value().unwrap()["n"]), (project, &n.into()));
    }
}

pub(crate) async fn a_kind_is_listed_exactly(harness: &dyn Harness) {
    let resources = open(harness).await;
    for kind in HOSTILE {
        for id in ["x", "/y"] {
            put(&resources, &key(kind, id), 1).await;
        }
    }
    for kind in HOSTILE {
        let page = resources.list("acme", Some(kind), PageRequest::default()).await.unwrap();
        let keys: Vec<_> = page.items.into_iter().map(|it| it.unwrap().key).collect();
        assert_eq!(keys, [key(kind, "/y"), key(kind, "x")]);
    }
    let none = resources.list("acme", Some("nope"), PageRequest::default()).await.unwrap();
    assert!(none.items.is_empty() && none.next.is_none());
}

pub(crate) async fn pages_walk_everything_once(harness: &dyn Harness) {
    let resources = open(harness).await;
    for index in 0..23 {
        put(&resources, &key("agent", &format!("{index:02}")), 1).await;
        put(&resources, &key("tool", &format!("{index:02}")), 1).await;
    }
    assert_eq!(resources.total("acme").await.unwrap(), 46);
    let mut ids = Vec::new();
    let mut request = PageRequest::first(5);
    let cursor = loop {
        let page = resources.list("acme", Some("agent"), request).await.unwrap();
        ids.extend(page.items.into_iter().map(|it| it.unwrap().key.id().to_owned()));
        let Some(next) = page.next else { break None::<Cursor> };
        // What comes and goes behind the cursor changes nothing.
        resources.delete(&key("agent", &ids[0])).await.unwrap();
        request = PageRequest::after(next, 5);
    };
    assert_eq!(cursor, None);
    assert_eq!(resources.total("acme").await.unwrap(), 45);
    assert_eq!(ids, (0..23).map(|index| format!("{index:02}")).collect::<Vec<_>>());
    let next = resources.list("acme", None, PageRequest::first(1)).await.unwrap().next.unwrap();
    let foreign = resources.list("acme", Some("tool"), PageRequest::after(next, 1)).await;
    let error = foreign.unwrap_err();
    assert!(matches!(error, ResourceError::Store(StoreError::InvalidCursor)), "{error:?}");
    assert!(error.is_client_fault());
}
