//! Pages of a listing, and the cursors between them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::limits;
use crate::store::{Entry, Key, Partition, Revision, StoreError};

/// How much to list, and after what.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// Records of the page, at most; clamped to 1 ..= [`limits::PAGE_RECORDS`]. `None`: the maximum.
    /// There are fewer where their values come to [`limits::PAGE_BYTES`] before.
    pub limit: Option<usize>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

impl PageRequest {
    /// The first page, with at most `limit` records.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self { limit: Some(limit), after: None }
    }

    /// The page that follows `cursor`, with at most `limit` records.
    #[must_use]
    pub fn after(cursor: Cursor, limit: usize) -> Self {
        Self { limit: Some(limit), after: Some(cursor) }
    }

    /// The limit that applies.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(limits::PAGE_RECORDS).clamp(1, limits::PAGE_RECORDS)
    }

    /// The name after which this page begins.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] when the cursor was made by another listing.
    pub fn start(
        &self,
        partition: &Partition,
        prefix: &str,
    ) -> Result<Option<Arc<str>>, StoreError> {
        let Some(cursor) = &self.after else { return Ok(None) };
        if cursor.listing != listing(partition, prefix) || !cursor.last.starts_with(prefix) {
            return Err(StoreError::InvalidCursor);
        }
        Ok(Some(Arc::clone(&cursor.last)))
    }
}

/// One page, in key order.
#[derive(Debug, Clone)]
pub struct Page {
    /// The live records.
    pub entries: Vec<Entry>,
    /// What lies between them and cannot be read, in key order; it counts as part of the page. It
    /// hides nothing else.
    pub damaged: Vec<Damaged>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Cursor>,
    /// A watch that starts after this position misses no change to what is listed here.
    pub revision: Revision,
}

impl Page {
    /// The key that the page ends with, readable or not.
    #[must_use]
    pub fn last(&self) -> Option<&Key> {
        let entry = self.entries.last().map(|entry| &entry.key);
        entry.max(self.damaged.last().map(|damaged| &damaged.key))
    }

    /// All that is on the page in key order, what cannot be read in its place.
    #[must_use]
    pub fn items(&self) -> Vec<Result<&Entry, &Damaged>> {
        let mut items: Vec<_> =
            self.entries.iter().map(Ok).chain(self.damaged.iter().map(Err)).collect();
        if !self.damaged.is_empty() {
            items.sort_by_key(|item| match item {
                Ok(entry) => &entry.key,
                Err(damaged) => &damaged.key,
            });
        }
        items
    }
}

/// A key at which a listing found what Tenure did not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Where it lives.
    pub key: Key,
    /// What is wrong with it.
    pub reason: String,
}

impl From<Damaged> for StoreError {
    fn from(Damaged { key, reason }: Damaged) -> Self {
        Self::Damaged { key, reason }
    }
}

/// Marks the end of a page. It names the last record, not a count, so that records which come and
/// go while somebody pages neither repeat nor hide others.
///
/// Its text form is base64url without padding and opaque to a caller; it can stand in a URL. Only
/// the listing that made it takes it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    listing: u32,
    last: Arc<str>,
}

impl Cursor {
    /// The cursor behind the record `last` of a listing.
    #[must_use]
    pub fn new(partition: &Partition, prefix: &str, last: Arc<str>) -> Self {
        Self { listing: listing(partition, prefix), last }
    }

    fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.listing);
        hasher.update(self.last.as_bytes());
        hasher.finalize()
    }
}

/// Identifies a listing. It binds a cursor to the partition and prefix that it came from; it is a
/// guard against mistakes, not a secret: a forged cursor reaches nothing that its listing does not.
fn listing(partition: &Partition, prefix: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(partition.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(prefix.as_bytes());
    hasher.finalize()
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(8 + self.last.len());
        bytes.extend(self.listing.to_be_bytes());
        bytes.extend(self.checksum().to_be_bytes());
        bytes.extend(self.last.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let parse = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let (listing, rest) = bytes.split_first_chunk::<4>()?;
            let (checksum, last) = rest.split_first_chunk::<4>()?;
            let cursor = Self {
                listing: u32::from_be_bytes(*listing),
                last: std::str::from_utf8(last).ok()?.into(),
            };
            let ours = cursor.checksum() == u32::from_be_bytes(*checksum)
                && cursor.last.len() <= limits::NAME_BYTES;
            ours.then_some(cursor)
        };
        parse().ok_or(StoreError::InvalidCursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_form_and_nothing_else_parses() {
        let partition = Partition::new(["p"]).unwrap();
        let cursor = Cursor::new(&partition, "pre", "prefix\0é".into());
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        for foreign in ["", "0", "AAAAAAAAAAAA", "not a cursor", "YWJjZGVmZ2hpamts"] {
            assert!(
                matches!(foreign.parse::<Cursor>(), Err(StoreError::InvalidCursor)),
                "{foreign}"
            );
        }
    }

    #[test]
    fn a_cursor_of_another_listing_is_refused() {
        let (mine, other) = (Partition::new(["a"]).unwrap(), Partition::new(["a:b"]).unwrap());
        let page = PageRequest::after(Cursor::new(&mine, "x", "x1".into()), 1);
        assert_eq!(page.start(&mine, "x").unwrap().as_deref(), Some("x1"));
        assert!(matches!(page.start(&other, "x"), Err(StoreError::InvalidCursor)));
        assert!(matches!(page.start(&mine, ""), Err(StoreError::InvalidCursor)));
    }
}
