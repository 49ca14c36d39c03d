//! Creating a task beside none and beside many.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pmcp_tasks::store::backend::{StorageBackend as _, make_key};
use tenure::Owner;
use tenure::store::{Partition, Precondition};
use tenure::tasks::TaskStore;

use super::{PMCP, Pmcp, call, create_others, create_ours, create_pmcp, ours, pmcp};
use crate::measure::{Effort, alternate, per_call};
use crate::table::{Figure, Row, Target};

const MINE: usize = 1_000;
/// What "the same" means on a machine that others use too.
const SAME: f64 = 1.25;

pub async fn run(effort: Effort) -> Result<Vec<Row>> {
    let others = if effort.quick { 10_000 } else { 100_000 };
    let none = measure(effort, 0, 0, 10_000).await?;
    let thousand = measure(effort, MINE, 0, 200).await?;
    let crowd = measure(effort, 0, others, 20).await?;
    let row = |what, (us, them)| Row {
        what,
        ours: Figure::Time(us),
        theirs: Some((PMCP, Figure::Time(them))),
        target: Target::None,
    };
    Ok(vec![
        row("create, 0 tasks of the owner".into(), none),
        row(format!("create, {MINE} tasks of the owner"), thousand),
        row(format!("create, {others} live tasks of others"), crowd),
        Row {
            what: format!("create, {MINE} tasks of the owner against 0"),
            ours: Figure::Growth(thousand.0 / none.0),
            theirs: Some((PMCP, Figure::Growth(thousand.1 / none.1))),
            target: Target::GrowthWithin(SAME),
        },
    ])
}

/// The time of a create for an owner of `mine` tasks beside `others` of other owners. Each created
/// task is deleted again outside of the timed part, so that the numbers stay what they are.
async fn measure(
    effort: Effort,
    mine: usize,
    others: usize,
    their_calls: usize,
) -> Result<(f64, f64)> {
    let (ours, theirs) = (ours(), pmcp());
    create_others(&ours, &theirs, others).await?;
    create_ours(&ours, "me", mine).await?;
    create_pmcp(&theirs, "me", mine).await?;
    let (our_calls, their_calls) = (effort.calls(10_000), effort.calls(their_calls));
    alternate(
        effort,
        async || create_and_delete_ours(&ours, our_calls).await,
        async || create_and_delete_theirs(&theirs, their_calls).await,
    )
    .await
}

async fn create_and_delete_ours(store: &TaskStore, calls: usize) -> Result<f64> {
    let me = Owner::new("me")?;
    let partition = Partition::new(["tasks", me.as_str()])?;
    let mut total = Duration::ZERO;
    for _ in 0..calls {
        let new = call();
        let started = Instant::now();
        let task = store.create(&me, new).await?;
        total += started.elapsed();
        let key = partition.key(task.id.as_str())?;
        store.backend().delete(&key, Precondition::Present).await.context("delete")?;
    }
    Ok(per_call(total, calls))
}

async fn create_and_delete_theirs(store: &Pmcp, calls: usize) -> Result<f64> {
    let mut total = Duration::ZERO;
    for _ in 0..calls {
        let started = Instant::now();
        let record = store.create("me", "tools/call", None).await?;
        total += started.elapsed();
        store.backend().delete(&make_key("me", &record.task.task_id)).await?;
    }
    Ok(per_call(total, calls))
}
