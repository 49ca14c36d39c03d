//! Rounds, callers and medians.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    /// A tenth of the calls and the smaller of the sizes: to see that it works, not how fast.
    pub quick: bool,
}

impl Effort {
    /// `calls` of a full round, fewer of a quick one.
    pub fn calls(self, calls: usize) -> usize {
        if self.quick { (calls / 10).max(1) } else { calls }
    }
}

/// The median of some samples.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The medians of two contenders that take turns: A B, B A, A B. The first turn of each only warms
/// up. What else the machine does meets both alike.
pub async fn alternate(
    effort: Effort,
    mut a: impl AsyncFnMut() -> Result<f64>,
    mut b: impl AsyncFnMut() -> Result<f64>,
) -> Result<(f64, f64)> {
    a().await?;
    b().await?;
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for round in 0..effort.rounds {
        if round % 2 == 0 {
            of_a.push(a().await?);
            of_b.push(b().await?);
        } else {
            of_b.push(b().await?);
            of_a.push(a().await?);
        }
    }
    Ok((median(of_a), median(of_b)))
}

/// Lets `callers` tasks each run what `caller` makes, and gives the nanoseconds from the first
/// start to the last end, divided by `calls`, all callers' calls together.
pub async fn concurrent<F, R>(callers: usize, calls: usize, caller: F) -> Result<f64>
where
    F: Fn(usize) -> R,
    R: Future<Output = Result<()>> + Send + 'static,
{
    let work: Vec<_> = (0..callers).map(caller).collect();
    let started = Instant::now();
    let tasks: Vec<_> = work.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        task.await??;
    }
    Ok(per_call(started.elapsed(), calls))
}

/// Nanoseconds of one call.
#[allow(clippy::cast_precision_loss)]
pub fn per_call(elapsed: Duration, calls: usize) -> f64 {
    elapsed.as_nanos() as f64 / calls as f64
}

/// Calls of a second.
pub fn rate(nanos_per_call: f64) -> f64 {
    1e9 / nanos_per_call
}
