//! A store from a URL, so that outgrowing one is a change of one string.

use std::sync::Arc;

use crate::clock::Clock;
use crate::store::{InMemoryBackend, StorageBackend, StoreError};

/// Opens the store that `url` names.
///
/// | URL | store | feature |
/// |---|---|---|
/// | `memory:` | this process's memory | |
/// | `file:PATH` | one crash-safe file, made if it is not there | `file` |
/// | `file:PATH?durability=relaxed` | the same, but the latest writes may not survive a power loss | `file` |
/// | `redis://[USER:PASSWORD@]HOST[:PORT][/DB]` | Redis 7 or Valkey; `rediss://` over TLS | `redis` |
/// | `redis+cluster://HOST:PORT,HOST:PORT` | Redis Cluster, by one of its nodes or some: calls and watches find the others; `rediss+cluster://` over TLS | `redis` |
/// | `redis+unix:///PATH[?db=DB&user=USER&pass=PASSWORD]`, `unix:///PATH` | Redis 7 or Valkey through a Unix domain socket | `redis` |
/// | `…?prefix=NAME` | the same; stores with different prefixes share a server without meeting | `redis` |
/// | `rediss://…?ca=PATH` | trusting the authorities of a PEM file instead of the system's, or of `SSL_CERT_FILE` | `redis` |
/// | `rediss://…?cert=PATH&key=PATH` | showing a certificate to a server that asks for one, as Redis does by default | `redis` |
///
/// # Errors
/// [`StoreError::InvalidLocation`] for a URL that names no store, or one whose feature is not
/// built in; otherwise what the backend says.
pub async fn open(url: &str, clock: Clock) -> Result<Arc<dyn StorageBackend>, StoreError> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(InMemoryBackend::new(clock))),
        #[cfg(feature = "file")]
        Some(("file", location)) => Ok(Arc::new(file(location, clock).await?)),
        #[cfg(not(feature = "file"))]
        Some(("file", _)) => Err(not_built_in("file")),
        #[cfg(feature = "redis")]
        Some((scheme, _)) if is_redis(scheme) => Ok(Arc::new(redis(url, clock).await?)),
        #[cfg(not(feature = "redis"))]
        Some((scheme, _)) if is_redis(scheme) => Err(not_built_in("redis")),
        _ => Err(StoreError::InvalidLocation(format!(
            "{:?} names no store; try memory:, file:PATH or redis://HOST",
            without_credentials(url)
        ))),
    }
}

fn is_redis(scheme: &str) -> bool {
    matches!(scheme, "redis" | "rediss" | "redis+cluster" | "rediss+cluster") || is_socket(scheme)
}

/// URLs of sockets have no place for credentials but the query.
fn is_socket(scheme: &str) -> bool {
    matches!(scheme, "redis+unix" | "unix")
}

#[cfg(feature = "file")]
async fn file(location: &str, clock: Clock) -> Result<crate::store::FileBackend, StoreError> {
    use crate::store::{Durability, FileBackend, FileOptions};

    let (path, query) = location.split_once('?').unwrap_or((location, ""));
    if path.is_empty() {
        let reason = "file: needs a path, as in file:./tenure.db";
        return Err(StoreError::InvalidLocation(reason.into()));
    }
    let durability = match query {
        "" | "durability=full" => Durability::Full,
        "durability=relaxed" => Durability::Relaxed,
        other => {
            let reason = format!("file: does not know {other:?}; it takes durability=full|relaxed");
            return Err(StoreError::InvalidLocation(reason));
        }
    };
    FileBackend::open_with(path, clock, FileOptions { durability, ..FileOptions::default() }).await
}

