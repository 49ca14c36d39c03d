//! Where things live in Redis.
//!
//! Every key of a partition carries the same hash tag, so a partition is in one slot of a cluster.
//! The tag begins with a slash because an empty one would count for nothing.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::store::{Key, Partition};

/// A brace in the configured prefix would open a hash tag of its own.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%').add(b'{').add(b'}');

/// Makes keys: `<prefix>:{/<partition>}:record:<name>`, and so on.
#[derive(Debug, Clone)]
pub(super) struct Keyspace {
    prefix: String,
}

/// The keys of one partition.
pub(super) struct PartitionKeys {
    base: String,
}

/// The keys that a write declares. The scripts make those of the index and of the counted records
/// from that of the log, when they need them.
pub(super) struct RecordKeys {
    pub(super) record: String,
    pub(super) log: String,
}

impl Keyspace {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: utf8_percent_encode(prefix, ESCAPED).to_string() }
    }

    pub(super) fn partition(&self, partition: &Partition) -> PartitionKeys {
        PartitionKeys { base: [&*self.prefix, ":{/", partition.as_str(), "}:"].concat() }
    }

    pub(super) fn record(&self, key: &Key) -> RecordKeys {
        let partition = self.partition(key.partition());
        RecordKeys { record: partition.key("record:", key.name()), log: partition.log() }
    }

    /// The key of the record alone.
    pub(super) fn record_only(&self, key: &Key) -> String {
        let (partition, name) = (key.partition().as_str(), key.name());
        [&*self.prefix, ":{/", partition, "}:record:", name].concat()
    }

    /// Names the history of a partition, so that a position of another is recognised.
    pub(super) fn epoch(&self, partition: &Partition) -> u64 {
        let base = self.partition(partition).base;
        u64::from(crc32fast::hash(base.as_bytes()))
    }
}

impl PartitionKeys {
    fn key(&self, kind: &str, name: &str) -> String {
        [self.base.as_str(), kind, name].concat()
    }

    /// What comes before a name in the key of a record.
    pub(super) fn records(&self) -> String {
        self.key("record:", "")
    }

    /// A sorted set: the names, all with score 0, and so in the order of their bytes.
    pub(super) fn index(&self) -> String {
        self.key("index", "")
    }

    /// A sorted set: the names of the counted records by deadline.
    pub(super) fn counted(&self) -> String {
        self.key("counted", "")
    }

    /// Two sorted sets that take turns: names that are over by the server's clock, as in the index.
    pub(super) fn past(&self) -> [String; 2] {
        [self.key("past:", "0"), self.key("past:", "1")]
    }

    /// A stream of changes; also the name of the channel that says it has grown.
    pub(super) fn log(&self) -> String {
        self.key("log", "")
    }
}

/// The bounds of a listing as `ZRANGEBYLEX` wants them.
pub(super) fn lexical_range(prefix: &str, after: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let bound = |kind: &[u8], bytes: &[u8]| [kind, bytes].concat();
    let min = match after {
        Some(last) => bound(b"(", last),
        None if prefix.is_empty() => b"-".to_vec(),
        None => bound(b"[", prefix.as_bytes()),
    };
    let mut max = bound(b"(", prefix.as_bytes());
    match max.last_mut() {
        // No byte of UTF-8 is 0xff, so one more is the first that does not start with the prefix.
        Some(last) if !prefix.is_empty() => *last += 1,
        _ => max = b"+".to_vec(),
    }
    (min, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tag_is_the_partition_whatever_prefix_and_names_contain() {
        let partition = Partition::new(["{x}", ""]).unwrap();
        for prefix in ["", "tenure", "{", "}{", "{}", "%7B"] {
            let key = partition.key("{other}").unwrap();
            let text = Keyspace::new(prefix).record_only(&key);
            let (_, rest) = text.split_once('{').unwrap();
            let (tag, _) = rest.split_once('}').unwrap();
            assert_eq!(tag, format!("/{}", partition.as_str()));
            assert_eq!(Keyspace::new(prefix).record(&key).record, text);
        }
    }

    #[test]
    fn different_prefixes_never_share_a_key() {
        let key = Partition::new(["p"]).unwrap().key("n").unwrap();
        let prefixes = ["", "a", "a:", "{", "%7B", "a:{/p}:record:"];
        let keys: std::collections::BTreeSet<_> =
            prefixes.iter().map(|prefix| Keyspace::new(prefix).record_only(&key)).collect();
        assert_eq!(keys.len(), prefixes.len());
    }

    #[test]
    fn a_range_covers_exactly_its_prefix() {
        assert_eq!(lexical_range("", None), (b"-".to_vec(), b"+".to_vec()));
        assert_eq!(lexical_range("a\u{10ffff}", None).1, b"(a\xf4\x8f\xbf\xc0".to_vec());
        assert_eq!(lexical_range("a", Some(b"ab")), (b"(ab".to_vec(), b"(b".to_vec()));
    }
}
