//! Durable state for MCP servers: long-running tasks and versioned values that survive restarts,
//! are visible from every replica, and are finished by another replica when one dies.

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
