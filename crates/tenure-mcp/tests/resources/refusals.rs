//! What is refused, and how it is told.

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};

use crate::harness::Api;

/// Method, path, headers, body, status.
type Row<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], &'a str, u16);

#[tokio::test]
async fn each_refusal_is_a_problem_with_its_status() {
    let mut options = tenure_mcp::http::HttpOptions::default();
    options.body_bytes = 1_000_000;
    let api = Api::with(options).await;
    let (item, merge) = ("acme/resources/k/i", ("content-type", "application/merge-patch+json"));
    api.put(item, "1").await;
    let large = format!("{:?}", "x".repeat(1_000_000));
    let too_large = format!("{:?}", "x".repeat(300_000));
    let long = format!("acme/resources/{}/i", "k".repeat(65));
    let rows: &[Row<'_>] = &[
        (Method::GET, "acme", &[], "", 404),
        (Method::GET, "acme/resources/k", &[], "", 404),
        (Method::GET, "acme/resources/k/%FF", &[], "", 404),
        (Method::POST, item, &[], "1", 405),
        (Method::PUT, "acme/resources", &[], "1", 405),
        (Method::OPTIONS, "acme/events", &[], "", 405),
        (Method::GET, item, &[("accept", "text/html")], "", 406),
        (Method::GET, "acme/resources", &[("accept", "application/json;q=0")], "", 406),
        (Method::GET, "acme/events", &[("accept", "application/json")], "", 406),
        (Method::PUT, item, &[], &large, 413),
        (Method::PUT, item, &[("content-type", "text/plain")], "1", 415),
        (Method::PATCH, item, &[("content-type", "application/json")], "1", 415),
        (Method::PATCH, item, &[], "1", 415),
        (Method::PUT, item, &[], "", 400),
        (Method::PUT, item, &[], "{", 400),
        (Method::PATCH, item, &[merge], "{", 400),
        (Method::PUT, item, &[], "9007199254740993", 422),
        (Method::PATCH, item, &[merge], r#"{"a":9007199254740993}"#, 422),
        (Method::PUT, item, &[], &too_large, 422),
        (Method::PUT, &long, &[], "1", 422),
        (Method::GET, &long, &[], "", 422),
        (Method::GET, "acme/resources?limit=x", &[], "", 400),
        (Method::GET, "acme/resources?color=red", &[], "", 400),
        (Method::GET, "acme/resources?cursor=x", &[], "", 400),
        (Method::GET, "acme/events?color=red", &[], "", 400),
        (Method::GET, "acme/events?id=x", &[], "", 400),
        (Method::GET, "acme/events", &[("last-event-id", "x")], "", 400),
        (Method::POST, "acme/resources/k/i/revert", &[], r#"{"version":"x"}"#, 422),
        (Method::POST, "acme/resources/k/i/revert", &[], "x", 400),
    ];
    for (method, path, headers, body, status) in rows {
        let answer = api.ask(method.clone(), path, headers, body).await;
        assert_eq!(answer.status.as_u16(), *status, "{method} {path} {headers:?} {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["status"], *status);
        assert_eq!(answer.header("allow").is_some(), *status == 405);
    }
    assert_eq!(api.get(item).await.body, b"1");
}

#[tokio::test]
async fn the_description_names_every_operation() {
    let api = Api::new().await;
    let request = Request::get("/v1/openapi.json").body(Body::empty()).unwrap();
    let response = api.respond(request).await;
    assert_eq!(response.status(), 200);
    let body = axum::body::to_bytes(response.into_body(), 1_000_000).await.unwrap();
    let description: Value = serde_json::from_slice(&body).unwrap();
    let scheme = &description["components"]["securitySchemes"]["bearer"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
    assert_eq!(description["security"], json!([{}, { "bearer": [] }]));
    let item = &description["paths"]["/v1/projects/{project}/resources/{kind}/{id}"];
    let conditions = item["get"]["parameters"].as_array().unwrap().iter();
    let lists = conditions.filter_map(|it| it["schema"]["pattern"].as_str());
    assert_eq!(lists.filter(|it| it.contains(r#"( *, *(W/)?"[!#-~]*")*"#)).count(), 2);
    for method in ["get", "put", "patch", "delete"] {
        assert!(item[method]["responses"]["412"].is_object(), "{method}: {item}");
    }
    assert!(item["put"]["responses"]["413"].is_object());
    let operations = description["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, it)| (path, method, &it["responses"]))
    });
    let mut names = Vec::new();
    for (path, method, responses) in operations {
        names.push(format!("{method} {path}"));
        for status in ["401", "403", "503", "507"] {
            assert!(responses[status].is_object(), "{status} of {method} {path}");
        }
        let changes = path.starts_with("/v1/projects") && method != "get";
        assert_eq!(responses["428"].is_object(), changes, "{method} {path}");
    }
    assert_eq!(names.len(), 14, "{names:?}");
    for path in ["/v1/tasks", "/v1/tasks/{id}", "/v1/tasks/{id}/events", "/v1/tasks/events"] {
        assert!(names.contains(&format!("get {path}")), "{names:?}");
    }
    assert!(names.contains(&"post /v1/tasks/{id}/cancel".to_owned()));
}
