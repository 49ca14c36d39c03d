//! Going to sleep a moment later.
//!
//! Waking a sleeping thread takes longer than most reads. So on either side of a queue one stays
//! awake for about as long as the other usually takes, yielding to others, and sleeps after that.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

/// About what it costs to wake a sleeping thread.
const MOMENT: Duration = Duration::from_micros(25);
/// For so long other tasks on the caller's thread wait for their turn.
const TURN: Duration = Duration::from_micros(10);

/// Waits for requests, like `blocking_recv_many`. A caller who waits for one answer after the other
/// comes back within a moment, and for so long the thread stays awake.
pub(super) fn receive<T>(queue: &mut mpsc::Receiver<T>, batch: &mut Vec<T>, limit: usize) -> usize {
    let asleep_at = Instant::now() + MOMENT;
    while queue.is_empty() && !queue.is_closed() && Instant::now() < asleep_at {
        thread::yield_now();
    }
    queue.blocking_recv_many(batch, limit)
}

/// Waits for an answer, and stays awake for up to `patience` as long as the caller is `alone`: with
/// others about, there is better use for the processor. `None` if there will never be one.
///
/// Both yields are needed. Without that of the thread an answering thread on the same processor
/// could not begin; without that of the task no other task would get its turn.
pub(super) async fn answer<T>(
    mut reply: oneshot::Receiver<T>,
    patience: Duration,
    alone: impl Fn() -> bool,
) -> Option<T> {
    let asleep_at = Instant::now() + patience;
    while alone() && Instant::now() < asleep_at {
        let turn_ends_at = Instant::now() + TURN;
        loop {
            match reply.try_recv() {
                Err(TryRecvError::Empty) => thread::yield_now(),
                answered => return answered.ok(),
            }
            if Instant::now() >= turn_ends_at {
                break;
            }
        }
        tokio::task::yield_now().await;
    }
    reply.await.ok()
}

#[cfg(test)]
pub(super) mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(1 << 30);

    /// Remembers that a future which is polled by hand was woken.
    #[derive(Default)]
    pub(in crate::store::file) struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    impl Woken {
        /// True if it was, since the last call.
        pub(in crate::store::file) fn take(&self) -> bool {
            self.0.swap(false, Ordering::AcqRel)
        }
    }

    #[test]
    fn a_caller_with_others_about_sleeps_at_once() {
        let (sender, reply) = oneshot::channel();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut answer = pin!(answer(reply, FOR_EVER, || false));
        assert_eq!(answer.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        assert!(!woken.take(), "asks for another turn");
        sender.send(1).unwrap();
        assert!(woken.take());
        assert_eq!(answer.poll(&mut Context::from_waker(&waker)), Poll::Ready(Some(1)));
    }

    #[test]
    fn a_lone_caller_lets_others_have_their_turn_and_notices_the_answer_by_itself() {
        let (sender, reply) = oneshot::channel();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut answer = pin!(answer(reply, FOR_EVER, || true));
        assert_eq!(answer.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        assert!(woken.take(), "sleeps");
        sender.send(1).unwrap();
        assert!(!woken.take(), "was asleep");
        assert_eq!(answer.poll(&mut Context::from_waker(&waker)), Poll::Ready(Some(1)));
    }

    #[test]
    fn a_lone_caller_goes_to_sleep_when_its_patience_ends_and_is_woken_by_the_answer() {
        let (sender, reply) = oneshot::channel();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut answer = pin!(answer(reply, 5 * TURN, || true));
        loop {
            assert_eq!(answer.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
            if !woken.take() {
                break;
            }
        }
        sender.send(1).unwrap();
        assert!(woken.take());
        assert_eq!(answer.poll(&mut Context::from_waker(&waker)), Poll::Ready(Some(1)));
    }

    #[test]
    fn an_answer_that_will_never_come_is_not_waited_for() {
        let (sender, reply) = oneshot::channel::<()>();
        drop(sender);
        let mut answer = pin!(answer(reply, FOR_EVER, || true));
        let poll = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(poll, Poll::Ready(None));
    }
}
