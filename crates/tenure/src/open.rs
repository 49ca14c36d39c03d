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
    let socket = server.split_once(':').filter(|(scheme, _)| is_socket(scheme));
    if socket.is_some_and(|(_, place)| !place.starts_with("///")) {
        let reason = "redis: the URL of a socket is unix:///PATH; what it says of a user goes into its \
                      query, as in ?user=NAME&pass=PASSWORD";
        return Err(StoreError::InvalidLocation(reason.into()));
    }
    let is_socket = socket.is_some();
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
                // What follows the name may be a password, and so may be what has no name.
                let name = match part.split_once('=') {
                    Some((name, _)) => name,
                    None if is_socket => "…",
                    None => part,
                };
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

/// What a URL's query may say of a store and anybody may see.
const SHOWN: [&str; 7] = ["prefix", "ca", "cert", "key", "db", "user", "durability"];

/// The URL of a store as it may be shown: whatever stands before an `@` is left out, unless it is the
/// path of a file, and so is all of the query that may be a password.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    let shown = match (url.split_once(':'), url.rsplit_once('@')) {
        (Some((scheme, place)), Some((_, rest))) if scheme != "file" => {
            let slashes = if place.starts_with("//") { "//" } else { "" };
            format!("{scheme}:{slashes}…@{rest}")
        }
        _ => url.into(),
    };
    let Some((place, query)) = shown.split_once('?') else { return shown };
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if SHOWN.contains(&name) => part.to_owned(),
        Some(("pass", _)) => "pass=…".to_owned(),
        _ => "…".to_owned(),
    });
    format!("{place}?{}", parts.collect::<Vec<_>>().join("&"))
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
        for socket in ["unix:/r", "unix://me:secret@localhost/r", "redis+unix://r?pass=secret"] {
            let refusal = refusal(socket).await;
            assert!(refusal.contains("unix:///PATH") && !refusal.contains("secret"), "{refusal}");
        }
        assert!(!refusal("unix:///none?pass=ab&secret").await.contains("secret"));
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
            ("unix:///run/redis.sock?db=1&pass=sec@ret", "unix://…@ret"),
            ("redis+unix:///r.sock?pass=secret&user=me", "redis+unix:///r.sock?pass=…&user=me"),
            ("unix:///r.sock?prefix=p&pass=sec&ret", "unix:///r.sock?prefix=p&pass=…&…"),
            ("unix://me:secret@localhost/r.sock?db=1", "unix://…@localhost/r.sock?db=1"),
            ("unix:/r.sock?pass=secret", "unix:/r.sock?pass=…"),
            ("valkey+unix:///r.sock?pass=secret", "valkey+unix:///r.sock?pass=…"),
            ("redis:me:secret@host", "redis:…@host"),
            ("file:./tenure.db?durability=relaxed", "file:./tenure.db?durability=relaxed"),
            ("file:/home/me@work/tenure.db", "file:/home/me@work/tenure.db"),
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
