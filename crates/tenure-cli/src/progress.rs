//! A word on what is awaited, once that takes long. To standard error: it is no result.

use std::io::IsTerminal as _;
use std::pin::pin;

use tenure::clock::Clock;
use tenure::runtime::Takeover;
use tokio::sync::watch;

use crate::output::note;

/// What is done by then is not worth a word.
const QUICK_MS: u64 = 1_000;
/// Between one word and the next.
const PAUSE_MS: u64 = 5_000;

/// Tells what is awaited.
pub(crate) struct Progress {
    clock: Clock,
    tell: Box<dyn Fn(&str) + Send + Sync>,
}

impl Progress {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, tell: Box::new(note) }
    }

    /// For people only: says nothing when nobody looks on.
    pub(crate) fn on_a_terminal() -> Self {
        let progress = Self::new(Clock::system());
        if std::io::stderr().is_terminal() {
            return progress;
        }
        Self { tell: Box::new(|_| {}), ..progress }
    }

    /// The result of `work`. If that takes long, `what` is asked now and then what to tell.
    pub(crate) async fn of<T>(
        &self,
        what: impl Fn() -> String,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        let mut wait_ms = QUICK_MS;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.clock.sleep_millis(wait_ms) => (self.tell)(&what()),
            }
            wait_ms = PAUSE_MS;
        }
    }

    /// Tells of takeovers, as long as there is a worker.
    pub(crate) async fn of_takeovers(&self, mut takeover: watch::Receiver<Takeover>) {
        let counter = takeover.clone();
        loop {
            let Ok(begun) = takeover.wait_for(|it| it.under_way).await.map(|it| it.tasks) else {
                return;
            };
            let what = || {
                let tasks = counter.borrow().tasks - begun;
                format!("taking over the tasks of a server that is gone: {tasks} so far")
            };
            if self.of(what, takeover.wait_for(|it| !it.under_way)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tenure::clock::Timestamp;

    use super::*;

    fn progress() -> (Progress, Clock, Arc<Mutex<Vec<String>>>) {
        let clock = Clock::manual(Timestamp::from_millis(0));
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let tell = Box::new(move |what: &str| heard.lock().unwrap().push(what.to_owned()));
        (Progress { clock: clock.clone(), tell }, clock, told)
    }

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_quick_is_not_worth_a_word_and_what_is_slow_is_one_now_and_then() {
        let (progress, clock, told) = progress();
        let (done, work) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(async move { progress.of(|| "wait".into(), work).await });
        let mut words = Vec::new();
        for millis in [0, QUICK_MS - 1, 1, PAUSE_MS - 1, 1, PAUSE_MS] {
            clock.advance_millis(millis);
            settle().await;
            words.push(told.lock().unwrap().len());
        }
        assert_eq!(words, [0, 0, 1, 1, 2, 3]);
        done.send(7).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(7));
        assert_eq!(told.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_takeover_that_takes_long_is_told_with_the_tasks_of_this_one() {
        let (progress, clock, told) = progress();
        let worker = watch::Sender::new(Takeover::default());
        let takeover = worker.subscribe();
        let telling = tokio::spawn(async move { progress.of_takeovers(takeover).await });
        let step = |under_way, tasks| {
            worker.send_modify(|it| {
                (it.under_way, it.tasks) = (under_way, it.tasks + tasks);
            })
        };
        for (tasks, millis) in [(3, QUICK_MS / 2), (40, QUICK_MS)] {
            step(true, 0);
            settle().await;
            step(true, tasks);
            clock.advance_millis(millis);
            settle().await;
            step(false, 0);
            settle().await;
        }
        let only = "taking over the tasks of a server that is gone: 40 so far";
        assert_eq!(*told.lock().unwrap(), [only]);
        drop(worker);
        telling.await.unwrap();
    }
}
