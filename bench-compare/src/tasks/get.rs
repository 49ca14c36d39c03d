//! Getting a task while many are live.

use std::time::Instant;

use anyhow::Result;
use rmcp::task_manager::{TaskManager, TaskOptions};
use tenure::Owner;
use tenure::tasks::{TaskId, TaskStore};

use super::{RMCP, create_ours, ours};
use crate::measure::{Effort, alternate, per_call};
use crate::table::{Figure, Row, Target};

const CALLS: usize = 20_000;
const TTL_MS: u64 = 24 * 60 * 60 * 1_000;
const FEW: usize = 100;
const MANY: usize = 100_000;

pub async fn run(effort: Effort) -> Result<(Vec<Row>, String)> {
    // Spawning reads every live task: 10,000 take some 15 s, 100,000 would take half an hour.
    let most = if effort.quick { 1_000 } else { 10_000 };
    let mut rows = Vec::new();
    let mut few = (f64::NAN, f64::NAN);
    let mut last = few;
    for live in [FEW, 1_000, 10_000] {
        if live > most {
            continue;
        }
        let (ours, theirs) = (Ours::with(live).await?, Theirs::with(live));
        let calls = effort.calls(CALLS);
        // As many calls as take about as long.
        let their_calls = (calls * FEW / live / 10).max(10);
        last = alternate(effort, async || ours.get(calls).await, async || theirs.get(their_calls))
            .await?;
        theirs.manager.shutdown();
        if live == FEW {
            few = last;
        }
        rows.push(Row {
            what: format!("tasks/get, {live} live tasks"),
            ours: Figure::Time(last.0),
            theirs: Some((RMCP, Figure::Time(last.1))),
            target: Target::None,
        });
    }
    let growth_of_theirs = last.1 / few.1;
    let growth = growth(effort).await?;
    rows.push(Row {
        what: format!("tasks/get, {MANY} live tasks against {FEW} (theirs: {most} against {FEW})"),
        ours: Figure::Growth(growth),
        theirs: Some((RMCP, Figure::Growth(growth_of_theirs))),
        target: Target::GrowthWithin(2.0),
    });
    let note = format!(
        "rmcp's TaskManager is measured up to {most} live tasks: each spawn and each get walks \
         through all of them, so setting up 100,000 alone would take about half an hour."
    );
    Ok((rows, note))
}

/// Ours at many against ours at few, taking turns.
async fn growth(effort: Effort) -> Result<f64> {
    let (few, many) = (Ours::with(FEW).await?, Ours::with(MANY).await?);
    let calls = effort.calls(CALLS);
    let (at_few, at_many) =
        alternate(effort, async || few.get(calls).await, async || many.get(calls).await).await?;
    Ok(at_many / at_few)
}

/// The ids that are asked for, as the text of requests that come one after the other: in an order that no
/// cache of records could guess, and themselves where the processor has just read.
struct Asked {
    text: String,
    ids: usize,
}

impl Asked {
    fn of(ids: &[impl AsRef<str>]) -> Self {
        // A prime stride.
        let in_turn = (0..ids.len()).map(|turn| ids[turn * 7_919 % ids.len()].as_ref());
        Self { text: in_turn.collect(), ids: ids.len() }
    }

    /// They are all as long as each other.
    fn at(&self, call: usize) -> &str {
        let bytes = self.text.len() / self.ids;
        let start = call % self.ids * bytes;
        &self.text[start..start + bytes]
    }
}

struct Ours {
    store: TaskStore,
    owner: Owner,
    asked: Asked,
}

impl Ours {
    async fn with(live: usize) -> Result<Self> {
        let store = ours();
        let tasks = create_ours(&store, "me", live).await?;
        let ids: Vec<_> = tasks.iter().map(|task| task.id.as_str()).collect();
        Ok(Self { store, owner: Owner::new("me")?, asked: Asked::of(&ids) })
    }

    async fn get(&self, calls: usize) -> Result<f64> {
        let started = Instant::now();
        for call in 0..calls {
            let id = TaskId::from(self.asked.at(call));
            std::hint::black_box(self.store.get(&self.owner, &id).await?);
        }
        Ok(per_call(started.elapsed(), calls))
    }
}

struct Theirs {
    manager: TaskManager,
    asked: Asked,
}

impl Theirs {
    fn with(live: usize) -> Self {
        let manager = TaskManager::new();
        let ids: Vec<_> = (0..live)
            .map(|_| {
                let options = TaskOptions::default().with_ttl_ms(TTL_MS);
                manager.spawn(options, |_| Box::pin(std::future::pending())).task_id
            })
            .collect();
        Self { manager, asked: Asked::of(&ids) }
    }

    fn get(&self, calls: usize) -> Result<f64> {
        let started = Instant::now();
        for call in 0..calls {
            std::hint::black_box(self.manager.get_task(self.asked.at(call))?);
        }
        Ok(per_call(started.elapsed(), calls))
    }
}
