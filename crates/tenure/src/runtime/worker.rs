//! [`Worker`]: one process's share of the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::Chain;
use crate::clock::{Clock, Timestamp};
use crate::owner::Owner;
use crate::runtime::Handler;
use crate::runtime::active::ActiveTasks;
use crate::runtime::fair_semaphore::FairSemaphore;
use crate::runtime::keeper::keep;
use crate::runtime::liveness::Heartbeat;
use crate::runtime::submit::submit_through_panics;
use crate::tasks::{NewTask, Task, TaskError, TaskStore, WorkerId};

/// The bounds and times of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Handlers that run at the same time; 1 at least. Those that wait for an answer
    /// ([`TaskContext::request_inputs`](crate::runtime::TaskContext::request_inputs)) are not counted.
    pub concurrency: usize,
    /// Those of one owner. Its other tasks wait and hold up nobody else's; what becomes free goes
    /// round the owners that wait. `None` is half of all, rounded up. A server that has one owner
    /// may give it all.
    pub concurrency_per_owner: Option<usize>,
    /// Tasks in the worker's care: running, queued, and waiting for input. With 0 every task is
    /// refused.
    pub capacity: usize,
    /// Those of one owner. `None` is half of all, rounded up.
    pub capacity_per_owner: Option<usize>,
    /// After this long without a heartbeat a worker counts as dead. It beats four times as often.
    /// It must be the same for all workers on a store: each relies on how long the others wait.
    pub heartbeat_timeout_ms: u64,
    /// How long a cancelled handler may take to return before it is dropped.
    pub cancel_grace_ms: u64,
    /// How often the worker reclaims expired records of the store, tasks and others, 1,000 at a
    /// time. It begins with it, too.
    pub sweep_interval_ms: u64,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            concurrency: 64,
            concurrency_per_owner: None,
            capacity: 10_000,
            capacity_per_owner: None,
            heartbeat_timeout_ms: 5_000,
            cancel_grace_ms: 5_000,
            sweep_interval_ms: 30_000,
        }
    }
}

/// A worker's takeover of what dead workers have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Takeover {
    /// One is under way.
    pub under_way: bool,
    /// Tasks looked at since the worker started: adopted, ended, or left for others.
    pub tasks: u64,
}

/// Runs tasks, and takes over those of dead workers on the same store. Clones are the same worker.
///
/// Dropping the last clone stops the handlers as a crash would; [`Worker::shutdown`] is the polite
/// way.
#[derive(Clone)]
pub struct Worker(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// Beats, observes, takes over and sweeps; gives the last heartbeat back when asked to close.
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

pub(super) struct Shared {
    pub(super) tasks: TaskStore,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) options: WorkerOptions,
    pub(super) capacity: Arc<FairSemaphore>,
    pub(super) slots: Arc<FairSemaphore>,
    pub(super) runs: TaskTracker,
    /// No further attempt starts.
    pub(super) closing: CancellationToken,
    /// Running handlers are to return.
    pub(super) stopping: CancellationToken,
    /// The time for that is over: what the store does not take now is left to others.
    pub(super) abandoned: CancellationToken,
    /// All runs have ended; what is left is for others.
    pub(super) released: CancellationToken,
    pub(super) active: Arc<ActiveTasks>,
    /// Identities of this process whose claims want looking after, besides the present one.
    pub(super) former_ids: Mutex<Vec<WorkerId>>,
    /// There may be claims of ours for tasks that nobody has in hand.
    pub(super) unsettled: Notify,
    pub(super) generation: Mutex<Arc<Generation>>,
    pub(super) takeover: watch::Sender<Takeover>,
}

/// A worker's identity, for as long as others take it for alive.
pub(super) struct Generation {
    pub(super) worker: WorkerId,
    /// Others took it for dead: nothing under this identity may go on.
    pub(super) lost: CancellationToken,
    /// Beats sent so far.
    sent: AtomicU64,
    /// The last beat that landed. Until the timeout after it was sent nobody can have inherited.
    landed: watch::Sender<SentBeat>,
}

