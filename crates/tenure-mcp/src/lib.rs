//! Durable MCP tasks for servers written with the official SDK, rmcp.
//!
//! Wrap a handler, name the tools that take long, and they become tasks of the extension
//! `io.modelcontextprotocol/tasks` (SEP-2663) that survive a restart:
//!
//! ```
//! # use rmcp::ServerHandler;
//! # #[derive(Clone, Default)] struct MyHandler;
//! # impl ServerHandler for MyHandler {}
//! use tenure_mcp::{DurableServer, TaskPolicy};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let server = DurableServer::builder(MyHandler)
//!     .tool("report", TaskPolicy::optional().rerun_after_crash())
//!     .open("memory:")
//!     .await?;
//! # server.shutdown(0).await;
//! # Ok::<_, tenure_mcp::OpenError>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! [`http::serve`] puts the server on Streamable HTTP with callers told apart by bearer tokens,
//! [`stdio::serve`] on standard input and output. A tool that is called as a task finds
//! its [`task`] and its [`owner`] in the request's context.

pub mod http;
pub mod identity;
mod mcp;
mod owner_limiter;
mod read_timeout;
pub mod stdio;
mod trouble;
mod write_timeout;

pub use identity::{Caller, Callers, Projects, Rights};
pub use mcp::{
    Builder, DurableServer, IDEMPOTENCY_KEY, LISTENERS_PER_OWNER, OpenError, TaskPolicy,
    TaskSupport, owner, task,
};
