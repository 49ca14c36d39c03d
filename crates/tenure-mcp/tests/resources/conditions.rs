//! Conditional requests (RFC 9110, section 13): every row on a resource that is as the row says.

use axum::http::Method;

use crate::harness::Api;

const A: &str = r#"{"v":"a"}"#;
const B: &str = r#"{"v":"b"}"#;

/// What is there before the request.
#[derive(Debug, Clone, Copy)]
enum There {
    Nothing,
    ValueA,
}
use There::{Nothing, ValueA};

type Row = (&'static str, There, &'static str, &'static str, &'static str, u16);

/// Section, state, method, If-Match, If-None-Match, status. `{a}` and `{b}` are the ETags of two
/// values, the first of which is there; an empty field is not sent.
const TABLE: &[Row] = &[
    ("no condition", ValueA, "GET", "", "", 200),
    ("no condition", Nothing, "GET", "", "", 404),
    ("no condition", ValueA, "PUT", "", "", 200),
    ("no condition", Nothing, "PUT", "", "", 201),
    ("no condition", ValueA, "DELETE", "", "", 204),
    ("no condition", Nothing, "DELETE", "", "", 204),
    ("no condition", Nothing, "PATCH", "", "", 404),
    ("13.1.1 the current tag", ValueA, "GET", "\"{a}\"", "", 200),
    ("13.1.1 the current tag", ValueA, "HEAD", "\"{a}\"", "", 200),
    ("13.1.1 the current tag", ValueA, "PUT", "\"{a}\"", "", 200),
    ("13.1.1 the current tag", ValueA, "PATCH", "\"{a}\"", "", 200),
    ("13.1.1 the current tag", ValueA, "DELETE", "\"{a}\"", "", 204),
    ("13.1.1 another tag", ValueA, "GET", "\"{b}\"", "", 412),
    ("13.1.1 another tag", ValueA, "HEAD", "\"{b}\"", "", 412),
    ("13.1.1 another tag", ValueA, "PUT", "\"{b}\"", "", 412),
    ("13.1.1 another tag", ValueA, "PATCH", "\"{b}\"", "", 412),
    ("13.1.1 another tag", ValueA, "DELETE", "\"{b}\"", "", 412),
    ("13.1.1 somebody else's tag", ValueA, "PUT", "\"xyz\"", "", 412),
    ("13.1.1 one of a list", ValueA, "PUT", "\"{b}\", \"{a}\"", "", 200),
    ("13.1.1 one of a list with empty elements", ValueA, "PUT", ", \"{b}\" ,,\"{a}\",", "", 200),
    ("13.1.1 none of a list", ValueA, "PUT", "\"{b}\", \"xyz\"", "", 412),
    ("13.1.1 one of a list", ValueA, "DELETE", "\"{b}\", \"{a}\"", "", 204),
    ("13.1.1 none of a list", ValueA, "DELETE", "\"{b}\", \"xyz\"", "", 412),
    ("13.1.1 a weak tag never matches", ValueA, "PUT", "W/\"{a}\"", "", 412),
    ("13.1.1 a weak tag never matches", ValueA, "GET", "W/\"{a}\"", "", 412),
    ("13.1.1 a weak tag beside a strong one", ValueA, "PUT", "W/\"{b}\", \"{a}\"", "", 200),
    ("13.1.1 any, and there is one", ValueA, "PUT", "*", "", 200),
    ("13.1.1 any, and there is one", ValueA, "DELETE", "*", "", 204),
    ("13.1.1 any, and there is none", Nothing, "PUT", "*", "", 412),
    ("13.1.1 any, and there is none", Nothing, "DELETE", "*", "", 412),
    ("13.2.1 without it the answer were 404", Nothing, "PATCH", "*", "", 404),
    ("13.2.1 without it the answer were 404", Nothing, "PATCH", "\"{a}\"", "", 404),
    ("13.2.1 without it the answer were 404", Nothing, "PATCH", "", "*", 404),
    ("13.1.1 a tag, and there is none", Nothing, "PUT", "\"{a}\"", "", 412),
    ("13.1.1 a list, and there is none", Nothing, "PUT", "\"{a}\", \"{b}\"", "", 412),
    ("13.2.1 without it the answer were 404", Nothing, "GET", "\"{a}\"", "", 404),
    ("13.2.1 without it the answer were 404", Nothing, "GET", "", "*", 404),
    ("13.1.2 the current tag", ValueA, "GET", "", "\"{a}\"", 304),
    ("13.1.2 the current tag", ValueA, "HEAD", "", "\"{a}\"", 304),
    ("13.1.2 the current tag", ValueA, "PUT", "", "\"{a}\"", 412),
    ("13.1.2 the current tag", ValueA, "DELETE", "", "\"{a}\"", 412),
    ("13.1.2 a weak tag matches", ValueA, "GET", "", "W/\"{a}\"", 304),
    ("13.1.2 a weak tag matches", ValueA, "PUT", "", "W/\"{a}\"", 412),
    ("13.1.2 another tag", ValueA, "GET", "", "\"{b}\"", 200),
    ("13.1.2 another tag", ValueA, "PUT", "", "\"{b}\"", 200),
    ("13.1.2 another tag", ValueA, "PATCH", "", "\"{b}\"", 200),
    ("13.1.2 one of a list", ValueA, "GET", "", "\"{b}\", \"{a}\"", 304),
    ("13.1.2 none of a list", ValueA, "GET", "", "\"{b}\", \"xyz\"", 200),
    ("13.1.2 a tag, and there is none", Nothing, "PUT", "", "\"{a}\"", 201),
    ("13.1.2 any, and there is one", ValueA, "GET", "", "*", 304),
    ("13.1.2 any, and there is one", ValueA, "PUT", "", "*", 412),
    ("13.1.2 any, and there is one", ValueA, "PATCH", "", "*", 412),
    ("13.1.2 any, and there is one", ValueA, "DELETE", "", "*", 412),
    ("13.1.2 any, and there is none", Nothing, "PUT", "", "*", 201),
    ("13.1.2 any, and there is none", Nothing, "DELETE", "", "*", 204),
    ("13.2.2 If-Match first", ValueA, "GET", "\"{b}\"", "\"{a}\"", 412),
    ("13.2.2 then If-None-Match", ValueA, "GET", "\"{a}\"", "\"{a}\"", 304),
    ("13.2.2 both hold", ValueA, "GET", "\"{a}\"", "\"{b}\"", 200),
    ("13.2.2 both hold", ValueA, "PUT", "\"{a}\"", "\"{b}\"", 200),
    ("13.2.2 one does not", ValueA, "PUT", "\"{a}\"", "*", 412),
    ("8.8.3 bytes that are no ASCII", ValueA, "PUT", "\"é\"", "", 412),
    ("8.8.3 bytes that are no ASCII", ValueA, "PUT", "\"é\", \"{a}\"", "", 200),
    ("8.8.3 bytes that are no ASCII", ValueA, "GET", "", "\"é\"", 200),
    ("8.8.3 no quotes", ValueA, "PUT", "{a}", "", 400),
    ("8.8.3 no quotes", ValueA, "GET", "", "{a}", 400),
    ("8.8.3 any among others", ValueA, "PUT", "*, \"{a}\"", "", 400),
    ("8.8.3 a weak mark in the wrong case", ValueA, "PUT", "w/\"{a}\"", "", 400),
];

