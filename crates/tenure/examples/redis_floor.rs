//! What a call of the Redis backend costs, next to the least that Redis can do for it: `HGETALL`,
//! and `EVALSHA` of a minimal compare-and-set.
//!
//! `cargo run --release -p tenure --features redis --example redis_floor -- redis://localhost`

use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::{Cmd, Script, aio::MultiplexedConnection};
use tenure::clock::Clock;
use tenure::store::{
    Key, Partition, Precondition, RedisBackend, RedisOptions, StorageBackend as _, Write,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 9;
const CALLS: usize = 4_000;
const VALUE: [u8; 1_024] = [b'x'; 1_024];
const SWAP: &str = "if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end \
    redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'data', ARGV[2]) return 1";

/// One caller's key, in both worlds.
struct Caller {
    store: RedisBackend,
    key: Key,
    floor: MultiplexedConnection,
    name: String,
    hash: String,
}

impl Caller {
    async fn hgetall(&self) -> Result<(), Failure> {
        let mut cmd = Cmd::new();
        cmd.arg("HGETALL").arg(&self.name);
        let _: Vec<(String, Vec<u8>)> = cmd.query_async(&mut self.floor.clone()).await?;
        Ok(())
    }

    async fn swap(&self, version: usize) -> Result<(), Failure> {
        let mut cmd = Cmd::new();
        cmd.arg("EVALSHA").arg(&self.hash).arg(1).arg(&self.name).arg(version).arg(&VALUE[..]);
        let swapped: usize = cmd.query_async(&mut self.floor.clone()).await?;
        assert_eq!(swapped, 1);
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Work {
    HGetAll,
    Get,
    Swap,
    Put,
    PutIfVersion,
}

async fn run(caller: &Caller, work: Work, calls: usize) -> Result<(), Failure> {
    let mut token = caller.store.put(&caller.key, Write::new(&VALUE[..])).await?;
    let mut reset = Cmd::new();
    reset.arg("HSET").arg(&caller.name).arg("version").arg(0).arg("data").arg(&VALUE[..]);
    reset.query_async::<()>(&mut caller.floor.clone()).await?;
    for call in 0..calls {
        match work {
            Work::HGetAll => caller.hgetall().await?,
            Work::Get => drop(caller.store.get(&caller.key).await?.ok_or("gone")?),
            Work::Swap => caller.swap(call).await?,
            Work::Put => drop(caller.store.put(&caller.key, Write::new(&VALUE[..])).await?),
            Work::PutIfVersion => {
                let (write, matches) = (Write::new(&VALUE[..]), Precondition::Matches(token));
                token = caller.store.put_if_version(&caller.key, write, matches).await?;
            }
        }
    }
    Ok(())
}

async fn time(callers: &[Caller], work: Work) -> Result<Duration, Failure> {
    let calls = CALLS / callers.len() * if callers.len() == 1 { 1 } else { 2 };
    let started = Instant::now();
    for result in join_all(callers.iter().map(|caller| run(caller, work, calls))).await {
        result?;
    }
    Ok(started.elapsed() / u32::try_from(calls * callers.len())?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://localhost".into());
    let prefix = format!("floor-{:016x}", rand::random::<u64>());
    let options = RedisOptions::default().prefix(&prefix);
    let store = RedisBackend::connect(&url, options, Clock::system()).await?;
    let mut floor = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let hash = Script::new(SWAP).get_hash().to_owned();
    redis::cmd("SCRIPT").arg("LOAD").arg(SWAP).query_async::<()>(&mut floor).await?;
    let partition = Partition::new(["floor"])?;
    println!("callers  HGETALL      get  ratio     swap      put  ratio  put_if_version  ratio");
    for count in [1, 8, 64] {
        let callers: Vec<_> = (0..count)
            .map(|index| {
                let (store, floor, hash) = (store.clone(), floor.clone(), hash.clone());
                let name = format!("{prefix}:{{/floor}}:record:floor-{index}");
                Ok(Caller { store, key: partition.key(format!("{index}"))?, floor, name, hash })
            })
            .collect::<Result<_, Failure>>()?;
        let works = [Work::HGetAll, Work::Get, Work::Swap, Work::Put, Work::PutIfVersion];
        let mut times = [const { Vec::new() }; 5];
        // Interleaved, so that a noisy moment meets all of them.
        for _ in 0..ROUNDS {
            for (work, times) in works.iter().zip(&mut times) {
                times.push(time(&callers, *work).await?);
            }
        }
        let [hgetall, get, swap, put, put_if] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1e6
        });
        println!(
            "{count:>7}  {hgetall:>7.1}  {get:>7.1}  {:>5.2}  {swap:>7.1}  {put:>7.1}  {:>5.2}  \
             {put_if:>14.1}  {:>5.2}",
            hgetall / get,
            swap / put,
            swap / put_if
        );
    }
    Ok(())
}
