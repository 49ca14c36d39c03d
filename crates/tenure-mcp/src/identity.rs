//! Who is calling: a verified credential stands for an owner.

mod jwt;
mod malformed;
mod rights;

use std::collections::HashMap;
use std::env::VarError;
use std::fmt;
use std::future::{Future, pending};
use std::path::Path;
use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tenure::Owner;
use tenure::clock::{Clock, Timestamp};

use jwt::JwtDescription;
pub use jwt::{JwtAlgorithm, JwtVerifier};
use malformed::malformed;
pub use rights::{Projects, Rights};

/// The verified party behind a request.
///
/// [`http::router`](crate::http::router) puts it into the extensions of each request. A server
/// that authenticates by itself does the same in front of the router, which has to be told so: see
/// [`Callers::authenticated`]. Or it mounts [`DurableServer`](crate::DurableServer) on the SDK's
/// own HTTP service, which takes the `Caller` that it finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    owner: Owner,
    projects: Arc<Projects>,
    /// When the credential ends; `None` if it does not.
    until: Option<Timestamp>,
}

impl Caller {
    /// The party that owns what `owner` owns. It reaches no project.
    #[must_use]
    pub fn new(owner: Owner) -> Self {
        Self { owner, projects: Arc::default(), until: None }
    }

    /// The same party, with rights on the resources of these projects.
    #[must_use]
    pub fn with_projects(self, projects: Projects) -> Self {
        Self { projects: Arc::new(projects), ..self }
    }

    /// The same party, whose streams end at this moment, because its credential does.
    #[must_use]
    pub fn until(self, end: Timestamp) -> Self {
        Self { until: Some(end), ..self }
    }

    /// Whoever can reach a server that asks for no proof: it may do everything.
    #[must_use]
    pub fn local() -> Self {
        Self::new(Owner::local()).with_projects(Projects::all())
    }

    /// Whose tasks it reaches.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Whose resources it reaches.
    #[must_use]
    pub fn projects(&self) -> &Projects {
        &self.projects
    }

    /// Ends when the credential does.
    pub(crate) fn ended(&self, clock: &Clock) -> impl Future<Output = ()> + Send + 'static {
        let end = self.until.map(|end| clock.sleep_until(end));
        async move {
            match end {
                Some(end) => end.await,
                None => pending().await,
            }
        }
    }
}

/// Everybody who may call, and how they prove it.
#[derive(Debug, Clone)]
pub struct Callers(Arc<Proof>);

enum Proof {
    /// Nothing to prove: only this machine can reach the server.
    Local(Caller),
    /// Proven already, to the server around the router.
    Authenticated,
    /// A token that the file names. Kept as digests: looking one up tells nothing about how much of
    /// a wrong token was right, and a memory dump does not hold the tokens.
    Tokens(HashMap<[u8; 32], Caller>),
    /// A token that somebody else signed.
    Jwt(Box<JwtVerifier>),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(_) => f.write_str("Local"),
            Self::Authenticated => f.write_str("Authenticated"),
            Self::Tokens(tokens) => write!(f, "Tokens({})", tokens.len()),
            Self::Jwt(_) => f.write_str("Jwt"),
        }
    }
}

