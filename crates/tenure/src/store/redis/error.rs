//! What the errors of Redis mean for a caller.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::tls;
use crate::store::{Partition, StoreError};

/// How far a command got that did not succeed.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// It never left: nothing happened.
    NotSent(RedisError),
    /// The server refused it: nothing happened.
    Refused(RedisError),
    /// It left, and no answer came: anything may have happened.
    Lost(RedisError),
}

/// What a script is told about a key that a slot on its way has already taken to another node.
fn has_moved_on(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("access a non local key"))
}

impl Failure {
    /// Sorts the error of a command that was handed to a connection.
    pub(super) fn of_sent(error: RedisError) -> Self {
        match error.kind() {
            // A script may have begun to write before it came to a key that has moved.
            _ if has_moved_on(&error) => Self::Lost(error),
            ErrorKind::Server(_) | ErrorKind::Extension => Self::Refused(error),
            ErrorKind::Client
            | ErrorKind::InvalidClientConfig
            | ErrorKind::AuthenticationFailed
            | ErrorKind::ClusterConnectionNotFound => Self::NotSent(error),
            ErrorKind::Io if error.is_connection_refusal() => Self::NotSent(error),
            _ => Self::Lost(error),
        }
    }

    /// True when the same command may succeed in a moment, and trying it again cannot do harm.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NotSent(error) => {
                !is_denied(error) && !is_misconfigured(error) && tls::refusal(error).is_none()
            }
            Self::Refused(error) => is_busy(error) || code(error) == "FENCED",
            Self::Lost(_) => false,
        }
    }

    /// True when trying again brings nothing until somebody sees to it.
    pub(super) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Lost(_)) && !self.is_transient()
    }

    pub(super) fn is_no_script(&self) -> bool {
        matches!(self, Self::Refused(error)
            if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Refused(error) if is_denied(error))
    }

    pub(super) fn is_wrong_type(&self) -> bool {
        matches!(self, Self::Refused(error) if code(error) == "WRONGTYPE")
    }

    /// The server is a replica, perhaps since a moment ago.
    pub(super) fn is_read_only(&self) -> bool {
        matches!(self, Self::Refused(error) if code(error) == "READONLY")
    }

    /// The reason, if the server says that what is stored is not what Tenure wrote.
    pub(super) fn damage(&self) -> Option<&str> {
        match self {
            Self::Refused(error) if code(error) == "DAMAGED" => {
                Some(error.detail().unwrap_or("unreadable"))
            }
            _ => None,
        }
    }

    /// The error of a call that is about this partition alone.
    pub(super) fn in_partition(self, partition: &Partition) -> StoreError {
        if self.is_wrong_type() {
            foreign(&format!("of the partition {:?}", partition.as_str()))
        } else {
            self.into_store_error()
        }
    }

    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::NotSent(error) if is_denied(&error) => denied(error),
            Self::NotSent(error) if is_misconfigured(&error) => {
                StoreError::InvalidLocation(error.to_string())
            }
            Self::NotSent(error) => match tls::refusal(&error) {
                Some(_) => untrusted(error),
                None => unavailable("connecting to Redis", error),
            },
            Self::Lost(error) => unavailable("waiting for an answer from Redis", error),
            Self::Refused(error) => refused(error),
        }
    }
}

fn code(error: &RedisError) -> &str {
    error.code().unwrap_or_default()
}

fn is_denied(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(code(error), "NOAUTH" | "WRONGPASS" | "NOPERM")
        // Of a command inside a script, Redis 7.0 and its successors say so in words only.
        || error.detail().is_some_and(|detail| {
            detail.starts_with("The user executing the script")
                || detail.starts_with("ACL failure in script")
        })
}

fn is_misconfigured(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::InvalidClientConfig | ErrorKind::Client)
}

/// The server, or the slot, is between two states. `MOVED` and `ASK` arrive here only while the
/// client's map of a cluster is being renewed.
fn is_busy(error: &RedisError) -> bool {
    matches!(
        code(error),
        "LOADING"
            | "TRYAGAIN"
            | "CLUSTERDOWN"
            | "MASTERDOWN"
            | "BUSY"
            | "MOVED"
            | "ASK"
            | "NOREPLICAS"
    )
}

fn refused(error: RedisError) -> StoreError {
    match code(&error) {
        _ if is_denied(&error) => denied(error),
        _ if is_busy(&error) => unavailable("Redis is not ready", error),
        "FENCED" => unavailable("an earlier attempt was given up", error),
        "OOM" => StoreError::Full(Some(error.into())),
        // MISCONF: it cannot write its snapshot, and so takes no writes.
        "READONLY" | "MISCONF" => StoreError::ReadOnly(Some(error.into())),
        "WRONGTYPE" => foreign("under the configured prefix"),
        _ => StoreError::Engine {
            reason: "Redis refused the command".into(),
            source: Some(error.into()),
        },
    }
}

/// What to say when a key that belongs to no single record holds something else.
fn foreign(place: &str) -> StoreError {
    StoreError::Foreign(format!("a key {place} holds somebody else's data"))
}

pub(super) fn unreadable(what: &str) -> StoreError {
    StoreError::Engine { reason: format!("Redis answered with no {what}"), source: None }
}

/// What to say when a listing has done enough. The next does not come across them any more.
pub(super) fn too_many_over() -> StoreError {
    let reason = "very many expired records lay before the page; ask again".into();
    StoreError::Unavailable { reason, source: None }
}

fn denied(error: RedisError) -> StoreError {
    StoreError::Engine {
        reason: "Redis denies access; check the user, the password and the ACL".into(),
        source: Some(error.into()),
    }
}

fn untrusted(error: RedisError) -> StoreError {
    StoreError::Engine {
        reason: "no TLS with Redis; check the port, the names and ca, cert, key".into(),
        source: Some(error.into()),
    }
}

fn unavailable(what: &str, error: RedisError) -> StoreError {
    StoreError::Unavailable { reason: what.into(), source: Some(error.into()) }
}
