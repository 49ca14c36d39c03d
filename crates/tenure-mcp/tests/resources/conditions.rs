//! Conditional requests (RFC 9110, section 13): a table, each row of which is a test over a real
//! connection, on a resource that is as the row says.

use axum::http::Method;

use crate::harness::Api;

const A: &str = r#"{"v":"a"}"#;
const B: &str = r#"{"v":"b"}"#;

/// What is there before the request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum There {
    Nothing,
    /// And B before.
    ValueA,
}
use There::{Nothing, ValueA};

/// A method and, behind it, a path below the resource, or a body other than B.
type Asked = &'static str;

/// Names of rows: state, what is asked, fields, status. `{a}` and `{b}` are the ETags of the values.
macro_rules! rows {
    ($($name:ident: $there:ident $asked:literal $([$field:literal: $value:expr])* => $status:literal;)*) => {
        use super::*;

        $(
            #[tokio::test]
            async fn $name() {
                holds($there, $asked, &[$(($field, $value)),*], $status).await;
            }
        )*
    };
}

#[rustfmt::skip]
mod no_condition {
    rows! {
        get_there_is_one: ValueA "GET" => 200;
        get_there_is_none: Nothing "GET" => 404;
        put_there_is_one: ValueA "PUT" => 200;
        put_there_is_none: Nothing "PUT" => 201;
        delete_there_is_one: ValueA "DELETE" => 204;
        delete_there_is_none: Nothing "DELETE" => 204;
        patch_there_is_none: Nothing "PATCH" => 404;
    }
}

