//! Conditional requests (RFC 9110, section 13).

use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use tenure::resources::{Condition, ETag};

use crate::http::Problem;

/// The conditions of a request. There are no others here: nothing is dated with `Last-Modified`,
/// and so the conditions on dates are ignored, as section 13.1.4 wants it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Preconditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

#[derive(Debug, PartialEq, Eq)]
enum Tags {
    Any,
    Listed(Vec<EntityTag>),
}

#[derive(Debug, PartialEq, Eq)]
struct EntityTag {
    weak: bool,
    opaque: String,
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
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// The conditions on a read of what exists, in the order of section 13.2.2.
    pub(super) fn of_read(&self, current: ETag) -> Verdict {
        let failed = |tags: &Tags, strong| !tags.contain(Some(current), strong);
        if self.if_match.as_ref().is_some_and(|tags| failed(tags, true)) {
            return Verdict::Failed;
        }
        if self.if_none_match.as_ref().is_some_and(|tags| !failed(tags, false)) {
            return Verdict::NotModified;
        }
        Verdict::Proceed
    }

    /// The conditions on a change of what is there, or is not.
    pub(super) fn of_change(&self, current: Option<ETag>) -> Verdict {
        let matches = self.if_match.as_ref().is_none_or(|tags| tags.contain(current, true));
        let is_new = self.if_none_match.as_ref().is_none_or(|tags| !tags.contain(current, false));
        if matches && is_new { Verdict::Proceed } else { Verdict::Failed }
    }

    /// The same as one condition of the store, if there is one that says it.
    pub(super) fn as_condition(&self) -> Option<Condition> {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Some(Condition::Always),
            (Some(Tags::Any), None) => Some(Condition::Present),
            (None, Some(Tags::Any)) => Some(Condition::Absent),
            (Some(Tags::Listed(tags)), None) => match &tags[..] {
                [EntityTag { weak: false, opaque }] => opaque.parse().ok().map(Condition::ETag),
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
    let mut text = String::new();
    for field in fields {
        text.push_str(field.to_str().map_err(|_| malformed())?);
        text.push(',');
    }
    if text.trim_matches([' ', '\t', ',']) == "*" {
        return Ok(Some(Tags::Any));
    }
    let tags = list(&text).filter(|tags| !tags.is_empty());
    tags.map(|tags| Some(Tags::Listed(tags))).ok_or_else(malformed)
}

/// `#entity-tag`: a list may have empty elements.
fn list(text: &str) -> Option<Vec<EntityTag>> {
    let mut tags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(tags);
        }
        let weak = rest.starts_with("W/");
        let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?;
        let (opaque, after) = quoted.split_once('"')?;
        let after = after.trim_start_matches([' ', '\t']);
        if opaque.contains(' ') || !(after.is_empty() || after.starts_with(',')) {
            return None;
        }
        tags.push(EntityTag { weak, opaque: opaque.into() });
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(values: &[&str]) -> Result<Option<Tags>, Problem> {
        let fields = values.iter().map(|value| (IF_MATCH, value.parse().unwrap()));
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
        for malformed in
            ["", "a", "\"a", "w/\"a\"", "\"a\" \"b\"", "*, \"a\"", "\"a b\"", "W/ \"a\""]
        {
            assert!(parsed(&[malformed]).is_err(), "{malformed}");
        }
    }
}
