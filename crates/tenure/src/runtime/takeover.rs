//! Taking over from a worker that is dead.

use std::sync::Arc;

use crate::runtime::liveness::Dead;
use crate::runtime::settlement::{ClaimOutcome, Predecessor, Settlement};
use crate::runtime::worker::{Generation, Shared};
use crate::store::StoreError;

/// Adopts, fails or drops every task of a dead worker; [`ClaimOutcome::Kept`] if some had to be left.
pub(super) async fn take_over(
    shared: &Arc<Shared>,
    heir: &Arc<Generation>,
    mut dead: Dead,
) -> Result<ClaimOutcome, StoreError> {
    let backend = &**shared.tasks.backend();
    let former = dead.worker.clone();
    let settlement = Settlement { shared, heir, former: &former, predecessor: Predecessor::Dead };
    let _under_way = UnderWay::begin(shared);
    let mut kept = false;
    let mut after = None;
    loop {
        // Once a page: the inheritance is a heartbeat too, and lapses if this worker dies.
        if !dead.inherit(backend).await? {
            return Ok(ClaimOutcome::Settled);
        }
        let page = settlement.settle_page(after).await?;
        kept |= page.some_kept;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if kept {
        return Ok(ClaimOutcome::Kept);
    }
    dead.remove_heartbeat(backend).await?;
    Ok(ClaimOutcome::Settled)
}

/// A takeover, until it is dropped.
struct UnderWay<'a>(&'a Shared);

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.takeover.send_modify(|takeover| takeover.under_way = true);
        Self(shared)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.takeover.send_modify(|takeover| takeover.under_way = false);
    }
}
