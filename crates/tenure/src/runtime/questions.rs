//! Which questions a handler waits for, and which it has stopped waiting for.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock, RwLockWriteGuard};
use tokio_util::sync::CancellationToken;

/// The questions of a handler that are not settled, by their keys.
#[derive(Default)]
pub(super) struct Questions {
    /// How many parts of the handler wait for each. One that nobody waits for is to be withdrawn.
    waits: Mutex<BTreeMap<String, usize>>,
    dropped: Notify,
    /// Shared by writes that ask, and had alone by one that withdraws: what is withdrawn has to be on
    /// record before, or will never be.
    writing: Arc<RwLock<()>>,
}

/// A part of a handler that waits for answers. If it is dropped before it has them, its questions are to
/// be withdrawn, unless the handler is to stop: then they are for its next run.
pub(super) struct Asking<'a> {
    questions: &'a Questions,
    keys: Vec<String>,
    cancellation: &'a CancellationToken,
}

impl Questions {
    /// Takes note that these are about to be asked and waited for.
    pub(super) fn ask<'a>(
        &'a self,
        keys: Vec<String>,
        cancellation: &'a CancellationToken,
    ) -> Asking<'a> {
        let mut waits = self.waits.lock();
        for key in &keys {
            *waits.entry(key.clone()).or_default() += 1;
        }
        drop(waits);
        Asking { questions: self, keys, cancellation }
    }

    /// Waits until nothing is being withdrawn. Nothing is until the guard is dropped.
    pub(super) async fn while_none_is_withdrawn(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.writing).read_owned().await
    }

    /// Waits until every write that asks has come to its end. None begins until the guard is dropped.
    pub(super) async fn while_none_is_asked(&self) -> RwLockWriteGuard<'_, ()> {
        self.writing.write().await
    }

    /// What is to be withdrawn.
    pub(super) fn dropped(&self) -> Vec<String> {
        let waits = self.waits.lock();
        waits.iter().filter(|(_, waits)| **waits == 0).map(|(key, _)| key.clone()).collect()
    }

    /// The same, once there is something.
    pub(super) async fn next_dropped(&self) -> Vec<String> {
        loop {
            let dropped = self.dropped();
            if !dropped.is_empty() {
                return dropped;
            }
            self.dropped.notified().await;
        }
    }

    /// Takes note that these are withdrawn.
    pub(super) fn withdrawn(&self, keys: &[String]) {
        let mut waits = self.waits.lock();
        // One that was asked anew meanwhile is waited for.
        waits.retain(|key, waits| *waits > 0 || !keys.contains(key));
    }

    fn release(&self, keys: &[String], is_dropped: bool) {
        let mut lock = self.waits.lock();
        for key in keys {
            if let Some(waits) = lock.get_mut(key) {
                *waits = waits.saturating_sub(1);
                if *waits == 0 && !is_dropped {
                    lock.remove(key);
                }
            }
        }
        drop(lock);
        if is_dropped {
            self.dropped.notify_one();
        }
    }
}

impl Asking<'_> {
    pub(super) fn keys(&self) -> &[String] {
        &self.keys
    }

    /// All is answered. Gives the keys back.
    pub(super) fn end(mut self) -> Vec<String> {
        let keys = std::mem::take(&mut self.keys);
        self.questions.release(&keys, false);
        keys
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.questions.release(&self.keys, !self.cancellation.is_cancelled());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn a_question_is_dropped_with_the_last_who_waits_for_it_unless_it_is_answered() {
        let (questions, running) = (Questions::default(), CancellationToken::new());
        let (first, second) =
            (questions.ask(keys(&["a", "b"]), &running), questions.ask(keys(&["b"]), &running));
        let answered = questions.ask(keys(&["c"]), &running);
        assert_eq!(answered.end(), keys(&["c"]));
        drop(first);
        assert_eq!(questions.dropped(), keys(&["a"]));
        drop(second);
        assert_eq!(questions.next_dropped().now_or_never(), Some(keys(&["a", "b"])));
    }

    #[test]
    fn a_question_that_is_asked_anew_while_it_is_withdrawn_is_not_dropped() {
        let (questions, running) = (Questions::default(), CancellationToken::new());
        drop(questions.ask(keys(&["a"]), &running));
        let dropped = questions.dropped();
        let again = questions.ask(keys(&["a"]), &running);
        questions.withdrawn(&dropped);
        assert!(questions.dropped().is_empty());
        drop(again);
        assert_eq!(questions.dropped(), keys(&["a"]));
        questions.withdrawn(&keys(&["a"]));
        assert!(questions.dropped().is_empty());
    }

    #[test]
    fn what_a_handler_that_is_to_stop_waits_for_is_left_to_its_next_run() {
        let (questions, running) = (Questions::default(), CancellationToken::new());
        let asking = questions.ask(keys(&["a"]), &running);
        running.cancel();
        drop(asking);
        assert!(questions.dropped().is_empty());
    }
}
