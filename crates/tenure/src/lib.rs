//! Durable state for MCP servers: long-running tasks and versioned values that survive restarts,
//! are visible from every replica, and are finished by another replica when one dies.
//!
//! For a server that is written with the official SDK, the crate `tenure-mcp` does all of what
//! follows behind a handler.
//!
//! ```
//! use std::sync::Arc;
//!
//! use async_trait::async_trait;
//! use futures::StreamExt as _;
//! use serde_json::{Map, json};
//! use tenure::Owner;
//! use tenure::clock::Clock;
//! use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext, Worker, WorkerOptions};
//! use tenure::tasks::{Call, NewTask, Status, TaskStore};
//!
//! struct Tools;
//!
//! #[async_trait]
//! impl Handler for Tools {
//!     fn policy(&self, tool: &str) -> Option<Policy> {
//!         (tool == "report").then(Policy::rerun_after_crash)
//!     }
//!
//!     async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
//!         // After a crash, another process goes on from here.
//!         let _ = task.checkpoint("chapter", 1).await;
//!         Ok(Exit::Complete(json!({ "pages": 12 })))
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let clock = Clock::system();
//! // What lasts has a name like `file:./tenure.db` or `redis://localhost`.
//! let store = tenure::open("memory:", clock.clone()).await?;
//! let tasks = TaskStore::new(store, clock);
//! let worker = Worker::start(tasks.clone(), Arc::new(Tools), WorkerOptions::default()).await?;
//!
//! let alice = Owner::new("alice")?;
//! let task = worker.submit(&alice, NewTask::new(Call::new("report", Map::new()))).await?;
//! let states = tasks.follow(&alice, &task.id).await?;
//! let last = Box::pin(states).filter_map(async |it| it.ok()).fold(task, async |_, it| it).await;
//! assert_eq!(last.status, Status::Completed);
//! worker.shutdown(1_000).await;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Modules
//!
//! | module | for |
//! |---|---|
//! | [`tasks`] | long-running calls: their state, questions and answers, results, and who may see them |
//! | [`runtime`] | running them, and finishing those of a worker that died |
//! | [`resources`] | versioned JSON values with ETags, conditional writes, a history and watches |
//! | [`store`] | the storage contract underneath, its backends, and what a backend of your own must keep |
//! | [`clock`] | the time, which a test can set |
//! | [`limits`] | the bounds that hold everywhere |
//!
//! # Stores
//!
//! [`open`] makes one from a URL.
//!
//! | store | an acknowledged write survives |
//! |---|---|
//! | `file:PATH` | the end of the process and a loss of power |
//! | `file:PATH?durability=relaxed` | the end of the process; a loss of power may take the last writes |
//! | `redis://`, `redis+cluster://`, `rediss…` over TLS, and `redis+unix://` | what the server is configured to keep (`appendonly`, `noeviction`) |
//! | `memory:` | nothing |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `file` | yes | the store in one crash-safe file (SQLite, built in) |
//! | `redis` | | the store on Redis or Valkey, single or clustered |
//! | `contract` | | [`store`]`::contract`, the suite that proves a backend of your own |
//! | `redis-tests` | | this crate's own tests on real servers |

mod chain;
pub mod clock;
pub mod limits;
mod open;
mod owner;
pub mod resources;
pub mod runtime;
pub mod store;
pub mod tasks;

pub use chain::Chain;
pub use open::{open, without_credentials};
pub use owner::Owner;
