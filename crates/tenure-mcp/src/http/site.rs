//! Which web sites may reach the server through somebody's browser.

use axum::http::header::{AsHeaderName, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

use crate::http::HttpOptions;

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Holds the host and the `Origin` of a request against the options, as the SDK does for `/mcp`.
pub(super) fn check(
    options: &HttpOptions,
    target: &Uri,
    headers: &HeaderMap,
) -> Result<(), &'static str> {
    let known = |host: &Authority| match &options.allowed_hosts {
        Some(allowed) => allowed.iter().any(|it| it == host.host() || it == host.as_str()),
        None => !options.callers.is_local() || LOOPBACK.contains(&host.host()),
    };
    if !host(target, headers).is_some_and(|host| known(&host)) {
        return Err("the Host header names no host of this server");
    }
    let origin = match headers.get(ORIGIN) {
        None => return Ok(()),
        Some(origin) => origin.to_str().ok(),
    };
    let allowed = |origin: &str| options.allowed_origins.iter().any(|it| matches(it, origin));
    if origin.is_some_and(allowed) { Ok(()) } else { Err("the Origin header names a foreign site") }
}

/// The host that a request is for. HTTP/2 names it in the target alone, and where both name one the
/// target counts (RFC 9112, section 3.2.2; RFC 9113, section 8.3.1).
fn host(target: &Uri, headers: &HeaderMap) -> Option<Authority> {
    match target.authority() {
        Some(authority) => Some(authority.clone()),
        None => text(headers, HOST)?.parse().ok(),
    }
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// A pattern is an origin, or one whose port is `*`: any port, or none.
fn matches(pattern: &str, origin: &str) -> bool {
    let Some(site) = pattern.strip_suffix(":*") else { return pattern == origin };
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    match (origin.scheme_str(), origin.host()) {
        (Some(scheme), Some(host)) => site == format!("{scheme}://{host}"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Callers;

    fn checked(options: &HttpOptions, host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        check(options, &Uri::from_static("/"), &headers).is_ok()
    }

    #[test]
    fn a_local_server_answers_to_loopback_names_only() {
        let local = HttpOptions::default();
        for host in ["localhost", "localhost:8765", "127.0.0.1:1", "[::1]:8765"] {
            assert!(checked(&local, host, None), "{host}");
        }
        for host in ["example.org", "localhost.example.org", "127.0.0.1.example.org:8765"] {
            assert!(!checked(&local, host, None), "{host}");
        }
        assert!(check(&local, &Uri::from_static("/"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn the_host_in_the_target_counts() {
        for (target, header, expected) in [
            ("http://localhost:1/x", None, Some("localhost:1")),
            ("http://evil.example/x", Some("localhost"), Some("evil.example")),
            ("/x", Some("localhost"), Some("localhost")),
            ("/x", None, None),
        ] {
            let header = header.map(|it: &str| (HOST, it.parse().unwrap()));
            let host = host(&Uri::from_static(target), &HeaderMap::from_iter(header));
            assert_eq!(host.as_ref().map(Authority::as_str), expected, "{target}");
        }
    }

    #[test]
    fn a_foreign_page_is_refused_whatever_its_token() {
        let tokens = Callers::from_toml("[[caller]]\ntoken = \"t\"\nowner = \"o\"\n").unwrap();
        for options in [HttpOptions::default(), HttpOptions::new(tokens)] {
            assert!(checked(&options, "localhost", Some("http://localhost:3000")));
            assert!(checked(&options, "localhost", Some("http://127.0.0.1")));
            for origin in ["http://example.org", "http://localhost.example.org", "null"] {
                assert!(!checked(&options, "localhost", Some(origin)), "{origin}");
            }
        }
    }
}
