//! Execution that survives: workers run tasks, and finish those of workers that died.
//!
//! A [`Worker`] is one process's share of the work. It keeps one heartbeat record, and one claim
//! per task in its care; each is an ordinary record of the storage contract, so all of this works
//! the same on every backend. When a heartbeat stops, any other worker adopts the claims: what may
//! run again continues from its variables with the next attempt, what may not becomes an honest
//! `failed`. A late write of a worker that was only slow is refused by the fence.
//!
//! | crash between | what is there | what happens |
//! |---|---|---|
//! | claim and create | a claim without a task | the claim is dropped |
//! | create and reply | a task that nobody knows of | as any other, queued or running; a repeated create with an idempotency key finds it |
//! | start and the call of the handler | a running task that had not begun | as the next: see below |
//! | start and finish | a running task | it runs again if it may, or fails and says why |
//! | finish and unclaim | a claim of a finished task | the claim is dropped |
//! | a wait for input is dropped and the question is withdrawn | an open question | it waits for the answer, as any other |
//! | any of these, and the outcome of a write stays unknown | a claim that nobody has in hand | the worker itself settles it like a dead one's |
//! | adopting claim and adoption | two claims, and the second says from whom it adopts | who comes across either adopts the task, and the other is dropped |
//!
//! A task for which there is a slot is created as running, in one write. So the record cannot tell a
//! handler that was called from one that was about to be, and a crash in the moment between fails
//! a task that may not run twice. To tell them apart would take a further write before each call of such
//! a handler, which is what most handlers are. A worker that may count as dead does not create a
//! task so; one that finds out before the call runs the task, unless an heir was faster.

mod active;
mod attempt;
mod claims;
mod context;
mod fair_semaphore;
mod handler;
mod keeper;
mod liveness;
mod own;
#[cfg(test)]
mod pending;
mod questions;
mod run;
mod settlement;
mod slot;
mod submit;
mod takeover;
mod worker;

pub use context::TaskContext;
pub use handler::{Exit, Failure, Handler, Policy};
pub use worker::{Takeover, Worker, WorkerOptions};
