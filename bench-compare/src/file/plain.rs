//! Plain SQLite through rusqlite, set up as its documentation advises for a durable server: WAL,
//! FULL, cached statements. One connection for all writers, since SQLite writes one at a time.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use rusqlite::{Connection, params};
use tenure::store::Key;

use super::{VALUE, key};
use crate::measure::per_call;

const PUT: &str = "INSERT INTO records (partition, name, version, value) VALUES (?1, ?2, 1, ?3)
    ON CONFLICT (partition, name) DO UPDATE SET version = version + 1, value = excluded.value";
const GET: &str = "SELECT version, value FROM records WHERE partition = ?1 AND name = ?2";
const PAGE: &str = "SELECT name, version, value FROM records WHERE partition = ?1 AND name >= ?2
    ORDER BY name LIMIT ?3";

pub struct Plain(std::sync::Mutex<Connection>);

impl Plain {
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS records (id INTEGER PRIMARY KEY, partition TEXT NOT NULL,
                 name TEXT NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL,
                 UNIQUE (partition, name));",
        )?;
        Ok(Self(connection.into()))
    }

    /// Writes in one transaction, to set the scene.
    pub fn fill(&self, keys: &[Key]) -> Result<()> {
        let mut connection = self.0.lock().map_err(|_| anyhow!("poisoned"))?;
        let transaction = connection.transaction()?;
        for key in keys {
            transaction.execute(PUT, params![key.partition().as_str(), key.name(), VALUE])?;
        }
        Ok(transaction.commit()?)
    }

    fn put(&self, key: &Key) -> Result<()> {
        let connection = self.0.lock().map_err(|_| anyhow!("poisoned"))?;
        let mut put = connection.prepare_cached(PUT)?;
        put.execute(params![key.partition().as_str(), key.name(), VALUE])?;
        Ok(())
    }

    pub fn get(&self, key: &Key) -> Result<()> {
        let connection = self.0.lock().map_err(|_| anyhow!("poisoned"))?;
        let mut get = connection.prepare_cached(GET)?;
        let (version, value): (i64, Vec<u8>) = get
            .query_row(params![key.partition().as_str(), key.name()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        std::hint::black_box((version, value));
        Ok(())
    }

    pub fn page(&self, key: &Key, limit: usize) -> Result<()> {
        let connection = self.0.lock().map_err(|_| anyhow!("poisoned"))?;
        let mut page = connection.prepare_cached(PAGE)?;
        let rows = page.query_map(
            params![key.partition().as_str(), key.name(), i64::try_from(limit)?],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)),
        )?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        ensure!(rows.len() == limit, "short page");
        std::hint::black_box(rows);
        Ok(())
    }

    /// Each caller a thread, each write a transaction. Nanoseconds of one write, amortised.
    pub fn commit_one_by_one(self: &Arc<Self>, callers: usize, calls: usize) -> Result<f64> {
        let barrier = Barrier::new(callers + 1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..callers)
                .map(|caller| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        (0..calls).try_for_each(|call| self.put(&key(caller, call % 50)?))
                    })
                })
                .collect();
            barrier.wait();
            let started = Instant::now();
            for thread in threads {
                thread.join().ok().context("a caller panicked")??;
            }
            Ok(per_call(started.elapsed(), callers * calls))
        })
    }
}
