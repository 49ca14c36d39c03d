//! What the path of a request names.

use axum::http::Method;
use percent_encoding::percent_decode_str;
use tenure::resources::{ResourceError, ResourceKey};

/// What the path of a request names.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) project: String,
    pub(super) place: Endpoint,
}

#[derive(Debug)]
pub(super) enum Endpoint {
    Collection,
    Events,
    Resource(ResourceKey),
    History(ResourceKey),
    Version(ResourceKey, u64),
    Revert(ResourceKey),
    /// A resource whose kind or id cannot be one.
    Invalid(ResourceError),
}

impl Target {
    /// Parses a path; `None` if it names nothing.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix("/v1/projects/")?.split('/').map(decode);
        let project = segments.next()??;
        let rest: Vec<String> = segments.collect::<Option<_>>()?;
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let key = |kind: &str, id: &str| ResourceKey::new(project.as_str(), kind, id);
        let of = |key: Result<ResourceKey, ResourceError>, place: fn(ResourceKey) -> Endpoint| {
            key.map_or_else(Endpoint::Invalid, place)
        };
        let place = match rest[..] {
            ["resources"] => Endpoint::Collection,
            ["events"] => Endpoint::Events,
            ["resources", kind, id] => of(key(kind, id), Endpoint::Resource),
            ["resources", kind, id, "history"] => of(key(kind, id), Endpoint::History),
            ["resources", kind, id, "revert"] => of(key(kind, id), Endpoint::Revert),
            ["resources", kind, id, "history", version] => {
                let version = version.parse().ok()?;
                key(kind, id).map_or_else(Endpoint::Invalid, |key| Endpoint::Version(key, version))
            }
            _ => return None,
        };
        Some(Self { project, place })
    }
}

impl Endpoint {
    pub(super) fn allowed(&self) -> &'static [Method] {
        match self {
            Self::Resource(_) | Self::Invalid(_) => {
                &[Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE]
            }
            Self::Revert(_) => &[Method::POST],
            Self::Collection | Self::Events | Self::History(_) | Self::Version(..) => {
                &[Method::GET, Method::HEAD]
            }
        }
    }
}

/// A segment of a path; `None` if it is no text.
fn decode(segment: &str) -> Option<String> {
    percent_decode_str(segment).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_ids_are_any_text() {
        for (path, kind, id) in [
            ("agent/planner", "agent", "planner"),
            ("agent/", "agent", ""),
            ("/", "", ""),
            ("/x", "", "x"),
            ("a%2Fb/c%2Fd", "a/b", "c/d"),
            ("a/%252F", "a", "%2F"),
            ("a/%C3%A9%00", "a", "é\0"),
            ("a/..", "a", ".."),
            ("history/revert", "history", "revert"),
        ] {
            let path = format!("/v1/projects/p%2Fq/resources/{path}");
            let target = Target::parse(&path).unwrap();
            assert_eq!(target.project, "p/q");
            let Endpoint::Resource(key) = target.place else { panic!("{path}") };
            assert_eq!((key.kind(), key.id()), (kind, id), "{path}");
        }
    }

    #[test]
    fn what_names_nothing_is_nothing() {
        for path in [
            "/v1/projects/p",
            "/v1/projects/p/resources/",
            "/v1/projects/p/resources/agent",
            "/v1/projects/p/resources/a/b/c",
            "/v1/projects/p/resources/a/b/history/x",
            "/v1/projects/p/resources/a/%FF",
        ] {
            assert!(Target::parse(path).is_none(), "{path}");
        }
    }
}
