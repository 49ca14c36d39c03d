//! The threads that read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::error::{SqliteError, closed};
use super::idle::{answer, receive};
use crate::store::StoreError;

/// Reads that may wait for one thread; further callers wait for a place.
const QUEUE: usize = 256;
/// Reads that share one snapshot, at most. A snapshot holds the write-ahead log back.
const BATCH: usize = 64;

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// A group of reading threads, each with a connection of its own.
#[derive(Debug)]
pub(super) struct Readers {
    readers: Vec<Reader>,
    /// How long a lone caller stays awake for an answer.
    patience: Duration,
}

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
        patience: Duration,
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
        Ok((Self { readers, patience }, threads))
    }

    /// Runs `query` on a snapshot that contains every commit acknowledged so far. A caller with
    /// no other beside it stays awake for the answer.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = self.idlest()?;
        let _open = Open::new(&reader.open);
        let reply = ask(&reader.queue, query).await?;
        let alone = || self.readers.iter().map(Reader::open).sum::<usize>() == 1;
        answer(reply, self.patience, alone).await.unwrap_or_else(|| Err(closed()))
    }

    /// A handle for a reader that outlives the call.
    pub(super) fn handle(&self) -> Result<ReaderHandle, StoreError> {
        Ok(ReaderHandle(self.idlest()?.queue.downgrade()))
    }

    /// The first of those with the least to do: a lone caller always meets the same thread, which
    /// is still awake, and has its pages in memory.
    fn idlest(&self) -> Result<&Reader, StoreError> {
        self.readers.iter().min_by_key(|reader| reader.open()).ok_or_else(closed)
    }
}

impl Reader {
    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl ReaderHandle {
    /// As [`Readers::read`].
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let queue = self.0.upgrade().ok_or_else(closed)?;
        let reply = ask(&queue, query).await?;
        reply.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// Puts `query` into the queue. What comes out is sent to whoever still waits.
async fn ask<T: Send + 'static>(
    queue: &mpsc::Sender<Query>,
    query: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
    let (reply, answer) = oneshot::channel();
    let query: Query = Box::new(move |connection| {
        // A caller who went away needs no answer.
        if !reply.is_closed() {
            let _ = reply.send(query(connection));
        }
    });
    queue.send(query).await.map_err(|_| closed())?;
    Ok(answer)
}

fn serve(connection: &Connection, mut queries: mpsc::Receiver<Query>) {
    let execute = |sql| connection.prepare_cached(sql)?.execute([]);
    let mut batch = Vec::with_capacity(BATCH);
    while receive(&mut queries, &mut batch, BATCH) > 0 {
        // The snapshot begins with the first read, after everything in the batch was asked for.
        // Should it fail to begin, each query reads for itself and reports what is wrong.
        if let Err(error) = execute("BEGIN") {
            tracing::warn!(error = %SqliteError(error), "a snapshot could not be taken");
        }
        for query in batch.drain(..) {
            query(connection);
        }
        if !connection.is_autocommit()
            && let Err(error) = execute("COMMIT")
        {
            tracing::warn!(error = %SqliteError(error), "a snapshot could not be released");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, mpsc as blocking};
    use std::task::{Context, Waker};

    use super::super::idle::tests::Woken;
    use super::*;

    fn readers(patience: Duration) -> Readers {
        let connection = Connection::open_in_memory().unwrap();
        Readers::start("test", vec![connection], patience).unwrap().0
    }

    /// A query that takes until the sender is used or dropped.
    fn held() -> (blocking::Sender<()>, impl FnOnce(&Connection) -> Result<u8, StoreError>) {
        let (release, released) = blocking::channel();
        (release, move |_: &Connection| {
            let _ = released.recv();
            Ok(1)
        })
    }

    #[tokio::test]
    async fn a_read_that_outlasts_the_callers_patience_is_answered() {
        let readers = readers(Duration::from_micros(25));
        let (release, query) = held();
        let mut read = pin!(readers.read(query));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            tokio::task::yield_now().await;
            if !woken.take() {
                break;
            }
        }
        release.send(()).unwrap();
        assert_eq!(read.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_read_given_up_while_its_caller_stays_awake_leaves_no_trace() {
        let readers = readers(Duration::from_secs(1 << 30));
        let (release, query) = held();
        {
            let mut read = pin!(readers.read(query));
            let mut context = Context::from_waker(Waker::noop());
            assert!(read.as_mut().poll(&mut context).is_pending());
            assert_eq!(readers.readers[0].open(), 1);
        }
        assert_eq!(readers.readers[0].open(), 0);
        drop(release);
        assert_eq!(readers.read(|_| Ok(2)).await.unwrap(), 2);
    }
}
