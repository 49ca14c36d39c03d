//! How a call is carried through: what is tried again, and how a lost answer is settled.

use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::Shared;
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

impl Shared {
    /// Carries out a command that changes nothing, so that trying again is harmless.
    pub(super) async fn read(&self, cmd: &Cmd) -> Result<Value, Failure> {
        let mut attempt = 0;
        loop {
            let failure = match self.link.send(cmd).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let again = match &failure {
                // A server that is too slow once is not asked twice.
                Failure::Lost(error) => !error.is_timeout(),
                other => other.is_transient(),
            };
            if !again || attempt >= self.options.retries {
                return Err(failure);
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    /// Carries out a script that is harmless to repeat.
    pub(super) async fn read_script(&self, call: &Call<'_>) -> Result<Value, Failure> {
        match self.read(&call.cmd).await {
            Err(failure) if failure.is_no_script() => self.read(&call.with_source()).await,
            other => other,
        }
    }

    /// Carries out a write exactly once. `prepare` builds the call for a stamp; each new stamp is
    /// used only when the write with the one before is known never to land.
    pub(super) async fn write<'a>(
        &self,
        keys: &RecordKeys,
        prepare: impl Fn(&str) -> Call<'a>,
    ) -> Result<(u64, Outcome), Failed> {
        let mut attempt = 0;
        loop {
            let stamp = rand::random();
            let text = format!("{stamp:016x}");
            let call = prepare(&text);
            let sent_at = Instant::now();
            let mut sent = self.link.send(&call.cmd).await;
            if matches!(&sent, Err(failure) if failure.is_no_script()) {
                sent = self.link.send(&call.with_source()).await;
            }
            let failure = match sent {
                Ok(value) => return Ok((stamp, Outcome::Answer(value))),
                Err(Failure::Lost(error)) => {
                    match Box::pin(self.settle(keys, &text, sent_at)).await {
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

    /// Looks for a lost write in the partition's log. If it is not there, it is fenced off, so
    /// that it cannot land later from some buffer. `None` when there is no telling.
    async fn settle(&self, keys: &RecordKeys, stamp: &str, sent_at: Instant) -> Option<Settled> {
        let mut attempt = 0;
        loop {
            let mut call = self.scripts.settle.call(&[&keys.record, &keys.log], 64);
            call.arg(stamp).arg(u64::try_from(sent_at.elapsed().as_millis()).unwrap_or(u64::MAX));
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
