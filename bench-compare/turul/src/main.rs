//! `turul-mcp-task-storage` on SQLite, creating and completing tasks, as a program of its own.
//!
//! For each line `CALLERS CALLS` on its input it runs a round and answers with the nanoseconds of
//! one task, amortised over all callers, or with `failed: REASON`. Its one argument is the file.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;
use sqlx::Connection as _;
use turul_mcp_protocol::TaskStatus;
use turul_mcp_task_storage::{
    SqliteTaskConfig, SqliteTaskStorage, TaskOutcome, TaskRecord, TaskStorage as _,
};

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).context("usage: bench-compare-turul FILE")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let store = Arc::new(runtime.block_on(open(Path::new(&path)))?);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (callers, calls) = line.split_once(' ').context("CALLERS CALLS")?;
        match runtime.block_on(round(&store, callers.parse()?, calls.parse()?)) {
            Ok(nanos) => println!("{nanos}"),
            Err(error) => println!("failed: {error}"),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The crate cannot be told a journal mode, but a file keeps the one it has: WAL, the faster.
async fn open(path: &Path) -> Result<SqliteTaskStorage> {
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await?;
    sqlx::query("PRAGMA journal_mode = WAL").execute(&mut connection).await?;
    connection.close().await?;
    let config = SqliteTaskConfig {
        database_path: path.to_owned(),
        // No limit: with one, each create counts the whole table.
        max_tasks: 0,
        ..SqliteTaskConfig::default()
    };
    Ok(SqliteTaskStorage::with_config(config).await?)
}

async fn round(store: &Arc<SqliteTaskStorage>, callers: usize, calls: usize) -> Result<f64> {
    let started = Instant::now();
    let tasks = (0..callers).map(|_| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for _ in 0..calls {
                create_and_complete(&store).await?;
            }
            Ok::<(), anyhow::Error>(())
        })
    });
    for task in futures::future::join_all(tasks.collect::<Vec<_>>()).await {
        task??;
    }
    #[allow(clippy::cast_precision_loss)]
    Ok(started.elapsed().as_nanos() as f64 / (callers * calls) as f64)
}

async fn create_and_complete(store: &SqliteTaskStorage) -> Result<()> {
    let task = TaskRecord {
        task_id: uuid::Uuid::now_v7().to_string(),
        session_id: Some("owner".into()),
        status: TaskStatus::Working,
        status_message: None,
        created_at: String::new(),
        last_updated_at: String::new(),
        ttl: Some(86_400_000),
        poll_interval: Some(1_000),
        original_method: "tools/call".into(),
        original_params: Some(json!({"name": "report", "arguments": {"text": "x".repeat(512)}})),
        result: None,
        meta: None,
    };
    let task = store.create_task(task).await?;
    let result = TaskOutcome::Success(json!({"text": "y".repeat(512)}));
    store.store_task_result(&task.task_id, result).await?;
    store.update_task_status(&task.task_id, TaskStatus::Completed, None).await?;
    Ok(())
}
