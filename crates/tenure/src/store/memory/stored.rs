//! One record as it is kept, small: a table of many is searched at the speed of the cache.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::store::{Current, Record, Tag, Version, VersionToken, Write};

pub(super) struct Stored {
    name: Arc<str>,
    value: Bytes,
    token: VersionToken,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    counted: bool,
    rare: Option<Box<Rare>>,
}

/// What a task has not and a resource has.
#[derive(Default)]
struct Rare {
    tag: Option<Tag>,
    /// What the record was before, newest first.
    former: VecDeque<Version>,
}

/// What a write took the place of, expired or not. Freeing it needs no lock.
#[derive(Default)]
pub(super) struct Replaced {
    pub(super) counted_until: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    to_free: Option<Box<Rare>>,
}

impl Stored {
    pub(super) fn new(
        name: Arc<str>,
        write: &mut Write,
        token: VersionToken,
        created_at: Timestamp,
    ) -> Self {
        let Write { expires_at, capacity, tag, .. } = *write;
        let value = std::mem::take(&mut write.value);
        let rare = tag.map(|_| Box::new(Rare { tag, former: VecDeque::new() }));
        Self { name, value, token, created_at, expires_at, counted: capacity.is_some(), rare }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_counted(&self) -> bool {
        self.counted
    }

    /// Until when the record counts, if it does.
    pub(super) fn counted_until(&self) -> Option<Timestamp> {
        self.counted.then(|| self.expires_at.unwrap_or(Timestamp::MAX))
    }

    pub(super) fn created_at(&self) -> Timestamp {
        self.created_at
    }

    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    pub(super) fn current(&self) -> Current {
        Current { token: self.token, tag: self.tag() }
    }

    fn tag(&self) -> Option<Tag> {
        self.rare.as_ref().and_then(|it| it.tag)
    }

    pub(super) fn record(&self) -> Record {
        let Self { value, token, created_at, expires_at, .. } = self;
        let (value, token, tag) = (value.clone(), *token, self.tag());
        Record { value, token, tag, created_at: *created_at, expires_at: *expires_at }
    }

    fn version(&self) -> Version {
        Version { value: self.value.clone(), token: self.token, tag: self.tag() }
    }

    /// This version and the former ones that are kept, newest first.
    pub(super) fn versions(&self) -> Vec<Version> {
        let former = self.rare.iter().flat_map(|it| it.former.iter().cloned());
        [self.version()].into_iter().chain(former).collect()
    }

    /// Takes the new state in the place of the old one. What goes is left in `replaced`, and its
    /// value in the write. Written through references: a large value that is returned waits twice
    /// for what was stored a moment ago.
    pub(super) fn replace(
        &mut self,
        write: &mut Write,
        token: VersionToken,
        created_at: Timestamp,
        replaced: &mut Replaced,
    ) {
        replaced.counted_until = self.counted_until();
        replaced.expires_at = self.expires_at;
        std::mem::swap(&mut self.value, &mut write.value);
        if write.kept > 0 {
            let old = Version {
                value: std::mem::take(&mut write.value),
                token: self.token,
                tag: self.tag(),
            };
            let (rare, kept) = (self.rare.get_or_insert_default(), write.kept as usize);
            if rare.former.len() > kept {
                let former = rare.former.split_off(kept);
                replaced.to_free = Some(Box::new(Rare { tag: None, former }));
            }
            // One of those that are kept is the version that is replaced now.
            if rare.former.len() == kept {
                write.value = rare.former.pop_back().map(|it| it.value).unwrap_or_default();
            }
            rare.former.push_front(old);
            rare.tag = write.tag;
        } else if self.rare.is_some() || write.tag.is_some() {
            let rare =
                write.tag.map(|tag| Box::new(Rare { tag: Some(tag), former: VecDeque::new() }));
            replaced.to_free = std::mem::replace(&mut self.rare, rare);
        }
        self.token = token;
        self.created_at = created_at;
        self.expires_at = write.expires_at;
        self.counted = write.capacity.is_some();
    }
}
