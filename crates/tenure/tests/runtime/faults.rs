//! A storage backend that misbehaves on request: everything one process sees of its store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tenure::clock::Clock;
use tenure::store::{
    InMemoryBackend, Key, Page, PageRequest, Partition, Precondition, Record, StorageBackend,
    StoreError, Version, VersionToken, Watch, WatchFrom, Write,
};
use tokio::sync::{Notify, watch};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies: this call and all later ones never return.
    KilledBefore,
    /// The same, but the call was carried out.
    KilledAfter,
    /// The process stands still until it is let go; then everything goes on where it was.
    StalledBefore,
    /// The same, but the call was carried out before.
    StalledAfter,
    /// Nothing happened, and the call panics, as a driver or a logger below it might.
    Panics,
    /// Nothing happened, and the caller is told so.
    Unavailable,
    /// Nothing happened, and the caller is told that it may have.
    UnknownNotDone,
    /// It happened, and the caller is told that it may not have.
    UnknownDone,
}

/// Which calls go wrong: `length` of them from number `first` on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) first: u64,
    pub(crate) length: u64,
    pub(crate) fault: Fault,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    Stalled,
    Off,
}

/// One process's view of a store.
#[derive(Clone)]
pub(crate) struct Faulty(Arc<Inner>);

struct Inner {
    store: InMemoryBackend,
    calls: AtomicU64,
    plan: Option<Plan>,
    power: watch::Sender<Power>,
    claims: Mutex<BTreeSet<Partition>>,
    damaged: Mutex<Option<Key>>,
    stalls_after_claim: AtomicBool,
    write_is_late: AtomicBool,
    landing: Notify,
    log: Mutex<Vec<Call>>,
    clock: Option<Clock>,
}

/// A call of the store, and what it was limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Get,
    Write,
    Delete,
    History,
    List { limit: usize },
    Sweep { limit: usize, removed: usize },
    Watch,
}

impl Faulty {
    pub(crate) fn new(store: InMemoryBackend, plan: Option<Plan>) -> Self {
        Self::with(store, plan, None)
    }

    /// A process whose clock is ahead of the others': what has expired by it is absent here.
    pub(crate) fn ahead(store: InMemoryBackend, clock: Clock) -> Self {
        Self::with(store, None, Some(clock))
    }

    fn with(store: InMemoryBackend, plan: Option<Plan>, clock: Option<Clock>) -> Self {
        Self(Arc::new(Inner {
            store,
            calls: AtomicU64::new(0),
            plan,
            power: watch::Sender::new(Power::On),
            claims: Mutex::default(),
            damaged: Mutex::default(),
            stalls_after_claim: AtomicBool::new(false),
            write_is_late: AtomicBool::new(false),
            landing: Notify::new(),
            log: Mutex::default(),
            clock,
        }))
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    fn is_live(&self, record: &Record) -> bool {
        self.0.clock.as_ref().is_none_or(|clock| !record.is_expired(clock.now()))
    }

    /// The calls since this was asked last.
    pub(crate) fn log(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.log.lock())
    }

    fn record(&self, call: Call) {
        self.0.log.lock().push(call);
    }

    /// Stands still, as under a debugger or on a machine that was suspended.
    pub(crate) fn stall(&self) {
        self.0.power.send_replace(Power::Stalled);
    }

    /// Stands still once it has written its next claim.
    pub(crate) fn stall_after_claim(&self) {
        self.0.stalls_after_claim.store(true, Ordering::SeqCst);
    }

    /// Has the next conditional write land when it is let go, whether or not its caller waits for that, as
    /// one that waits in the queue of a store's thread.
    pub(crate) fn delay_write(&self) {
        self.0.write_is_late.store(true, Ordering::SeqCst);
    }

    /// Lets a write land that was delayed.
    pub(crate) fn land(&self) {
        self.0.landing.notify_one();
    }

    /// Ends a stall.
    pub(crate) fn resume(&self) {
        self.0.power.send_if_modified(|power| {
            let stalled = *power == Power::Stalled;
            *power = if stalled { Power::On } else { *power };
            stalled
        });
    }

    /// From now on this record cannot be written to, as one that cannot be read.
    pub(crate) fn damage(&self, key: Key) {
        *self.0.damaged.lock() = Some(key);
    }

    /// Ends a damage.
    pub(crate) fn repair(&self) {
        *self.0.damaged.lock() = None;
    }

    /// The partitions in which this process has ever claimed a task.
    pub(crate) fn claims(&self) -> Vec<Partition> {
        self.0.claims.lock().iter().cloned().collect()
    }

