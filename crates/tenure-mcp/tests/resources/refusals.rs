//! What is refused, and how it is told.

use std::collections::HashSet;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};

use tenure::resources::ResourceLimits;

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
        (Method::PUT, item, &[("content-range", "bytes 0-0/1")], "2", 400),
        (Method::PUT, item, &[("content-encoding", "gzip")], "2", 415),
        (Method::PUT, item, &[("content-encoding", "identity, br")], "2", 415),
        (Method::PATCH, item, &[merge, ("content-encoding", "gzip")], "2", 415),
        (Method::POST, "acme/resources/k/i/revert", &[("content-encoding", "gzip")], "2", 415),
        (Method::PUT, item, &[], "1e400", 422),
    ];
    for (method, path, headers, body, status) in rows {
        let answer = api.ask(method.clone(), path, headers, body).await;
        assert_eq!(answer.status.as_u16(), *status, "{method} {path} {headers:?} {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.json()["status"], *status);
        assert_eq!(answer.header("allow").is_some(), *status == 405);
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        let encoded = headers.iter().any(|(name, _)| *name == "content-encoding");
        assert_eq!(answer.header("accept-encoding"), encoded.then_some("identity"));
    }
    assert_eq!(api.get(item).await.body, b"1");
}

#[tokio::test]
async fn what_no_route_is_for_is_a_problem_too() {
    let connection = Api::new().await.connect().await;
    for (method, path, status) in [
        (Method::GET, "/v1/projects", 404),
        (Method::GET, "/v1/projects/", 404),
        (Method::PUT, "/v1/projects", 404),
        (Method::GET, "/v1/nope", 404),
        (Method::GET, "/nope", 404),
        (Method::POST, "/v1/openapi.json", 405),
        (Method::DELETE, "/healthz", 405),
    ] {
        let request = Request::builder().method(&method).uri(path).header("host", "localhost");
        let answer = connection.http1(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert_eq!(answer.json()["status"], status);
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET,HEAD"));
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_in_no_coding_is_taken() {
    let api = Api::new().await;
    for coding in ["identity", "IDENTITY", ""] {
        let headers = [("content-encoding", coding)];
        let answer = api.ask(Method::PUT, "acme/resources/k/i", &headers, "1").await;
        assert!(answer.status.is_success(), "{coding:?} {answer:?}");
    }
}

#[tokio::test]
async fn a_value_nests_so_deep_and_no_deeper() {
    let api = Api::new().await;
    let path = "acme/resources/k/i";
    let merge = [("content-type", "application/merge-patch+json")];
    let nested = |depth: usize| "[".repeat(depth - 1) + "1" + &"]".repeat(depth - 1);
    assert_eq!(api.ask(Method::PUT, path, &[], &nested(64)).await.status, 201);
    for (depth, limit) in [(65, 64), (127, 64), (128, 64), (129, 128), (500, 128)] {
        let nested = nested(depth);
        for (method, headers) in [(Method::PUT, &[][..]), (Method::PATCH, &merge)] {
            let refused = api.ask(method, path, headers, &nested).await;
            assert_eq!(refused.status, 422, "{depth}");
            let detail = format!("value: it nests deeper than {limit}");
            assert_eq!(refused.json()["detail"], detail, "{depth}");
        }
    }
}

#[tokio::test]
async fn a_project_has_so_many_resources_and_no_more() {
    let limits = ResourceLimits { resources_per_project: 2, ..ResourceLimits::default() };
    let api = Api::within(limits).await;
    for id in ["1", "2"] {
        api.put(&format!("acme/resources/k/{id}"), "1").await;
    }
    let third = "acme/resources/k/3";
    let refused = api.ask(Method::PUT, third, &[], "1").await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["detail"], "the limit of 2 resources of the project is reached");
    assert_eq!(api.get(third).await.status, 404);
    // Whoever is there may change, another project has its own, and who goes makes room.
    api.put("acme/resources/k/2", "2").await;
    api.put("other/resources/k/1", "1").await;
    assert_eq!(api.ask(Method::DELETE, "acme/resources/k/1", &[], "").await.status, 204);
    api.put(third, "1").await;
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
        for status in ["401", "403", "405", "503", "507"] {
            assert!(responses[status].is_object(), "{status} of {method} {path}");
        }
        let reads = ["get", "head"].contains(&method.as_str());
        let changes = path.starts_with("/v1/projects") && !reads;
        assert_eq!(responses["428"].is_object(), changes, "{method} {path}");
        for (status, names) in [
            ("201", &["ETag", "Tenure-Version", "Location"][..]),
            ("304", &["ETag", "Tenure-Version"]),
            ("401", &["WWW-Authenticate"]),
            ("405", &["Allow"]),
            ("412", &["ETag", "Tenure-Version"]),
            ("415", &["Accept", "Accept-Patch", "Accept-Encoding"]),
            ("429", &["Retry-After"]),
            ("503", &["Retry-After"]),
        ] {
            let response = &responses[status];
            for name in names.iter().filter(|_| response.is_object()) {
                let header = &response["headers"][*name];
                assert!(header.is_object(), "{name} of {status} of {method} {path}");
            }
        }
        if method == "head" {
            let bodies =
                responses.as_object().unwrap().values().filter(|it| !it["content"].is_null());
            assert_eq!(bodies.count(), 0, "{path}");
        }
    }
    assert_eq!(names.len(), 14 + 9, "{names:?}");
    for method in ["put", "patch"] {
        let headers = &item[method]["responses"]["200"]["headers"];
        assert!(headers["ETag"].is_object() && headers["Tenure-Version"].is_object(), "{method}");
    }
    let operations = description["paths"].as_object().unwrap().values();
    let operations = operations.flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<_> = operations.map(|it| it["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
    for path in ["/v1/tasks", "/v1/tasks/{id}", "/v1/tasks/{id}/events", "/v1/tasks/events"] {
        assert!(names.contains(&format!("get {path}")), "{names:?}");
    }
    assert!(names.contains(&"post /v1/tasks/{id}/cancel".to_owned()));
}