#[cfg(feature = "redis")]
async fn redis(url: &str, clock: Clock) -> Result<crate::store::RedisBackend, StoreError> {
    use crate::store::{RedisBackend, RedisOptions};

    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let is_socket = url.split_once(':').is_some_and(|(scheme, _)| is_socket(scheme));
    let mut of_server = Vec::new();
    let mut options = RedisOptions::default();
    let (mut cert, mut key) = (None, None);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("prefix", prefix)) if !prefix.is_empty() => options.prefix = prefix.into(),
            Some(("ca", file)) if !file.is_empty() => options.ca = Some(file.into()),
            Some(("cert", file)) if !file.is_empty() => cert = Some(file),
            Some(("key", file)) if !file.is_empty() => key = Some(file),
            Some(("db" | "user" | "pass", value)) if is_socket && !value.is_empty() => {
                of_server.push(part);
            }
            _ => {
                // What follows the name may be a password.
                let name = part.split('=').next().unwrap_or_default();
                let known = if is_socket {
                    "prefix=NAME, db=NUMBER, user=NAME and pass=PASSWORD"
                } else {
                    "prefix=NAME, ca=PATH, cert=PATH and key=PATH"
                };
                let reason = format!(
                    "redis: does not know {name:?}, or not without a value; it takes {known}"
                );
                return Err(StoreError::InvalidLocation(reason));
            }
        }
    }
    options = match (cert, key) {
        (Some(cert), Some(key)) => options.identity(cert, key),
        (None, None) => options,
        _ => {
            let reason = "redis: cert=PATH and key=PATH go together";
            return Err(StoreError::InvalidLocation(reason.into()));
        }
    };
    if of_server.is_empty() {
        return RedisBackend::connect(server, options, clock).await;
    }
    RedisBackend::connect(&format!("{server}?{}", of_server.join("&")), options, clock).await
}

#[cfg(any(test, not(all(feature = "file", feature = "redis"))))]
fn not_built_in(feature: &str) -> StoreError {
    let crates = match feature {
        "redis" => "the crate tenure (or tenure-mcp, which has the same)",
        _ => "the crate tenure",
    };
    StoreError::InvalidLocation(format!("the feature {feature:?} of {crates} is not built in"))
}

/// The URL of a store as it may be shown: whatever stands before an `@` is left out, and the query of
/// a socket.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, place)), _) if is_socket(scheme) => match place.split_once('?') {
            Some((path, _)) => format!("{scheme}://{path}?…"),
            None => url.into(),
        },
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => url.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(url: &str) -> String {
        open(url, Clock::system()).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_url_that_names_no_store_says_so_and_shows_no_password() {
        for url in ["", "tenure.db", "memory:x", "ftp://user:secret@host/x"] {
            let refusal = refusal(url).await;
            assert!(refusal.contains("names no store") && !refusal.contains("secret"), "{refusal}");
        }
    }

    #[test]
    fn what_is_not_built_in_says_which_feature_of_which_crate_it_wants() {
        let refusal = not_built_in("redis").to_string();
        for word in ["\"redis\"", "tenure", "tenure-mcp"] {
            assert!(refusal.contains(word), "{refusal}");
        }
    }

    #[cfg(feature = "redis")]
    #[tokio::test]
    async fn a_redis_that_is_not_there_is_unavailable_and_shows_no_password() {
        let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for scheme in ["redis", "rediss", "redis+cluster"] {
            let url = format!("{scheme}://user:secret@{refused}?prefix=p");
            let error = open(&url, Clock::system()).await.unwrap_err();
            assert!(error.is_retryable() && !format!("{error:?}").contains("secret"), "{error:?}");
        }
        assert!(refusal("redis://localhost?mode=fast").await.contains("does not know"));
        assert!(refusal("redis://localhost?prefix=p&ca").await.contains("does not know"));
        assert!(refusal("rediss://localhost?cert=c.pem").await.contains("go together"));
        assert!(refusal("rediss://localhost?ca=./none.pem").await.contains("none.pem"));
        let ignored = "redis://localhost?ca=Cargo.toml";
        assert!(refusal(ignored).await.contains("no certificate"));
        for scheme in ["redis://localhost", "redis+unix:///none"] {
            let misspelt = refusal(&format!("{scheme}?password=secret")).await;
            assert!(misspelt.contains("does not know \"password\""), "{misspelt}");
            assert!(!misspelt.contains("secret"), "{misspelt}");
        }
    }

    #[test]
    fn what_is_shown_of_a_url_has_no_credentials() {
        for (url, shown) in [
            ("redis://me:secret@host/1", "redis://…@host/1"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock"),
            ("unix:///run/redis.sock?db=1&pass=sec@ret", "unix:///run/redis.sock?…"),
            ("redis+unix:///r.sock?pass=secret&user=me", "redis+unix:///r.sock?…"),
            ("file:./tenure.db?durability=relaxed", "file:./tenure.db?durability=relaxed"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[cfg(feature = "file")]
    #[tokio::test]
    async fn a_file_needs_a_path_and_known_options() {
        assert!(refusal("file:").await.contains("needs a path"));
        assert!(refusal("file:./x.db?mode=fast").await.contains("does not know"));
    }
}
