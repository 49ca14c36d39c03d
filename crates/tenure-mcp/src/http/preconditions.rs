//! Conditional requests (RFC 9110, section 13), and one condition of our own.
//!
//! An ETag names a value, so that of A matches again after A, B, A. Who wants to know that nobody
//! wrote in between demands the version instead, which names one write: `Tenure-If-Version` with
//! what `Tenure-Version` said. It is a condition as `If-Match` is; where both are there both count.

use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use tenure::resources::{Condition, ETag, Written};
use tenure::store::VersionToken;

use crate::http::Problem;

/// Demands a version.
pub(super) const IF_VERSION: HeaderName = HeaderName::from_static("tenure-if-version");

/// The conditions of a request. There are no others here: nothing is dated with `Last-Modified`,
/// and so the conditions on dates are ignored, as section 13.1.4 wants it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Preconditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    if_version: Option<VersionToken>,
}

/// The value that a resource has, and the write that left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) etag: ETag,
    pub(super) version: VersionToken,
}

impl From<Written> for Current {
    fn from(Written { etag, version, .. }: Written) -> Self {
        Self { etag, version }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<EntityTag>),
}

#[derive(Debug, PartialEq, Eq)]
struct EntityTag {
    weak: bool,
    /// Bytes, for a tag may have some that are no text.
    opaque: Vec<u8>,
}

/// What the conditions say to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is carried out.
    Proceed,
    /// The client has what it asks for: 304.
    NotModified,
    /// It is not carried out: 412.
    Failed,
}

