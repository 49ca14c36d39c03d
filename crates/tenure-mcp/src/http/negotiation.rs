//! Media types: what a client accepts, and what it sends.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};

/// Whether the client takes this media type (RFC 9110, section 12.5.1).
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut best = None;
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let Some(precision) = precision(parts.next().unwrap_or_default(), media_type) else {
            continue;
        };
        // Of the ranges that match the most precise one counts.
        best = best.max(Some((precision, parts.all(|it| !is_zero(it)))));
    }
    best.map_or(!headers.contains_key(ACCEPT), |(_, wanted)| wanted)
}

/// How precisely a range names the type; `None` if it does not.
fn precision(range: &str, media_type: &str) -> Option<u8> {
    let (kind, _) = media_type.split_once('/')?;
    match range.split_once('/')? {
        ("*", "*") => Some(0),
        (it, "*") if it.eq_ignore_ascii_case(kind) => Some(1),
        _ if range.eq_ignore_ascii_case(media_type) => Some(2),
        _ => None,
    }
}

/// Whether a parameter is a weight that means "not acceptable".
fn is_zero(parameter: &str) -> bool {
    let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
    weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
}

/// Whether a body may be read as JSON: it says so, or it says nothing that anybody meant. `curl
/// --data` calls every body a form unless it is told otherwise.
pub(super) fn may_be_json(headers: &HeaderMap) -> bool {
    let Some(media_type) = content_type(headers) else {
        return !headers.contains_key(CONTENT_TYPE);
    };
    let is = |other: &str| media_type.eq_ignore_ascii_case(other);
    is("application/json") || is("application/x-www-form-urlencoded")
}

/// Whether the body is in a coding, such as gzip, that would have to be undone.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    codings.any(|it| {
        let coding = it.trim_ascii();
        !(coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"))
    })
}

/// The media type of the body, without parameters.
pub(super) fn content_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_precise_range_decides() {
        for (accept, json) in [
            ("application/json", true),
            ("*/*", true),
            ("application/*;q=0.1", true),
            ("text/html, APPLICATION/JSON;q=0.5", true),
            ("text/html", false),
            ("application/json;q=0", false),
            ("application/json;q=0.000, */*", false),
            ("*/*;q=0, application/json", true),
            ("application/problem+json", false),
            ("nonsense", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(accepts(&headers, "application/json"), json, "{accept}");
        }
        assert!(accepts(&HeaderMap::new(), "application/json"));
    }
}