    async fn powered(&self) {
        let _ = self.0.power.subscribe().wait_for(|power| *power == Power::On).await;
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.powered().await;
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst);
        let hit = |plan: &Plan| (plan.first..plan.first + plan.length).contains(&number);
        match self.0.plan.filter(hit).map(|plan| plan.fault) {
            None => call.await,
            Some(Fault::KilledBefore) => self.halt(Power::Off).await,
            Some(Fault::KilledAfter) => {
                let _ = call.await;
                self.halt(Power::Off).await
            }
            Some(Fault::StalledBefore) => {
                self.stall();
                self.powered().await;
                call.await
            }
            Some(Fault::StalledAfter) => {
                let done = call.await;
                self.stall();
                self.powered().await;
                done
            }
            // As a panic, but without its noise.
            Some(Fault::Panics) => std::panic::resume_unwind(Box::new("as planned")),
            Some(Fault::Unavailable) => {
                Err(StoreError::Unavailable { reason: "as planned".into(), source: None })
            }
            Some(Fault::UnknownNotDone) => Err(StoreError::OutcomeUnknown(None)),
            Some(Fault::UnknownDone) => match call.await {
                // Only a write can be in doubt, and only one that was not refused.
                Ok(_) => Err(StoreError::OutcomeUnknown(None)),
                refused => refused,
            },
        }
    }

    /// A read that goes wrong is never in doubt.
    async fn read<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.call(call).await.map_err(|error| match error {
            StoreError::OutcomeUnknown(source) => {
                StoreError::Unavailable { reason: "as planned".into(), source }
            }
            other => other,
        })
    }

    async fn halt<T>(&self, power: Power) -> T {
        self.0.power.send_replace(power);
        std::future::pending().await
    }

    fn note(&self, key: &Key) {
        if key.partition().segments().next().as_deref() == Some("claims") {
            self.0.claims.lock().insert(key.partition().clone());
        }
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty").field("plan", &self.0.plan).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageBackend for Faulty {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.record(Call::Get);
        let record = self.read(self.0.store.get(key)).await?;
        Ok(record.filter(|record| self.is_live(record)))
    }

    async fn put(&self, key: &Key, write: Write) -> Result<VersionToken, StoreError> {
        self.note(key);
        self.record(Call::Write);
        let written = self.call(self.0.store.put(key, write)).await;
        // What is put without a precondition is a claim.
        if self.0.stalls_after_claim.swap(false, Ordering::SeqCst) {
            self.stall();
            self.powered().await;
        }
        written
    }

    async fn put_if_version(
        &self,
        key: &Key,
        write: Write,
        precondition: Precondition,
    ) -> Result<VersionToken, StoreError> {
        self.record(Call::Write);
        if self.0.write_is_late.swap(false, Ordering::SeqCst) {
            let (process, key) = (self.clone(), key.clone());
            let late = tokio::spawn(async move {
                process.0.landing.notified().await;
                process.0.store.put_if_version(&key, write, precondition).await
            });
            return late.await.unwrap();
        }
        let write = async {
            if self.0.damaged.lock().as_ref() == Some(key) {
                return Err(StoreError::Damaged { key: key.clone(), reason: "as planned".into() });
            }
            self.0.store.put_if_version(key, write, precondition).await
        };
        self.call(write).await
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<bool, StoreError> {
        self.record(Call::Delete);
        self.call(self.0.store.delete(key, precondition)).await
    }

    async fn history(&self, key: &Key) -> Result<Vec<Version>, StoreError> {
        self.record(Call::History);
        self.read(self.0.store.history(key)).await
    }

    async fn list_by_prefix(
        &self,
        partition: &Partition,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page, StoreError> {
        self.record(Call::List { limit: page.limit() });
        let mut page = self.read(self.0.store.list_by_prefix(partition, prefix, page)).await?;
        page.entries.retain(|entry| self.is_live(&entry.record));
        Ok(page)
    }

    async fn counted(&self, partition: &Partition) -> Result<u64, StoreError> {
        self.read(self.0.store.counted(partition)).await
    }

    async fn cleanup_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let removed = self.call(self.0.store.cleanup_expired(limit)).await?;
        self.record(Call::Sweep { limit, removed });
        Ok(removed)
    }

    async fn checkpoint(&self) -> Result<(), StoreError> {
        self.0.store.checkpoint().await
    }

    async fn watch(&self, partition: &Partition, from: WatchFrom) -> Result<Watch, StoreError> {
        self.watch_within(partition, from, 0).await
    }

    async fn watch_within(
        &self,
        partition: &Partition,
        from: WatchFrom,
        delay_ms: u64,
    ) -> Result<Watch, StoreError> {
        self.record(Call::Watch);
        let watch = self.read(self.0.store.watch_within(partition, from, delay_ms)).await?;
        let process = self.clone();
        // What has died or stands still hears nothing.
        let heard = watch.then(move |event| {
            let process = process.clone();
            async move {
                process.powered().await;
                event
            }
        });
        Ok(heard.boxed())
    }
}
