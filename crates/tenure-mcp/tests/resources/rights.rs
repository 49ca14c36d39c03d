//! A token reaches the projects that it has rights on; all others look absent.

use axum::http::Method;

use crate::harness::Api;

const CALLERS: &str = r#"
    [[caller]]
    token = "writer"
    owner = "alice"
    projects = { acme = "write" }

    [[caller]]
    token = "reader"
    owner = "bob"
    projects = { acme = "read", other = "write" }

    [[caller]]
    token = "stranger"
    owner = "mallory"
"#;
const ITEM: &str = "acme/resources/k/i";

#[tokio::test]
async fn without_rights_a_project_looks_as_one_that_does_not_exist() {
    let api = Api::with_callers(CALLERS).await;
    api.as_caller("writer").put(ITEM, "1").await;
    let stranger = api.as_caller("stranger");
    let merge = [("content-type", "application/merge-patch+json")];
    for (method, rest, headers) in [
        (Method::GET, "resources", &[][..]),
        (Method::GET, "resources/k/i", &[]),
        (Method::HEAD, "resources/k/i", &[]),
        (Method::GET, "resources/k/i", &[("if-none-match", "*")]),
        (Method::PUT, "resources/k/i", &[]),
        (Method::PUT, "resources/k/i", &[("if-match", "\"x\"")]),
        (Method::PATCH, "resources/k/i", &merge),
        (Method::DELETE, "resources/k/i", &[]),
        (Method::GET, "resources/k/i/history", &[]),
        (Method::GET, "resources/k/i/history/1", &[]),
        (Method::POST, "resources/k/i/revert", &[]),
        (Method::POST, "resources", &[]),
        (Method::GET, "events", &[]),
    ] {
        let there = stranger.ask(method.clone(), &format!("acme/{rest}"), headers, "2").await;
        let absent = stranger.ask(method.clone(), &format!("absent/{rest}"), headers, "2").await;
        assert_eq!(there.status, 404, "{method} {rest}");
        assert_eq!((&there.body, &there.headers), (&absent.body, &absent.headers));
        // It is also the answer to whoever may look, and finds nothing.
        let missing = api.as_caller("writer").get("acme/resources/k/missing").await;
        assert!(method == Method::HEAD || there.body == missing.body, "{method} {rest}");
    }
    assert_eq!(api.as_caller("writer").get(ITEM).await.body, b"1");
}

#[tokio::test]
async fn who_may_read_may_not_write() {
    let api = Api::with_callers(CALLERS).await;
    api.as_caller("writer").put(ITEM, "1").await;
    let reader = api.as_caller("reader");
    assert_eq!(reader.get(ITEM).await.body, b"1");
    assert_eq!(reader.ask(Method::PUT, ITEM, &[], "2").await.status, 403);
    assert_eq!(reader.ask(Method::DELETE, ITEM, &[], "").await.status, 403);
    reader.put("other/resources/k/i", "3").await;
    assert_eq!(api.as_caller("writer").get("other/resources/k/i").await.status, 404);
}

#[tokio::test]
async fn without_a_token_nothing_is_answered() {
    let api = Api::with_callers(CALLERS).await;
    let refused = api.get(ITEM).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("cache-control"), Some("private, no-cache"));
    assert_eq!(api.as_caller("wrong").get(ITEM).await.status, 401);
}

#[tokio::test]
async fn a_write_bears_the_name_of_its_caller() {
    let api = Api::with_callers(CALLERS).await;
    let writer = api.as_caller("writer");
    writer.put(ITEM, "1").await;
    let list = writer.get("acme/resources").await.json();
    assert_eq!(list["resources"][0]["updatedBy"], "alice");
}

#[tokio::test]
async fn a_signed_token_has_the_rights_of_its_claim() {
    let secret = "0123456789abcdef0123456789abcdef";
    let toml = format!("jwt = {{ algorithm = \"HS256\", key = \"{secret}\" }}");
    let api = Api::with_callers(&toml).await;
    let token = |projects: serde_json::Value| {
        let claims = serde_json::json!({
            "sub": "alice", "exp": 32_503_680_000_u64, "tenure_projects": projects,
        });
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
        api.as_caller(token.unwrap().leak())
    };
    token(serde_json::json!({ "acme": "write" })).put(ITEM, "1").await;
    let reader = token(serde_json::json!({ "*": "read" }));
    assert_eq!(reader.get(ITEM).await.body, b"1");
    assert_eq!(reader.ask(Method::PUT, ITEM, &[], "2").await.status, 403);
    assert_eq!(token(serde_json::json!({})).get(ITEM).await.status, 404);
    assert_eq!(token(serde_json::json!("all")).get(ITEM).await.status, 401);
}
