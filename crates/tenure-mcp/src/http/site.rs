//! Which web sites may reach the server through somebody's browser.

use axum::http::header::{AsHeaderName, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

use crate::http::HttpOptions;

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Holds the host and the `Origin` of a request against the options.
pub(super) fn check(
    options: &HttpOptions,
    target: &Uri,
    headers: &HeaderMap,
) -> Result<(), &'static str> {
    let is = |host: &Authority, name: &str| {
        name.eq_ignore_ascii_case(host.host()) || name.eq_ignore_ascii_case(host.as_str())
    };
    let known = |host: &Authority| match &options.allowed_hosts {
        Some(allowed) => allowed.iter().any(|name| is(host, name)),
        None => !options.callers.is_local() || LOOPBACK.iter().any(|name| is(host, name)),
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

/// A pattern is an origin, or one whose port is `*`: any port.
fn matches(pattern: &str, origin: &str) -> bool {
    let (site, any_port) = match pattern.strip_suffix(":*") {
        Some(site) => (site, true),
        None => (pattern, false),
    };
    let (Some(site), Some(origin)) = (Site::of(site), Site::of(origin)) else { return false };
    (&site.scheme, &site.host) == (&origin.scheme, &origin.host)
        && (any_port || site.port == origin.port)
}

/// An origin (RFC 6454, section 4): its parts in lower case, the port of the scheme if none is named.
struct Site {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Site {
    /// `None` for what is no origin, such as the `null` of a page that has none.
    fn of(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let known = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = uri.port_u16().or(known);
        let is_all = matches!(uri.path(), "" | "/") && uri.query().is_none();
        is_all.then_some(Self { scheme, host: uri.host()?.to_ascii_lowercase(), port })
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
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        for (pattern, origin, expected) in [
            ("https://app.example", "https://app.example", true),
            ("https://app.example:443", "https://app.example", true),
            ("https://app.example", "https://app.example:443", true),
            ("https://App.example", "https://app.example", true),
            ("https://app.example", "https://app.example:8443", false),
            ("https://app.example", "http://app.example", false),
            ("https://app.example:8443", "https://app.example", false),
            ("https://app.example:*", "https://app.example:8443", true),
            ("https://app.example:*", "https://app.example", true),
            ("https://app.example:*", "https://app.example.org", false),
            ("https://app.example:*", "null", false),
        ] {
            assert_eq!(matches(pattern, origin), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn the_hosts_that_are_named_count_and_an_empty_list_names_none() {
        let options = |hosts: &[&str]| HttpOptions {
            allowed_hosts: Some(hosts.iter().map(|&it| it.into()).collect()),
            ..HttpOptions::default()
        };
        assert!(checked(&options(&["Example.com"]), "example.COM:9000", None));
        assert!(!checked(&options(&["example.com:80"]), "example.com:9000", None));
        assert!(!checked(&options(&[]), "localhost", None));
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
