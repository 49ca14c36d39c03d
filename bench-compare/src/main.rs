//! Tenure beside its peers, in one run: medians of rounds that take turns, as Markdown tables.
//!
//! `cargo run --release --manifest-path bench-compare/Cargo.toml -- [memory|tasks|file|http|redis|resources|all]`

mod file;
mod http;
mod measure;
mod memory;
mod redis;
mod resources;
mod table;
mod tasks;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::measure::Effort;

/// The threads of the runtime that everything runs on.
pub const WORKER_THREADS: usize = 2;

#[derive(Parser)]
#[command(about = "Tenure beside its peers, in one run")]
struct Arguments {
    /// What to measure.
    #[arg(value_enum, default_value = "all")]
    group: Group,
    /// Rounds of each pair of contenders.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Fewer calls and smaller sizes: to see that it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// A folder on the disk to measure; the files are made in a temporary folder inside it.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    Memory,
    Tasks,
    File,
    Http,
    Redis,
    Resources,
    All,
}

impl Group {
    fn includes(self, other: Self) -> bool {
        self == other || self == Self::All
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()?
        .block_on(run(arguments))
}

async fn run(Arguments { group, rounds, quick, folder }: Arguments) -> Result<()> {
    let effort = Effort { rounds: rounds.max(1), quick };
    if group.includes(Group::Memory) {
        memory::run(effort).await?;
    }
    if group.includes(Group::Tasks) {
        tasks::run(effort).await?;
    }
    if group.includes(Group::File) {
        file::run(effort, &folder).await?;
    }
    if group.includes(Group::Http) {
        http::run(effort, &folder).await?;
    }
    if group.includes(Group::Redis) {
        redis::run(effort).await?;
    }
    if group.includes(Group::Resources) {
        resources::run(effort, &folder).await?;
    }
    Ok(())
}
