//! Going to sleep a moment later.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;

/// About what it costs to wake a sleeping thread.
const MOMENT: Duration = Duration::from_micros(25);

/// Waits for requests, like `blocking_recv_many`. A caller who waits for one answer after the other
/// comes back within a moment, and for so long the thread stays awake, yielding to others.
pub(super) fn receive<T>(queue: &mut Receiver<T>, batch: &mut Vec<T>, limit: usize) -> usize {
    let asleep_at = Instant::now() + MOMENT;
    while queue.is_empty() && !queue.is_closed() && Instant::now() < asleep_at {
        thread::yield_now();
    }
    queue.blocking_recv_many(batch, limit)
}
