//! Where a record lives: a [`Partition`], and a name inside it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::limits;
use crate::store::StoreError;

/// What is escaped in a segment: the separator, the escape itself, and the braces, which would
/// move a Redis hash tag. Everything else stays legible in the tools that people open a store with.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'/').add(b'%').add(b'{').add(b'}');

/// The unit of isolation and of atomicity: one owner's tasks, one project's resources.
///
/// A partition is a path of segments, such as `["tasks", owner]`. Any string is a valid segment,
/// and different paths never encode to the same partition.
///
/// ```
/// use tenure::store::Partition;
///
/// let a = Partition::new(["tasks", "a/b"])?;
/// let b = Partition::new(["tasks", "a", "b"])?;
/// assert_ne!(a, b);
/// assert_eq!(a.as_str(), "tasks/a%2Fb");
/// # Ok::<(), tenure::store::StoreError>(())
/// ```
#[derive(Clone)]
pub struct Partition {
    path: Arc<str>,
    /// The hash of `path`, computed once, so that looking a partition up need not read the path.
    hash: u64,
}

/// Drawn anew in each process: nobody can prepare owners that collide.
static HASHER: LazyLock<hashbrown::DefaultHashBuilder> = LazyLock::new(Default::default);

/// The hash of a text, the same for equal texts in this process and only here.
pub(super) fn process_hash(text: &str) -> u64 {
    HASHER.hash_one(text)
}

impl Partition {
    /// Encodes a path of segments.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when the encoded path exceeds [`limits::PARTITION_BYTES`].
    pub fn new<'a>(segments: impl IntoIterator<Item = &'a str>) -> Result<Self, StoreError> {
        let mut encoded = String::new();
        for (index, segment) in segments.into_iter().enumerate() {
            if index > 0 {
                encoded.push('/');
            }
            encoded.extend(utf8_percent_encode(segment, ESCAPED));
        }
        limits::check("partition", encoded.len(), limits::PARTITION_BYTES)?;
        Ok(Self::encoded(encoded.into()))
    }

    /// A partition as a backend stored it, already encoded and checked.
    #[cfg(feature = "file")]
    pub(super) fn stored(encoded: &str) -> Self {
        Self::encoded(encoded.into())
    }

    fn encoded(path: Arc<str>) -> Self {
        let hash = process_hash(&path);
        Self { path, hash }
    }

    /// The encoded path: no control characters, no braces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// The hash of the path, the same for equal partitions in this process and only here.
    pub(super) fn process_hash(&self) -> u64 {
        self.hash
    }

    /// The segments that this partition was made of.
    pub fn segments(&self) -> impl Iterator<Item = String> + '_ {
        self.path.split('/').map(|segment| {
            percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
        })
    }

    /// Names a record in this partition. Any name is valid, the empty one included.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] when the name exceeds [`limits::NAME_BYTES`].
    pub fn key(&self, name: impl Into<Arc<str>>) -> Result<Key, StoreError> {
        let name = name.into();
        limits::check("name", name.len(), limits::NAME_BYTES)?;
        Ok(Key { partition: self.clone(), name })
    }

    /// The key of a record that is stored here, and so has a name of valid length.
    #[cfg(feature = "file")]
    pub(super) fn stored_key(&self, name: &str) -> Key {
        Key { partition: self.clone(), name: name.into() }
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({})", self.path)
    }
}

impl PartialEq for Partition {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.path, &other.path) || self.path == other.path)
    }
}

impl Eq for Partition {}

impl PartialOrd for Partition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Partition {
    fn cmp(&self, other: &Self) -> Ordering {
        self.path.cmp(&other.path)
    }
}

impl Hash for Partition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The address of one record. Keys of a partition are ordered by the bytes of their names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    partition: Partition,
    name: Arc<str>,
}

impl Key {
    /// The partition that the record belongs to.
    #[must_use]
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// The name of the record inside its partition.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name, shared instead of copied.
    #[must_use]
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {:?})", self.partition.path, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_come_back_whatever_they_contain() {
        let hostile = ["", ":", "/", "*", "{}", "\0", "%2F", "é世界", "a:b"];
        for first in hostile {
            for second in hostile {
                let partition = Partition::new([first, second]).unwrap();
                assert_eq!(partition.segments().collect::<Vec<_>>(), [first, second]);
            }
        }
    }

    #[test]
    fn a_partition_carries_no_brace_that_would_move_a_hash_tag() {
        assert!(!Partition::new(["{a}", "}{"]).unwrap().as_str().contains(['{', '}']));
    }

    #[test]
    fn an_oversized_partition_or_name_is_refused() {
        let long = "x".repeat(limits::PARTITION_BYTES + 1);
        assert!(matches!(Partition::new([&*long]), Err(StoreError::TooLarge { .. })));
        let partition = Partition::new(["p"]).unwrap();
        assert!(matches!(partition.key(long), Err(StoreError::TooLarge { .. })));
    }
}