#[rustfmt::skip]
mod section_13_1_1_if_match {
    rows! {
        get_the_current_tag: ValueA "GET" ["if-match": r#""{a}""#] => 200;
        head_the_current_tag: ValueA "HEAD" ["if-match": r#""{a}""#] => 200;
        put_the_current_tag: ValueA "PUT" ["if-match": r#""{a}""#] => 200;
        patch_the_current_tag: ValueA "PATCH" ["if-match": r#""{a}""#] => 200;
        delete_the_current_tag: ValueA "DELETE" ["if-match": r#""{a}""#] => 204;
        get_another_tag: ValueA "GET" ["if-match": r#""{b}""#] => 412;
        head_another_tag: ValueA "HEAD" ["if-match": r#""{b}""#] => 412;
        put_another_tag: ValueA "PUT" ["if-match": r#""{b}""#] => 412;
        patch_another_tag: ValueA "PATCH" ["if-match": r#""{b}""#] => 412;
        delete_another_tag: ValueA "DELETE" ["if-match": r#""{b}""#] => 412;
        put_a_foreign_tag: ValueA "PUT" ["if-match": r#""xyz""#] => 412;
        put_one_of_a_list: ValueA "PUT" ["if-match": r#""{b}", "{a}""#] => 200;
        put_one_of_a_list_with_empty_elements: ValueA "PUT" ["if-match": r#", "{b}" ,,"{a}","#] => 200;
        put_none_of_a_list: ValueA "PUT" ["if-match": r#""{b}", "xyz""#] => 412;
        delete_one_of_a_list: ValueA "DELETE" ["if-match": r#""{b}", "{a}""#] => 204;
        delete_none_of_a_list: ValueA "DELETE" ["if-match": r#""{b}", "xyz""#] => 412;
        put_a_weak_tag_never_matches: ValueA "PUT" ["if-match": r#"W/"{a}""#] => 412;
        get_a_weak_tag_never_matches: ValueA "GET" ["if-match": r#"W/"{a}""#] => 412;
        put_a_weak_tag_beside_a_strong_one: ValueA "PUT" ["if-match": r#"W/"{b}", "{a}""#] => 200;
        put_any_and_there_is_one: ValueA "PUT" ["if-match": r#"*"#] => 200;
        delete_any_and_there_is_one: ValueA "DELETE" ["if-match": r#"*"#] => 204;
        put_any_and_there_is_none: Nothing "PUT" ["if-match": r#"*"#] => 412;
        delete_any_and_there_is_none: Nothing "DELETE" ["if-match": r#"*"#] => 412;
        put_a_tag_and_there_is_none: Nothing "PUT" ["if-match": r#""{a}""#] => 412;
        put_a_list_and_there_is_none: Nothing "PUT" ["if-match": r#""{a}", "{b}""#] => 412;
        put_an_empty_list: ValueA "PUT" ["if-match": ""] => 412;
        put_a_list_of_empty_elements: ValueA "PUT" ["if-match": " , ,"] => 412;
        get_an_empty_list: ValueA "GET" ["if-match": ""] => 412;
        delete_an_empty_list: ValueA "DELETE" ["if-match": ","] => 412;
        revert_the_current_tag: ValueA "POST revert" ["if-match": r#""{a}""#] => 200;
        revert_another_tag: ValueA "POST revert" ["if-match": r#""{b}""#] => 412;
        revert_one_of_a_list: ValueA "POST revert" ["if-match": r#""{b}", "{a}""#] => 200;
        revert_any: ValueA "POST revert" ["if-match": "*"] => 200;
        get_of_a_version_its_own_tag: ValueA "GET history/1" ["if-match": r#""{b}""#] => 200;
        get_of_a_version_the_current_tag: ValueA "GET history/1" ["if-match": r#""{a}""#] => 412;
    }
}

#[rustfmt::skip]
mod section_13_1_2_if_none_match {
    rows! {
        get_the_current_tag: ValueA "GET" ["if-none-match": r#""{a}""#] => 304;
        head_the_current_tag: ValueA "HEAD" ["if-none-match": r#""{a}""#] => 304;
        put_the_current_tag: ValueA "PUT" ["if-none-match": r#""{a}""#] => 412;
        delete_the_current_tag: ValueA "DELETE" ["if-none-match": r#""{a}""#] => 412;
        get_a_weak_tag_matches: ValueA "GET" ["if-none-match": r#"W/"{a}""#] => 304;
        put_a_weak_tag_matches: ValueA "PUT" ["if-none-match": r#"W/"{a}""#] => 412;
        get_another_tag: ValueA "GET" ["if-none-match": r#""{b}""#] => 200;
        put_another_tag: ValueA "PUT" ["if-none-match": r#""{b}""#] => 200;
        patch_another_tag: ValueA "PATCH" ["if-none-match": r#""{b}""#] => 200;
        get_one_of_a_list: ValueA "GET" ["if-none-match": r#""{b}", "{a}""#] => 304;
        get_none_of_a_list: ValueA "GET" ["if-none-match": r#""{b}", "xyz""#] => 200;
        put_a_tag_and_there_is_none: Nothing "PUT" ["if-none-match": r#""{a}""#] => 201;
        get_any_and_there_is_one: ValueA "GET" ["if-none-match": r#"*"#] => 304;
        put_any_and_there_is_one: ValueA "PUT" ["if-none-match": r#"*"#] => 412;
        patch_any_and_there_is_one: ValueA "PATCH" ["if-none-match": r#"*"#] => 412;
        delete_any_and_there_is_one: ValueA "DELETE" ["if-none-match": r#"*"#] => 412;
        put_any_and_there_is_none: Nothing "PUT" ["if-none-match": r#"*"#] => 201;
        delete_any_and_there_is_none: Nothing "DELETE" ["if-none-match": r#"*"#] => 204;
        put_an_empty_list: ValueA "PUT" ["if-none-match": ""] => 200;
        put_an_empty_list_of_nothing: Nothing "PUT" ["if-none-match": ","] => 201;
        get_an_empty_list: ValueA "GET" ["if-none-match": ""] => 200;
        head_another_tag: ValueA "HEAD" ["if-none-match": r#""{b}""#] => 200;
        head_a_weak_tag_matches: ValueA "HEAD" ["if-none-match": r#"W/"{a}""#] => 304;
        head_any_and_there_is_one: ValueA "HEAD" ["if-none-match": "*"] => 304;
        revert_the_current_tag: ValueA "POST revert" ["if-none-match": r#""{a}""#] => 412;
        revert_another_tag: ValueA "POST revert" ["if-none-match": r#""{b}""#] => 200;
        revert_any: ValueA "POST revert" ["if-none-match": "*"] => 412;
        get_of_a_version_its_own_tag: ValueA "GET history/1" ["if-none-match": r#""{b}""#] => 304;
        head_of_a_version_its_own_tag: ValueA "HEAD history/1" ["if-none-match": r#""{b}""#] => 304;
        get_of_a_version_the_current_tag: ValueA "GET history/1" ["if-none-match": r#""{a}""#] => 200;
    }
}

#[rustfmt::skip]
mod section_13_1_3_if_modified_since {
    rows! {
        get_nothing_is_dated: ValueA "GET" ["if-modified-since": "Fri, 31 Dec 2100 23:59:59 GMT"] => 200;
        get_counts_not_beside_another_tag: ValueA "GET" ["if-none-match": r#""{b}""#] ["if-modified-since": "Fri, 31 Dec 2100 23:59:59 GMT"] => 200;
        get_counts_not_beside_the_current_tag: ValueA "GET" ["if-none-match": r#""{a}""#] ["if-modified-since": "Sat, 29 Oct 1994 19:43:31 GMT"] => 304;
        head_counts_not_beside_the_current_tag: ValueA "HEAD" ["if-none-match": r#""{a}""#] ["if-modified-since": "Sat, 29 Oct 1994 19:43:31 GMT"] => 304;
        put_is_no_condition_of_a_change: ValueA "PUT" ["if-modified-since": "Fri, 31 Dec 2100 23:59:59 GMT"] => 200;
    }
}

#[rustfmt::skip]
mod section_13_1_4_if_unmodified_since {
    rows! {
        put_nothing_is_dated: ValueA "PUT" ["if-unmodified-since": "Sat, 29 Oct 1994 19:43:31 GMT"] => 200;
        get_nothing_is_dated: ValueA "GET" ["if-unmodified-since": "Sat, 29 Oct 1994 19:43:31 GMT"] => 200;
        put_counts_not_beside_the_current_tag: ValueA "PUT" ["if-match": r#""{a}""#] ["if-unmodified-since": "Sat, 29 Oct 1994 19:43:31 GMT"] => 200;
        put_counts_not_beside_another_tag: ValueA "PUT" ["if-match": r#""{b}""#] ["if-unmodified-since": "Fri, 31 Dec 2100 23:59:59 GMT"] => 412;
    }
}

#[rustfmt::skip]
mod section_13_1_5_if_range {
    rows! {
        get_ranges_are_not_served: ValueA "GET" ["range": "bytes=0-1"] => 200;
        get_the_current_tag: ValueA "GET" ["range": "bytes=0-1"] ["if-range": r#""{a}""#] => 200;
        get_another_tag: ValueA "GET" ["range": "bytes=0-1"] ["if-range": r#""{b}""#] => 200;
        get_without_a_range_it_is_ignored: ValueA "GET" ["if-range": r#""{b}""#] => 200;
        get_what_the_client_has_is_304: ValueA "GET" ["range": "bytes=0-1"] ["if-range": r#""{b}""#] ["if-none-match": r#""{a}""#] => 304;
    }
}

#[rustfmt::skip]
mod section_13_2_1_when_to_evaluate {
    rows! {
        patch_absent_is_404_if_match_any: Nothing "PATCH" ["if-match": r#"*"#] => 404;
        patch_absent_is_404_if_match_tag: Nothing "PATCH" ["if-match": r#""{a}""#] => 404;
        patch_absent_is_404_if_none_match: Nothing "PATCH" ["if-none-match": r#"*"#] => 404;
        get_absent_is_404_if_match_tag: Nothing "GET" ["if-match": r#""{a}""#] => 404;
        get_absent_is_404_if_none_match: Nothing "GET" ["if-none-match": r#"*"#] => 404;
        revert_of_nothing_is_404: Nothing "POST revert" ["if-match": r#""{a}""#] => 404;
        get_of_a_version_that_is_not_there_is_404: ValueA "GET history/9" ["if-match": r#""{b}""#] => 404;
        a_body_of_another_type_is_415: ValueA "PUT" ["if-match": r#""{b}""#] ["content-type": "text/plain"] => 415;
        a_body_in_a_coding_is_415: ValueA "PUT" ["if-match": r#""{b}""#] ["content-encoding": "gzip"] => 415;
        a_part_of_a_body_is_400: ValueA "PUT" ["if-match": r#""{b}""#] ["content-range": "bytes 0-1/9"] => 400;
        a_body_that_is_no_json_is_400: ValueA "PUT {" ["if-match": r#""{b}""#] => 400;
        a_body_that_no_value_can_be_is_422: ValueA "PUT 9007199254740993" ["if-match": r#""{b}""#] => 422;
        an_answer_that_is_not_accepted_is_406: ValueA "GET" ["if-match": r#""{b}""#] ["accept": "text/html"] => 406;
        a_method_that_is_not_possible_is_405: ValueA "POST" ["if-match": r#""{b}""#] => 405;
    }
}

#[rustfmt::skip]
mod section_13_2_2_precedence {
    rows! {
        get_if_match_first: ValueA "GET" ["if-match": r#""{b}""#] ["if-none-match": r#""{a}""#] => 412;
        get_then_if_none_match: ValueA "GET" ["if-match": r#""{a}""#] ["if-none-match": r#""{a}""#] => 304;
        get_both_hold: ValueA "GET" ["if-match": r#""{a}""#] ["if-none-match": r#""{b}""#] => 200;
        put_both_hold: ValueA "PUT" ["if-match": r#""{a}""#] ["if-none-match": r#""{b}""#] => 200;
        put_one_does_not: ValueA "PUT" ["if-match": r#""{a}""#] ["if-none-match": r#"*"#] => 412;
    }
}

#[rustfmt::skip]
mod section_8_8_3_entity_tags {
    rows! {
        put_bytes_that_are_no_ascii: ValueA "PUT" ["if-match": r#""é""#] => 412;
        put_bytes_that_are_no_ascii_in_a_list: ValueA "PUT" ["if-match": r#""é", "{a}""#] => 200;
        get_bytes_that_are_no_ascii: ValueA "GET" ["if-none-match": r#""é""#] => 200;
        put_no_quotes: ValueA "PUT" ["if-match": r#"{a}"#] => 400;
        get_no_quotes: ValueA "GET" ["if-none-match": r#"{a}"#] => 400;
        put_any_among_others: ValueA "PUT" ["if-match": r#"*, "{a}""#] => 400;
        put_a_weak_mark_in_the_wrong_case: ValueA "PUT" ["if-match": r#"w/"{a}""#] => 400;
    }
}

async fn holds(there: There, asked: Asked, fields: &[(&str, &str)], expected: u16) {
    let api = Api::new().await;
    let path = "acme/resources/k/i";
    let tags = [api.put("acme/resources/tag/a", A).await, api.put("acme/resources/tag/b", B).await];
    let [a, b] = tags.each_ref().map(|tag| tag.trim_matches('"'));
    if there == ValueA {
        api.put(path, B).await;
        api.put(path, A).await;
    }
    let (method, below, body) = parts(asked);
    let fill = |value: &str| value.replace("{a}", a).replace("{b}", b);
    let values: Vec<_> = fields.iter().map(|(name, value)| (*name, fill(value))).collect();
    let mut headers: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    if method == Method::PATCH {
        headers.push(("content-type", "application/merge-patch+json"));
    }
    let request = api.request(method.clone(), &format!("{path}{below}"), &headers, body);
    let answer = api.connect().await.http1(request).await;
    assert_eq!(answer.status.as_u16(), expected, "{answer:?}");
    let now = api.get(path).await;
    match left(there, &method, expected) {
        Some(value) => assert_eq!(now.body, value.as_bytes()),
        None => assert_eq!(now.status, 404),
    }
    // The client is told what is there, to go on from.
    let named = if below.starts_with("/history") { b } else { a };
    let tag = answer.header("etag").map(|tag| tag.trim_matches('"'));
    match (expected, there) {
        (304 | 412, ValueA) => assert_eq!(tag, Some(named)),
        (412, Nothing) => assert_eq!(tag, None),
        _ => {}
    }
    // 8.6: no length but that of the value.
    if expected == 304 || method == Method::HEAD && expected == 200 {
        let length = answer.header("content-length");
        assert_eq!(length, (expected == 200).then_some(A.len().to_string()).as_deref());
        assert!(answer.body.is_empty());
    }
}

/// Method, path below the resource, body.
fn parts(asked: Asked) -> (Method, String, &'static str) {
    let (method, rest) = asked.split_once(' ').unwrap_or((asked, ""));
    let (below, body) = match (method, rest) {
        ("GET" | "HEAD", "") => (String::new(), ""),
        ("GET" | "HEAD", below) => (format!("/{below}"), ""),
        ("POST", "revert") => ("/revert".to_owned(), r#"{"version":1}"#),
        (_, "") => (String::new(), B),
        (_, body) => (String::new(), body),
    };
    (Method::try_from(method).unwrap(), below, body)
}

/// What was refused has changed nothing; what was not has happened.
fn left(there: There, method: &Method, status: u16) -> Option<&'static str> {
    match (method.as_str(), status) {
        ("PUT" | "PATCH" | "POST", 200 | 201) => Some(B),
        ("DELETE", 204) => None,
        _ => (there == ValueA).then_some(A),
    }
}

#[tokio::test]
async fn conditions_of_several_fields_are_one_list() {
    let api = Api::new().await;
    let a = api.put("acme/resources/k/i", A).await;
    let two = [("if-match", "\"xyz\""), ("if-match", a.as_str())];
    assert_eq!(api.ask(Method::PUT, "acme/resources/k/i", &two, B).await.status, 200);
}

#[tokio::test]
async fn of_ten_writers_with_the_same_tag_exactly_one_wins() {
    let api = Api::crowded().await;
    let a = api.put("acme/resources/k/i", A).await;
    // One condition of the store, and one that has to be judged here.
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
