//! The contract on real servers, and what happens when they fail. Feature `redis-tests`.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code, and nobody's interface"
)]

#[path = "../resource_cases/mod.rs"]
mod resource_cases;
#[path = "../task_cases/mod.rs"]
mod task_cases;
#[path = "../warnings/mod.rs"]
mod warnings;

mod batches;
mod cost;
mod damage;
mod errors;
mod failover;
mod faults;
mod layout;
mod linearizability;
mod migration;
mod past;
mod proxy;
mod runtimes;
mod server;
mod store;
mod subscribing;
mod tls;
mod unix_socket;
mod watch_faults;

use store::RedisHarness;
use tenure::clock::Clock;
use tenure::store::contract::clock_ahead_of_the_server;

tenure::contract_suite!(redis, RedisHarness::new(server::shared_url()));
tenure::contract_suite!(redis_cluster, RedisHarness::new(server::shared_cluster_url()));
tenure::contract_suite!(redis_tls, tls::harness());

mod resources {
    use super::*;
    resource_cases::for_each_case!(RedisHarness::new(server::shared_url()));
}

mod resources_on_a_cluster {
    use super::*;
    resource_cases::for_each_case!(RedisHarness::new(server::shared_cluster_url()));
}

mod tasks {
    use super::*;
    task_cases::for_each_case!(async |clock| store::shared(server::shared_url(), clock).await);
}

mod tasks_on_a_cluster {
    use super::*;
    task_cases::for_each_case!(
        async |clock| store::shared(server::shared_cluster_url(), clock).await
    );
}

/// What is near its deadline by the test's clock is not so by the server's.
fn new_clock() -> Clock {
    clock_ahead_of_the_server()
}
