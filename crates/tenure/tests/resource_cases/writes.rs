//! Reading, writing and deleting, with and without conditions.

use serde_json::json;
use tenure::resources::{Condition, Document, ETag, Effect, ResourceError, ResourceLimits};
use tenure::store::contract::Harness;
use tenure::store::{PageRequest, Partition, VersionToken, Write};

use super::{document, key, number, open, open_limited, planner, put};

#[track_caller]
fn assert_mismatch<T: std::fmt::Debug>(
    result: Result<T, ResourceError>,
    etag: ETag,
    token: VersionToken,
) {
    match result {
        Err(ResourceError::ETagMismatch { current, version }) => {
            assert_eq!((current, version), (etag, token));
        }
        other => panic!("an ETag mismatch was expected, not {other:?}"),
    }
}

#[track_caller]
fn assert_not_found<T: std::fmt::Debug>(result: Result<T, ResourceError>) {
    assert!(matches!(result, Err(ResourceError::NotFound)), "{result:?}");
}

pub(crate) async fn a_value_comes_back_with_its_etag_and_metadata(harness: &dyn Harness) {
    let resources = open(harness).await;
    assert_not_found(resources.get(&planner()).await);
    let value = json!({"z": [1, null, "é\n"], "a": {"t": 0.5}});
    let alice = resources.by("alice %\n").unwrap();
    let written = alice.put(&planner(), &document(&value)).await.unwrap();
    assert_eq!((written.effect, written.version.version()), (Effect::Created, 1));
    let resource = open(harness).await.get(&planner()).await.unwrap();
    assert_eq!((resource.key.clone(), resource.value().unwrap()), (planner(), value.clone()));
    assert_eq!(&resource.text[..], r#"{"a":{"t":0.5},"z":[1,null,"é\n"]}"#.as_bytes());
    assert_eq!((resource.meta.etag, resource.meta.version), (written.etag, written.version));
    assert_eq!(resource.meta.etag, document(&value).etag());
    assert_eq!(resource.meta.updated_by.as_deref(), Some("alice %\n"));
    assert_eq!(resource.meta.created_at, resource.meta.updated_at);
    assert_eq!(resource.meta.updated_at, harness.clock().now());
    // Nobody says who: nobody is told.
    put(&resources, &planner(), 2).await;
    assert_eq!(resources.get(&planner()).await.unwrap().meta.updated_by, None);
}

pub(crate) async fn an_etag_is_that_of_the_value_wherever_it_is_written(harness: &dyn Harness) {
    let (here, there) = (open(harness).await, open(harness).await);
    let first = Document::parse(r#"{"a":1,"b":2}"#).unwrap();
    let same = Document::parse(" {\"b\" : 2.0, \"a\" : 1} ").unwrap();
    let a = here.put(&key("agent", "a"), &first).await.unwrap();
    let b = there.put(&key("workflow", "b"), &same).await.unwrap();
    assert_eq!(a.etag, b.etag);
    // As computed in another process, of another release.
    assert_eq!(a.etag.to_string(), "QyWM_3g_5wNtikMDP4MK38YOwDc4JHNUisdCuIgpJ3c");
    let mut seen = vec![a.etag];
    for value in [json!({"a": 1, "b": 3}), json!({"a": 1}), json!([1, 2]), json!(null), json!("")] {
        let written = here.put(&key("agent", "a"), &document(&value)).await.unwrap();
        assert!(!seen.contains(&written.etag), "{value}");
        assert_eq!(there.get(&key("agent", "a")).await.unwrap().meta.etag, written.etag);
        seen.push(written.etag);
    }
}

pub(crate) async fn a_put_of_an_equal_value_is_a_new_version(harness: &dyn Harness) {
    let resources = open(harness).await;
    let first = put(&resources, &planner(), 1).await;
    let second = put(&resources, &planner(), 1).await;
    assert_eq!((second.effect, second.version.version()), (Effect::Replaced, 2));
    assert_eq!(second.etag, first.etag);
    assert_eq!(resources.get(&planner()).await.unwrap().meta.version, second.version);
}

pub(crate) async fn create_needs_that_there_is_none(harness: &dyn Harness) {
    let resources = open(harness).await;
    let first = resources.create(&planner(), &number(1)).await.unwrap();
    match resources.create(&planner(), &number(2)).await {
        Err(ResourceError::AlreadyExists { current, version }) => {
            assert_eq!((current, version), (first.etag, first.version));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(resources.get(&planner()).await.unwrap().meta.etag, first.etag);
    resources.delete(&planner()).await.unwrap();
    let again = resources.create(&planner(), &number(1)).await.unwrap();
    assert_eq!((again.effect, again.etag), (Effect::Created, first.etag));
    assert_ne!(again.version, first.version);
}

pub(crate) async fn put_if_match_needs_the_current_etag(harness: &dyn Harness) {
    let resources = open(harness).await;
    let first = put(&resources, &planner(), 1).await;
    let second = resources.put_if_match(&planner(), &number(2), first.etag).await.unwrap();
    assert_eq!((second.effect, second.version.version()), (Effect::Replaced, 2));
    // One that is stale, and one that never was.
    for etag in [first.etag, number(9).etag()] {
        let refused = resources.put_if_match(&planner(), &number(3), etag).await;
        assert_mismatch(refused, second.etag, second.version);
    }
    assert_eq!(resources.get(&planner()).await.unwrap().meta.version, second.version);
    // The ETag that the refusal told is good.
    resources.put_if_match(&planner(), &number(3), second.etag).await.unwrap();
}

pub(crate) async fn put_if_match_of_a_missing_resource_is_not_found(harness: &dyn Harness) {
    let resources = open(harness).await;
    let etag = number(1).etag();
    assert_not_found(resources.put_if_match(&planner(), &number(1), etag).await);
    put(&resources, &planner(), 1).await;
    resources.delete(&planner()).await.unwrap();
    assert_not_found(resources.put_if_match(&planner(), &number(1), etag).await);
    assert_not_found(resources.get(&planner()).await);
}

pub(crate) async fn a_value_that_comes_back_brings_its_etag_and_not_its_version(
    harness: &dyn Harness,
) {
    let resources = open(harness).await;
    let a = put(&resources, &planner(), 1).await;
    put(&resources, &planner(), 2).await;
    let again = put(&resources, &planner(), 1).await;
    assert_eq!(a.etag, again.etag);
    let demanded = Condition::Version(a.version);
    let refused = resources.put_if(&planner(), &number(3), demanded).await;
    assert_mismatch(refused, again.etag, again.version);
    assert_mismatch(resources.delete_if(&planner(), demanded).await, again.etag, again.version);
    resources.put_if_match(&planner(), &number(3), a.etag).await.unwrap();
    let current = resources.get(&planner()).await.unwrap().meta.version;
    let demanded = Condition::Version(current);
    let written = resources.put_if(&planner(), &number(4), demanded).await.unwrap();
    assert_eq!(written.version.version(), 5);
}

pub(crate) async fn a_condition_can_ask_for_presence(harness: &dyn Harness) {
    let resources = open(harness).await;
    assert_not_found(resources.put_if(&planner(), &number(1), Condition::Present).await);
    assert_not_found(resources.delete_if(&planner(), Condition::Present).await);
    put(&resources, &planner(), 1).await;
    resources.put_if(&planner(), &number(2), Condition::Present).await.unwrap();
    assert!(resources.delete_if(&planner(), Condition::Present).await.unwrap());
}

pub(crate) async fn delete_is_idempotent(harness: &dyn Harness) {
    let resources = open(harness).await;
    put(&resources, &planner(), 1).await;
    put(&resources, &key("agent", "planner2"), 1).await;
    assert!(resources.delete(&planner()).await.unwrap());
    assert!(!resources.delete(&planner()).await.unwrap());
    assert_not_found(resources.get(&planner()).await);
    resources.get(&key("agent", "planner2")).await.unwrap();
}

pub(crate) async fn delete_if_match_needs_the_current_etag(harness: &dyn Harness) {
    let resources = open(harness).await;
    let stale = put(&resources, &planner(), 1).await;
    let current = put(&resources, &planner(), 2).await;
    let refused = resources.delete_if_match(&planner(), stale.etag).await;
    assert_mismatch(refused, current.etag, current.version);
    resources.delete_if_match(&planner(), current.etag).await.unwrap();
    assert_not_found(resources.delete_if_match(&planner(), current.etag).await);
}

pub(crate) async fn update_changes_what_is_there(harness: &dyn Harness) {
    let resources = open(harness).await;
    let keep = |resource: &tenure::resources::Resource| document(&resource.value().unwrap());
    assert_not_found(resources.update::<ResourceError>(&planner(), |it| Ok(keep(it))).await);
    let first = put(&resources, &planner(), 1).await;
    let add = |resource: &tenure::resources::Resource| {
        let mut value = resource.value()?;
        value["added"] = json!(true);
        Document::from_value(&value)
    };
    let second = resources.update(&planner(), add).await.unwrap();
    assert_eq!((second.effect, second.version.version()), (Effect::Replaced, 2));
    assert_eq!(
        resources.get(&planner()).await.unwrap().value().unwrap(),
        json!({"n": 1, "added": true})
    );
    // The value is the same, so nothing is written.
    let third = resources.update(&planner(), add).await.unwrap();
    assert_eq!((third.effect, third.version), (Effect::Unchanged, second.version));
    assert_ne!(third.etag, first.etag);
    // Who changes their mind writes nothing either.
    let gave_up: Result<_, ResourceError> =
        resources.update(&planner(), |_| Err(ResourceError::Contended)).await;
    assert!(matches!(gave_up, Err(ResourceError::Contended)));
    assert_eq!(resources.get(&planner()).await.unwrap().meta.version, second.version);
}

pub(crate) async fn created_at_survives_overwrites(harness: &dyn Harness) {
    let resources = open(harness).await;
    let first = put(&resources, &planner(), 1).await;
    let created_at = harness.clock().now();
    harness.advance_millis(5).await;
    resources.put_if_match(&planner(), &number(2), first.etag).await.unwrap();
    harness.advance_millis(5).await;
    put(&resources, &planner(), 3).await;
    let meta = resources.get(&planner()).await.unwrap().meta;
    assert_eq!((meta.created_at, meta.updated_at), (created_at, created_at.plus_millis(10)));
    let page = resources.list("acme", None, PageRequest::default()).await.unwrap();
    assert_eq!(page.items.into_iter().next().unwrap().unwrap().meta, meta);
    resources.delete(&planner()).await.unwrap();
    put(&resources, &planner(), 4).await;
    let meta = resources.get(&planner()).await.unwrap().meta;
    assert_eq!(meta.created_at, created_at.plus_millis(10));
}

pub(crate) async fn values_and_projects_have_limits(harness: &dyn Harness) {
    let limits = ResourceLimits {
        value_bytes: 20,
        depth: 3,
        resources_per_project: 2,
        ..ResourceLimits::default()
    };
    let resources = open_limited(harness, limits).await;
    let at_the_limit = document(&json!("x".repeat(18)));
    resources.put(&planner(), &at_the_limit).await.unwrap();
    for too_much in [json!("x".repeat(19)), json!([[[1]]])] {
        let refused = resources.put(&planner(), &document(&too_much)).await;
        assert!(
            matches!(refused, Err(ResourceError::Invalid { what: "value", .. })),
            "{refused:?}"
        );
        assert!(refused.unwrap_err().is_client_fault());
    }
    assert!(matches!(resources.by("x".repeat(300)), Err(ResourceError::Invalid { .. })));
    put(&resources, &key("b", ""), 1).await;
    let refused = resources.put(&key("c", ""), &number(1)).await;
    assert!(matches!(refused, Err(ResourceError::TooMany { limit: 2, .. })), "{refused:?}");
    // What is there can be changed, and makes room when it goes.
    put(&resources, &planner(), 2).await;
    resources.delete(&planner()).await.unwrap();
    put(&resources, &key("c", ""), 1).await;
    // Whatever the limits say, the store has its own.
    let limits = ResourceLimits { value_bytes: usize::MAX, ..ResourceLimits::default() };
    let resources = open_limited(harness, limits).await;
    let huge = document(&json!("x".repeat(tenure::limits::VALUE_BYTES)));
    let refused = resources.put(&planner(), &huge).await;
    assert!(matches!(refused, Err(ResourceError::Invalid { .. })), "{refused:?}");
    let largest = tenure::limits::VALUE_BYTES - 1_024 - 2;
    let author = resources.by("\n".repeat(256)).unwrap();
    author.put(&planner(), &document(&json!("x".repeat(largest)))).await.unwrap();
}

pub(crate) async fn a_damaged_record_hides_nothing_else(harness: &dyn Harness) {
    let resources = open(harness).await;
    for id in ["a", "b", "c", "d"] {
        put(&resources, &key("agent", id), 1).await;
    }
    let store = harness.connect().await;
    let partition = Partition::new(["resources", "acme"]).unwrap();
    let tag = store.get(&partition.key("agent/a").unwrap()).await.unwrap().unwrap().tag;
    for (id, write) in [
        ("b", Write::new("no line").tagged(tag)),
        ("c", Write::new("2 1\n{}").tagged(tag)),
        ("d", Write::new("1 1\n{}")),
    ] {
        store.put(&partition.key(format!("agent/{id}")).unwrap(), write).await.unwrap();
        let unreadable = resources.get(&key("agent", id)).await;
        assert!(matches!(unreadable, Err(ResourceError::Unreadable { .. })), "{unreadable:?}");
        assert!(!unreadable.unwrap_err().is_client_fault());
    }
    let page = resources.list_with_values("acme", None, PageRequest::default()).await.unwrap();
    let readable: Vec<_> = page.items.iter().map(Result::is_ok).collect();
    assert_eq!(readable, [true, false, false, false]);
    // It can be written over, and deleted.
    put(&resources, &key("agent", "b"), 2).await;
    assert!(resources.delete(&key("agent", "c")).await.unwrap());
    let refused = resources.put_if_match(&key("agent", "d"), &number(1), number(1).etag()).await;
    assert!(matches!(refused, Err(ResourceError::Unreadable { .. })), "{refused:?}");
    // The text itself may be damaged.
    let broken = Write::new("1 1\n{").tagged(tag);
    store.put(&partition.key("agent/d").unwrap(), broken).await.unwrap();
    let value = resources.get(&key("agent", "d")).await.unwrap().value();
    assert!(matches!(value, Err(ResourceError::Unreadable { .. })), "{value:?}");
}
