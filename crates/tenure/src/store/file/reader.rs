//! The threads that read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::closed;
use super::idle::receive;
use crate::store::StoreError;

/// Reads that may wait for one thread; further callers wait for a place.
const QUEUE: usize = 256;
/// Reads that share one snapshot, at most. A snapshot holds the write-ahead log back.
const BATCH: usize = 64;

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// A group of reading threads, each with a connection of its own.
#[derive(Debug)]
pub(super) struct Readers(Vec<Reader>);

#[derive(Debug)]
struct Reader {
    queue: mpsc::Sender<Query>,
    /// Reads that were asked for and not answered.
    open: AtomicUsize,
}

/// The way to one reading thread; it does not keep the thread alive.
#[derive(Debug, Clone)]
pub(super) struct ReaderHandle(mpsc::WeakSender<Query>);

/// One of a reader's open reads, until it is dropped.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn new(open: &'a AtomicUsize) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Readers {
    /// Starts one thread for each connection.
    pub(super) fn start(
        name: &str,
        connections: Vec<Connection>,
    ) -> Result<(Self, Vec<JoinHandle<()>>), StoreError> {
        let mut readers = Vec::new();
        let mut threads = Vec::new();
        for connection in connections {
            let (queue, queries) = mpsc::channel(QUEUE);
            let thread = thread::Builder::new()
                .name(format!("tenure-file-{name}"))
                .spawn(move || serve(&connection, queries))
                .map_err(|error| StoreError::Unavailable {
                    reason: "starting a reader".into(),
                    source: Some(error.into()),
                })?;
            readers.push(Reader { queue, open: AtomicUsize::new(0) });
            threads.push(thread);
        }
        Ok((Self(readers), threads))
    }

    /// Runs `query` on a snapshot that contains every commit acknowledged so far.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = self.idlest()?;
        let _open = Open::new(&reader.open);
        run(&reader.queue, query).await
    }

    /// A handle for a reader that outlives the call.
    pub(super) fn handle(&self) -> Result<ReaderHandle, StoreError> {
        Ok(ReaderHandle(self.idlest()?.queue.downgrade()))
    }

    /// The first of those with the least to do: a lone caller always meets the same thread, which
    /// is still awake, and has its pages in memory.
    fn idlest(&self) -> Result<&Reader, StoreError> {
        let open = |reader: &&Reader| reader.open.load(Ordering::Relaxed);
        self.0.iter().min_by_key(open).ok_or_else(closed)
    }
}

impl ReaderHandle {
    /// As [`Readers::read`].
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let queue = self.0.upgrade().ok_or_else(closed)?;
        run(&queue, query).await
    }
}

async fn run<T: Send + 'static>(
    queue: &mpsc::Sender<Query>,
    query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (reply, answer) = oneshot::channel();
    let query: Query = Box::new(move |connection| {
        // A caller who went away needs no answer.
        if !reply.is_closed() {
            let _ = reply.send(query(connection));
        }
    });
    queue.send(query).await.map_err(|_| closed())?;
    answer.await.unwrap_or_else(|_| Err(closed()))
}

fn serve(connection: &Connection, mut queries: mpsc::Receiver<Query>) {
    let execute = |sql| connection.prepare_cached(sql)?.execute([]);
    let mut batch = Vec::with_capacity(BATCH);
    while receive(&mut queries, &mut batch, BATCH) > 0 {
        // The snapshot begins with the first read, after everything in the batch was asked for.
        // Should it fail to begin, each query reads for itself and reports what is wrong.
        if let Err(error) = execute("BEGIN") {
            tracing::warn!(%error, "a snapshot could not be taken");
        }
        for query in batch.drain(..) {
            query(connection);
        }
        if !connection.is_autocommit()
            && let Err(error) = execute("COMMIT")
        {
            tracing::warn!(%error, "a snapshot could not be released");
        }
    }
}
