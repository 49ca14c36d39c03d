//! A listing of 1,000 resources alone, and among 100,000 of the same project.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use tenure::clock::Clock;
use tenure::resources::{ResourceKey, ResourceLimits, ResourceStore};
use tenure::store::{InMemoryBackend, PageRequest};

use super::document;
use crate::measure::{Effort, alternate, per_call};
use crate::table::{Figure, Row, Target};

const LISTED: usize = 1_000;
const ALL: usize = 100_000;
const CALLS: usize = 20;
/// What "does not depend" means on a machine that others use too.
const SAME: f64 = 1.25;

pub async fn run(effort: Effort) -> Result<Vec<Row>> {
    let all = if effort.quick { ALL / 10 } else { ALL };
    let alone = filled(LISTED).await?;
    let among = filled(all).await?;
    let (few, many) =
        alternate(effort, async || list(&alone).await, async || list(&among).await).await?;
    Ok(vec![
        Row {
            what: format!("list of {LISTED} of {all}"),
            ours: Figure::Time(many),
            theirs: None,
            target: Target::None,
        },
        Row {
            what: format!("list of {LISTED} of {all} against {LISTED} of {LISTED}"),
            ours: Figure::Growth(many / few),
            theirs: None,
            target: Target::GrowthWithin(SAME),
        },
    ])
}

async fn filled(resources: usize) -> Result<ResourceStore> {
    let clock = Clock::system();
    let limits = ResourceLimits { resources_per_project: u32::MAX, ..ResourceLimits::default() };
    let store = ResourceStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock)
        .with_limits(limits);
    let document = document(0)?;
    for id in 0..resources {
        let kind = if id < LISTED { "agent" } else { "tool" };
        store.put(&ResourceKey::new("acme", kind, format!("{id:06}"))?, &document).await?;
    }
    Ok(store)
}

async fn list(store: &ResourceStore) -> Result<f64> {
    let started = Instant::now();
    for _ in 0..CALLS {
        let (mut listed, mut page) = (0, PageRequest::default());
        loop {
            let found = store.list("acme", Some("agent"), page).await?;
            listed += found.items.iter().filter(|it| it.is_ok()).count();
            match found.next {
                Some(next) => page = PageRequest { limit: None, after: Some(next) },
                None => break,
            }
        }
        ensure!(listed == LISTED, "{listed} listed");
    }
    Ok(per_call(started.elapsed(), CALLS))
}
