//! The contract on real servers, and what happens when they fail. Feature `redis-tests`.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code, and nobody's interface"
)]

mod errors;
mod faults;
mod layout;
mod linearizability;
mod proxy;
mod server;
mod store;

use store::RedisHarness;

tenure::contract_suite!(redis, RedisHarness::new(server::shared_url()));
tenure::contract_suite!(redis_cluster, RedisHarness::new(server::shared_cluster_url()));
