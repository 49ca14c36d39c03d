//! What the scripts answer.

use std::cmp::Reverse;
use std::collections::HashMap;

use bytes::Bytes;
use redis::Value;

use super::error::unreadable;
use super::scripts::BACKLOG;
use crate::clock::Timestamp;
use crate::store::{
    Change, ChangeKind, Current, Damaged, Entry, Key, Partition, Record, Revision, StoreError, Tag,
    Version, VersionToken,
};

/// A position in a stream is a time in milliseconds and a counter. The counter gets the lower
/// bits: four million changes of one partition in one millisecond.
const COUNTER_BITS: u32 = 22;

pub(super) fn revision(epoch: u64, id: &str) -> Result<Revision, StoreError> {
    let parse = || {
        let (millis, counter) = id.split_once('-')?;
        let high = millis.parse::<u64>().ok()?.checked_mul(1 << COUNTER_BITS)?;
        high.checked_add(counter.parse().ok()?)
    };
    let sequence = parse().ok_or_else(|| unreadable("position"))?;
    Ok(Revision { epoch, sequence })
}

pub(super) fn log_id(sequence: u64) -> String {
    format!("{}-{}", sequence >> COUNTER_BITS, sequence & ((1 << COUNTER_BITS) - 1))
}

pub(super) fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?.into()).ok()
}

fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

/// What a head says of its record. `mod.rs` shows how it is written.
struct Head {
    token: VersionToken,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    tag: Option<Tag>,
}

/// How long a stamp and a time are.
const DIGITS: usize = 16;

/// The token that a head begins with, and what follows.
fn token(head: &[u8]) -> Option<(VersionToken, &[u8])> {
    let dash = head.iter().position(|byte| *byte == b'-')?;
    let (token, rest) = head.split_at_checked(dash + 1 + DIGITS)?;
    Some((std::str::from_utf8(token).ok()?.parse().ok()?, rest))
}

fn head(head: &[u8]) -> Option<Head> {
    let (token, rest) = token(head)?;
    let (created_at, attributes) = rest.strip_prefix(b" ")?.split_at_checked(DIGITS)?;
    let (mut expires_at, mut mark) = (None, None);
    if let Some(attributes) = attributes.strip_prefix(b";") {
        let mut attributes = attributes.splitn(4, |byte| *byte == b';');
        expires_at = Some(attributes.next()?).filter(|digits| !digits.is_empty());
        mark = Some(attributes.nth(2)?);
    } else if !attributes.is_empty() {
        return None;
    }
    Some(Head {
        token,
        created_at: millis(created_at)?,
        expires_at: expires_at.map_or(Some(None), |digits| millis(digits).map(Some))?,
        tag: mark.map_or(Some(None), tag)?,
    })
}

fn millis(digits: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(digits).ok()?.parse().ok().map(Timestamp::from_millis)
}

/// What stands for no tag is empty.
fn tag(bytes: &[u8]) -> Option<Option<Tag>> {
    match bytes {
        [] => Some(None),
        bytes => bytes.try_into().ok().map(|bytes| Some(Tag::new(bytes))),
    }
}

/// The fields of a record that [`record`] reads, in their order.
pub(super) const FIELDS: [&str; 2] = ["version", "data"];

fn record([fields, data]: [Value; 2]) -> Option<Record> {
    let Head { token, created_at, expires_at, tag } = head(&bytes(fields)?)?;
    Some(Record { value: bytes(data)?, token, tag, created_at, expires_at })
}

/// What is wrong with fields of which [`record`] makes nothing.
const UNREADABLE: &str = "the fields of the record";

/// The record that the fields of `HMGET` make, if there is one.
pub(super) fn stored(value: Value, key: &Key) -> Result<Option<Record>, StoreError> {
    let Value::Array(fields) = value else { return Err(unreadable("fields")) };
    if fields.iter().all(|field| *field == Value::Nil) {
        return Ok(None);
    }
    let fields = <[Value; 2]>::try_from(fields).map_err(|_| unreadable("fields"))?;
    record(fields).map(Some).ok_or_else(|| damaged(key, UNREADABLE))
}

