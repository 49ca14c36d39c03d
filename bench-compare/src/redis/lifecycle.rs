//! A task from its creation to its result, beside 99 others of the same owner. It is deleted outside
//! of the timed part, so that the number stays what it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use pmcp_tasks::store::redis::RedisBackend as PmcpRedis;
use pmcp_tasks::{GenericTaskStore, TaskSecurityConfig, TaskStatus};
use serde_json::{Map, Value, json};
use tenure::Owner;
use tenure::clock::Clock;
use tenure::store::{Precondition, RedisBackend, RedisOptions};
use tenure::tasks::{Call, NewTask, TaskLimits, TaskRef, TaskStore};

use super::peers::Floor;
use super::{FLOOR, PMCP};
use crate::measure::{Effort, alternate, per_call};
use crate::table::{Figure, Row, Target};

const OTHERS: usize = 99;
const OWNER: &str = "me";
const CALLERS: [usize; 3] = [1, 8, 64];
/// About as long as the record of such a task.
const TASK: [u8; 400] = [b'x'; 400];

pub async fn run(effort: Effort, url: &str) -> Result<Vec<Row>> {
    let clock = Clock::system();
    let options = RedisOptions::default().prefix("ours-lifecycle");
    let backend = Arc::new(RedisBackend::connect(url, options, clock.clone()).await?);
    let limits = TaskLimits { unfinished_per_owner: 1_000_000, ..TaskLimits::default() };
    let ours = TaskStore::new(backend, clock).with_limits(limits);
    let pmcp = PmcpRedis::new(url).await?.with_prefix("pmcp-lifecycle");
    let security = TaskSecurityConfig::default().with_max_tasks_per_owner(1_000_000);
    let theirs = Arc::new(GenericTaskStore::new(pmcp).with_security(security));
    let me = Owner::new(OWNER)?;
    for _ in 0..OTHERS {
        ours.create(&me, NewTask::new(Call::new("tools/call", Map::new()))).await?;
        theirs.create(OWNER, "tools/call", None).await?;
    }
    let mut rows = Vec::new();
    for callers in CALLERS {
        let (our_calls, their_calls) = (effort.calls(500), effort.calls(20));
        let (us, them) = alternate(
            effort,
            async || at_once(callers, || live_ours(ours.clone(), me.clone(), our_calls)).await,
            async || at_once(callers, || live_theirs(Arc::clone(&theirs), their_calls)).await,
        )
        .await?;
        rows.push(Row {
            what: format!(
                "create, variables, result, get; {OTHERS} other tasks of the owner, {callers} callers"
            ),
            ours: Figure::Time(us),
            theirs: Some((PMCP, Figure::Time(them))),
            target: Target::Ratio(50.0),
        });
        rows.push(
            beside_floor(effort, url, callers, async || {
                at_once(callers, || live_ours(ours.clone(), me.clone(), our_calls)).await
            })
            .await?,
        );
    }
    Ok(rows)
}

/// The same beside four round trips of which no server could do with less: three writes that compare,
/// and a read.
async fn beside_floor(
    effort: Effort,
    url: &str,
    callers: usize,
    ours: impl AsyncFnMut() -> Result<f64>,
) -> Result<Row> {
    let floor = Floor::connect(url).await?;
    let calls = effort.calls(500);
    let one_of = AtomicUsize::new(0);
    let least = async || {
        let caller = || live_floor(floor.clone(), one_of.fetch_add(1, Ordering::Relaxed), calls);
        at_once(callers, caller).await
    };
    let (us, least) = alternate(effort, ours, least).await?;
    Ok(Row {
        what: format!("the same beside three EVALSHA and a HGETALL, {callers} callers"),
        ours: Figure::Time(us),
        theirs: Some((FLOOR, Figure::Time(least))),
        target: Target::None,
    })
}

/// What one caller's task takes while `callers` do the same, divided by them: the time of a task.
/// Each runs on a worker of the runtime, as on a server, where no reply has to wake another thread.
#[allow(clippy::cast_precision_loss)]
async fn at_once<F>(callers: usize, caller: impl Fn() -> F) -> Result<f64>
where
    F: Future<Output = Result<f64>> + Send + 'static,
{
    let callers: Vec<_> = (0..callers).map(|_| tokio::spawn(caller())).collect();
    let mut total = 0.0;
    let count = callers.len() as f64;
    for caller in callers {
        total += caller.await??;
    }
    Ok(total / count / count)
}

fn variables() -> Map<String, Value> {
    Map::from_iter([("step".to_owned(), json!(1))])
}

async fn live_ours(store: TaskStore, me: Owner, calls: usize) -> Result<f64> {
    let partition = tenure::store::Partition::new(["tasks", OWNER])?;
    let mut total = Duration::ZERO;
    for _ in 0..calls {
        let new = NewTask::new(Call::new("tools/call", Map::new()));
        let started = Instant::now();
        let id = store.create(&me, new).await?.id;
        let this = TaskRef::new(me.clone(), id.clone());
        store.set_variables(&this, variables()).await?;
        store.complete(&this, json!({ "content": [] })).await?;
        store.get(&me, &id).await?;
        total += started.elapsed();
        store.backend().delete(&partition.key(id.as_str())?, Precondition::Present).await?;
    }
    Ok(per_call(total, calls))
}

async fn live_floor(mut floor: Floor, caller: usize, calls: usize) -> Result<f64> {
    let key = format!("floor:{{{OWNER}}}:life-{caller}");
    let mut total = Duration::ZERO;
    for _ in 0..calls {
        floor.reset(&key, &TASK).await?;
        let started = Instant::now();
        for version in 0..3 {
            floor.swap(&key, version, &TASK).await?;
        }
        floor.get(&key).await?;
        total += started.elapsed();
    }
    Ok(per_call(total, calls))
}

async fn live_theirs(store: Arc<GenericTaskStore<PmcpRedis>>, calls: usize) -> Result<f64> {
    use pmcp_tasks::store::backend::{StorageBackend as _, make_key};
    let mut total = Duration::ZERO;
    for _ in 0..calls {
        let started = Instant::now();
        let id = store.create(OWNER, "tools/call", None).await?.task.task_id;
        let variables = variables().into_iter().collect();
        store.set_variables(&id, OWNER, variables).await?;
        let result = json!({ "content": [] });
        store.complete_with_result(&id, OWNER, TaskStatus::Completed, None, result).await?;
        store.get(&id, OWNER).await?;
        total += started.elapsed();
        store.backend().delete(&make_key(OWNER, &id)).await?;
    }
    Ok(per_call(total, calls))
}
