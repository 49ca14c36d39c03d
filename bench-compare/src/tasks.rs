//! Tasks in memory: ours beside pmcp-tasks (creating, listing) and rmcp's TaskManager (getting).

mod create;
mod get;
mod list;

use std::sync::Arc;

use anyhow::Result;
use pmcp_tasks::store::backend::{StorageBackend as _, make_key};
use pmcp_tasks::{GenericTaskStore, TaskRecord, TaskSecurityConfig};
use serde_json::Map;
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::InMemoryBackend;
use tenure::tasks::{Call, NewTask, Task, TaskLimits, TaskStore};

use crate::measure::Effort;
use crate::table;

const PMCP: &str = "pmcp-tasks";
const RMCP: &str = "rmcp";
/// The tasks of each of the others.
const PER_OTHER: usize = 1_000;

/// Measures, and prints the table.
pub async fn run(effort: Effort) -> Result<()> {
    let mut rows = list::run(effort).await?;
    rows.extend(create::run(effort).await?);
    let (of_get, note) = get::run(effort).await?;
    rows.extend(of_get);
    table::print("Tasks in memory", &rows, &[note]);
    Ok(())
}

fn ours() -> TaskStore {
    let clock = Clock::system();
    let limits = TaskLimits { unfinished_per_owner: 1_000_000, ..TaskLimits::default() };
    TaskStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock).with_limits(limits)
}

fn call() -> NewTask {
    NewTask::new(Call::new("tools/call", Map::new()))
}

async fn create_ours(store: &TaskStore, owner: &str, tasks: usize) -> Result<Vec<Task>> {
    let owner = Owner::new(owner)?;
    let mut created = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        created.push(store.create(&owner, call()).await?);
    }
    Ok(created)
}

type Pmcp = GenericTaskStore<pmcp_tasks::InMemoryBackend>;

fn pmcp() -> Pmcp {
    let security = TaskSecurityConfig::default().with_max_tasks_per_owner(1_000_000);
    GenericTaskStore::new(pmcp_tasks::InMemoryBackend::new()).with_security(security)
}

/// Puts tasks into the backend as `create` would, which itself reads the whole store each time and
/// would take hours.
async fn create_pmcp(store: &Pmcp, owner: &str, tasks: usize) -> Result<()> {
    for _ in 0..tasks {
        let record = TaskRecord::new(owner.into(), "tools/call".into(), Some(3_600_000));
        let key = make_key(owner, &record.task.task_id);
        store.backend().put(&key, &serde_json::to_vec(&record)?).await?;
    }
    Ok(())
}

/// Tasks of other owners, in both stores.
async fn create_others(ours: &TaskStore, pmcp: &Pmcp, tasks: usize) -> Result<()> {
    for other in 0..tasks / PER_OTHER {
        let owner = format!("other-{other}");
        create_ours(ours, &owner, PER_OTHER).await?;
        create_pmcp(pmcp, &owner, PER_OTHER).await?;
    }
    Ok(())
}
