//! [`RedisBackend`]: the contract on Redis 7 and Valkey, one server or a cluster.
//!
//! | key, after `<prefix>:{/<partition>}:` | type | holds |
//! |---|---|---|
//! | `record:<name>` | hash | `version`, `data`; `expires_at` and `fence` where they apply; former versions as `was:<number>` |
//! | `index` | sorted set | the names of the partition |
//! | `past:0`, `past:1` | sorted sets | names that are over by the server's clock, and no longer in `index` |
//! | `counted` | sorted set | the counted names by deadline |
//! | `log` | stream | the last changes; also the channel that says it has grown |
//!
//! `version` is the head of the record: `<token> <created_at>`, the time in 16 digits, and where one of
//! them applies `;<expires_at>;<1 if counted>;<number of the oldest former version>;<tag>`. It is one
//! field because every read and write needs most of it; `expires_at` says the deadline again, for
//! people and their tools.
//!
//! An entry of the log is a field with the name of the record and its new head; of a deleted one it is
//! the token alone, with version 0.
//!
//! `fence` holds the stamps of writes that were given up and must not land: for an hour, or for as
//! long as the record's key lives, which is five minutes more than the record.

mod batch;
mod call;
mod cluster;
mod connect;
mod error;
mod key;
mod nodes;
mod options;
mod reply;
mod scripts;
mod single;
mod subscriber;
mod tls;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, Value};

use self::batch::{Batcher, Put};
use self::call::{Change, Failed, Outcome};
use self::connect::Link;
use self::error::Failure;
use self::key::Keyspace;
pub use self::options::{RedisOptions, TlsIdentity};
use self::reply::Listed;
use self::scripts::Scripts;
use self::subscriber::Subscriber;
use crate::clock::Clock;
use crate::limits;
use crate::store::{
    Cursor, Key, Page, PageRequest, Partition, Precondition, Record, Revision, StorageBackend,
    StoreError, Version, VersionToken, Watch, WatchFrom, Write,
};

/// Keeps everything in Redis or Valkey, 7.0 or later, where several processes share it.
///
/// An acknowledged write is as durable as the server makes it: with `appendonly yes` it survives
/// the end of the server's process, with `appendfsync always` that of its machine. A failover may
/// lose what the replica had not received. The server must not evict keys
/// (`maxmemory-policy noeviction`, the default). An ACL user has the same rights to all keys below the
/// prefix; selectors that give some of them more are not looked at.
///
/// A record is absent from its deadline on by the clock of the process that asks. The server
/// reclaims it some minutes later, so that clocks may differ. A listing that comes across very many
/// that are over, a quarter of a million before a page, puts them out of the way and is to be asked again
/// ([`StoreError::Unavailable`]). A lost answer is settled with the
/// server; only when that fails too is a write reported as [`StoreError::OutcomeUnknown`].
#[derive(Clone)]
pub struct RedisBackend(Arc<Shared>);

struct Shared {
    link: Arc<Link>,
    batcher: Arc<Batcher>,
    options: RedisOptions,
    keyspace: Keyspace,
    scripts: Scripts,
    clock: Clock,
    /// The task that listens for all watches. It ends with the runtime on which it was spawned, and
    /// is then replaced on the runtime of whoever watches next.
    subscriber: Mutex<Option<Subscriber>>,
}

impl RedisBackend {
    /// Connects to `redis://`, `rediss://` (TLS), `redis+cluster://` or `rediss+cluster://`, or through a
    /// Unix domain socket to `redis+unix://` or, which is the same, `unix://`.
    ///
    /// The URL may name an ACL user, a password and a database:
    /// `rediss://user:password@host:6380/2`; a cluster is named by one or some of its nodes:
    /// `redis+cluster://host1:7000,host2:7000`. To connect, one of them must be there. From then on
    /// calls and watches find the others by what the cluster announces, over TLS if the named ones
    /// are, and with the same credentials. A watch that listens to a node which has left the cluster
    /// hears late of changes, until it notices and moves to another.
    ///
    /// The path of a socket is absolute, and the query has what else there is to say:
    /// `redis+unix:///run/redis.sock?db=2&user=me&pass=password`, percent-encoded, a `+` as `%2B`.
    ///
    /// # Errors
    /// [`StoreError::InvalidLocation`] for a URL that names no server or a certificate that cannot
    /// be read, [`StoreError::Unavailable`] when the server cannot be reached, and
    /// [`StoreError::Engine`] when it, or we, refuse the other's certificate or credentials.
    pub async fn connect(
        url: &str,
        options: RedisOptions,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let link = Arc::new(Link::open(url, &options).await?);
        let keyspace = Keyspace::new(&options.prefix);
        let batcher = Arc::new(Batcher::new(Arc::clone(&link), clock.clone()));
        let (scripts, subscriber) = (Scripts::new(), Mutex::default());
        let shared = Shared { link, batcher, options, keyspace, scripts, clock, subscriber };
        Ok(Self(Arc::new(shared)))
    }
}

