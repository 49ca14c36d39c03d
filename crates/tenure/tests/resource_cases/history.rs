//! The versions of a resource.

use std::cmp::Reverse;

use futures::future::join_all;
use tenure::resources::{Condition, Effect, ResourceError, ResourceLimits, ResourceStore};
use tenure::store::contract::Harness;

use super::{number, open, open_limited, planner, put};

/// The numbers in the values, newest version first.
async fn numbers(resources: &ResourceStore) -> Vec<u64> {
    let history = resources.history(&planner()).await.unwrap();
    let number = |text: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(text).unwrap();
        value["n"].as_u64().unwrap()
    };
    history.into_iter().map(|version| number(&version.unwrap().text)).collect()
}

pub(crate) async fn history_tells_who_wrote_what_when(harness: &dyn Harness) {
    let resources = open(harness).await;
    let missing = resources.history(&planner()).await;
    assert!(matches!(missing, Err(ResourceError::NotFound)));
    let mut expected = Vec::new();
    for (n, author) in [(1, "alice"), (2, "bob"), (3, "alice")] {
        harness.advance_millis(1).await;
        let written = put(&resources.by(author).unwrap(), &planner(), n).await;
        expected.insert(0, (written.etag, written.version, harness.clock().now(), Some(author)));
    }
    let history = open(harness).await.history(&planner()).await.unwrap();
    let versions: Vec<_> = history.into_iter().map(Result::unwrap).collect();
    let told: Vec<_> = versions
        .iter()
        .map(|it| (it.etag, it.version, it.written_at, it.written_by.as_deref()))
        .collect();
    assert_eq!(told, expected);
    assert_eq!(&versions[2].text[..], number(1).text());
}

pub(crate) async fn history_is_bounded(harness: &dyn Harness) {
    let resources = open(harness).await;
    for n in 1..=15 {
        put(&resources, &planner(), n).await;
    }
    assert_eq!(numbers(&resources).await, (6..=15).rev().collect::<Vec<_>>());
    let limits = ResourceLimits { history_versions: 1, ..ResourceLimits::default() };
    let forgetful = open_limited(harness, limits).await;
    put(&forgetful, &planner(), 16).await;
    assert_eq!(numbers(&resources).await, [16]);
}

pub(crate) async fn a_version_can_be_read_and_reverted_to(harness: &dyn Harness) {
    let resources = open(harness).await;
    let not_found = resources.revert(&planner(), 1).await;
    assert!(matches!(not_found, Err(ResourceError::NotFound)));
    let first = put(&resources, &planner(), 1).await;
    for n in 2..=4 {
        put(&resources, &planner(), n).await;
    }
    let version = resources.get_at_version(&planner(), 1).await.unwrap();
    assert_eq!((version.etag, version.version), (first.etag, first.version));
    for unknown in [0, 5, u64::MAX] {
        let missing = resources.get_at_version(&planner(), unknown).await;
        assert!(matches!(missing, Err(ResourceError::NotFound)), "{unknown}");
        let missing = resources.revert(&planner(), unknown).await;
        assert!(matches!(missing, Err(ResourceError::NotFound)), "{unknown}");
    }
    let alice = resources.by("alice").unwrap();
    let reverted = alice.revert(&planner(), 1).await.unwrap();
    assert_eq!(
        (reverted.etag, reverted.version.version(), reverted.effect),
        (first.etag, 5, Effect::Replaced)
    );
    assert_eq!(numbers(&resources).await, [1, 4, 3, 2, 1]);
    assert_eq!(resources.get(&planner()).await.unwrap().meta.updated_by.as_deref(), Some("alice"));
    // It is the value already.
    let unchanged = resources.revert(&planner(), 1).await.unwrap();
    assert_eq!((unchanged.version, unchanged.effect), (reverted.version, Effect::Unchanged));
}

pub(crate) async fn history_ends_with_the_resource(harness: &dyn Harness) {
    let resources = open(harness).await;
    for n in 1..=3 {
        put(&resources, &planner(), n).await;
    }
    resources.delete(&planner()).await.unwrap();
    assert!(matches!(resources.history(&planner()).await, Err(ResourceError::NotFound)));
    assert!(matches!(resources.revert(&planner(), 3).await, Err(ResourceError::NotFound)));
    put(&resources, &planner(), 4).await;
    assert_eq!(numbers(&resources).await, [4]);
}

/// Conditional and blind writers from two replicas: none of their versions is missing.
pub(crate) async fn every_acknowledged_version_is_in_the_history(harness: &dyn Harness) {
    let limits = ResourceLimits { history_versions: 33, ..ResourceLimits::default() };
    let replicas = [open_limited(harness, limits).await, open_limited(harness, limits).await];
    put(&replicas[0], &planner(), 0).await;
    let writers = (1..=8).map(|writer| {
        let resources = replicas[writer as usize % 2].clone();
        tokio::spawn(async move {
            let mut written = Vec::new();
            for round in 0..4 {
                let document = number(writer * 10 + round);
                let result = if round % 2 == 0 {
                    resources.put(&planner(), &document).await
                } else {
                    resources.update(&planner(), |_| Ok::<_, ResourceError>(document.clone())).await
                };
                let result = result.unwrap();
                written.push((result.version, result.etag));
            }
            written
        })
    });
    let mut acknowledged = Vec::new();
    for writer in join_all(writers).await {
        acknowledged.extend(writer.unwrap());
    }
    acknowledged.sort_by_key(|(version, _)| Reverse(version.version()));
    let history = replicas[0].history(&planner()).await.unwrap();
    let told: Vec<_> =
        history.into_iter().map(|it| it.map(|it| (it.version, it.etag)).unwrap()).collect();
    assert_eq!(told[..32], acknowledged);
    assert_eq!(told[32].1, number(0).etag());
}

pub(crate) async fn a_revert_under_a_condition_checks_it_and_writes_only_what_is_new(
    harness: &dyn Harness,
) {
    let resources = open(harness).await;
    let first = put(&resources, &planner(), 1).await;
    let second = put(&resources, &planner(), 2).await;
    let revert = |version, condition| {
        let (resources, key) = (resources.clone(), planner());
        async move { resources.revert_if(&key, version, condition).await }
    };
    for wrong in [Condition::ETag(first.etag), Condition::Version(first.version)] {
        for version in [1, 2] {
            let refused = revert(version, wrong).await;
            let Err(ResourceError::ETagMismatch { current, version }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!((current, version), (second.etag, second.version));
        }
    }
    let refused = revert(1, Condition::Absent).await;
    assert!(matches!(refused, Err(ResourceError::AlreadyExists { .. })), "{refused:?}");
    // What is not there is not found, whatever is demanded.
    let missing = revert(9, Condition::ETag(first.etag)).await;
    assert!(matches!(missing, Err(ResourceError::NotFound)), "{missing:?}");
    let right =
        [Condition::ETag(second.etag), Condition::Version(second.version), Condition::Present];
    for condition in right {
        let unchanged = revert(2, condition).await.unwrap();
        assert_eq!((unchanged.version, unchanged.effect), (second.version, Effect::Unchanged));
    }
    let reverted = revert(1, Condition::ETag(second.etag)).await.unwrap();
    assert_eq!((reverted.etag, reverted.effect), (first.etag, Effect::Replaced));
}
