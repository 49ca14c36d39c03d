//! What is large is bounded, and holds nobody up.

use std::time::Duration;

use axum::http::Method;

use crate::harness::Api;

const MIB: usize = 1_024 * 1_024;

/// The largest value, of as many parts as it can have.
fn ones() -> String {
    let text = format!("[{}]", vec!["1"; (256 * 1_024 - 1) / 2].join(","));
    assert_eq!(text.len(), 256 * 1_024 - 1);
    text
}

#[tokio::test]
async fn a_page_of_values_ends_once_they_come_to_4_mib() {
    let api = Api::new().await;
    let ones = ones();
    for id in 0..20 {
        api.put(&format!("acme/resources/k/{id:02}"), &ones).await;
    }
    let (mut ids, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = api.get(&format!("acme/resources?values=true&limit=200{cursor}")).await;
        assert!(page.body.len() < 4 * MIB + 2 * ones.len(), "{}", page.body.len());
        assert_eq!(page.header("content-type"), Some("application/json"));
        let page = page.json();
        for resource in page["resources"].as_array().unwrap() {
            ids.push(resource["id"].as_str().unwrap().to_owned());
            assert_eq!(resource["value"].as_array().unwrap().len(), 131_071);
        }
        pages += 1;
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let expected: Vec<_> = (0..20).map(|id| format!("{id:02}")).collect();
    assert_eq!((ids, pages), (expected, 2));
}

/// On one thread, on which a parser would leave no turn to anybody.
#[tokio::test]
async fn who_writes_or_lists_large_values_holds_nobody_up() {
    let api = Api::new().await;
    let ones = ones();
    for id in 0..16 {
        api.put(&format!("acme/resources/k/{id}"), &ones).await;
    }
    let merge = [("content-type", "application/merge-patch+json")];
    let put = api.request(Method::PUT, "acme/resources/k/i", &[], &ones);
    let patch = api.request(Method::PATCH, "acme/resources/k/0", &merge, &ones);
    let list = api.request(Method::GET, "acme/resources?values=true", &[], "");
    for (what, request) in [("put", put), ("patch", patch), ("list", list)] {
        let asked = api.clone();
        let answer = tokio::spawn(async move { asked.respond(request).await });
        let mut turns = 0_u32;
        while !answer.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            turns += 1;
        }
        assert!(answer.await.unwrap().status().is_success(), "{what}");
        assert!(turns >= 3, "{what}: others had {turns} turns");
    }
}

#[tokio::test]
async fn a_text_has_room_for_spaces_and_escapes_and_no_more() {
    let api = Api::new().await;
    let path = "acme/resources/k/i";
    let spaced = format!("{}1", " ".repeat(MIB - 1));
    let merge = [("content-type", "application/merge-patch+json")];
    assert_eq!(api.ask(Method::PUT, path, &[], &spaced).await.status, 201);
    assert_eq!(api.ask(Method::PATCH, path, &merge, &spaced).await.status, 200);
    let longer = format!(" {spaced}");
    for (method, path, headers) in [
        (Method::PUT, path, &[][..]),
        (Method::PATCH, path, &merge),
        (Method::POST, "acme/resources/k/i/revert", &[]),
    ] {
        let refused = api.ask(method, path, headers, &longer).await;
        assert_eq!(refused.status, 413);
        assert_eq!(refused.json()["detail"], "the request body exceeds 1048576 bytes");
    }
    let escaped = format!("\"{}\"", "\\u0041".repeat(100_000));
    assert_eq!(api.ask(Method::PUT, path, &[], &escaped).await.status, 200);
    assert_eq!(api.get(path).await.body.len(), 100_002);
}
