//! What a backend keeps under a key, and on what terms it is written.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::limits;
use crate::store::{Key, StoreError};

/// Names one write of one key, for good.
///
/// It carries the version (1 for a new record, one more with each write) and a random stamp of the
/// write itself. So a token from before a delete never matches a later incarnation of its key, and
/// a writer whose reply was lost can tell its own write from somebody else's.
///
/// To a caller it is opaque. Its text form, `<version>-<stamp>` with the stamp as 16 lower-case
/// hex digits (`3-00c0ffee00c0ffee`), is stable and may be stored; no other spelling parses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionToken {
    version: u64,
    stamp: u64,
}

impl VersionToken {
    /// The token of a write that a backend is about to make: version `version`, a fresh stamp.
    #[must_use]
    pub fn new(version: u64) -> Self {
        Self { version, stamp: rand::random() }
    }

    /// The token of a stored record, as read back by a backend.
    #[must_use]
    pub fn from_parts(version: u64, stamp: u64) -> Self {
        Self { version, stamp }
    }

    /// How often the key was written since it was created.
    #[must_use]
    pub fn version(self) -> u64 {
        self.version
    }

    /// The random stamp of the write.
    #[must_use]
    pub fn stamp(self) -> u64 {
        self.stamp
    }
}

impl fmt::Display for VersionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.version, self.stamp)
    }
}

impl fmt::Debug for VersionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionToken({self})")
    }
}

impl FromStr for VersionToken {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let parse = || {
            let (version, stamp) = text.split_once('-')?;
            let token = Self {
                version: version.parse().ok()?,
                stamp: u64::from_str_radix(stamp, 16).ok()?,
            };
            // Only the one spelling that `Display` writes.
            (token.to_string() == text).then_some(token)
        };
        parse().ok_or(StoreError::InvalidToken)
    }
}

/// A fingerprint that a writer gives a value. No backend looks inside; all compare it.
///
/// It lets a caller who knows what the value was, but not which write left it, make a conditional
/// write without reading first: [`Precondition::Tagged`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag([u8; Tag::BYTES]);

impl Tag {
    /// What a tag weighs: a SHA-256.
    pub const BYTES: usize = 32;

    /// The tag of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, ")")
    }
}

/// What names the state of a record: which write left it, and how that write tagged the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// The write.
    pub token: VersionToken,
    /// Its tag.
    pub tag: Option<Tag>,
}

/// A stored value, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The bytes that were written. No backend looks inside.
    pub value: Bytes,
    /// The write that left this value.
    pub token: VersionToken,
    /// What that write tagged the value with.
    pub tag: Option<Tag>,
    /// When version 1 was written. Later writes leave it as it is, so it needs no read before them.
    pub created_at: Timestamp,
    /// From this moment on the record is absent.
    pub expires_at: Option<Timestamp>,
}

impl Record {
    /// Expired is absent: true from the very millisecond of the deadline.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|deadline| deadline <= now)
    }

    /// What names this state of the record.
    #[must_use]
    pub fn current(&self) -> Current {
        Current { token: self.token, tag: self.tag }
    }
}

/// What one write left, as [`history`](crate::store::StorageBackend::history) tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The bytes that were written.
    pub value: Bytes,
    /// The write.
    pub token: VersionToken,
    /// Its tag.
    pub tag: Option<Tag>,
}

/// A record together with its key, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the record lives.
    pub key: Key,
    /// The record.
    pub record: Record,
}

/// One write: the whole new state of a record. Nothing of the former state is kept, unless the
/// write says so with [`Write::keeping`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The new value.
    pub value: Bytes,
    /// When the record expires; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// `Some(limit)` makes the record count against its partition's capacity. See
    /// [`Write::counted_within`].
    pub capacity: Option<u32>,
    /// What the value is tagged with.
    pub tag: Option<Tag>,
    /// Former versions to keep. See [`Write::keeping`].
    pub kept: u32,
}

impl Write {
    /// A value without deadline that counts against no capacity.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), expires_at: None, capacity: None, tag: None, kept: 0 }
    }

    /// Gives the value a tag. A write without one leaves a record without one.
    #[must_use]
    pub fn tagged(mut self, tag: impl Into<Option<Tag>>) -> Self {
        self.tag = tag.into();
        self
    }

    /// Keeps up to `former` of the versions before this one, at most [`limits::KEPT_VERSIONS`].
    ///
    /// What it replaces moves to the [`history`](crate::store::StorageBackend::history) in the
    /// same atomic step, and what is older than that many versions goes. The history belongs to the
    /// record: it is gone with it, and with a write that keeps none.
    #[must_use]
    pub fn keeping(mut self, former: u32) -> Self {
        self.kept = former.min(limits::KEPT_VERSIONS);
        self
    }

    /// Makes the record absent from this moment on.
    #[must_use]
    pub fn expires_at(mut self, deadline: impl Into<Option<Timestamp>>) -> Self {
        self.expires_at = deadline.into();
        self
    }

    /// Makes the record one of the counted ones of its partition.
    ///
    /// If it was not already (absent, expired or uncounted), the write is refused with
    /// [`StoreError::PartitionFull`] when `limit` counted records are live. A record that is
    /// counted stays so without a check; a write without capacity takes it out of the count.
    /// The check and the write are one atomic step on every backend.
    #[must_use]
    pub fn counted_within(mut self, limit: u32) -> Self {
        self.capacity = Some(limit);
        self
    }

    /// Refuses a value beyond [`limits::VALUE_BYTES`]. Every backend calls it before anything else.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub fn check(&self) -> Result<(), StoreError> {
        limits::check("value", self.value.len(), limits::VALUE_BYTES)
    }
}

/// What must hold for a write or a delete to happen. An expired record is an absent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    Any,
    /// There is no record.
    Absent,
    /// There is a record, whatever its version.
    Present,
    /// The record is still the one that this token names.
    Matches(VersionToken),
    /// There is a record, and it carries this tag, whichever write left it.
    Tagged(Tag),
}

impl Precondition {
    /// Holds the precondition against what is there now.
    ///
    /// # Errors
    /// [`StoreError::VersionConflict`] with what is really there.
    pub fn check(&self, current: Option<Current>) -> Result<(), StoreError> {
        let holds = match self {
            Self::Any => true,
            Self::Absent => current.is_none(),
            Self::Present => current.is_some(),
            Self::Matches(token) => current.is_some_and(|it| it.token == *token),
            Self::Tagged(tag) => current.is_some_and(|it| it.tag == Some(*tag)),
        };
        if holds { Ok(()) } else { Err(StoreError::VersionConflict { current }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form_and_nothing_else_parses() {
        let token = VersionToken::new(7);
        assert_eq!(token.to_string().parse::<VersionToken>().unwrap(), token);
        for foreign in [
            "",
            "7",
            "7-",
            "-7",
            "07-0000000000000001",
            "7-1",
            "x-0000000000000001",
            "7-+000000000000001",
        ] {
            assert!(
                matches!(foreign.parse::<VersionToken>(), Err(StoreError::InvalidToken)),
                "{foreign}"
            );
        }
    }

    #[test]
    fn a_record_is_absent_from_the_millisecond_of_its_deadline() {
        let record = Record {
            value: Bytes::new(),
            token: VersionToken::new(1),
            tag: None,
            created_at: Timestamp::from_millis(1),
            expires_at: Some(Timestamp::from_millis(10)),
        };
        assert!(!record.is_expired(Timestamp::from_millis(9)));
        assert!(record.is_expired(Timestamp::from_millis(10)));
    }
}
