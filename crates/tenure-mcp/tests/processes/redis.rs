//! Several servers on one Redis, which the tests start themselves.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::latency::{create_many, measure};
use crate::replicas::{Replicas, act_as_one, take_over_many};
use crate::server::Settings;
use crate::{fencing, kill_loop, ledger, quota};

/// Ends with its standard input, and takes the server along: also when the tests are killed.
const KEEPER: &str = r#"redis-server "$@" & server=$!; read -r _; kill -9 $server; wait"#;

/// A port that is free, below those that the system gives to whoever asks for any: one of these
/// could be somebody else's before the server has it.
fn spare_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..20_000)).find(is_free).unwrap()
}

/// A Redis on a spare port.
struct Redis {
    port: String,
    folder: TempDir,
    keeper: Child,
    stdin: ChildStdin,
}

impl Redis {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = spare_port().to_string();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "redis-server", "--port", &port, "--bind", "127.0.0.1"])
            .args(["--save", "", "--logfile", "log"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = keeper.stdin.take().unwrap();
        let redis = Self { port, folder, keeper, stdin };
        let started = Instant::now();
        while redis.cli(&["PING"]).trim() != "PONG" {
            assert!(started.elapsed() < Duration::from_secs(60), "redis-server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        redis
    }

    fn settings(&self) -> Settings {
        Settings::new(format!("redis://127.0.0.1:{}", self.port), self.folder.path())
    }

    fn cli(&self, args: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port]).args(args).output();
        String::from_utf8(output.expect("redis-cli is installed").stdout).unwrap()
    }

    /// Commands so far, those inside scripts included.
    fn commands(&self) -> u64 {
        let stats = self.cli(&["INFO", "stats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.stdin.write_all(b"\n");
        let _ = self.keeper.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_act_as_one() {
    let redis = Redis::start();
    act_as_one(redis.settings()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stood_still_writes_nothing_late() {
    let redis = Redis::start();
    fencing::refuses_late_writes(redis.settings()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_loses_what_was_acknowledged_or_runs_twice_what_may_not() {
    let redis = Redis::start();
    kill_loop::loses_nothing(&redis.settings()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_keep_to_one_quota() {
    let redis = Redis::start();
    quota::is_exact(redis.settings()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, so it wants the machine for itself"]
async fn across_replicas_input_cancel_and_push_take_milliseconds() {
    let redis = Redis::start();
    let replicas = Replicas::start(redis.settings()).await;
    measure(&replicas, 300).await.is_prompt("Redis");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, so it wants the machine for itself"]
async fn many_tasks_of_a_dead_replica_are_at_work_again() {
    let redis = Redis::start();
    let settings = Settings { heartbeat_timeout_ms: 1_000, ..redis.settings() };
    take_over_many(settings, 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, so it wants the machine for itself"]
async fn a_thousand_tasks_that_wait_leave_redis_alone() {
    let redis = Redis::start();
    let settings = Settings { heartbeat_timeout_ms: 5_000, ..redis.settings() };
    let replicas = Replicas::start(settings).await;
    let ids = create_many(&replicas, "ask", 1_000).await;
    for id in &ids {
        replicas.polled(&replicas.b, id, "input_required").await;
    }
    assert_eq!(ledger::read(&replicas.settings.ledger).len(), 1_000);
    redis.cli(&["CONFIG", "RESETSTAT"]);
    let mut rates = Vec::new();
    for _ in 0..10 {
        let (begun, before) = (Instant::now(), redis.commands());
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The second question is a command too.
        let commands = u32::try_from(redis.commands() - before - 1).unwrap();
        rates.push(f64::from(commands) / begun.elapsed().as_secs_f64());
    }
    let rate = rates.iter().sum::<f64>() / 10.0;
    println!("{rate:.1} commands a second by three replicas with 1,000 tasks that wait");
    println!("{}", redis.cli(&["INFO", "commandstats"]));
    // Three heartbeats in five seconds twelve times, of five commands each, and a look of each replica
    // every 750 ms. Of most seconds: after one in which the machine stood still, a replica may be taken
    // for dead.
    rates.sort_by(f64::total_cmp);
    assert!(rates[5] < 25.0, "{rates:?}");
}
