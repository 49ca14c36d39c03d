//! The three contenders, each with a key of its own for every caller.

use anyhow::{Context as _, Result, ensure};
use pmcp_tasks::store::backend::StorageBackend as _;
use redis::aio::MultiplexedConnection;
use redis::{Script, cmd};
use tenure::clock::Clock;
use tenure::store::{
    Key, Partition, Precondition, RedisBackend, RedisOptions, StorageBackend as _, Write,
};

use super::calls::Operation;

const VALUE: [u8; 1_024] = [b'x'; 1_024];
const SWAP: &str = "if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end \
    redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'data', ARGV[2]) return 1";

#[derive(Clone)]
pub struct Ours(RedisBackend);

impl Ours {
    pub async fn connect(url: &str) -> Result<Self> {
        let options = RedisOptions::default().prefix("ours");
        Ok(Self(RedisBackend::connect(url, options, Clock::system()).await?))
    }

    pub async fn run(self, operation: Operation, caller: usize, calls: usize) -> Result<()> {
        let key: Key = Partition::new(["tasks", "owner"])?.key(format!("task-{caller}"))?;
        let write = || Write::new(&VALUE[..]);
        let mut token = self.0.put(&key, write()).await?;
        for _ in 0..calls {
            match operation {
                Operation::Get => drop(self.0.get(&key).await?.context("missing")?),
                Operation::Put => drop(self.0.put(&key, write()).await?),
                Operation::PutIfVersion => {
                    let matches = Precondition::Matches(token);
                    token = self.0.put_if_version(&key, write(), matches).await?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone)]
pub struct Floor {
    connection: MultiplexedConnection,
    hash: String,
}

impl Floor {
    pub async fn connect(url: &str) -> Result<Self> {
        let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        cmd("SCRIPT").arg("LOAD").arg(SWAP).query_async::<()>(&mut connection).await?;
        Ok(Self { connection, hash: Script::new(SWAP).get_hash().to_owned() })
    }

    pub async fn run(mut self, operation: Operation, caller: usize, calls: usize) -> Result<()> {
        let key = format!("floor:{{owner}}:task-{caller}");
        self.reset(&key, &VALUE).await?;
        for version in 0..calls {
            match operation {
                Operation::Get => self.get(&key).await?,
                Operation::Put | Operation::PutIfVersion => {
                    self.swap(&key, version, &VALUE).await?
                }
            }
        }
        Ok(())
    }

    pub async fn reset(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let mut reset = cmd("HSET");
        reset.arg(key).arg("version").arg(0).arg("data").arg(value);
        Ok(reset.query_async::<()>(&mut self.connection).await?)
    }

    pub async fn get(&mut self, key: &str) -> Result<()> {
        let fields: Vec<(String, Vec<u8>)> =
            cmd("HGETALL").arg(key).query_async(&mut self.connection).await?;
        ensure!(fields.len() == 2, "missing");
        Ok(())
    }

    pub async fn swap(&mut self, key: &str, version: usize, value: &[u8]) -> Result<()> {
        let mut swap = cmd("EVALSHA");
        swap.arg(&self.hash).arg(1).arg(key).arg(version).arg(value);
        let swapped: usize = swap.query_async(&mut self.connection).await?;
        ensure!(swapped == 1, "not swapped");
        Ok(())
    }
}

#[derive(Clone)]
pub struct Pmcp(pmcp_tasks::store::redis::RedisBackend);

impl Pmcp {
    pub async fn connect(url: &str) -> Result<Self> {
        Ok(Self(pmcp_tasks::store::redis::RedisBackend::new(url).await?))
    }

    pub async fn run(self, operation: Operation, caller: usize, calls: usize) -> Result<()> {
        let key = format!("owner:task-{caller}");
        let mut version = self.0.put(&key, &VALUE).await?;
        for _ in 0..calls {
            match operation {
                Operation::Get => drop(self.0.get(&key).await?),
                Operation::Put => drop(self.0.put(&key, &VALUE).await?),
                Operation::PutIfVersion => {
                    version = self.0.put_if_version(&key, &VALUE, version).await?;
                }
            }
        }
        Ok(())
    }
}