/// A whole hash, as the versions that the record keeps, newest first; none if it has expired.
pub(super) fn history(value: Value, key: &Key, now: Timestamp) -> Result<Vec<Version>, StoreError> {
    let pairs: Vec<(Value, Value)> = match value {
        Value::Map(pairs) => pairs,
        Value::Array(items) => {
            let mut items = items.into_iter();
            std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
        }
        _ => return Err(unreadable("history")),
    };
    let mut fields: HashMap<_, _> =
        pairs.into_iter().filter_map(|(name, value)| Some((text(name)?, value))).collect();
    if !fields.contains_key("version") {
        return Ok(Vec::new());
    }
    let current = record(FIELDS.map(|name| fields.remove(name).unwrap_or(Value::Nil)))
        .ok_or_else(|| damaged(key, UNREADABLE))?;
    if current.is_expired(now) {
        return Ok(Vec::new());
    }
    let Record { value, token, tag, .. } = current;
    let mut versions = vec![Version { value, token, tag }];
    for (_, value) in fields.into_iter().filter(|(name, _)| name.starts_with("was:")) {
        versions.push(former(value).ok_or_else(|| damaged(key, "a former version"))?);
    }
    versions.sort_unstable_by_key(|version| Reverse(version.token.version()));
    Ok(versions)
}

/// A version as the script for writing moves it: token, a line's end, the tag behind a `1` or no
/// tag behind a `0`, and the data.
fn former(value: Value) -> Option<Version> {
    let packed = bytes(value)?;
    let end = packed.iter().position(|byte| *byte == b'\n')?;
    let token = std::str::from_utf8(&packed[..end]).ok()?.parse().ok()?;
    let (tag, at) = match packed.get(end + 1)? {
        b'0' => (None, end + 2),
        b'1' => {
            let at = end + 2 + Tag::BYTES;
            (Some(Tag::new(packed.get(end + 2..at)?.try_into().ok()?)), at)
        }
        _ => return None,
    };
    Some(Version { value: packed.slice(at..), token, tag })
}

pub(super) fn damaged(key: &Key, reason: &str) -> StoreError {
    StoreError::Damaged { key: key.clone(), reason: reason.to_owned() }
}

/// What a write or delete says when its precondition does not hold.
pub(super) fn conflict(found: Vec<Value>) -> StoreError {
    let mut found = found.into_iter();
    let Some(token) = found.next() else { return StoreError::VersionConflict { current: None } };
    let token = text(token).and_then(|token| token.parse().ok());
    match (token, found.next().and_then(bytes).and_then(|mark| tag(&mark))) {
        (Some(token), Some(tag)) => {
            StoreError::VersionConflict { current: Some(Current { token, tag }) }
        }
        _ => unreadable("version"),
    }
}

/// One answer of the listing script.
pub(super) struct Listing {
    /// Where the log stood; empty when the server could not say.
    pub(super) position: String,
    pub(super) entries: Vec<Entry>,
    pub(super) damaged: Vec<Damaged>,
    pub(super) outcome: Listed,
}

pub(super) enum Listed {
    End,
    More,
    /// To be continued after this name, which need not be one of ours.
    Pause(Bytes),
}

pub(super) fn listing(value: Value, partition: &Partition) -> Result<Listing, StoreError> {
    let Value::Array(parts) = value else { return Err(unreadable("page")) };
    let mut parts = parts.into_iter();
    let mut next = || parts.next().ok_or_else(|| unreadable("page"));
    let position = text(next()?).ok_or_else(|| unreadable("page"))?;
    let (outcome, paused_at) = (bytes(next()?), bytes(next()?).unwrap_or_default());
    let mut outcome = match outcome.as_deref() {
        Some(b"end") => Listed::End,
        Some(b"more") => Listed::More,
        Some(b"pause") => Listed::Pause(paused_at),
        _ => return Err(unreadable("page")),
    };
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    let (mut last, mut skipped) = (Bytes::new(), false);
    while let Some(name) = parts.next() {
        let mut field = || parts.next().unwrap_or_default();
        let fields = [field(), field()];
        last = bytes(name).ok_or_else(|| unreadable("name"))?;
        let key = std::str::from_utf8(&last).ok().and_then(|name| partition.key(name).ok());
        let Some(key) = key else {
            tracing::warn!(?partition, name = ?last, "an index holds what is no name");
            skipped = true;
            continue;
        };
        match record(fields) {
            Some(record) => entries.push(Entry { key, record }),
            None => damaged.push(Damaged { key, reason: UNREADABLE.to_owned() }),
        }
    }
    if skipped && matches!(outcome, Listed::More) {
        // There is room for others.
        outcome = Listed::Pause(last);
    }
    Ok(Listing { position, entries, damaged, outcome })
}

