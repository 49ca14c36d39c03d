//! Tasks on the protocol: a wrapper around any handler of the SDK.

mod background;
mod convert;
mod declared;
mod error;
mod form;
mod handler;
mod listen;
mod peer;
mod policy;
mod relay;
mod resources;
mod rounds;
mod submit;
mod subscriptions;
mod wrapper;

pub(crate) use convert::rfc3339;
pub(crate) use error::unavailable;
pub(crate) use listen::{LISTEN, LISTEN_TASKS, reroute};
pub use policy::{TaskPolicy, TaskSupport};
pub use wrapper::{
    Builder, DurableServer, IDEMPOTENCY_KEY, LISTENERS_PER_OWNER, OpenError, owner, task,
};
