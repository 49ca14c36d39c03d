//! The keeper of a worker: beats its heart, inherits from those whose heart has stopped, and sweeps.

use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::Chain;
use crate::clock::{Clock, Timestamp};
use crate::runtime::liveness::{BeatOutcome, Heartbeat, Observer, beat_interval_ms};
use crate::runtime::own::look_after_own;
use crate::runtime::settlement::ClaimOutcome;
use crate::runtime::takeover::take_over;
use crate::runtime::worker::{Generation, Shared};
use crate::store::StoreError;

/// Expired records that are reclaimed by one call, and the pause before the next when there may be
/// more: callers come in between.
const SWEEP_RECORDS: usize = 1_000;
const SWEEP_PAUSE_MS: u64 = 100;
/// A duty that has not failed for this long goes well, whatever was before.
const GOES_WELL_MS: u64 = 10_000;

/// Keeps the worker alive in the eyes of others until it is released.
pub(super) async fn keep(shared: Arc<Shared>, mut heartbeat: Heartbeat) {
    let shared = &shared;
    while keep_alive(shared, &heartbeat).await {
        let former = shared.generation();
        former.lost.cancel();
        tokio::select! {
            anew = through_panics(shared, || start_anew(shared).boxed()) => heartbeat = anew,
            () = shared.released.cancelled() => return,
        }
        shared.schedule_settlement(former.worker.clone());
        let worker = former.worker.as_str();
        tracing::warn!(worker, "was taken for dead, and has started anew");
    }
}

/// Does all that a worker does beside its runs. False when it is released, true when others have
/// taken it for dead.
async fn keep_alive(shared: &Arc<Shared>, heartbeat: &Heartbeat) -> bool {
    let generation = &shared.generation();
    tokio::select! {
        () = through_panics(shared, || beat(shared, generation, heartbeat).boxed()) => true,
        () = through_panics(shared, || inherit(shared, generation).boxed()) => true,
        () = through_panics(shared, || look_after_own(shared, generation).boxed()) => true,
        () = through_panics(shared, || sweep(shared).boxed()) => true,
        () = shared.released.cancelled() => {
            let released = heartbeat.release(&**shared.tasks.backend()).await;
            if let Err(error) = released {
                tracing::warn!(error = %Chain(&error), "the heartbeat was not released; others will wait it out");
            }
            false
        }
    }
}

/// Does the work again, after a pause, for as long as it panics: no panic of a logger or of a
/// store's driver ends a worker that has tasks in its care, and none of its duties ends another.
async fn through_panics<'a, T>(shared: &Shared, work: impl Fn() -> BoxFuture<'a, T>) -> T {
    let clock = shared.tasks.clock();
    let mut rounds = Rounds::begin(clock);
    loop {
        if let Ok(done) = AssertUnwindSafe(work()).catch_unwind().await {
            return done;
        }
        // What it was about to do may be half done: adopted, say, and not run.
        shared.unsettled.notify_one();
        rounds.pause(clock).await;
    }
}

/// The rounds of a duty that never ends by itself: how often in a row it has failed.
struct Rounds {
    failed: u32,
    began: Timestamp,
}

impl Rounds {
    fn begin(clock: &Clock) -> Self {
        Self { failed: 0, began: clock.steady() }
    }

    /// Waits before the next round, the longer the more have failed in a row.
    async fn pause(&mut self, clock: &Clock) {
        clock.back_off_long(self.failed_before(clock.steady())).await;
        self.failed = self.failed.saturating_add(1);
        self.began = clock.steady();
    }

    /// How many rounds have failed in a row before one that fails now. What went well for a while
    /// ends the row.
    fn failed_before(&mut self, now: Timestamp) -> u32 {
        if now.millis_since(self.began) >= GOES_WELL_MS {
            self.failed = 0;
        }
        self.failed
    }
}

/// Reclaims what has expired, in the store as a whole. Never returns.
async fn sweep(shared: &Shared) {
    let clock = shared.tasks.clock();
    let interval_ms = shared.options.sweep_interval_ms.max(1);
    loop {
        match shared.tasks.cleanup(SWEEP_RECORDS).await {
            Ok(SWEEP_RECORDS) => clock.sleep_millis(SWEEP_PAUSE_MS.min(interval_ms)).await,
            Ok(_) => clock.sleep_millis(interval_ms).await,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "expired records were not reclaimed");
                clock.sleep_millis(interval_ms).await;
            }
        }
    }
}

/// Beats until others have taken this worker for dead.
async fn beat(shared: &Shared, generation: &Generation, heartbeat: &Heartbeat) {
    let clock = shared.tasks.clock();
    let interval_ms = beat_interval_ms(shared.options.heartbeat_timeout_ms);
    loop {
        clock.sleep_millis(interval_ms).await;
        let mut round = 0;
        loop {
            let sent = generation.send(clock);
            match heartbeat.beat(&**shared.tasks.backend()).await {
                Ok(BeatOutcome::Alive) => {
                    generation.land(sent);
                    break;
                }
                Ok(BeatOutcome::Lost) => return,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "a heartbeat failed");
                    clock.back_off_long(round).await;
                    round = round.saturating_add(1);
                }
            }
        }
    }
}

/// Adopts what every worker that dies leaves behind. Never returns.
async fn inherit(shared: &Arc<Shared>, generation: &Arc<Generation>) {
    let clock = shared.tasks.clock();
    let mut rounds = Rounds::begin(clock);
    loop {
        let error = match observe(shared, generation).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        tracing::warn!(error = %Chain(&error), "watching the other workers failed");
        rounds.pause(clock).await;
    }
}

async fn observe(
    shared: &Arc<Shared>,
    generation: &Arc<Generation>,
) -> Result<std::convert::Infallible, StoreError> {
    let backend = &**shared.tasks.backend();
    let mut observer = Observer::start(
        backend,
        generation.worker.clone(),
        shared.tasks.clock().clone(),
        shared.options.heartbeat_timeout_ms,
    )
    .await?;
    loop {
        let dead = observer.next_dead(backend).await?;
        if shared.closing.is_cancelled() {
            // Whoever stays has time for it.
            pending::<()>().await;
        }
        let worker = dead.worker.clone();
        let outcome = match take_over(shared, generation, dead).await {
            // Its heartbeat, or a claim of it, may be put right later. To begin observing anew
            // would give all the others more time.
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(worker = worker.as_str(), error = %Chain(&error), "a dead worker cannot be inherited from");
                ClaimOutcome::Kept
            }
            outcome => outcome?,
        };
        if outcome == ClaimOutcome::Kept {
            observer.hold_back(&worker);
        }
    }
}

/// Registers under a new identity.
async fn start_anew(shared: &Arc<Shared>) -> Heartbeat {
    let clock = shared.tasks.clock();
    let mut round = 0;
    loop {
        let generation = Generation::new(clock);
        match Heartbeat::start(&**shared.tasks.backend(), &generation.worker).await {
            Ok(heartbeat) => {
                *shared.generation.lock() = generation;
                return heartbeat;
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "registering anew failed");
                clock.back_off_long(round).await;
                round = round.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_duty_that_went_well_for_long_fails_for_the_first_time_again() {
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let mut rounds = Rounds::begin(&clock);
        for failed in 0..7 {
            assert_eq!(rounds.failed_before(clock.steady()), failed);
            rounds.pause(&clock).await;
            clock.advance_millis(GOES_WELL_MS - 1);
        }
        clock.advance_millis(1);
        assert_eq!(rounds.failed_before(clock.steady()), 0);
        rounds.pause(&clock).await;
        assert_eq!(rounds.failed_before(clock.steady()), 1);
    }
}