impl std::fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBackend")
            .field("prefix", &self.0.options.prefix)
            .field("clock", &self.0.clock)
            .finish_non_exhaustive()
    }
}

/// How many calls of one listing may find nothing but expired records. Each call looks at thousands of
/// names, so these are a quarter of a million.
const IN_VAIN: usize = 64;

impl Shared {
    /// The task that listens for all watches, spawned anew if its runtime has ended.
    fn subscriber(&self) -> Subscriber {
        let mut subscriber = self.subscriber.lock();
        match &*subscriber {
            Some(current) if !current.has_ended() => current.clone(),
            _ => {
                let new = Subscriber::spawn(Arc::clone(&self.link), self.options.patrol_interval);
                subscriber.insert(new).clone()
            }
        }
    }

    /// What is wrong with a record, or with the keys around it. Only asked when something is.
    async fn explain(&self, key: &Key, failure: Failure) -> StoreError {
        if let Some(reason) = failure.damage() {
            return reply::damaged(key, reason);
        }
        if !failure.is_wrong_type() {
            return failure.into_store_error();
        }
        let mut cmd = Cmd::new();
        cmd.arg("TYPE").arg(self.keyspace.record_only(key));
        match self.read(&cmd).await {
            Ok(Value::SimpleString(kind)) if kind != "hash" && kind != "none" => {
                reply::damaged(key, &format!("a {kind} of somebody else"))
            }
            Ok(_) => failure.in_partition(key.partition()),
            Err(failure) => failure.into_store_error(),
        }
    }

    async fn explain_failed(&self, key: &Key, failed: Failed) -> StoreError {
        match failed {
            Failed::NotDone(failure) => self.explain(key, failure).await,
            unknown => unknown.into_store_error(),
        }
    }

    async fn put(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        write.check()?;
        let put = Arc::new(Put {
            keys: self.keyspace.record(key),
            wanted: expected(precondition),
            attributes: attributes(&write),
            capacity: write.capacity.map(|limit| limit.to_string()).unwrap_or_default(),
            value: write.value,
        });
        match self.write(Change::Put(&put)).await {
            Ok((_, Outcome::Landed(token))) => Ok(token),
            Ok((stamp, Outcome::Answer(Value::Int(version)))) => {
                let version = u64::try_from(version).map_err(|_| error::unreadable("version"))?;
                Ok(VersionToken::from_parts(version, stamp))
            }
            Ok((_, Outcome::Answer(Value::Array(found)))) => Err(reply::conflict(found)),
            Ok((_, Outcome::Answer(Value::SimpleString(_)))) => {
                Err(StoreError::PartitionFull { limit: write.capacity.unwrap_or_default() })
            }
            Ok(_) => Err(error::unreadable("version")),
            Err(failed) => Err(self.explain_failed(key, failed).await),
        }
    }
}

/// The part of a record's head that follows the token and the time of creation. A stored head names the
/// oldest former version that is kept; only the script can tell that, so here stands, after a `k`, how
/// many to keep.
fn attributes(write: &Write) -> Vec<u8> {
    if write.expires_at.is_none()
        && write.capacity.is_none()
        && write.tag.is_none()
        && write.kept == 0
    {
        return Vec::new();
    }
    let expires_at = write.expires_at.map(|at| at.as_millis().to_string()).unwrap_or_default();
    let counted = if write.capacity.is_some() { "1" } else { "" };
    let kept = if write.kept > 0 { format!("k{}", write.kept) } else { String::new() };
    let text = format!(";{expires_at};{counted};{kept};");
    [text.as_bytes(), write.tag.as_ref().map_or(&[][..], |tag| tag.as_bytes())].concat()
}

/// A precondition as the scripts read it.
fn expected(precondition: Precondition) -> Vec<u8> {
    match precondition {
        Precondition::Any => Vec::new(),
        Precondition::Absent => b"absent".to_vec(),
        Precondition::Present => b"present".to_vec(),
        Precondition::Matches(token) => token.to_string().into_bytes(),
        Precondition::Tagged(tag) => [b"tag:", &tag.as_bytes()[..]].concat(),
    }
}

