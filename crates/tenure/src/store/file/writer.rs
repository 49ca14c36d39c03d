//! The one thread that writes: it commits everything that waits as one transaction.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::cache::Cache;
use super::damage::{damaged, is_corrupt};
use super::error::{SqliteError, closed, translate};
use super::idle::receive;
use super::operation::Operation;
use super::transaction::{Failure, Transaction};
use super::watch::Hub;
use crate::clock::Clock;
use crate::store::{Key, Record, StoreError};

/// Writes that may wait; further callers wait for a place.
const QUEUE: usize = 1_024;
/// Writes of one transaction, at most.
const BATCH: usize = 512;
/// Pages in the write-ahead log after which they are moved into the file.
const CHECKPOINT_PAGES: usize = 1_000;
/// The engine's own threshold, should readers have kept us from it so long.
const LAST_RESORT_PAGES: usize = 8 * CHECKPOINT_PAGES;
/// What a write costs at least: the record, its position, the sequence.
const PAGES_PER_WRITE: usize = 3;
const PAGE_BYTES: usize = 4_096;

/// What the thread is asked to do.
pub(super) enum Request {
    /// A write.
    Write(Box<dyn Job>),
    /// A look whether another process has written.
    Look,
    /// To move the write-ahead log into the file, whatever its length.
    Checkpoint(oneshot::Sender<Result<(), StoreError>>),
}

/// A write, with the caller who waits for it.
pub(super) trait Job: Send {
    /// Runs it, and keeps what came out. An engine failure is the transaction's end.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Aborted>;
    /// As [`Operation::skip_damaged`].
    fn skip_damaged(&mut self, cause: &rusqlite::Error) -> bool;
    /// Tells the caller, after the transaction has committed.
    fn answer(self: Box<Self>);
    /// Tells the caller that it did not happen.
    fn fail(self: Box<Self>, error: StoreError);
}

struct Waiting<O: Operation> {
    operation: O,
    outcome: Option<Result<O::Output, StoreError>>,
    reply: oneshot::Sender<Result<O::Output, StoreError>>,
}

impl<O: Operation> Job for Waiting<O> {
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Aborted> {
        self.outcome = Some(match self.operation.run(transaction) {
            Ok(output) => Ok(output),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Engine(error)) => return Err(error.into()),
            Err(Failure::Stuck(key, cause)) => {
                return Err(Aborted { at: Some(key), ..cause.into() });
            }
        });
        Ok(())
    }

    fn skip_damaged(&mut self, cause: &rusqlite::Error) -> bool {
        self.operation.skip_damaged(cause)
    }

    fn answer(self: Box<Self>) {
        // A caller who went away is not told.
        let outcome = self.outcome.unwrap_or_else(|| Err(closed()));
        let _ = self.reply.send(outcome);
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

/// The way to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    requests: mpsc::Sender<Request>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        connection: Connection,
        clock: Clock,
        cache: Arc<Cache>,
        hub: Arc<Hub>,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let starting = |error| translate(error, "starting the writer");
        let known = data_version(&connection).map_err(starting)?;
        connection
            .pragma_update_and_check(None, "wal_autocheckpoint", LAST_RESORT_PAGES, |_| Ok(()))
            .map_err(starting)?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let state = State { connection, clock, cache, hub, known, pages: 0 };
        let thread = thread::Builder::new()
            .name("tenure-file-write".into())
            .spawn(move || state.serve(queue))
            .map_err(|error| StoreError::Unavailable {
                reason: "starting the writer".into(),
                source: Some(error.into()),
            })?;
        Ok((Self { requests }, thread))
    }

    /// Has `operation` committed, and waits for that.
    pub(super) async fn write<O: Operation>(&self, operation: O) -> Result<O::Output, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let job = Waiting { operation, outcome: None, reply };
        self.requests.send(Request::Write(Box::new(job))).await.map_err(|_| closed())?;
        outcome.await.unwrap_or(Err(StoreError::OutcomeUnknown(None)))
    }

    /// Has the write-ahead log moved into the file, after the writes that wait.
    pub(super) async fn checkpoint(&self) -> Result<(), StoreError> {
        let (reply, done) = oneshot::channel();
        self.requests.send(Request::Checkpoint(reply)).await.map_err(|_| closed())?;
        done.await.unwrap_or_else(|_| Err(closed()))
    }

    /// A handle by which to ask for a look at other processes' commits.
    pub(super) fn requests(&self) -> mpsc::WeakSender<Request> {
        self.requests.downgrade()
    }
}

struct State {
    connection: Connection,
    clock: Clock,
    cache: Arc<Cache>,
    hub: Arc<Hub>,
    /// The writer's `data_version`: it moves when anybody else commits, and never for our own.
    known: i64,
    /// An estimate of the pages in the write-ahead log.
    pages: usize,
}