/// Why a description of callers is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallersError {
    /// It cannot be read.
    #[error("callers cannot be read from {place}")]
    Unreadable {
        /// The file or the environment variable.
        place: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What a file or an environment variable says is refused.
    #[error("{place}")]
    In {
        /// The file or the environment variable.
        place: String,
        /// Why.
        #[source]
        source: Box<CallersError>,
    },
    /// It is not TOML of the expected form. Nothing of the text is repeated, for it has secrets.
    #[error("callers: line {line}, column {column}: {reason}")]
    Malformed {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// What it says cannot work.
    #[error("callers: {0}")]
    Invalid(String),
    /// A key for signed tokens is not one.
    #[error("callers: the key is not usable")]
    Key(#[from] jsonwebtoken::errors::Error),
}

impl CallersError {
    fn of(self, place: String) -> Self {
        Self::In { place, source: Box::new(self) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    #[serde(default)]
    caller: Vec<Entry>,
    jwt: Option<JwtDescription>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: String,
    owner: String,
    #[serde(default)]
    projects: Projects,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It brought no token.
    Missing,
    /// It brought one that is not good.
    Invalid,
    /// The server around the router was to say whose it is, and has not.
    Unknown,
    /// The server around the router says whose it is, and was not asked.
    Contradictory,
}

impl Rejection {
    /// The status of the answer. A contradiction is between two parts of the server.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Missing | Self::Invalid | Self::Unknown => StatusCode::UNAUTHORIZED,
            Self::Contradictory => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The reason, in words.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "a bearer token is required",
            Self::Invalid => "the bearer token is not valid",
            Self::Unknown => "the caller is not known",
            Self::Contradictory => "it is not clear who authenticates callers",
        }
    }

    /// The challenge of RFC 6750: a request without a token is not told what would be wrong with one.
    pub(crate) fn challenge(self) -> Option<&'static str> {
        match self {
            Self::Missing | Self::Unknown => Some("Bearer"),
            Self::Invalid => Some(r#"Bearer error="invalid_token""#),
            Self::Contradictory => None,
        }
    }
}

impl Callers {
    /// One local owner, and no credentials. Such a server listens on loopback addresses only.
    ///
    /// A server around the router that puts a [`Caller`] into the requests says
    /// [`authenticated`](Self::authenticated) instead. Under any other callers such a request is
    /// answered with 500: it must not be taken for somebody else's.
    #[must_use]
    pub fn local() -> Self {
        Self(Arc::new(Proof::Local(Caller::local())))
    }

    /// Callers that have proven themselves to the server around
    /// [`http::router`](crate::http::router), which says who they are by a [`Caller`] in the
    /// extensions of the request. A request without one is answered with 401, and so is every request
    /// to [`http::serve`](crate::http::serve), which has no server around it.
    ///
    /// ```
    /// use axum::extract::Request;
    /// use axum::http::StatusCode;
    /// use axum::middleware::{Next, from_fn};
    /// use axum::response::Response;
    /// use tenure::Owner;
    /// use tenure_mcp::http::{HttpOptions, router};
    /// use tenure_mcp::{Caller, Callers, DurableServer, Projects, Rights};
    ///
    /// async fn sign_in(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    ///     let user = user_of(&request).ok_or(StatusCode::UNAUTHORIZED)?;
    ///     let owner = Owner::new(user).map_err(|_| StatusCode::UNAUTHORIZED)?;
    ///     let projects = Projects::none().and("acme", Rights::Write).and("*", Rights::Read);
    ///     request.extensions_mut().insert(Caller::new(owner).with_projects(projects));
    ///     Ok(next.run(request).await)
    /// }
    ///
    /// /// However this server knows its users: a session's cookie, a client's certificate.
    /// fn user_of(request: &Request) -> Option<String> {
    ///     # let _ = request;
    ///     // …
    ///     # None
    /// }
    ///
    /// fn app<H: rmcp::ServerHandler>(server: &DurableServer<H>) -> axum::Router {
    ///     let options = HttpOptions::new(Callers::authenticated());
    ///     axum::Router::new().nest("/media", router(server, &options)).layer(from_fn(sign_in))
    /// }
    /// ```
    ///
    /// Where a user is not known by what a foreign page would have to present, but by the address or
    /// the network, say, [`HttpOptions::allowed_hosts`](crate::http::HttpOptions::allowed_hosts) has to
    /// name the server's hosts: it keeps pages away that have rebound their name.
    #[must_use]
    pub fn authenticated() -> Self {
        Self(Arc::new(Proof::Authenticated))
    }

    /// Callers with fixed tokens, as TOML:
    ///
    /// ```
    /// # use tenure_mcp::Callers;
    /// let callers = Callers::from_toml(r#"
    ///     [[caller]]
    ///     token = "a-long-random-text"
    ///     owner = "alice"
    ///     projects = { acme = "write", "*" = "read" }
    /// "#)?;
    /// # Ok::<_, tenure_mcp::identity::CallersError>(())
    /// ```
    ///
    /// `owner` says whose tasks the caller reaches, `projects` whose resources; `*` stands for all
    /// that are not named. A project without rights looks absent.
    ///
    /// Or callers with tokens that somebody else signs, whose subject is the owner, and whose claim
    /// `tenure_projects` is an object as `projects` above is a table:
    ///
    /// ```toml
    /// [jwt]
    /// algorithm = "ES256"  # or RS256, EdDSA; HS256 with a secret of 32 bytes or more as key
    /// key = """-----BEGIN PUBLIC KEY----- …"""
    /// audience = "tenure"  # optional, as is
    /// issuer = "https://login.example.com"
    /// ```
    ///
    /// # Errors
    /// Unknown fields, no caller at all, both kinds, a token twice, or one that no header can
    /// carry.
    pub fn from_toml(text: &str) -> Result<Self, CallersError> {
        let description: Description =
            toml::from_str(text).map_err(|error| malformed(text, &error))?;
        match (description.caller, description.jwt) {
            (callers, None) => Self::tokens(callers),
            (callers, Some(jwt)) if callers.is_empty() => {
                Ok(Self::jwt(JwtVerifier::described(jwt, Clock::system())?))
            }
            _ => Err(CallersError::Invalid("there are both [[caller]] and [jwt]".into())),
        }
    }

    fn tokens(callers: Vec<Entry>) -> Result<Self, CallersError> {
        let mut tokens = HashMap::new();
        for Entry { token, owner, projects } in callers {
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(CallersError::Invalid(format!(
                    "the token of owner {owner:?} must be visible ASCII without spaces"
                )));
            }
            let owner =
                Owner::new(owner).map_err(|error| CallersError::Invalid(error.to_string()))?;
            let caller = Caller::new(owner.clone()).with_projects(projects);
            if let Some(other) = tokens.insert(digest(&token), caller) {
                return Err(CallersError::Invalid(format!(
                    "owners {:?} and {:?} have the same token",
                    other.owner().as_str(),
                    owner.as_str(),
                )));
            }
        }
        if tokens.is_empty() {
            return Err(CallersError::Invalid("there is neither [[caller]] nor [jwt]".into()));
        }
        Ok(Self(Arc::new(Proof::Tokens(tokens))))
    }

    /// Callers from a file, see [`from_toml`](Self::from_toml).
    ///
    /// # Errors
    /// Also when the file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, CallersError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| CallersError::Unreadable {
            place: path.display().to_string(),
            source: source.into(),
        })?;
        Self::from_toml(&text).map_err(|error| error.of(path.display().to_string()))
    }

    /// Callers from an environment variable, see [`from_toml`](Self::from_toml). On one line:
    /// `caller = [{ token = "…", owner = "…" }]`.
    ///
    /// # Errors
    /// Also when the variable is not set.
    pub fn from_env(variable: &str) -> Result<Self, CallersError> {
        let place = || format!("the environment variable {variable}");
        let text = std::env::var(variable).map_err(|error| CallersError::Unreadable {
            place: place(),
            // The error of a text that is none quotes it, and there are tokens in it.
            source: match error {
                VarError::NotUnicode(_) => "it is not UTF-8".into(),
                VarError::NotPresent => error.into(),
            },
        })?;
        Self::from_toml(&text).map_err(|error| error.of(place()))
    }

    /// Callers with tokens that somebody else signs; see [`JwtVerifier`] for what is read of them.
    #[must_use]
    pub fn jwt(verifier: JwtVerifier) -> Self {
        Self(Arc::new(Proof::Jwt(Box::new(verifier))))
    }

    /// True if nobody has to prove anything.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(*self.0, Proof::Local(_))
    }

    /// Who makes a request with these headers; `known` is who the server around says it is.
    pub(crate) fn verify(
        &self,
        headers: &HeaderMap,
        known: Option<&Caller>,
    ) -> Result<Caller, Rejection> {
        match (&*self.0, known) {
            (Proof::Authenticated, known) => known.cloned().ok_or(Rejection::Unknown),
            (_, Some(_)) => Err(Rejection::Contradictory),
            (Proof::Local(caller), None) => Ok(caller.clone()),
            (Proof::Tokens(tokens), None) => {
                let token = bearer(headers)?;
                tokens.get(&digest(token)).cloned().ok_or(Rejection::Invalid)
            }
            (Proof::Jwt(verifier), None) => {
                verifier.caller(bearer(headers)?).ok_or(Rejection::Invalid)
            }
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn bearer(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(if headers.contains_key(AUTHORIZATION) {
            Rejection::Invalid
        } else {
            Rejection::Missing
        });
    };
    let text = value.to_str().map_err(|_| Rejection::Invalid)?;
    let (scheme, token) = text.split_once(' ').ok_or(Rejection::Invalid)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Rejection::Invalid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(authorization: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn what_the_readme_shows_can_be_copied() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
        let readme = std::fs::read_to_string(readme).unwrap();
        let shown = readme.split("```toml\n").filter(|it| it.starts_with("[[caller]]"));
        let shown: Vec<_> = shown.filter_map(|it| it.split("```").next()).collect();
        assert!(!shown.is_empty());
        for text in shown {
            Callers::from_toml(text).unwrap();
        }
    }

    #[test]
    fn a_token_stands_for_its_owner_and_nothing_else_does() {
        let callers = Callers::from_toml(
            r#"caller = [{ token = "t1", owner = "alice" }, { token = "t2", owner = "a:b" }]"#,
        )
        .unwrap();
        let owner = |headers: &[&str]| {
            callers.verify(&with(headers), None).map(|caller| caller.owner().to_string())
        };
        assert_eq!(owner(&["Bearer t1"]), Ok("alice".into()));
        assert_eq!(owner(&["bearer t2"]), Ok("a:b".into()));
        assert_eq!(owner(&[]), Err(Rejection::Missing));
        for refused in
            [&["Bearer t3"][..], &["Bearer "], &["Basic t1"], &["t1"], &["Bearer t1", "Bearer t1"]]
        {
            assert_eq!(owner(refused), Err(Rejection::Invalid), "{refused:?}");
        }
    }

    #[test]
    fn a_description_that_cannot_be_meant_is_refused() {
        for text in [
            "",
            "caller = []",
            r#"caller = [{ token = "", owner = "a" }]"#,
            r#"caller = [{ token = "a b", owner = "a" }]"#,
            r#"caller = [{ token = "é", owner = "a" }]"#,
            r#"caller = [{ token = "t", owner = "a" }, { token = "t", owner = "b" }]"#,
            r#"caller = [{ token = "t", owner = "a", admin = true }]"#,
            r#"caller = [{ token = "t" }]"#,
            r#"callers = [{ token = "t", owner = "a" }]"#,
            r#"jwt = { algorithm = "HS256", key = "short" }"#,
            r#"jwt = { algorithm = "none", key = "0123456789abcdef0123456789abcdef" }"#,
            r#"jwt = { algorithm = "ES256", key = "0123456789abcdef0123456789abcdef" }"#,
            r#"
                caller = [{ token = "t", owner = "a" }]
                jwt = { algorithm = "HS256", key = "0123456789abcdef0123456789abcdef" }
            "#,
            r#"caller = [{ token = "t", owner = "a", projects = ["acme"] }]"#,
            r#"caller = [{ token = "t", owner = "a", projects = { acme = "admin" } }]"#,
            r#"caller = [{ token = "t", owner = "a", projects = { acme = "read", acme = "write" } }]"#,
        ] {
            assert!(Callers::from_toml(text).is_err(), "{text}");
        }
    }

    #[test]
    fn neither_errors_nor_debug_output_show_a_token() {
        let text = "[[caller]]\ntoken = \"s3cret\"\nowner = 7\n";
        let error = Callers::from_toml(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error} {error:?}");
        let callers = Callers::from_toml(r#"caller = [{ token = "s3cret", owner = "a" }]"#);
        assert_eq!(format!("{:?}", callers.unwrap()), "Callers(Tokens(1))");
    }
}
