//! `get` and `put_if_match` of the library, each beside the call of the backend that it rests on: a
//! record with a tag, a history and a place in its project's count. And beside the least that the
//! backend can be asked for, a bare record.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tenure::clock::Clock;
use tenure::resources::{Document, ResourceKey, ResourceLimits, ResourceStore};
use tenure::store::{
    FileBackend, InMemoryBackend, Key, Partition, Precondition, RedisBackend, RedisOptions,
    StorageBackend, Tag, VersionToken, Write,
};

use super::document;
use crate::measure::{Effort, alternate, concurrent};
use crate::table::{Figure, Row, Target};

/// For each caller, so that a writer need not wait for itself.
const KEYS: usize = 16;

type Backend = Arc<dyn StorageBackend>;

/// What the backend is asked for without the library.
#[derive(Clone, Copy)]
enum Raw {
    /// What the library asks it for, but for the line about the write.
    Same,
    /// No tag, no history, no count.
    Bare,
}

impl Raw {
    fn name(self) -> &'static str {
        match self {
            Self::Same => "raw backend, the same record",
            Self::Bare => "raw backend, a bare record",
        }
    }

    /// The targets are held against what a resource is.
    fn target(self, least: f64) -> Target {
        match self {
            Self::Same => Target::Ratio(least),
            Self::Bare => Target::None,
        }
    }

    fn keys(self, caller: usize) -> Result<Vec<Key>> {
        let project = match self {
            Self::Same => "same",
            Self::Bare => "bare",
        };
        let partition = Partition::new(["raw", project])?;
        (0..KEYS).map(|id| Ok(partition.key(format!("agent/{caller}-{id}"))?)).collect()
    }

    fn write(self, document: &Document, tag: Tag) -> Write {
        let write = Write::new(document.text().to_vec());
        match self {
            Self::Same => {
                let limits = ResourceLimits::default();
                let kept = limits.history_versions - 1;
                write.tagged(tag).keeping(kept).counted_within(limits.resources_per_project)
            }
            Self::Bare => write,
        }
    }

    fn unchanged(self, token: VersionToken, tag: Tag) -> Precondition {
        match self {
            Self::Same => Precondition::Tagged(tag),
            Self::Bare => Precondition::Matches(token),
        }
    }
}

pub async fn run(effort: Effort, folder: &Path, redis: &str) -> Result<Vec<Row>> {
    let clock = Clock::system();
    let options = RedisOptions::default().prefix("resources");
    let file = FileBackend::open(folder.join("resources.db"), clock.clone()).await?;
    let backends: [(&str, Backend, usize, usize); 3] = [
        ("memory", Arc::new(InMemoryBackend::new(clock.clone())), 200_000, 200_000),
        ("file", Arc::new(file), 40_000, 4_000),
        ("Redis", Arc::new(RedisBackend::connect(redis, options, clock).await?), 16_000, 16_000),
    ];
    let mut rows = Vec::new();
    for (name, backend, gets, puts) in backends {
        for callers in [1, 8] {
            let gets = effort.calls(gets) / callers;
            let puts = (effort.calls(puts) / callers).max(KEYS);
            for raw in [Raw::Same, Raw::Bare] {
                let (us, them) = alternate(
                    effort,
                    async || get(&backend, callers, gets).await,
                    async || raw_get(&backend, raw, callers, gets).await,
                )
                .await?;
                rows.push(row(format!("get, {name}, {callers} callers"), us, them, raw, 0.85));
                let (us, them) = alternate(
                    effort,
                    async || put(&backend, callers, puts).await,
                    async || raw_put(&backend, raw, callers, puts).await,
                )
                .await?;
                let what = format!("put_if_match, {name}, {callers} callers");
                rows.push(row(what, us, them, raw, 0.7));
            }
        }
    }
    Ok(rows)
}

fn row(what: String, us: f64, them: f64, raw: Raw, least: f64) -> Row {
    let theirs = Some((raw.name(), Figure::Time(them)));
    Row { what, ours: Figure::Time(us), theirs, target: raw.target(least) }
}

fn store(backend: &Backend) -> ResourceStore {
    ResourceStore::new(Arc::clone(backend), Clock::system())
}

fn keys(caller: usize) -> Result<Vec<ResourceKey>> {
    let key = |id| Ok(ResourceKey::new("acme", "agent", format!("{caller}-{id}"))?);
    (0..KEYS).map(key).collect()
}

/// Two values that take turns, ready to be written as a server has them after it read the request.
fn documents() -> Result<[Document; 2]> {
    Ok([document(0)?, document(1)?])
}

async fn get(backend: &Backend, callers: usize, calls: usize) -> Result<f64> {
    let store = store(backend);
    for caller in 0..callers {
        for key in keys(caller)? {
            store.put(&key, &document(0)?).await?;
        }
    }
    concurrent(callers, callers * calls, |caller| {
        let store = store.clone();
        async move {
            let keys = keys(caller)?;
            for call in 0..calls {
                std::hint::black_box(store.get(&keys[call % KEYS]).await?);
            }
            Ok(())
        }
    })
    .await
}

/// Two tags that take turns, as those of the values do.
const TAGS: [Tag; 2] = [Tag::new([1; Tag::BYTES]), Tag::new([2; Tag::BYTES])];

async fn raw_get(backend: &Backend, raw: Raw, callers: usize, calls: usize) -> Result<f64> {
    let document = document(0)?;
    for caller in 0..callers {
        for key in raw.keys(caller)? {
            backend.put(&key, raw.write(&document, TAGS[0])).await?;
        }
    }
    concurrent(callers, callers * calls, |caller| {
        let backend = Arc::clone(backend);
        async move {
            let keys = raw.keys(caller)?;
            for call in 0..calls {
                let record = backend.get(&keys[call % KEYS]).await?;
                std::hint::black_box(record).context("missing")?;
            }
            Ok(())
        }
    })
    .await
}

async fn put(backend: &Backend, callers: usize, calls: usize) -> Result<f64> {
    let store = store(backend);
    concurrent(callers, callers * calls, |caller| {
        let store = store.clone();
        async move {
            let (keys, documents) = (keys(caller)?, documents()?);
            let mut etags = Vec::new();
            for key in &keys {
                etags.push(store.put(key, &documents[1]).await?.etag);
            }
            for call in 0..calls {
                let document = &documents[call / KEYS % 2];
                let etag = &mut etags[call % KEYS];
                *etag = store.put_if_match(&keys[call % KEYS], document, *etag).await?.etag;
            }
            Ok(())
        }
    })
    .await
}

async fn raw_put(backend: &Backend, raw: Raw, callers: usize, calls: usize) -> Result<f64> {
    concurrent(callers, callers * calls, |caller| {
        let backend = Arc::clone(backend);
        async move {
            let (keys, documents) = (raw.keys(caller)?, documents()?);
            let mut tokens = Vec::new();
            for key in &keys {
                tokens.push(backend.put(key, raw.write(&documents[1], TAGS[1])).await?);
            }
            for call in 0..calls {
                let (token, turn) = (&mut tokens[call % KEYS], call / KEYS % 2);
                let write = raw.write(&documents[turn], TAGS[turn]);
                let unchanged = raw.unchanged(*token, TAGS[1 - turn]);
                *token = backend.put_if_version(&keys[call % KEYS], write, unchanged).await?;
            }
            Ok(())
        }
    })
    .await
}
