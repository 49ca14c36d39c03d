//! What became of a write whose reply was lost.

use crate::store::StoreError;
use crate::tasks::{Task, WorkerId};

/// Rounds of finding out what became of a write whose reply was lost. They take some seconds.
pub(super) const DOUBTFUL_ROUNDS: u32 = 8;

/// A write whose outcome is not known: the reply was lost. A read tells whether it landed, so that
/// a change that happened is not reported as a failure, nor made twice.
#[derive(Default)]
pub(super) struct Doubt {
    /// What the task is if the write landed and nothing came after it.
    wrote: Option<Task>,
    /// The write moved the fence, which nobody else moves to the same place.
    moved_fence: bool,
    pub(super) rounds: u32,
}

impl Doubt {
    pub(super) fn arises(&mut self, wrote: Task, before: &(Option<WorkerId>, u32)) {
        self.moved_fence = (&wrote.worker, wrote.attempt) != (&before.0, before.1);
        self.wrote = Some(wrote);
        self.rounds += 1;
    }

    pub(super) fn is_settled_by(&self, current: &Task) -> bool {
        self.wrote.as_ref().is_some_and(|wrote| {
            let moved = self.moved_fence
                && !current.status.is_terminal()
                && (&wrote.worker, wrote.attempt) == (&current.worker, current.attempt);
            moved || wrote == current
        })
    }

    /// Whether to try again, for the sake of the doubt, what would else be given up.
    pub(super) fn outlasts(&mut self, error: &StoreError) -> bool {
        let again = self.wrote.is_some() && error.is_retryable() && self.rounds < DOUBTFUL_ROUNDS;
        self.rounds += u32::from(again);
        again
    }
}
