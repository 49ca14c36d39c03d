//! What the scripts answer.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::str::FromStr;

use bytes::Bytes;
use redis::Value;

use super::error::unreadable;
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

fn number<T: FromStr>(value: Value) -> Option<T> {
    match value {
        Value::BulkString(digits) => std::str::from_utf8(&digits).ok()?.parse().ok(),
        _ => None,
    }
}

fn deadline(value: Value) -> Option<Option<Timestamp>> {
    match value {
        Value::Nil => Some(None),
        Value::BulkString(digits) if digits.is_empty() => Some(None),
        other => number(other).map(|millis| Some(Timestamp::from_millis(millis))),
    }
}

/// What stands for no tag is empty, or nothing.
fn tag(value: Value) -> Option<Option<Tag>> {
    match value {
        Value::Nil => Some(None),
        Value::BulkString(bytes) if bytes.is_empty() => Some(None),
        Value::BulkString(bytes) => bytes.try_into().ok().map(|bytes| Some(Tag::new(bytes))),
        _ => None,
    }
}

/// The fields of a record that [`record`] reads, in their order.
pub(super) const FIELDS: [&str; 5] = ["version", "expires_at", "data", "tag", "created_at"];

fn record([version, expires_at, data, mark, created_at]: [Value; 5]) -> Option<Record> {
    Some(Record {
        value: bytes(data)?,
        token: text(version)?.parse().ok()?,
        tag: tag(mark)?,
        created_at: Timestamp::from_millis(number(created_at)?),
        expires_at: deadline(expires_at)?,
    })
}

/// What is wrong with fields of which [`record`] makes nothing.
const UNREADABLE: &str = "the fields of the record";

/// The record that the fields of `HMGET` make, if there is one.
pub(super) fn stored(value: Value, key: &Key) -> Result<Option<Record>, StoreError> {
    let Value::Array(fields) = value else { return Err(unreadable("fields")) };
    if fields.iter().all(|field| *field == Value::Nil) {
        return Ok(None);
    }
    let fields = <[Value; 5]>::try_from(fields).map_err(|_| unreadable("fields"))?;
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
    match (token, tag(found.next().unwrap_or_default())) {
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
        let fields = [field(), field(), field(), field(), field()];
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
    let (mut found, mut position) = (Vec::new(), None);
    for entry in parts {
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
        let [_, name, _, token, _, expires_at, _, mark] = <[Value; 8]>::try_from(fields).ok()?;
        Some((text(id)?, text(name)?, text(token)?, deadline(expires_at)?, tag(mark)?))
    };
    let (id, name, token, expires_at, tag) = parse().ok_or_else(|| unreadable("change"))?;
    if token.is_empty() {
        return Ok((id, None));
    }
    let token: VersionToken = token.parse()?;
    let kind = match token.version() {
        0 => ChangeKind::Gone,
        _ => ChangeKind::Put { token, tag, expires_at },
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
