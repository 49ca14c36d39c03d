//! Which tasks this process has in hand, so that it never runs one twice at the same time.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::runtime::claims::Claim;

/// The tasks that something in this process is busy with: a submission, a run, a takeover.
#[derive(Default)]
pub(super) struct Hands {
    held: Mutex<HashSet<Claim>>,
    freed: Notify,
}

/// A task in hand, until dropped.
pub(super) struct InHand {
    hands: Arc<Hands>,
    claim: Claim,
}

impl Hands {
    /// Takes the task; `None` if something else here is busy with it.
    pub(super) fn try_take(self: &Arc<Self>, claim: &Claim) -> Option<InHand> {
        let free = self.held.lock().insert(claim.clone());
        free.then(|| InHand { hands: Arc::clone(self), claim: claim.clone() })
    }

    /// Takes the task once nothing else here is busy with it.
    pub(super) async fn take(self: &Arc<Self>, claim: &Claim) -> InHand {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // From here on no notification is missed.
            freed.as_mut().enable();
            if let Some(in_hand) = self.try_take(claim) {
                return in_hand;
            }
            freed.await;
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.hands.held.lock().remove(&self.claim);
        self.hands.freed.notify_waiters();
    }
}
