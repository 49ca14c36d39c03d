//! The time by which things expire and workers are given up, which a test can set. How long an
//! answer from a server or a lock may take is measured by the runtime's own timers.

use std::fmt;
use std::future::Future;
use std::num::NonZero;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub struct Timestamp {
    /// Kept so that a deadline that may be missing weighs no more than one that is there.
    one_more: NonZero<u64>,
}

impl Timestamp {
    /// The latest moment that every backend can hold: 2^53 - 1, the largest exact double.
    pub const MAX: Self = Self::at((1 << 53) - 1);

    const fn at(millis: u64) -> Self {
        Self { one_more: NonZero::<u64>::MIN.saturating_add(millis) }
    }

    /// The moment `millis` milliseconds after the epoch; later than [`Timestamp::MAX`] becomes that.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        Self::at(millis).min(Self::MAX)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.one_more.get() - 1
    }

    /// The moment `millis` milliseconds later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Self {
        Self::from_millis(self.as_millis().saturating_add(millis))
    }

    /// The moment `millis` milliseconds earlier, at least the epoch.
    pub(crate) fn minus_millis(self, millis: u64) -> Self {
        Self::at(self.as_millis().saturating_sub(millis))
    }

    /// Milliseconds from `earlier` to this moment; 0 if it is not earlier.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.as_millis().saturating_sub(earlier.as_millis())
    }
}

impl From<u64> for Timestamp {
    fn from(millis: u64) -> Self {
        Self::from_millis(millis)
    }
}

impl From<Timestamp> for u64 {
    fn from(at: Timestamp) -> Self {
        at.as_millis()
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.as_millis())
    }
}

/// Tells the time, and waits for it. Clones share one time.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<watch::Sender<ManualTime>>),
}

#[derive(Debug, Clone, Copy)]
struct ManualTime {
    wall: Timestamp,
    steady: Timestamp,
}

impl Clock {
    /// The wall clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until a test moves it.
    #[must_use]
    pub fn manual(now: Timestamp) -> Self {
        let time = ManualTime { wall: now, steady: now };
        Self(Source::Manual(Arc::new(watch::Sender::new(time))))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Source::Manual(time) => time.borrow().wall,
        }
    }

    /// Lets time pass on a manual clock; what waits for the new time wakes. On the system clock,
    /// which nobody can move, it does nothing.
    pub fn advance_millis(&self, millis: u64) {
        if let Source::Manual(time) = &self.0 {
            time.send_modify(|time| {
                time.wall = time.wall.plus_millis(millis);
                time.steady = time.steady.plus_millis(millis);
            });
        }
    }

    /// Sets a manual clock back, as an operator might set that of a machine: what measures durations
    /// does not notice. On the system clock it does nothing.
    pub fn set_back_millis(&self, millis: u64) {
        if let Source::Manual(time) = &self.0 {
            time.send_modify(|time| time.wall = time.wall.minus_millis(millis));
        }
    }

    /// Waits until `deadline`.
    pub fn sleep_until(&self, deadline: Timestamp) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        async move {
            match &clock.0 {
                // The wall clock may be set back while we sleep, so look again.
                Source::System => loop {
                    let left = deadline.millis_since(clock.now());
                    if left == 0 {
                        return;
                    }
                    // Tokio's timer is monotonic; an hour at a time keeps it in its range.
                    tokio::time::sleep(Duration::from_millis(left.min(3_600_000))).await;
                },
                Source::Manual(time) => {
                    // The sender lives in `clock`, so the wait cannot fail.
                    let _ = time.subscribe().wait_for(|time| time.wall >= deadline).await;
                }
            }
        }
    }

    /// Waits for `millis` milliseconds, whoever sets the wall clock meanwhile.
    pub fn sleep_millis(&self, millis: u64) -> impl Future<Output = ()> + Send + 'static {
        let clock = self.clone();
        let deadline = self.steady().plus_millis(millis);
        // Some decades are as good as for ever, and stay in the timer's range.
        let timer = tokio::time::Instant::now() + Duration::from_millis(millis.min(1 << 40));
        async move {
            match &clock.0 {
                Source::System => tokio::time::sleep_until(timer).await,
                Source::Manual(time) => {
                    let _ = time.subscribe().wait_for(|time| time.steady >= deadline).await;
                }
            }
        }
    }

    /// A time that nobody can set and that only measures durations within this process.
    pub(crate) fn steady(&self) -> Timestamp {
        static START: OnceLock<Instant> = OnceLock::new();
        match &self.0 {
            Source::System => {
                let since = START.get_or_init(Instant::now).elapsed();
                Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Source::Manual(time) => time.borrow().steady,
        }
    }
}

impl Clock {
    /// Waits a moment before round `round + 1` of a contended change: jittered, rising, at most
    /// some tens of milliseconds. On a manual clock it only lets others run.
    pub(crate) async fn back_off(&self, round: u32) {
        match (&self.0, round) {
            (Source::System, 3..) => {
                let ceiling_us = 250_u64 << round.min(9);
                let wait_us = rand::random_range(0..=ceiling_us.min(20_000));
                tokio::time::sleep(Duration::from_micros(wait_us)).await;
            }
            _ => tokio::task::yield_now().await,
        }
    }
}

impl Clock {
    /// Waits before round `round + 1` of a call that a troubled store did not answer: jittered,
    /// rising to about a second.
    pub(crate) async fn back_off_long(&self, round: u32) {
        let ceiling_ms = (25_u64 << round.min(6)).min(1_000);
        match &self.0 {
            Source::System => {
                let wait_ms = rand::random_range(ceiling_ms / 2..=ceiling_ms);
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
            Source::Manual(_) => tokio::task::yield_now().await,
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.0 {
            Source::System => "system",
            Source::Manual(_) => "manual",
        };
        write!(f, "Clock({source}, {:?})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_on_a_manual_clock_ends_exactly_at_its_deadline() {
        let clock = Clock::manual(Timestamp::from_millis(0));
        let mut sleep = Box::pin(clock.sleep_until(Timestamp::from_millis(10)));
        clock.advance_millis(9);
        assert!(futures::poll!(&mut sleep).is_pending());
        clock.advance_millis(1);
        assert!(futures::poll!(&mut sleep).is_ready());
    }

    #[tokio::test]
    async fn a_manual_clock_that_is_set_back_measures_durations_as_before() {
        let clock = Clock::manual(Timestamp::from_millis(100));
        let mut sleep = Box::pin(clock.sleep_millis(10));
        clock.set_back_millis(50);
        assert_eq!(clock.now(), Timestamp::from_millis(50));
        assert_eq!(clock.steady(), Timestamp::from_millis(100));
        assert!(futures::poll!(&mut sleep).is_pending());
        clock.advance_millis(10);
        assert!(futures::poll!(&mut sleep).is_ready());
    }

    #[test]
    fn time_saturates_where_doubles_end() {
        assert_eq!(Timestamp::MAX.plus_millis(u64::MAX), Timestamp::MAX);
    }
}