impl State {
    fn serve(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::with_capacity(BATCH);
        while receive(&mut queue, &mut requests, BATCH) > 0 {
            let (mut jobs, mut checkpoints) = (Vec::new(), Vec::new());
            for request in requests.drain(..) {
                match request {
                    Request::Write(job) => jobs.push(job),
                    Request::Look => {}
                    Request::Checkpoint(reply) => checkpoints.push(reply),
                }
            }
            if jobs.is_empty() {
                self.look();
            } else {
                // Notices other processes' commits as well.
                self.commit(jobs);
            }
            if self.pages >= CHECKPOINT_PAGES {
                self.checkpoint_or_warn();
            }
            for reply in checkpoints {
                let done = self.checkpoint();
                // Who went away need not know.
                let _ = reply.send(done.map_err(|error| translate(error, "checkpointing")));
            }
        }
        self.hub.close();
        // Whoever closes the file last would do it as well, but that may be a reader of ours.
        self.checkpoint_or_warn();
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(error = %SqliteError(error), "the store's file was not closed cleanly");
        }
    }

    /// Commits the whole batch at once. If the engine fails, each write is tried on its own, so
    /// that one which cannot be done takes no other with it.
    fn commit(&mut self, mut batch: Vec<Box<dyn Job>>) {
        match self.attempt(&mut batch) {
            Ok(()) => batch.into_iter().for_each(Job::answer),
            // Everybody waited for the same lock; waiting again for each would take for ever.
            Err(aborted) if is_busy(&aborted.cause) => {
                for job in batch {
                    let reason = "another process keeps the file locked".into();
                    job.fail(StoreError::Unavailable { reason, source: None });
                }
            }
            Err(aborted) => match <[_; 1]>::try_from(batch) {
                Ok([job]) => self.retry(job, aborted),
                Err(batch) => {
                    for job in batch {
                        self.commit(vec![job]);
                    }
                }
            },
        }
    }

    /// A write that failed on its own. There may be a way around damage.
    fn retry(&mut self, mut job: Box<dyn Job>, mut aborted: Aborted) {
        while is_corrupt(&aborted.cause) && job.skip_damaged(&aborted.cause) {
            match self.attempt(std::slice::from_mut(&mut job)) {
                Ok(()) => return job.answer(),
                Err(again) => aborted = again,
            }
        }
        job.fail(aborted.translate());
    }

    fn attempt(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Aborted> {
        self.transact(batch).inspect_err(|_| {
            // Some failures have rolled back already.
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(error = %SqliteError(error), "a failed transaction could not be rolled back");
            }
        })
    }

    fn transact(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), Aborted> {
        let execute = |sql| self.connection.prepare_cached(sql)?.execute([]);
        execute("BEGIN IMMEDIATE")?;
        // Read after the lock is held: a deadline that passed while we waited for it has passed.
        let now = self.clock.now();
        let mut transaction = Transaction::new(&self.connection, now)?;
        for job in batch {
            job.run(&mut transaction)?;
        }
        let (sequence, changed) = transaction.finish()?;
        let commit = self.cache.begin_commit();
        execute("COMMIT").map_err(|cause| Aborted { committing: true, ..cause.into() })?;
        self.pages += changed.iter().map(|(_, record)| pages(record.as_ref())).sum::<usize>();
        let foreign = commit.publish(&changed, || moved(&self.connection, &mut self.known));
        if foreign {
            self.hub.wake_all();
        } else {
            self.hub.wake(changed.iter().map(|(key, _)| key.partition()), sequence);
        }
        Ok(())
    }

    fn look(&mut self) {
        if moved(&self.connection, &mut self.known) {
            self.cache.clear();
            self.hub.wake_all();
        }
    }

    /// Moves the write-ahead log into the file. What readers hold back is left for the next time.
    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        self.pages = 0;
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    fn checkpoint_or_warn(&mut self) {
        if let Err(error) = self.checkpoint() {
            tracing::warn!(error = %SqliteError(error), "the write-ahead log could not be moved into the file");
        }
    }
}

/// Why a transaction did not happen.
pub(super) struct Aborted {
    cause: rusqlite::Error,
    /// The record that cannot be changed.
    at: Option<Key>,
    committing: bool,
}

impl From<rusqlite::Error> for Aborted {
    fn from(cause: rusqlite::Error) -> Self {
        Self { cause, at: None, committing: false }
    }
}

impl Aborted {
    fn translate(self) -> StoreError {
        // The log may hold the commit although its sync failed; what a restart makes of it is open.
        let unknown =
            self.committing && self.cause.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        if unknown {
            return StoreError::OutcomeUnknown(Some(SqliteError(self.cause).into()));
        }
        match self.at {
            Some(key) => damaged(&key, &self.cause),
            None => translate(self.cause, "writing"),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

fn pages(record: Option<&Record>) -> usize {
    PAGES_PER_WRITE + record.map_or(0, |record| record.value.len() / PAGE_BYTES)
}

/// The connection's view of who else has committed.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// True when somebody else has committed since the last call, or that cannot be told.
fn moved(connection: &Connection, known: &mut i64) -> bool {
    let Ok(seen) = data_version(connection) else { return true };
    std::mem::replace(known, seen) != seen
}
