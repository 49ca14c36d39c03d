//! Single calls of the storage contract.

use anyhow::Result;

use super::peers::{Floor, Ours, Pmcp};
use super::{FLOOR, PMCP};
use crate::measure::{Effort, alternate, concurrent};
use crate::table::{Figure, Row, Target};

const CALLS: usize = 8_000;

#[derive(Clone, Copy)]
pub enum Operation {
    Get,
    Put,
    PutIfVersion,
}

pub async fn run(effort: Effort, url: &str) -> Result<Vec<Row>> {
    let ours = Ours::connect(url).await?;
    let floor = Floor::connect(url).await?;
    let pmcp = Pmcp::connect(url).await?;
    let mut rows = Vec::new();
    for (name, operation, least) in [
        ("get", Operation::Get, 0.85),
        ("put", Operation::Put, 0.7),
        ("put_if_version", Operation::PutIfVersion, 0.7),
    ] {
        for callers in [1, 8, 64] {
            let calls = effort.calls(CALLS * if callers == 1 { 1 } else { 3 }) / callers;
            let total = callers * calls;
            let us = async || {
                concurrent(callers, total, |caller| ours.clone().run(operation, caller, calls))
                    .await
            };
            let least_of_all = async || {
                concurrent(callers, total, |caller| floor.clone().run(operation, caller, calls))
                    .await
            };
            let them = async || {
                concurrent(callers, total, |caller| pmcp.clone().run(operation, caller, calls))
                    .await
            };
            let what = format!("{name}, {callers} callers");
            let (mine, floor) = alternate(effort, us, least_of_all).await?;
            rows.push(row(&what, mine, FLOOR, floor, Target::Ratio(least)));
            let (mine, theirs) = alternate(effort, us, them).await?;
            rows.push(row(&what, mine, PMCP, theirs, Target::None));
        }
    }
    Ok(rows)
}

fn row(what: &str, us: f64, peer: &'static str, them: f64, target: Target) -> Row {
    let theirs = Some((peer, Figure::Time(them)));
    Row { what: what.into(), ours: Figure::Time(us), theirs, target }
}