pub(super) enum Changes {
    /// Some may have been missed; the log stands here.
    Gap(String),
    /// The same, and the log itself was gone and begins here.
    Begun(String),
    /// These came next, and the log stands here if it has moved.
    Next(Vec<Change>, Option<String>),
}

pub(super) fn changes(
    value: Value,
    partition: &Partition,
    epoch: u64,
) -> Result<Changes, StoreError> {
    let Value::Array(parts) = value else { return Err(unreadable("changes")) };
    let mut parts = parts.into_iter();
    let outcome = parts.next().unwrap_or_default();
    let mut position = || parts.next().and_then(text).ok_or_else(|| unreadable("position"));
    match outcome {
        Value::Int(0) => {}
        Value::Int(1) => return Ok(Changes::Gap(position()?)),
        Value::Int(2) => return Ok(Changes::Begun(position()?)),
        _ => return Err(unreadable("changes")),
    }
    next(parts, partition, epoch)
}

/// What the entries of a log from a position on say, if that is among them and others follow, and
/// there are not more than the backlog promises.
pub(super) fn next_changes(
    value: Value,
    position: &str,
    partition: &Partition,
    epoch: u64,
) -> Result<Option<Changes>, StoreError> {
    let Value::Array(entries) = value else { return Err(unreadable("changes")) };
    let is_position = |entry: &Value| match entry {
        Value::Array(entry) => {
            matches!(entry.first(), Some(Value::BulkString(id)) if id == position.as_bytes())
        }
        _ => false,
    };
    if !(2..=BACKLOG).contains(&entries.len()) || !is_position(&entries[0]) {
        return Ok(None);
    }
    next(entries.into_iter().skip(1), partition, epoch).map(Some)
}

fn next(
    entries: impl Iterator<Item = Value>,
    partition: &Partition,
    epoch: u64,
) -> Result<Changes, StoreError> {
    let (mut found, mut position) = (Vec::new(), None);
    for entry in entries {
        let (id, change) = change(entry, partition, epoch)?;
        found.extend(change);
        position = Some(id);
    }
    Ok(Changes::Next(found, position))
}

/// An entry of the log: its position, and the change, unless it only marks the position.
fn change(
    entry: Value,
    partition: &Partition,
    epoch: u64,
) -> Result<(String, Option<Change>), StoreError> {
    let parse = || {
        let Value::Array(entry) = entry else { return None };
        let [id, Value::Array(fields)] = <[Value; 2]>::try_from(entry).ok()? else { return None };
        let [name, told] = <[Value; 2]>::try_from(fields).ok()?;
        Some((text(id)?, text(name)?, bytes(told)?))
    };
    let (id, name, told) = parse().ok_or_else(|| unreadable("change"))?;
    if told.is_empty() {
        return Ok((id, None));
    }
    let kind = match (token(&told), head(&told)) {
        (Some((token, [])), _) if token.version() == 0 => ChangeKind::Gone,
        (_, Some(Head { token, tag, expires_at, .. })) => {
            ChangeKind::Put { token, tag, expires_at }
        }
        _ => return Err(unreadable("change")),
    };
    let change = Change { key: partition.key(name)?, revision: revision(epoch, &id)?, kind };
    Ok((id, Some(change)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_as_a_revision() {
        let id = "1795000000000-17";
        let revision = revision(1, id).unwrap();
        assert_eq!(log_id(revision.sequence), id);
        assert!(super::revision(1, "99999999999999999-0").is_err());
    }
}
