//! Durable tasks: a state machine on the storage contract.
//!
//! ```
//! use std::sync::Arc;
//!
//! use serde_json::{Map, json};
//! use tenure::Owner;
//! use tenure::clock::Clock;
//! use tenure::store::InMemoryBackend;
//! use tenure::tasks::{Call, NewTask, TaskError, TaskRef, TaskStore};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let clock = Clock::system();
//! let tasks = TaskStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock);
//! let (alice, mallory) = (Owner::new("alice")?, Owner::new("mallory")?);
//!
//! let task = tasks.create(&alice, NewTask::new(Call::new("report", Map::new()))).await?;
//! // To anybody else it does not exist.
//! assert!(matches!(tasks.get(&mallory, &task.id).await, Err(TaskError::NotFound)));
//!
//! let report = TaskRef::new(alice, task.id);
//! tasks.complete(&report, json!({"pages": 12})).await?;
//! // What has ended does not change.
//! assert!(matches!(tasks.cancel(&report, None).await, Err(TaskError::Finished { .. })));
//! # Ok::<_, TaskError>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod change;
mod doubt;
mod error;
mod follow;
mod form;
mod limits;
mod ordered;
mod recent;
mod record;
mod state;
mod store;
mod task;
mod watch;

pub use error::TaskError;
pub use limits::TaskLimits;
pub(crate) use state::Transition;
pub(crate) use store::Assignment;
pub use store::{TaskPage, TaskStore};
pub use task::{
    Call, Fence, Input, NewTask, Outcome, Phase, Rerun, Status, Task, TaskId, TaskRef, WorkerId,
};
pub use watch::TaskEvent;
