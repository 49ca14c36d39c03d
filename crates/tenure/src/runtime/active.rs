//! Which tasks this process has in hand, so that it never runs one twice at the same time.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::runtime::claims::Claim;

/// The tasks that something in this process is busy with: a submission, a run, a takeover.
#[derive(Default)]
pub(super) struct ActiveTasks {
    held: Mutex<HashSet<Claim>>,
    freed: Notify,
}

/// A task in hand, until dropped.
pub(super) struct ActiveTask {
    active: Arc<ActiveTasks>,
    claim: Claim,
}

impl ActiveTasks {
    /// Takes the task; `None` if something else here is busy with it.
    pub(super) fn try_take(self: &Arc<Self>, claim: &Claim) -> Option<ActiveTask> {
        let free = self.held.lock().insert(claim.clone());
        free.then(|| ActiveTask { active: Arc::clone(self), claim: claim.clone() })
    }

    /// Takes the task once nothing else here is busy with it.
    pub(super) async fn take(self: &Arc<Self>, claim: &Claim) -> ActiveTask {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // From here on no notification is missed.
            freed.as_mut().enable();
            if let Some(active) = self.try_take(claim) {
                return active;
            }
            freed.await;
        }
    }
}

impl Drop for ActiveTask {
    fn drop(&mut self) {
        self.active.held.lock().remove(&self.claim);
        self.active.freed.notify_waiters();
    }
}