#[async_trait]
impl StorageBackend for RedisBackend {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        match self.0.fields(&self.0.keyspace.record_only(key)).await {
            Ok(value) => {
                let record = reply::stored(value, key)?;
                Ok(record.filter(|record| !record.is_expired(self.0.clock.now())))
            }
            Err(failure) => Err(self.0.explain(key, failure).await),
        }
    }

    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.0.put(key, write, Precondition::Any).await
    }

    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        self.0.put(key, write, precondition).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        let shared = &*self.0;
        let keys = shared.keyspace.record(key);
        let wanted = expected(precondition);
        let change = Change::Delete { keys: &keys, wanted: &wanted, name: key.name() };
        match shared.write(change).await {
            Ok((_, Outcome::Landed(_))) => Ok(true),
            Ok((_, Outcome::Answer(Value::Int(deleted)))) => Ok(deleted == 1),
            Ok((_, Outcome::Answer(Value::Array(found)))) => Err(reply::conflict(found)),
            Ok(_) => Err(error::unreadable("outcome")),
            Err(failed) => Err(shared.explain_failed(key, failed).await),
        }
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        let mut cmd = Cmd::new();
        cmd.arg("HGETALL").arg(self.0.keyspace.record_only(key));
        match self.0.read(&cmd).await {
            Ok(value) => reply::history(value, key, self.0.clock.now()),
            Err(failure) => Err(self.0.explain(key, failure).await),
        }
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        let shared = &*self.0;
        let start = page.start(partition, prefix)?;
        let mut after = start.map(|name| Bytes::copy_from_slice(name.as_bytes()));
        let limit = page.limit();
        let keys = shared.keyspace.partition(partition);
        let (index, log, counted, past) = (keys.index(), keys.log(), keys.counted(), keys.past());
        let now = shared.clock.now().as_millis();
        let (mut entries, mut damaged, mut revision) = (Vec::new(), Vec::new(), None);
        let (mut bytes, mut patience) = (0, IN_VAIN);
        let more = loop {
            let (min, max) = key::lexical_range(prefix, after.as_deref());
            let keys_of_call = [&*index, &log, &counted, &past[0], &past[1]];
            let mut call = shared.scripts.list.call(&keys_of_call, 6, 1_024);
            call.arg(keys.records()).arg(min).arg(max).arg(now);
            call.arg(limit - entries.len() - damaged.len());
            call.arg(limits::PAGE_BYTES.saturating_sub(bytes));
            let value = shared.read_script(&call).await;
            let value = value.map_err(|failure| failure.in_partition(partition))?;
            let listing = reply::listing(value, partition)?;
            bytes += listing.entries.iter().map(|it| it.record.value.len()).sum::<usize>();
            if listing.entries.is_empty() && listing.damaged.is_empty() {
                patience = patience.checked_sub(1).ok_or_else(error::too_many_over)?;
            }
            entries.extend(listing.entries);
            damaged.extend(listing.damaged);
            // A page of several calls shows the state at different moments. A watch has to continue from
            // the earliest, so that it misses nothing.
            revision.get_or_insert(listing.position);
            match listing.outcome {
                Listed::End => break false,
                Listed::More => break true,
                Listed::Pause(name) => after = Some(name),
            }
        };
        let epoch = shared.keyspace.epoch(partition);
        let revision = match revision.filter(|position| !position.is_empty()) {
            Some(position) => reply::revision(epoch, &position)?,
            // A replica, or a server that is out of memory, cannot mark a position in the log. A watch
            // from sequence 0 begins with a resync.
            None => Revision { epoch, sequence: 0 },
        };
        let mut page = Page { entries, damaged, next: None, revision };
        page.next = page
            .last()
            .filter(|_| more)
            .map(|last| Cursor::new(partition, prefix, last.shared_name()));
        Ok(page)
    }

    async fn counted(&self, partition: &Partition) -> Result<u64, StoreError> {
        let shared = &*self.0;
        let mut cmd = Cmd::new();
        cmd.arg("ZCOUNT").arg(shared.keyspace.partition(partition).counted());
        cmd.arg(format!("({}", shared.clock.now().as_millis())).arg("+inf");
        match shared.read(&cmd).await {
            Ok(Value::Int(counted)) => Ok(u64::try_from(counted).unwrap_or(0)),
            Ok(_) => Err(error::unreadable("a count")),
            Err(failure) => Err(failure.in_partition(partition)),
        }
    }

    async fn cleanup_expired(&self, _limit: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError> {
        self.watch_within(partition, from, 0).await
    }

    async fn watch_within(
        &self,
        partition: &Partition,
        from: WatchFrom,
        delay_ms: u64,
    ) -> Result<Watch, StoreError> {
        watch::watch(&self.0, partition, from, Duration::from_millis(delay_ms)).await
    }

    async fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
