//! The stored form of a resource: one line about the write, then the value.
//!
//! `1 1700000000123 alice` is schema 1, written at that millisecond by alice. What follows the line
//! is the canonical text and nothing else, so a read hands it on without parsing it.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::resources::{ETag, ResourceError, ResourceKey};
use crate::store::{Record, Version, VersionToken};

/// Rises with every change that an older program would misread.
const SCHEMA: &str = "1";
/// What a value begins with.
const WRITTEN: &[u8] = b"1 ";
/// The milliseconds of [`Timestamp::MAX`].
const MILLIS_DIGITS: usize = 16;
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
    let (mut millis, author_bytes) = (itoa::Buffer::new(), by.map_or(0, |by| 1 + by.len()));
    let millis = millis.format(at.as_millis()).as_bytes();
    // Exact but for an author with escapes: bytes that fill their buffer need no second one.
    let header_bytes = WRITTEN.len() + millis.len() + author_bytes + 1;
    let mut bytes = Vec::with_capacity(header_bytes + text.len());
    bytes.extend_from_slice(WRITTEN);
    bytes.extend_from_slice(millis);
    if let Some(by) = by {
        bytes.push(b' ');
        bytes.extend(utf8_percent_encode(by, ESCAPED).flat_map(str::bytes));
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(text);
    bytes.into()
}

/// Reads a resource back, and takes its text out of the record.
pub(super) fn decode(key: &ResourceKey, record: &mut Record) -> Result<Resource, ResourceError> {
    let (updated_at, updated_by, start) =
        header(&record.value).map_err(|reason| unreadable(key, reason))?;
    let etag = record.tag.map(ETag::from_tag).ok_or_else(|| untagged(key))?;
    let mut text = std::mem::take(&mut record.value);
    text.advance(start);
    let (version, created_at) = (record.token, record.created_at);
    let meta = Metadata { etag, version, created_at, updated_at, updated_by };
    Ok(Resource { key: key.clone(), meta, text })
}

pub(super) fn decode_former(
    key: &ResourceKey,
    former: Version,
) -> Result<ResourceVersion, ResourceError> {
    let Version { value: mut text, token: version, tag } = former;
    let (written_at, written_by, start) =
        header(&text).map_err(|reason| unreadable(key, reason))?;
    let etag = tag.map(ETag::from_tag).ok_or_else(|| untagged(key))?;
    text.advance(start);
    Ok(ResourceVersion { etag, version, written_at, written_by, text })
}

/// When a value was written, who did, and where its text begins.
fn header(value: &[u8]) -> Result<(Timestamp, Option<Arc<str>>, usize), String> {
    let damaged = || "damaged: it does not begin with a line about its write".to_owned();
    let Some(line) = value.strip_prefix(WRITTEN) else { return Err(foreign(value, damaged())) };
    let (mut millis, mut digits) = (0, 0);
    for byte in line.iter().take(MILLIS_DIGITS).take_while(|byte| byte.is_ascii_digit()) {
        millis = 10 * millis + u64::from(byte - b'0');
        digits += 1;
    }
    if digits == 0 {
        return Err(damaged());
    }
    let (at, rest) = (Timestamp::from_millis(millis), &line[digits..]);
    let start = WRITTEN.len() + digits + 1;
    match rest {
        [b'\n', ..] => Ok((at, None, start)),
        [b' ', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(damaged)?;
            let author = percent_decode(&rest[..end]).decode_utf8().map_err(|_| damaged())?;
            Ok((at, Some(Arc::from(&*author)), start + end + 1))
        }
        _ => Err(damaged()),
    }
}

/// What is wrong with a value that is not of our schema.
fn foreign(value: &[u8], damaged: String) -> String {
    let schema =
        value.split(|byte| *byte == b' ').next().and_then(|it| std::str::from_utf8(it).ok());
    match schema.and_then(|it| it.parse::<u32>().ok()) {
        Some(other) if schema != Some(SCHEMA) => {
            format!("it has schema {other}, this program knows {SCHEMA}")
        }
        _ => damaged,
    }
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
            for written in [at(0), at(17), Timestamp::MAX] {
                let stored = encode(b"{\"a\":1}", written, by);
                let (written_at, written_by, start) = header(&stored).unwrap();
                assert_eq!(
                    (written_at, written_by.as_deref(), &stored[start..]),
                    (written, by, &b"{\"a\":1}"[..])
                );
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_named_and_not_guessed_at() {
        for damaged in [
            "",
            "{}",
            "1\n{}",
            "1 \n{}",
            "1 x\n{}",
            "x 1\n{}",
            "1 1 %ff\n{}",
            "1 00000000000000001\n{}",
        ] {
            let reason = header(damaged.as_bytes()).unwrap_err();
            assert!(reason.starts_with("damaged"), "{damaged}: {reason}");
        }
        let newer = header(b"2 1 alice ?\n{}").unwrap_err();
        assert_eq!(newer, "it has schema 2, this program knows 1");
    }
}
