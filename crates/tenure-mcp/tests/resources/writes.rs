//! What is written is what is read.

use axum::http::Method;
use serde_json::{Value, json};

use crate::harness::Api;

#[tokio::test]
async fn a_value_is_stored_named_listed_and_deleted() {
    let api = Api::new().await;
    let path = "acme/resources/agent/planner";
    let created = api.ask(Method::PUT, path, &[], r#"{ "b":1.0, "a":[] }"#).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.header("location"), Some("/v1/projects/acme/resources/agent/planner"));
    assert_eq!(created.json()["effect"], "created");
    let got = api.get(path).await;
    assert_eq!(got.body, br#"{"a":[],"b":1}"#);
    assert_eq!(got.header("etag"), created.header("etag"));
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.header("cache-control"), Some("private, no-cache"));
    let list = api.get("acme/resources?kind=agent&values=true").await.json();
    assert_eq!(list["resources"][0]["value"], json!({"a": [], "b": 1}));
    assert_eq!(list["resources"][0]["updatedBy"], "local");
    assert_eq!(api.ask(Method::DELETE, path, &[], "").await.status, 204);
    assert_eq!(api.get(path).await.status, 404);
    assert_eq!(api.get("acme/resources").await.json()["resources"], json!([]));
}

#[tokio::test]
async fn kinds_and_ids_may_be_any_text() {
    let api = Api::new().await;
    let paths = [
        "agent/",
        "/",
        "/x",
        "a%2Fb/c%2Fd",
        "a/%252F",
        "%C3%A9/%F0%9F%98%80",
        "a/b%00",
        "a/%3F%23",
    ];
    for path in paths {
        api.put(&format!("acme/resources/{path}"), &format!("{path:?}")).await;
    }
    for path in paths {
        let got = api.get(&format!("acme/resources/{path}")).await;
        assert_eq!(got.json(), path, "{path}");
    }
    let list = api.get("acme/resources").await.json();
    assert_eq!(list["resources"].as_array().unwrap().len(), paths.len());
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let api = Api::new().await;
    for id in 0..5 {
        api.put(&format!("acme/resources/k/{id}"), "1").await;
    }
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("acme/resources?limit=2{cursor}")).await.json();
        assert_eq!(page["total"], if cursor.is_empty() { json!(5) } else { Value::Null });
        let found = page["resources"].as_array().unwrap().iter();
        ids.extend(found.map(|it| it["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(ids, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn the_first_page_of_a_project_tells_how_many_resources_it_has() {
    let api = Api::new().await;
    let total = async |query: &str| {
        api.get(&format!("acme/resources{query}")).await.json()["total"].clone()
    };
    assert_eq!(total("").await, 0);
    for path in ["k/1", "k/2", "other/1"] {
        api.put(&format!("acme/resources/{path}"), "1").await;
        api.put(&format!("acme/resources/{path}"), "2").await;
    }
    api.put("another/resources/k/1", "1").await;
    assert_eq!((total("").await, total("?values=true&limit=1").await), (json!(3), json!(3)));
    assert_eq!(total("?kind=k").await, Value::Null);
    assert_eq!(api.ask(Method::DELETE, "acme/resources/k/1", &[], "").await.status, 204);
    assert_eq!(total("").await, 2);
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names() {
    let api = Api::new().await;
    let path = "acme/resources/k/i";
    api.put(path, r#"{"a":{"b":1,"c":2},"d":[1]}"#).await;
    let merge = [("content-type", "application/merge-patch+json; charset=utf-8")];
    let patched = api.ask(Method::PATCH, path, &merge, r#"{"a":{"b":null,"e":3},"d":"x"}"#).await;
    assert_eq!(patched.json(), json!({"a": {"c": 2, "e": 3}, "d": "x"}));
    let version = patched.header("tenure-version").unwrap().to_owned();
    // Nothing is written that is there already.
    let same = api.ask(Method::PATCH, path, &merge, r#"{"d":"x"}"#).await;
    assert_eq!(
        (same.status.as_u16(), same.header("tenure-version")),
        (200, Some(version.as_str()))
    );
}

/// `rounds` patches of each of `writers`, all at the same time, with these fields beside.
async fn patched_together(writers: usize, rounds: usize, fields: &'static [(&str, &str)]) {
    let api = Api::crowded().await;
    let path = "acme/resources/k/i";
    api.put(path, "{}").await;
    let headers = [&[("content-type", "application/merge-patch+json")], fields].concat();
    let writers_done = (0..writers).map(|writer| {
        let (api, headers) = (api.clone(), headers.clone());
        tokio::spawn(async move {
            for round in 0..rounds {
                let patch = format!("{{\"{writer}-{round}\":{round}}}");
                let answer = api.ask(Method::PATCH, path, &headers, &patch).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        })
    });
    for done in futures::future::join_all(writers_done).await {
        done.unwrap();
    }
    let members = api.get(path).await.json().as_object().unwrap().len();
    assert_eq!(members, writers * rounds);
}

#[tokio::test]
async fn merge_patches_at_the_same_time_lose_nothing() {
    patched_together(8, 1, &[]).await;
    patched_together(8, 1, &[("if-match", "*")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_clients_of_one_resource_are_all_served() {
    patched_together(64, 5, &[]).await;
}

/// The conditions that the store cannot judge by itself have to be read for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_conditional_writers_of_one_resource_are_all_served() {
    let api = Api::crowded().await;
    let path = "acme/resources/k/i";
    let first = api.put(path, "0").await;
    let puts = (0..64).map(|writer| {
        let api = api.clone();
        tokio::spawn(async move {
            for round in 1..=5 {
                let value = (writer * 5 + round).to_string();
                let fields = [("if-match", "*"), ("if-none-match", "\"xyz\"")];
                assert_eq!(api.ask(Method::PUT, path, &fields, &value).await.status, 200);
            }
        })
    });
    for done in futures::future::join_all(puts).await {
        done.unwrap();
    }
    let now = api.get(path).await;
    let version = now.header("tenure-version").unwrap();
    assert!(version.starts_with("321-"), "{version}");
    assert_ne!(now.header("etag"), Some(first.as_str()));
}

#[tokio::test]
async fn former_versions_are_read_and_come_back() {
    let api = Api::new().await;
    let path = "acme/resources/k/i";
    let one = api.put(path, "1").await;
    let two = api.put(path, "2").await;
    let history = api.get(&format!("{path}/history")).await.json();
    let numbers: Vec<_> =
        history["versions"].as_array().unwrap().iter().map(|it| it["number"].clone()).collect();
    assert_eq!(numbers, [2, 1]);
    let former = api.get(&format!("{path}/history/1")).await;
    assert_eq!((&former.body[..], former.header("etag")), (&b"1"[..], Some(one.as_str())));
    assert_eq!(api.get(&format!("{path}/history/7")).await.status, 404);
    let revert = format!("{path}/revert");
    let back = r#"{"version":1}"#;
    let refused = api.ask(Method::POST, &revert, &[("if-match", one.as_str())], back).await;
    assert_eq!((refused.status.as_u16(), refused.header("etag")), (412, Some(two.as_str())));
    let reverted = api.ask(Method::POST, &revert, &[("if-match", two.as_str())], back).await;
    assert_eq!((reverted.status.as_u16(), reverted.header("etag")), (200, Some(one.as_str())));
    assert_eq!(api.get(path).await.body, b"1");
    assert_eq!(api.ask(Method::POST, &revert, &[], r#"{"version":9}"#).await.status, 404);
}

#[tokio::test]
async fn a_revert_to_the_value_that_is_there_writes_nothing_under_a_condition_or_none() {
    let api = Api::new().await;
    let path = "acme/resources/k/i";
    let etag = api.put(path, "1").await;
    let version = api.get(path).await.header("tenure-version").unwrap().to_owned();
    let list = format!("\"xyz\", {etag}");
    let conditions: [&[(&str, &str)]; 5] = [
        &[],
        &[("if-match", &etag)],
        &[("if-match", &list)],
        &[("if-match", "*")],
        &[("tenure-if-version", &version)],
    ];
    let revert = format!("{path}/revert");
    for headers in conditions {
        let answer = api.ask(Method::POST, &revert, headers, r#"{"version":1}"#).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["effect"]), (200, &json!("unchanged")));
        assert_eq!(answer.header("tenure-version"), Some(version.as_str()), "{headers:?}");
    }
    for headers in [("if-match", "\"xyz\""), ("if-none-match", "*")] {
        let answer = api.ask(Method::POST, &revert, &[headers], r#"{"version":1}"#).await;
        assert_eq!(answer.status, 412, "{headers:?}");
    }
}

#[tokio::test]
async fn what_is_large_is_compressed_for_those_who_take_it() {
    let api = Api::new().await;
    let path = "acme/resources/k/i";
    let tag = api.put(path, &format!("{:?}", "x".repeat(10_000))).await;
    let zipped = api.ask(Method::GET, path, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert!(zipped.body.len() < 1_000);
    assert_eq!(zipped.header("etag"), Some(tag.as_str()));
    assert!(zipped.header("vary").unwrap().to_lowercase().contains("accept-encoding"));
    let known = [("accept-encoding", "gzip"), ("if-none-match", tag.as_str())];
    let unchanged = api.ask(Method::GET, path, &known, "").await;
    assert_eq!((unchanged.status.as_u16(), unchanged.header("vary")), (304, zipped.header("vary")));
    assert_eq!(api.get(path).await.header("content-encoding"), None);
}
