//! Creating and completing tasks, beside `turul-mcp-task-storage` on SQLite.
//!
//! That crate brings an SQLite that cannot be linked beside ours, so it runs as a program of its
//! own, built and started here, which does a round whenever it is told to.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Map, json};
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::FileBackend;
use tenure::tasks::{Call, NewTask, TaskRef, TaskStore};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::measure::{Effort, alternate, concurrent, rate};
use crate::table::{Figure, Row, Target};

const PEER: &str = "turul";
const CALLS: usize = 640;

pub async fn run(effort: Effort, folder: &Path) -> Result<(Vec<Row>, String)> {
    let clock = Clock::system();
    let backend = FileBackend::open(folder.join("ours-tasks.db"), clock.clone()).await?;
    let ours = TaskStore::new(Arc::new(backend), clock);
    let mut turul = Turul::start(&folder.join("turul.db")).await?;
    let mut rows = Vec::new();
    let mut failed = None;
    for callers in [1, 8, 64] {
        let calls = (effort.calls(CALLS) / callers).max(1);
        let (us, them) = alternate(
            effort,
            async || create_and_complete(&ours, callers, calls).await,
            async || match turul.round(callers, calls).await? {
                Ok(nanos) => Ok(nanos),
                Err(reason) => {
                    failed = Some(reason);
                    Ok(f64::NAN)
                }
            },
        )
        .await?;
        rows.push(Row {
            what: format!("tasks created and completed, {callers} callers"),
            ours: Figure::Rate(rate(us)),
            theirs: Some((PEER, Figure::Rate(rate(them)))),
            target: Target::None,
        });
    }
    turul.stop().await?;
    let mut note = "A task of ours is two durable writes. turul's is three: its row, its result, \
                    its status; its file was put into WAL mode beforehand, which its own set-up \
                    does not do, and its limit of tasks was lifted, because with one it counts \
                    the table on each create."
        .to_owned();
    if let Some(reason) = failed {
        note.push_str(&format!(" A round of turul's failed: {reason}."));
    }
    Ok((rows, note))
}

async fn create_and_complete(store: &TaskStore, callers: usize, calls: usize) -> Result<f64> {
    concurrent(callers, callers * calls, |_| {
        let store = store.clone();
        async move {
            let owner = Owner::new("owner")?;
            for _ in 0..calls {
                let mut arguments = Map::new();
                arguments.insert("text".into(), "x".repeat(512).into());
                let new = NewTask::new(Call::new("report", arguments));
                let task = store.create(&owner, new).await?;
                let task = TaskRef::new(owner.clone(), task.id);
                store.complete(&task, json!({"text": "y".repeat(512)})).await?;
            }
            Ok(())
        }
    })
    .await
}

struct Turul {
    child: Child,
    rounds: ChildStdin,
    figures: Lines<BufReader<ChildStdout>>,
}

impl Turul {
    async fn start(file: &Path) -> Result<Self> {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/turul/Cargo.toml");
        eprintln!("building turul-mcp-task-storage …");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--quiet", "--manifest-path", manifest])
            .status()
            .await?;
        anyhow::ensure!(built.success(), "{manifest} did not build");
        let program =
            concat!(env!("CARGO_MANIFEST_DIR"), "/turul/target/release/bench-compare-turul");
        let mut child = Command::new(program)
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let rounds = child.stdin.take().context("no pipe")?;
        let figures = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        Ok(Self { child, rounds, figures })
    }

    /// Nanoseconds of a task, or why the round failed.
    async fn round(&mut self, callers: usize, calls: usize) -> Result<Result<f64, String>> {
        self.rounds.write_all(format!("{callers} {calls}\n").as_bytes()).await?;
        let line = self.figures.next_line().await?.ok_or_else(|| anyhow!("turul went away"))?;
        Ok(match line.strip_prefix("failed: ") {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(line.parse()?),
        })
    }

    async fn stop(mut self) -> Result<()> {
        drop(self.rounds);
        self.child.wait().await?;
        Ok(())
    }
}
