//! Stores on a server, each below a random prefix of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tenure::clock::Clock;
use tenure::store::contract::{Harness, clock_ahead_of_the_server};
use tenure::store::{
    Key, Partition, RedisBackend, RedisOptions, StorageBackend, StoreError, Write,
};

pub fn random_prefix() -> String {
    format!("tenure-test-{:032x}", rand::random::<u128>())
}

/// Longer than a machine stands still. A call that takes so long is one whose answer does not come.
pub const STANDSTILL: Duration = Duration::from_secs(5);

pub fn options() -> RedisOptions {
    patient(RedisOptions::default().prefix(random_prefix()))
}

/// With timeouts that only what hangs comes to.
pub fn patient(options: RedisOptions) -> RedisOptions {
    options.connect_timeout(6 * STANDSTILL).response_timeout(6 * STANDSTILL)
}

/// For a test that waits for a timeout, and takes it well that any call may come to one.
pub fn impatient() -> RedisOptions {
    let timeout = Duration::from_millis(500);
    options().connect_timeout(timeout).response_timeout(timeout)
}

pub async fn open(url: &str) -> RedisBackend {
    open_with(url, options(), Clock::system()).await
}

pub async fn open_with(url: &str, options: RedisOptions, clock: Clock) -> RedisBackend {
    let started = Instant::now();
    loop {
        match RedisBackend::connect(url, options.clone(), clock.clone()).await {
            // Who is impatient may find the machine standing still.
            Err(StoreError::Unavailable { .. }) if started.elapsed() < 12 * STANDSTILL => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            connected => return connected.unwrap(),
        }
    }
}

/// A store of its own on a server that several tests use.
pub async fn shared(url: String, clock: Clock) -> Arc<dyn StorageBackend> {
    Arc::new(open_with(&url, options(), clock).await)
}

pub fn partition() -> Partition {
    Partition::new(["p"]).unwrap()
}

pub fn key(name: &str) -> Key {
    partition().key(name).unwrap()
}

pub fn write(value: &str) -> Write {
    Write::new(value.as_bytes().to_vec())
}

/// Calls until Redis is back. Anything but its absence fails.
pub async fn when_back<T>(mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let started = Instant::now();
    while started.elapsed() < 12 * STANDSTILL {
        match call().await {
            Ok(value) => return value,
            Err(StoreError::Unavailable { .. } | StoreError::OutcomeUnknown(_)) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("Redis did not come back")
}

pub struct RedisHarness {
    url: String,
    options: RedisOptions,
    clock: Clock,
}

impl RedisHarness {
    pub fn new(url: String) -> Self {
        Self::with(url, RedisOptions::default())
    }

    pub fn with(url: String, options: RedisOptions) -> Self {
        let options = patient(options.prefix(random_prefix()));
        Self { url, options, clock: clock_ahead_of_the_server() }
    }
}

#[async_trait]
impl Harness for RedisHarness {
    async fn connect(&self) -> Arc<dyn StorageBackend> {
        Arc::new(open_with(&self.url, self.options.clone(), self.clock.clone()).await)
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn reclaims_by_itself(&self) -> bool {
        true
    }

    fn model_sequences(&self) -> u32 {
        24
    }
}
