//! How a [`RedisBackend`](super::RedisBackend) behaves, and whom it trusts.

use std::path::PathBuf;
use std::time::Duration;

/// How a [`RedisBackend`](super::RedisBackend) behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedisOptions {
    /// What every key begins with. Stores with different prefixes share a server without meeting.
    pub prefix: String,
    /// The longest that one attempt to connect may take.
    pub connect_timeout: Duration,
    /// The longest to wait for an answer.
    pub response_timeout: Duration,
    /// How often a call is tried again where that is harmless.
    pub retries: usize,
    /// How long a watched partition relies on hearing of changes before its watchers look for
    /// themselves: each of them sends one command. A process has at most four partitions looked at
    /// a second, so with many it takes longer.
    pub patrol_interval: Duration,
    /// A PEM file with the authorities that may vouch for a `rediss://` server. `None`: those of
    /// the system, or of the file that the environment variable `SSL_CERT_FILE` names.
    pub ca: Option<PathBuf>,
    /// What to show to a `rediss://` server that asks for a certificate, as Redis does by default.
    pub identity: Option<TlsIdentity>,
}

/// A client's certificate and its private key, as PEM files.
#[derive(Debug, Clone)]
pub struct TlsIdentity {
    /// The certificate, with its chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            prefix: "tenure".into(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(2),
            retries: 2,
            patrol_interval: Duration::from_secs(20),
            ca: None,
            identity: None,
        }
    }
}

impl RedisOptions {
    /// Sets what every key begins with.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the longest that one attempt to connect may take.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets the longest to wait for an answer.
    #[must_use]
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.response_timeout = limit;
        self
    }

    /// Sets how often a call is tried again where that is harmless.
    #[must_use]
    pub fn retries(mut self, retries: usize) -> Self {
        self.retries = retries;
        self
    }

    /// Sets how long a watch relies on hearing of changes before it looks for itself.
    #[must_use]
    pub fn patrol_interval(mut self, interval: Duration) -> Self {
        self.patrol_interval = interval;
        self
    }

    /// Trusts only the authorities of this PEM file.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// Shows this certificate to a server that asks for one.
    #[must_use]
    pub fn identity(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some(TlsIdentity { cert: cert.into(), key: key.into() });
        self
    }
}
