//! What a watcher is told.

use std::fmt;
use std::str::FromStr;

use futures::stream::BoxStream;

use crate::clock::Timestamp;
use crate::store::{Key, StoreError, Tag, VersionToken};

/// A position in the history of a partition.
///
/// Within one epoch the sequence rises with every committed change. A store that may have lost its
/// memory of positions answers one from before with [`WatchEvent::Resync`]: in memory and in a
/// file because it belongs to another epoch, on Redis because the log has no such entry any more.
///
/// Its text form is `<epoch>-<sequence>`, the epoch as 16 lower-case hex digits
/// (`00c0ffee00c0ffee-17`). It is stable and may be stored; no other spelling parses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Revision {
    /// Which history the position belongs to.
    pub epoch: u64,
    /// The position in it; 0 is before the first change.
    pub sequence: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.sequence)
    }
}

impl FromStr for Revision {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let parse = || {
            let (epoch, sequence) = text.split_once('-')?;
            let revision = Self {
                epoch: u64::from_str_radix(epoch, 16).ok()?,
                sequence: sequence.parse().ok()?,
            };
            (revision.to_string() == text).then_some(revision)
        };
        parse().ok_or(StoreError::InvalidRevision)
    }
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchFrom {
    /// With the first change that commits after the call has returned.
    Now,
    /// With the first change after this position, such as that of a [`Page`](crate::store::Page).
    After(Revision),
}

/// One committed change of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What changed.
    pub key: Key,
    /// The position of the change. A watch that is resumed after it continues with the next one.
    pub revision: Revision,
    /// What became of the record.
    pub kind: ChangeKind,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was written. That it will expire is not announced a second time.
    Put {
        /// The write.
        token: VersionToken,
        /// What the write tagged the value with.
        tag: Option<Tag>,
        /// When the record will be absent.
        expires_at: Option<Timestamp>,
    },
    /// It was deleted, or reclaimed after it had expired.
    Gone,
}

/// What a watch yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// A change. Several changes of one key may arrive as the last of them.
    Change(Change),
    /// Changes may have been missed: list again. The watch goes on after this position.
    Resync(Revision),
}

/// A stream of events that ends only with the store, or after an error.
pub type Watch = BoxStream<'static, Result<WatchEvent, StoreError>>;
