//! The stored form of a resource: one line about the write, then the value.
//!
//! `1 1700000000123 alice` is schema 1, written at that millisecond by alice. What follows the line
//! is the canonical text and nothing else, so a read hands it on without parsing it.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::resources::{ETag, ResourceError, ResourceKey};
use crate::store::{Record, Tag, Version, VersionToken};

/// Rises with every change that an older program would misread.
const SCHEMA: &str = "1";
/// The line about a write without its author: schema, milliseconds, two separators.
const HEADER_BYTES: usize = SCHEMA.len() + 18;
/// What would end the line, or be taken for an escape.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// What is known of a resource beside its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The name of the value.
    pub etag: ETag,
    /// The name of the write that left it. Its number counts the writes since the creation.
    pub version: VersionToken,
    /// When the resource was created, by the store's clock.
    pub created_at: Timestamp,
    /// When it was written, by the writer's clock.
    pub updated_at: Timestamp,
    /// Who wrote it, if they said so.
    pub updated_by: Option<Arc<str>>,
}

/// A resource, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Where it lives.
    pub key: ResourceKey,
    /// What is known of it.
    pub meta: Metadata,
    /// Its canonical text.
    pub text: Bytes,
}

impl Resource {
    /// The value.
    ///
    /// # Errors
    /// [`ResourceError::Unreadable`] when what is stored is no JSON.
    pub fn value(&self) -> Result<Value, ResourceError> {
        serde_json::from_slice(&self.text).map_err(|error| {
            let (key, reason) = (Box::new(self.key.clone()), format!("damaged: {error}"));
            ResourceError::Unreadable { key, reason }
        })
    }
}

/// A resource in a listing without values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Where it lives.
    pub key: ResourceKey,
    /// What is known of it.
    pub meta: Metadata,
}

/// One version of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceVersion {
    /// The name of the value.
    pub etag: ETag,
    /// The name of the write.
    pub version: VersionToken,
    /// When it was written, by the writer's clock.
    pub written_at: Timestamp,
    /// Who wrote it, if they said so.
    pub written_by: Option<Arc<str>>,
    /// Its canonical text.
    pub text: Bytes,
}

pub(super) fn encode(text: &[u8], at: Timestamp, by: Option<&str>) -> Bytes {
    let author_bytes = by.map_or(0, |by| 1 + by.len());
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + author_bytes + text.len());
    // Writing to a buffer that grows cannot fail.
    let _ = write!(bytes, "{SCHEMA} {}", at.as_millis());
    if let Some(by) = by {
        let _ = write!(bytes, " {}", utf8_percent_encode(by, ESCAPED));
    }
    bytes.put_u8(b'\n');
    bytes.put_slice(text);
    bytes.freeze()
}

pub(super) fn decode(key: &ResourceKey, record: &Record) -> Result<Resource, ResourceError> {
    let written = decode_version(key, &record.value, record.token, record.tag)?;
    Ok(Resource {
        key: key.clone(),
        meta: Metadata {
            etag: written.etag,
            version: written.version,
            created_at: record.created_at,
            updated_at: written.written_at,
            updated_by: written.written_by,
        },
        text: written.text,
    })
}

pub(super) fn decode_former(
    key: &ResourceKey,
    version: &Version,
) -> Result<ResourceVersion, ResourceError> {
    decode_version(key, &version.value, version.token, version.tag)
}

fn decode_version(
    key: &ResourceKey,
    value: &Bytes,
    version: VersionToken,
    tag: Option<Tag>,
) -> Result<ResourceVersion, ResourceError> {
    let (written_at, written_by, text) = split(value).map_err(|reason| unreadable(key, reason))?;
    let etag = tag.map(ETag::from_tag).ok_or_else(|| untagged(key))?;
    Ok(ResourceVersion { etag, version, written_at, written_by, text })
}

type Parts = (Timestamp, Option<Arc<str>>, Bytes);

fn split(value: &Bytes) -> Result<Parts, String> {
    let damaged = || "damaged: it does not begin with a line about its write".to_owned();
    let end = value.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
    let header = std::str::from_utf8(&value[..end]).map_err(|_| damaged())?;
    let mut parts = header.splitn(3, ' ');
    match parts.next() {
        Some(SCHEMA) => {}
        Some(other) if other.parse::<u32>().is_ok() => {
            return Err(format!("it has schema {other}, this program knows {SCHEMA}"));
        }
        _ => return Err(damaged()),
    }
    let millis = parts.next().and_then(|millis| millis.parse().ok()).ok_or_else(damaged)?;
    let author = match parts.next() {
        None => None,
        Some(author) => {
            let author = percent_decode_str(author).decode_utf8().map_err(|_| damaged())?;
            Some(Arc::from(&*author))
        }
    };
    Ok((Timestamp::from_millis(millis), author, value.slice(end + 1..)))
}

pub(super) fn untagged(key: &ResourceKey) -> ResourceError {
    unreadable(key, "damaged: it has no ETag".into())
}

fn unreadable(key: &ResourceKey, reason: String) -> ResourceError {
    ResourceError::Unreadable { key: Box::new(key.clone()), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_value_survives_its_stored_form_whoever_wrote_it() {
        for by in [None, Some(""), Some("alice"), Some("a b\nc%0A é\0")] {
            let stored = encode(b"{\"a\":1}", at(17), by);
            let (written_at, written_by, text) = split(&stored).unwrap();
            assert_eq!(
                (written_at, written_by.as_deref(), &text[..]),
                (at(17), by, &b"{\"a\":1}"[..])
            );
        }
    }

    #[test]
    fn what_is_not_ours_is_named_and_not_guessed_at() {
        for damaged in ["", "{}", "1\n{}", "1 x\n{}", "x 1\n{}", "1 1 %ff\n{}"] {
            let reason = split(&Bytes::from(damaged)).unwrap_err();
            assert!(reason.starts_with("damaged"), "{damaged}: {reason}");
        }
        let newer = split(&Bytes::from("2 1 alice ?\n{}")).unwrap_err();
        assert_eq!(newer, "it has schema 2, this program knows 1");
    }
}
