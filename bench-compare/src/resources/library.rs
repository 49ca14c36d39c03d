//! `get` and `put_if_match` of the library, each beside the call of the backend that it rests on.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tenure::clock::Clock;
use tenure::resources::{Document, ResourceKey, ResourceStore};
use tenure::store::{
    FileBackend, InMemoryBackend, Key, Partition, Precondition, RedisBackend, RedisOptions,
    StorageBackend, Write,
};

use super::document;
use crate::measure::{Effort, alternate, concurrent};
use crate::table::{Figure, Row, Target};

const FLOOR: &str = "raw backend";
/// For each caller, so that a writer need not wait for itself.
const KEYS: usize = 16;

type Backend = Arc<dyn StorageBackend>;

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
            let (us, them) = alternate(
                effort,
                async || get(&backend, callers, gets).await,
                async || raw_get(&backend, callers, gets).await,
            )
            .await?;
            rows.push(row(format!("get, {name}, {callers} callers"), us, them, 0.85));
            let puts = (effort.calls(puts) / callers).max(KEYS);
            let (us, them) = alternate(
                effort,
                async || put(&backend, callers, puts).await,
                async || raw_put(&backend, callers, puts).await,
            )
            .await?;
            rows.push(row(format!("put_if_match, {name}, {callers} callers"), us, them, 0.7));
        }
    }
    Ok(rows)
}

fn row(what: String, us: f64, them: f64, least: f64) -> Row {
    let theirs = Some((FLOOR, Figure::Time(them)));
    Row { what, ours: Figure::Time(us), theirs, target: Target::Ratio(least) }
}

fn store(backend: &Backend) -> ResourceStore {
    ResourceStore::new(Arc::clone(backend), Clock::system())
}

fn keys(caller: usize) -> Result<Vec<ResourceKey>> {
    let key = |id| Ok(ResourceKey::new("acme", "agent", format!("{caller}-{id}"))?);
    (0..KEYS).map(key).collect()
}

fn raw_keys(caller: usize) -> Result<Vec<Key>> {
    let partition = Partition::new(["raw", "acme"])?;
    (0..KEYS).map(|id| Ok(partition.key(format!("agent/{caller}-{id}"))?)).collect()
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

async fn raw_get(backend: &Backend, callers: usize, calls: usize) -> Result<f64> {
    let value = Bytes::copy_from_slice(document(0)?.text());
    for caller in 0..callers {
        for key in raw_keys(caller)? {
            backend.put(&key, Write::new(value.clone())).await?;
        }
    }
    concurrent(callers, callers * calls, |caller| {
        let backend = Arc::clone(backend);
        async move {
            let keys = raw_keys(caller)?;
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

async fn raw_put(backend: &Backend, callers: usize, calls: usize) -> Result<f64> {
    concurrent(callers, callers * calls, |caller| {
        let backend = Arc::clone(backend);
        async move {
            let (keys, documents) = (raw_keys(caller)?, documents()?);
            let write = |document: &Document| Write::new(document.text().to_vec());
            let mut tokens = Vec::new();
            for key in &keys {
                tokens.push(backend.put(key, write(&documents[1])).await?);
            }
            for call in 0..calls {
                let token = &mut tokens[call % KEYS];
                let (write, matches) =
                    (write(&documents[call / KEYS % 2]), Precondition::Matches(*token));
                *token = backend.put_if_version(&keys[call % KEYS], write, matches).await?;
            }
            Ok(())
        }
    })
    .await
}