impl Preconditions {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            if_match: parse(headers, IF_MATCH)?,
            if_none_match: parse(headers, IF_NONE_MATCH)?,
            if_version: version(headers)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none() && self.if_version.is_none()
    }

    /// The conditions on a read of what exists, in the order of section 13.2.2.
    pub(super) fn of_read(&self, current: Current) -> Verdict {
        if !self.is_as_wanted(Some(current)) {
            return Verdict::Failed;
        }
        let known = |tags: &Tags| tags.contain(Some(current.etag), false);
        if self.if_none_match.as_ref().is_some_and(known) {
            return Verdict::NotModified;
        }
        Verdict::Proceed
    }

    /// The conditions on a change of what is there, or is not.
    pub(super) fn of_change(&self, current: Option<Current>) -> Verdict {
        let etag = current.map(|it| it.etag);
        let is_new = self.if_none_match.as_ref().is_none_or(|tags| !tags.contain(etag, false));
        if is_new && self.is_as_wanted(current) { Verdict::Proceed } else { Verdict::Failed }
    }

    /// What the client wants to be there.
    fn is_as_wanted(&self, current: Option<Current>) -> bool {
        let etag = current.map(|it| it.etag);
        self.if_match.as_ref().is_none_or(|tags| tags.contain(etag, true))
            && self.if_version.is_none_or(|wanted| current.is_some_and(|it| it.version == wanted))
    }

    /// The same as one condition of the store, if there is one that says it.
    pub(super) fn as_condition(&self) -> Option<Condition> {
        match (&self.if_match, &self.if_none_match, self.if_version) {
            (None, None, None) => Some(Condition::Always),
            (None, None, Some(version)) => Some(Condition::Version(version)),
            (Some(Tags::Any), None, None) => Some(Condition::Present),
            (None, Some(Tags::Any), None) => Some(Condition::Absent),
            (Some(Tags::Listed(tags)), None, None) => match &tags[..] {
                [EntityTag { weak: false, opaque }] => {
                    std::str::from_utf8(opaque).ok()?.parse().ok().map(Condition::ETag)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

impl Tags {
    /// Sections 8.8.3.2 and 13.1: `*` is whatever there is; a weak tag equals none strongly.
    fn contain(&self, current: Option<ETag>, strong: bool) -> bool {
        let Some(current) = current.map(|it| it.to_string()) else { return false };
        match self {
            Self::Any => true,
            Self::Listed(tags) => {
                let current = current.as_bytes();
                tags.iter().any(|tag| tag.opaque == current && !(strong && tag.weak))
            }
        }
    }
}

fn parse(headers: &HeaderMap, name: HeaderName) -> Result<Option<Tags>, Problem> {
    let malformed = || {
        let detail = format!("{name} must be \"*\" or a list of entity tags in double quotes");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    };
    let mut fields = headers.get_all(&name).iter().peekable();
    if fields.peek().is_none() {
        return Ok(None);
    }
    let mut text = Vec::new();
    for field in fields {
        text.extend_from_slice(field.as_bytes());
        text.push(b',');
    }
    let is_gap = |byte: &u8| matches!(byte, b' ' | b'\t' | b',');
    if text.iter().filter(|byte| !is_gap(byte)).eq([&b'*']) {
        return Ok(Some(Tags::Any));
    }
    list(&text).map(|tags| Some(Tags::Listed(tags))).ok_or_else(malformed)
}

/// `#entity-tag`: a list may have empty elements, or nothing else (section 5.6.1.2).
fn list(text: &[u8]) -> Option<Vec<EntityTag>> {
    let mut tags = Vec::new();
    let mut rest = text;
    loop {
        rest = without_leading(rest, b" \t,");
        if rest.is_empty() {
            return Some(tags);
        }
        let weak = rest.starts_with(b"W/");
        let quoted = rest.strip_prefix(b"W/").unwrap_or(rest).strip_prefix(b"\"")?;
        let end = quoted.iter().position(|byte| *byte == b'"')?;
        let (opaque, after) = (&quoted[..end], without_leading(&quoted[end + 1..], b" \t"));
        if !opaque.iter().all(is_of_a_tag) || !(after.is_empty() || after.starts_with(b",")) {
            return None;
        }
        tags.push(EntityTag { weak, opaque: opaque.into() });
        rest = after;
    }
}

/// `etagc` of section 8.8.3: what is visible but the quote, and bytes that are no ASCII.
fn is_of_a_tag(byte: &u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

fn without_leading<'a>(text: &'a [u8], bytes: &[u8]) -> &'a [u8] {
    let start = text.iter().position(|byte| !bytes.contains(byte)).unwrap_or(text.len());
    &text[start..]
}

fn version(headers: &HeaderMap) -> Result<Option<VersionToken>, Problem> {
    let mut fields = headers.get_all(IF_VERSION).iter();
    let version = match (fields.next(), fields.next()) {
        (None, _) => return Ok(None),
        (Some(field), None) => field.to_str().ok().and_then(|text| text.trim().parse().ok()),
        (Some(_), Some(_)) => None,
    };
    version.map(Some).ok_or_else(|| {
        let detail = format!("{IF_VERSION} must be one version, as Tenure-Version tells it");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn parsed(values: &[&str]) -> Result<Option<Tags>, Problem> {
        let value = |value: &&str| HeaderValue::from_bytes(value.as_bytes()).unwrap();
        let fields = values.iter().map(|it| (IF_MATCH, value(it)));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        parse(&headers, IF_MATCH)
    }

    fn tag(weak: bool, opaque: &str) -> EntityTag {
        EntityTag { weak, opaque: opaque.into() }
    }

    #[test]
    fn tags_are_read_as_the_grammar_says() {
        assert_eq!(parsed(&[]).unwrap(), None);
        assert_eq!(parsed(&["*"]).unwrap(), Some(Tags::Any));
        let some = |tags| Some(Tags::Listed(tags));
        assert_eq!(parsed(&[r#""a""#]).unwrap(), some(vec![tag(false, "a")]));
        assert_eq!(
            parsed(&[r#"W/"a,b" ,, """#]).unwrap(),
            some(vec![tag(true, "a,b"), tag(false, "")])
        );
        assert_eq!(
            parsed(&[r#""a""#, r#""b""#]).unwrap(),
            some(vec![tag(false, "a"), tag(false, "b")])
        );
        assert_eq!(parsed(&["\"é\""]).unwrap(), some(vec![tag(false, "é")]));
        for empty in ["", " ", ",", " , ,"] {
            assert_eq!(parsed(&[empty]).unwrap(), some(vec![]), "{empty:?}");
        }
        for malformed in [
            "a",
            "\"a",
            "w/\"a\"",
            "\"a\" \"b\"",
            "*, \"a\"",
            "\"a b\"",
            "\"a\tb\"",
            "* *",
            "W/ \"a\"",
        ] {
            assert!(parsed(&[malformed]).is_err(), "{malformed}");
        }
    }
}
