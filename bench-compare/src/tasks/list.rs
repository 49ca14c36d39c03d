//! A page of 50 for an owner of many tasks among more of others.

use std::time::Instant;

use anyhow::{Result, ensure};
use pmcp_tasks::ListTasksOptions;
use tenure::Owner;
use tenure::store::PageRequest;

use super::{PMCP, create_others, create_ours, create_pmcp, ours, pmcp};
use crate::measure::{Effort, alternate, per_call};
use crate::table::{Figure, Row, Target};

const PAGE: usize = 50;
const CALLS: usize = 1_000;

pub async fn run(effort: Effort) -> Result<Vec<Row>> {
    let (mine, others) = if effort.quick { (1_000, 10_000) } else { (10_000, 100_000) };
    let (ours, theirs) = (ours(), pmcp());
    create_others(&ours, &theirs, others).await?;
    create_ours(&ours, "me", mine).await?;
    create_pmcp(&theirs, "me", mine).await?;
    let me = Owner::new("me")?;
    let first = || ListTasksOptions { owner_id: "me".into(), cursor: None, limit: Some(PAGE) };
    let (us, them) = alternate(
        effort,
        async || {
            let started = Instant::now();
            for _ in 0..CALLS {
                let page = ours.list(&me, PageRequest::first(PAGE)).await?;
                ensure!(page.tasks.len() == PAGE, "short page");
            }
            Ok(per_call(started.elapsed(), CALLS))
        },
        async || {
            let started = Instant::now();
            let page = theirs.list(first()).await?;
            ensure!(page.tasks.len() == PAGE, "short page");
            Ok(per_call(started.elapsed(), 1))
        },
    )
    .await?;
    Ok(vec![Row {
        what: format!("page of {PAGE}, {mine} tasks of the owner among {others} others"),
        ours: Figure::Time(us),
        theirs: Some((PMCP, Figure::Time(them))),
        target: Target::Ratio(1_000.0),
    }])
}