#[tokio::test]
async fn every_row_of_the_table_holds() {
    let api = Api::new().await;
    let tags = [api.put("acme/resources/tag/a", A).await, api.put("acme/resources/tag/b", B).await];
    let [a, b] = tags.map(|tag| tag.trim_matches('"').to_owned());
    let mut wrong = Vec::new();
    for (number, row) in TABLE.iter().enumerate() {
        let (_, there, method, if_match, if_none_match, expected) = *row;
        let path = format!("acme/resources/row/{number}");
        if let ValueA = there {
            api.put(&path, A).await;
        }
        let [if_match, if_none_match] =
            [if_match, if_none_match].map(|it| it.replace("{a}", &a).replace("{b}", &b));
        let mut headers = vec![];
        if !if_match.is_empty() {
            headers.push(("if-match", if_match.as_str()));
        }
        if !if_none_match.is_empty() {
            headers.push(("if-none-match", if_none_match.as_str()));
        }
        if method == "PATCH" {
            headers.push(("content-type", "application/merge-patch+json"));
        }
        let answer = api.ask(Method::try_from(method).unwrap(), &path, &headers, B).await;
        let now = api.get(&path).await;
        // What was refused has changed nothing; what was not has happened.
        let left = match (method, expected) {
            ("PUT" | "PATCH", 200 | 201) => Some(B),
            ("DELETE", 204) => None,
            _ => matches!(there, ValueA).then_some(A),
        };
        let is_left = match left {
            Some(value) => now.body == value.as_bytes(),
            None => now.status == 404,
        };
        // The client is told what is there, to go on from.
        let tag = answer.header("etag").map(|tag| tag.trim_matches('"'));
        let named = match (expected, there) {
            (304 | 412, ValueA) => tag == Some(&a),
            (412, Nothing) => tag.is_none(),
            _ => true,
        };
        if answer.status.as_u16() != expected || !is_left || !named {
            wrong.push(format!("{number}: {row:?} was {}, left {now:?}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn conditions_of_several_fields_are_one_list() {
    let api = Api::new().await;
    let a = api.put("acme/resources/k/i", A).await;
    let two = [("if-match", "\"xyz\""), ("if-match", a.as_str())];
    assert_eq!(api.ask(Method::PUT, "acme/resources/k/i", &two, B).await.status, 200);
}

#[tokio::test]
async fn conditions_on_dates_are_ignored_where_nothing_is_dated() {
    let api = Api::new().await;
    api.put("acme/resources/k/i", A).await;
    for name in ["if-modified-since", "if-unmodified-since"] {
        let dated = [(name, "Sat, 29 Oct 1994 19:43:31 GMT")];
        assert_eq!(api.ask(Method::GET, "acme/resources/k/i", &dated, "").await.status, 200);
    }
}

#[tokio::test]
async fn of_ten_writers_with_the_same_tag_exactly_one_wins() {
    let api = Api::new().await;
    let a = api.put("acme/resources/k/i", A).await;
    for list in [a.clone(), format!("\"xyz\", {a}")] {
        api.put("acme/resources/k/i", A).await;
        let writers = (0..10).map(|writer| {
            let (api, list) = (&api, list.as_str());
            async move {
                let value = format!("{{\"writer\":{writer}}}");
                api.ask(Method::PUT, "acme/resources/k/i", &[("if-match", list)], &value)
                    .await
                    .status
            }
        });
        let statuses = futures::future::join_all(writers).await;
        assert_eq!(statuses.iter().filter(|it| it.as_u16() == 200).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|it| it.as_u16() == 412).count(), 9, "{statuses:?}");
    }
}

#[tokio::test]
async fn where_a_condition_is_demanded_there_is_no_change_without_one() {
    let mut options = tenure_mcp::http::HttpOptions::default();
    options.conditions_required = true;
    let api = Api::with(options).await;
    let path = "acme/resources/k/i";
    let merge = [("content-type", "application/merge-patch+json")];
    assert_eq!(api.ask(Method::PUT, path, &[], A).await.status, 428);
    assert_eq!(api.ask(Method::PUT, path, &[("if-none-match", "*")], A).await.status, 201);
    assert_eq!(api.ask(Method::PATCH, path, &merge, B).await.status, 428);
    assert_eq!(api.ask(Method::DELETE, path, &[], "").await.status, 428);
    let revert = api.ask(Method::POST, &format!("{path}/revert"), &[], r#"{"version":1}"#).await;
    assert_eq!(revert.status, 428);
    assert_eq!(api.get(path).await.body, A.as_bytes());
}

#[tokio::test]
async fn a_version_tells_a_from_a_after_b_and_can_be_demanded() {
    let api = Api::new().await;
    let path = "acme/resources/k/i";
    let merge = ("content-type", "application/merge-patch+json");
    let written = async |value| {
        let answer = api.ask(Method::PUT, path, &[], value).await;
        let [etag, version] = ["etag", "tenure-version"].map(|it| answer.header(it).unwrap());
        (etag.to_owned(), version.to_owned())
    };
    let (etag, first) = written(A).await;
    written(B).await;
    let (again, current) = written(A).await;
    assert_eq!(etag, again);
    assert_ne!(first, current);
    let stale = ("tenure-if-version", first.as_str());
    let revert = format!("{path}/revert");
    let by_tag = ("if-match", etag.as_str());
    for (method, path, headers, body) in [
        (Method::PUT, path, &[stale][..], B),
        (Method::PUT, path, &[stale, by_tag], B),
        (Method::PATCH, path, &[stale, merge], B),
        (Method::DELETE, path, &[stale], ""),
        (Method::POST, &revert, &[stale], r#"{"version":2}"#),
        (Method::GET, path, &[stale], ""),
    ] {
        let refused = api.ask(method.clone(), path, headers, body).await;
        assert_eq!(refused.status, 412, "{method} {headers:?}");
        assert_eq!(refused.header("etag"), Some(etag.as_str()));
        assert_eq!(refused.header("tenure-version"), Some(current.as_str()));
    }
    let fresh = ("tenure-if-version", current.as_str());
    assert_eq!(api.ask(Method::GET, path, &[fresh], "").await.status, 200);
    let both = [fresh, ("if-match", "\"xyz\"")];
    assert_eq!(api.ask(Method::PUT, path, &both, B).await.status, 412);
    let patched = api.ask(Method::PATCH, path, &[fresh, merge], B).await;
    assert_eq!(patched.status, 200);
    // What was just the current write is none any more.
    assert_eq!(api.ask(Method::PUT, path, &[fresh], A).await.status, 412);
    let fresh = ("tenure-if-version", patched.header("tenure-version").unwrap());
    assert_eq!(api.ask(Method::PUT, path, &[fresh], A).await.status, 200);
    for malformed in ["", "1", "x", "1-0000000000000001, 2-0000000000000002"] {
        let headers = [("tenure-if-version", malformed)];
        assert_eq!(api.ask(Method::PUT, path, &headers, B).await.status, 400, "{malformed:?}");
    }
    // Nothing is at no version.
    let missing = [("tenure-if-version", first.as_str())];
    assert_eq!(api.ask(Method::PUT, "acme/resources/k/none", &missing, A).await.status, 412);
}

#[tokio::test]
async fn a_demanded_version_is_a_condition_where_one_is_demanded() {
    let mut options = tenure_mcp::http::HttpOptions::default();
    options.conditions_required = true;
    let api = Api::with(options).await;
    let path = "acme/resources/k/i";
    let created = api.ask(Method::PUT, path, &[("if-none-match", "*")], A).await;
    let version = [("tenure-if-version", created.header("tenure-version").unwrap())];
    assert_eq!(api.ask(Method::PUT, path, &version, B).await.status, 200);
}
