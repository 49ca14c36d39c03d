//! How a call is carried through: what is tried again, and how a lost answer is settled.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::Shared;
use super::batch::{Put, Request};
use super::error::Failure;
use super::key::RecordKeys;
use super::scripts::Call;
use crate::store::{StoreError, VersionToken};

/// What a settled write turned out to be.
enum Settled {
    Landed(VersionToken),
    NotDone,
}

/// What became of a write.
pub(super) enum Outcome {
    /// The server answered.
    Answer(Value),
    /// The answer was lost, but the write is known to have happened, leaving this token.
    Landed(VersionToken),
}

/// A change as it is tried, each time with another stamp.
pub(super) enum Change<'a> {
    Put(&'a Arc<Put>),
    Delete { keys: &'a RecordKeys, wanted: &'a [u8], name: &'a str },
}

impl Change<'_> {
    fn keys(&self) -> &RecordKeys {
        match self {
            Self::Put(put) => &put.keys,
            Self::Delete { keys, .. } => keys,
        }
    }
}

impl Shared {
    /// Carries out a command that changes nothing, so that trying again is harmless.
    pub(super) async fn read(&self, cmd: &Cmd) -> Result<Value, Failure> {
        let mut attempt = 0;
        loop {
            match self.link.send(cmd).await {
                Ok(value) => return Ok(value),
                Err(failure) => self.before_reading_again(failure, &mut attempt).await?,
            }
        }
    }

    /// Reads the fields of a record.
    pub(super) async fn fields(&self, record: &str) -> Result<Value, Failure> {
        let record = Arc::from(record);
        let mut attempt = 0;
        loop {
            match self.batcher.send(Request::Get(Arc::clone(&record))).await {
                Ok(value) => return Ok(value),
                Err(failure) => self.before_reading_again(failure, &mut attempt).await?,
            }
        }
    }

    /// Waits for the time to try again, unless it is not to be tried again.
    async fn before_reading_again(
        &self,
        failure: Failure,
        attempt: &mut usize,
    ) -> Result<(), Failure> {
        let again = match &failure {
            // A server that is too slow once is not asked twice.
            Failure::Lost(error) => !error.is_timeout(),
            other => other.is_transient(),
        };
        if !again || *attempt >= self.options.retries {
            return Err(failure);
        }
        pause(*attempt).await;
        *attempt += 1;
        Ok(())
    }

    /// Carries out a script that is harmless to repeat.
    pub(super) async fn read_script(&self, call: &Call<'_>) -> Result<Value, Failure> {
        match self.read(&call.cmd).await {
            Err(failure) if failure.is_no_script() => self.read(&call.with_source()).await,
            other => other,
        }
    }

    /// Carries out a write exactly once. Each new stamp is used only when the write with the one
    /// before is known never to land.
    pub(super) async fn write(&self, change: Change<'_>) -> Result<(u64, Outcome), Failed> {
        let mut attempt = 0;
        loop {
            let stamp = rand::random();
            let sent_at = Instant::now();
            let failure = match self.attempt(&change, stamp).await {
                Ok(value) => return Ok((stamp, Outcome::Answer(value))),
                Err(Failure::Lost(error)) => {
                    match Box::pin(self.settle(change.keys(), stamp, sent_at)).await {
                        Some(Settled::Landed(token)) => {
                            return Ok((stamp, Outcome::Landed(token)));
                        }
                        Some(Settled::NotDone) => Failure::NotSent(error),
                        None => return Err(Failed::Unknown(Failure::Lost(error))),
                    }
                }
                Err(failure) => failure,
            };
            // After a failover a new connection, or a new map of the cluster, leads to the primary.
            let again = failure.is_transient() || (failure.is_read_only() && attempt == 0);
            if !again || attempt >= self.options.retries {
                return Err(Failed::NotDone(failure));
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, change: &Change<'_>, stamp: u64) -> Result<Value, Failure> {
        let (keys, wanted, name) = match change {
            Change::Put(put) => {
                return self.batcher.send(Request::Put(Arc::clone(put), stamp)).await;
            }
            Change::Delete { keys, wanted, name } => (keys, wanted, name),
        };
        let mut call = self.scripts.delete.call(&[&keys.record, &keys.log], 4, name.len() + 128);
        call.arg(self.clock.now().as_millis()).arg(*wanted);
        call.arg(format!("{stamp:016x}")).arg(*name);
        match self.link.send(&call.cmd).await {
            Err(failure) if failure.is_no_script() => self.link.send(&call.with_source()).await,
            other => other,
        }
    }

    /// Looks for a lost write in the partition's log. If it is not there, it is fenced off, so
    /// that it cannot land later from some buffer. `None` when there is no telling.
    async fn settle(&self, keys: &RecordKeys, stamp: u64, sent_at: Instant) -> Option<Settled> {
        let mut attempt = 0;
        loop {
            let mut call = self.scripts.settle.call(&[&keys.record, &keys.log], 2, 64);
            call.arg(format!("{stamp:016x}"))
                .arg(u64::try_from(sent_at.elapsed().as_millis()).unwrap_or(u64::MAX));
            match self.read_script(&call).await {
                Ok(Value::Int(0)) => return Some(Settled::NotDone),
                Ok(Value::BulkString(token)) => {
                    let token = std::str::from_utf8(&token).ok()?.parse().ok()?;
                    return Some(Settled::Landed(token));
                }
                Ok(_) => return None,
                Err(_) if attempt < self.options.retries => {
                    pause(attempt).await;
                    attempt += 1;
                }
                Err(_) => return None,
            }
        }
    }
}

/// Why a write has no answer.
pub(super) enum Failed {
    NotDone(Failure),
    Unknown(Failure),
}

impl Failed {
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::NotDone(failure) => failure.into_store_error(),
            Self::Unknown(Failure::Lost(error)) => StoreError::OutcomeUnknown(Some(error.into())),
            Self::Unknown(failure) => {
                StoreError::OutcomeUnknown(Some(Box::new(failure.into_store_error())))
            }
        }
    }
}

/// Waits before the next attempt: longer each time, and not in step with others.
pub(super) async fn pause(attempt: usize) {
    let most_ms = 50_u64 << attempt.min(6);
    tokio::time::sleep(Duration::from_millis(rand::random_range(most_ms / 2..=most_ms))).await;
}