/// A beat on its way to the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentBeat {
    number: u64,
    wall: Timestamp,
    steady: Timestamp,
}

impl SentBeat {
    fn new(number: u64, clock: &Clock) -> Self {
        Self { number, wall: clock.now(), steady: clock.steady() }
    }
}

impl Generation {
    /// An identity whose first beat is about to be sent.
    pub(super) fn new(clock: &Clock) -> Arc<Self> {
        Arc::new(Self {
            worker: WorkerId::random(),
            lost: CancellationToken::new(),
            sent: AtomicU64::new(0),
            landed: watch::Sender::new(SentBeat::new(0, clock)),
        })
    }

    /// Takes note that a beat is about to be sent.
    pub(super) fn send(&self, clock: &Clock) -> SentBeat {
        SentBeat::new(self.sent.fetch_add(1, Ordering::SeqCst) + 1, clock)
    }

    /// Takes note that a beat has landed.
    pub(super) fn land(&self, beat: SentBeat) {
        self.landed.send_replace(beat);
    }

    /// How long ago the last beat that landed was sent, at least. The wall clock may be set back,
    /// and the steady one stands still while the machine is suspended: the larger is true.
    pub(super) fn silence_ms(&self, clock: &Clock) -> u64 {
        let landed = *self.landed.borrow();
        let wall_ms = clock.now().millis_since(landed.wall);
        wall_ms.max(clock.steady().millis_since(landed.steady))
    }

    /// Waits for a beat sent from now on to land. False if the identity is lost instead.
    pub(super) async fn outlives(&self) -> bool {
        let sent = self.sent.load(Ordering::SeqCst);
        let mut landed = self.landed.subscribe();
        tokio::select! {
            () = self.lost.cancelled() => false,
            _ = landed.wait_for(|beat| beat.number > sent) => true,
        }
    }
}

impl Worker {
    /// Registers with the store and begins to beat, to run, to take over and to sweep.
    ///
    /// # Errors
    /// The store's, if it cannot even be told that this worker is here.
    pub async fn start(
        tasks: TaskStore,
        handler: Arc<dyn Handler>,
        options: WorkerOptions,
    ) -> Result<Self, TaskError> {
        let generation = Generation::new(tasks.clock());
        let heartbeat = Heartbeat::start(&**tasks.backend(), &generation.worker).await?;
        let shared = Arc::new(Shared {
            tasks,
            handler,
            options,
            capacity: fair(options.capacity, options.capacity_per_owner),
            // With none, every task would be queued for ever.
            slots: fair(options.concurrency.max(1), options.concurrency_per_owner),
            runs: TaskTracker::new(),
            closing: CancellationToken::new(),
            stopping: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            released: CancellationToken::new(),
            active: Arc::default(),
            former_ids: Mutex::default(),
            unsettled: Notify::new(),
            generation: Mutex::new(generation),
            takeover: watch::Sender::default(),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared), heartbeat));
        let keeper = Mutex::new(Some(AbortOnDropHandle::new(keeper)));
        Ok(Self(Arc::new(Inner { shared, keeper })))
    }

    /// Creates a task and runs it. When this returns, the task is durable, any process can read
    /// it, and should this one die it is finished by another. The tool's [`Policy`](crate::runtime::Policy) decides
    /// whether it may run again, whatever `new` says.
    ///
    /// # Errors
    /// As [`TaskStore::create`]; [`TaskError::QueueFull`], [`TaskError::ShuttingDown`];
    /// [`TaskError::Invalid`] for a tool that the handler has not got.
    pub async fn submit(&self, owner: &Owner, new: NewTask) -> Result<Task, TaskError> {
        let shared = &self.0.shared;
        // On its own, so that a caller who goes away half-way leaves nothing half-done; and among
        // the runs, so that a shutdown waits for it.
        let submission = submit_through_panics(Arc::clone(shared), owner.clone(), new);
        // It fails only if the runtime goes down.
        shared.runs.spawn(submission).await.unwrap_or(Err(TaskError::ShuttingDown))
    }

    /// The tasks that this worker works on.
    #[must_use]
    pub fn tasks(&self) -> &TaskStore {
        &self.0.shared.tasks
    }

    /// This worker's identity. It changes if others take the worker for dead while it is alive.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.0.shared.generation().worker.clone()
    }

    /// What a shutdown waits for: tasks that run, are queued or wait for input, and calls that
    /// create one.
    #[must_use]
    pub fn in_care(&self) -> usize {
        self.0.shared.runs.len()
    }

    /// How far the takeover of dead workers' tasks is, now and whenever that changes.
    #[must_use]
    pub fn takeover(&self) -> watch::Receiver<Takeover> {
        self.0.shared.takeover.subscribe()
    }

    /// Shuts down: takes no more tasks, gives running handlers `drain_ms` to finish, then asks them
    /// to return and, past the grace period, drops them. Those that wait for a person, and may run
    /// again, are asked at once.
    /// What is left is another worker's at once; on Redis when it looks, 750 ms later at the latest.
    pub async fn shutdown(&self, drain_ms: u64) {
        let shared = &self.0.shared;
        shared.closing.cancel();
        shared.runs.close();
        tokio::select! {
            () = shared.runs.wait() => {}
            () = shared.tasks.clock().sleep_millis(drain_ms) => {
                shared.stopping.cancel();
                let last_ms = shared.options.cancel_grace_ms.saturating_mul(2);
                tokio::select! {
                    () = shared.runs.wait() => {}
                    () = shared.tasks.clock().sleep_millis(last_ms) => {
                        shared.abandoned.cancel();
                        shared.runs.wait().await;
                    }
                }
            }
        }
        let keeper = self.0.keeper.lock().take();
        if let Some(keeper) = keeper {
            shared.released.cancel();
            let _ = keeper.await;
        }
        if let Err(error) = shared.tasks.backend().checkpoint().await {
            tracing::warn!(error = %Chain(&error), "the store was left with a log beside it");
        }
    }
}

