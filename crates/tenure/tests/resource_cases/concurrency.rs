//! Many at once, on two replicas.

use futures::future::join_all;
use serde_json::json;
use tenure::resources::{Document, ResourceError, Written};
use tenure::store::contract::Harness;

use super::{document, number, open, planner, put};

/// The one that won. All others were told of it.
#[track_caller]
fn only_winner(results: Vec<Result<Written, ResourceError>>) -> Written {
    let winners: Vec<_> = results.iter().filter_map(|it| it.as_ref().ok().copied()).collect();
    let [winner] = winners[..] else { panic!("{results:?}") };
    for refused in results.into_iter().filter_map(Result::err) {
        match refused {
            ResourceError::ETagMismatch { current, version }
            | ResourceError::AlreadyExists { current, version } => {
                assert_eq!((current, version), (winner.etag, winner.version));
            }
            other => panic!("{other}"),
        }
    }
    winner
}

pub(crate) async fn ten_writers_with_one_etag_have_one_winner(harness: &dyn Harness) {
    let replicas = [open(harness).await, open(harness).await];
    let mut etag = put(&replicas[0], &planner(), 0).await.etag;
    for round in 1..=10 {
        let writers = (0..10).map(|writer| {
            let resources = replicas[writer as usize % 2].clone();
            tokio::spawn(async move {
                resources.put_if_match(&planner(), &number(round * 100 + writer), etag).await
            })
        });
        let results = join_all(writers).await.into_iter().map(Result::unwrap).collect();
        let winner = only_winner(results);
        assert_eq!(winner.version.version(), round + 1);
        etag = winner.etag;
    }
}

pub(crate) async fn concurrent_creates_have_one_winner(harness: &dyn Harness) {
    let replicas = [open(harness).await, open(harness).await];
    for _ in 0..5 {
        let writers = (0..10).map(|writer| {
            let resources = replicas[writer as usize % 2].clone();
            tokio::spawn(async move { resources.create(&planner(), &number(writer)).await })
        });
        let results = join_all(writers).await.into_iter().map(Result::unwrap).collect();
        let winner = only_winner(results);
        replicas[0].delete_if_match(&planner(), winner.etag).await.unwrap();
    }
}

pub(crate) async fn concurrent_updates_lose_none(harness: &dyn Harness) {
    let replicas = [open(harness).await, open(harness).await];
    put(&replicas[0], &planner(), 0).await;
    let writers = (0..8).map(|writer: usize| {
        let resources = replicas[writer % 2].clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                let increment = |resource: &tenure::resources::Resource| {
                    let n = resource.value()?["n"].as_u64().unwrap_or_default();
                    Document::from_value(&json!({ "n": n + 1 }))
                };
                resources.update(&planner(), increment).await.unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let resource = replicas[1].get(&planner()).await.unwrap();
    assert_eq!(resource.value().unwrap(), json!({"n": 80}));
    assert_eq!(resource.meta.version.version(), 81);
}

/// 8 readers against 8 writers: whatever is read, the ETag is that of the text, and the author is
/// the one that the text names.
pub(crate) async fn readers_never_see_a_torn_pair(harness: &dyn Harness) {
    let replicas = [open(harness).await, open(harness).await];
    let value = |author: &str, round: usize| {
        document(&json!({"author": author, "round": round, "filler": author.repeat(200 * round)}))
    };
    let first = replicas[0].by("0").unwrap();
    first.put(&planner(), &value("0", 0)).await.unwrap();
    let writers = (0..8).map(|writer: usize| {
        let author = writer.to_string();
        let resources = replicas[writer % 2].by(author.clone()).unwrap();
        tokio::spawn(async move {
            for round in 0..10 {
                resources.put(&planner(), &value(&author, round)).await.unwrap();
            }
        })
    });
    let readers = (0..8).map(|reader: usize| {
        let resources = replicas[reader % 2].clone();
        tokio::spawn(async move {
            let mut last = 0;
            for _ in 0..40 {
                let resource = resources.get(&planner()).await.unwrap();
                let read = Document::parse(&resource.text).unwrap();
                assert_eq!(read.etag(), resource.meta.etag);
                let value = resource.value().unwrap();
                assert_eq!(value["author"].as_str(), resource.meta.updated_by.as_deref());
                let version = resource.meta.version.version();
                assert!(version >= last, "{version} after {last}");
                last = version;
            }
        })
    });
    let all: Vec<_> = writers.chain(readers).collect();
    for one in join_all(all).await {
        one.unwrap();
    }
}
