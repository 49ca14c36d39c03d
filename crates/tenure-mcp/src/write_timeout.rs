//! How long a client waits for what is written to the store.

use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use tenure::clock::Clock;
use tenure::store::StoreError;
use tokio::sync::Semaphore;

/// How long it may take until whoever writes is answered. Longer than for a read, since nobody can
/// tell then what became of the write; shorter than the minute that clients commonly wait.
const ANSWER_MS: u64 = 30_000;

/// Writes that go on while nobody waits for them. Those beyond are dropped: they are done, not done
/// or done later, which is what their clients have been told.
const LEFT: usize = 1_024;

/// The bound of writes. Clones share what is left to itself.
#[derive(Debug, Clone)]
pub(crate) struct Writes {
    clock: Clock,
    left: Arc<Semaphore>,
}

impl Writes {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, left: Arc::new(Semaphore::new(LEFT)) }
    }

    /// What `writing` comes to, and that the outcome is unknown if the store does not answer in time.
    /// Then the write goes on by itself: a store that hangs and comes back does it, unless the process
    /// ends before.
    pub(crate) async fn carry_out<T, E>(
        &self,
        mut writing: BoxFuture<'static, Result<T, E>>,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        match self.in_time(&mut writing).await {
            Some(done) => done,
            None => {
                self.leave(writing);
                Err(unanswered().into())
            }
        }
    }

    /// The same for a write that goes on whether or not it is waited for.
    pub(crate) async fn answered<T, E: From<StoreError>>(
        &self,
        writing: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.in_time(writing).await.unwrap_or_else(|| Err(unanswered().into()))
    }

    async fn in_time<T>(&self, writing: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // `biased`: as for reads, an answer counts however late it is seen.
            biased;
            done = writing => Some(done),
            // Begun only when it is needed: most writes are done before they are waited for.
            () = async { self.clock.sleep_millis(ANSWER_MS).await } => None,
        }
    }

    fn leave<T: 'static, E: 'static>(&self, writing: BoxFuture<'static, Result<T, E>>) {
        let Ok(place) = Arc::clone(&self.left).try_acquire_owned() else {
            tracing::error!("too many writes are unanswered: one more is given up");
            return;
        };
        tokio::spawn(async move {
            let done = writing.await.is_ok();
            drop(place);
            tracing::warn!(done, "a write has ended whose client was told that nobody knows");
        });
    }
}

fn unanswered() -> StoreError {
    StoreError::OutcomeUnknown(Some(format!("no answer in {ANSWER_MS} ms").into()))
}

#[cfg(test)]
mod tests {
    use tenure::clock::Timestamp;
    use tenure::tasks::TaskError;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_write_goes_on_by_itself_unless_too_many_do() {
        let clock = Clock::manual(Timestamp::from_millis(1));
        let writes = Writes { clock: clock.clone(), left: Arc::new(Semaphore::new(1)) };
        let disk = Arc::new(Semaphore::new(0));
        let (written, mut order) = mpsc::unbounded_channel();
        for number in 0..3 {
            if number == 2 {
                // The first is through, so there is room for another.
                disk.add_permits(1);
                assert_eq!(order.recv().await, Some(0));
                tokio::task::yield_now().await;
            }
            let (disk, written) = (Arc::clone(&disk), written.clone());
            let writing = async move {
                disk.acquire().await.unwrap().forget();
                written.send(number).unwrap();
                Ok::<_, TaskError>(())
            };
            let told = tokio::spawn({
                let writes = writes.clone();
                async move { writes.carry_out(Box::pin(writing)).await }
            });
            tokio::task::yield_now().await;
            clock.advance_millis(ANSWER_MS);
            let told = told.await.unwrap();
            assert!(matches!(told, Err(TaskError::Store(error)) if error.is_in_doubt()));
        }
        disk.add_permits(2);
        drop(written);
        assert_eq!(order.recv().await, Some(2));
        assert_eq!(order.recv().await, None);
    }

    #[tokio::test]
    async fn an_answer_counts_however_late_it_is_seen() {
        let clock = Clock::manual(Timestamp::from_millis(1));
        let writes = Writes::new(clock.clone());
        let (tell, told) = tokio::sync::oneshot::channel();
        let writing =
            writes.carry_out(Box::pin(async { Ok::<u32, TaskError>(told.await.unwrap()) }));
        let suspended = async {
            tokio::task::yield_now().await;
            clock.advance_millis(10 * ANSWER_MS);
            tell.send(7).unwrap();
        };
        assert_eq!(tokio::join!(writing, suspended).0.unwrap(), 7);
    }
}