fn fair(all: usize, per_owner: Option<usize>) -> Arc<FairSemaphore> {
    FairSemaphore::new(all, per_owner.unwrap_or(all.div_ceil(2)).max(1))
}

impl Shared {
    pub(super) fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generation.lock())
    }

    /// Has the keeper settle what `worker`, an identity of this process, claims and nobody here
    /// has in hand.
    pub(super) fn schedule_settlement(&self, worker: WorkerId) {
        let mut former_ids = self.former_ids.lock();
        if worker != self.generation().worker && !former_ids.contains(&worker) {
            former_ids.push(worker);
        }
        drop(former_ids);
        self.unsettled.notify_one();
    }
}

#[cfg(test)]
impl Worker {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.closing.cancel();
        self.shared.abandoned.cancel();
        self.shared.generation().lost.cancel();
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("id", &self.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn only_a_beat_that_is_sent_afterwards_shows_that_an_identity_outlives() {
        let clock = Clock::manual(Timestamp::from_millis(10_000_000));
        let generation = Generation::new(&clock);
        let under_way = generation.send(&clock);
        let mut outlives = Box::pin(generation.outlives());
        assert_eq!((&mut outlives).now_or_never(), None);
        generation.land(under_way);
        assert_eq!((&mut outlives).now_or_never(), None, "it was sent before");
        clock.set_back_millis(3_600_000);
        generation.land(generation.send(&clock));
        assert_eq!((&mut outlives).now_or_never(), Some(true));
    }

    #[test]
    fn silence_is_measured_by_the_clock_that_shows_more_of_it() {
        let clock = Clock::manual(Timestamp::from_millis(10_000_000));
        let generation = Generation::new(&clock);
        clock.advance_millis(5_000);
        clock.set_back_millis(3_600_000);
        assert_eq!(generation.silence_ms(&clock), 5_000);
        // As after a suspension, in which only the wall clock went on.
        let wall = clock.now().minus_millis(3_600_000);
        generation.land(SentBeat { number: 1, wall, steady: clock.steady() });
        assert_eq!(generation.silence_ms(&clock), 3_600_000);
    }
}
