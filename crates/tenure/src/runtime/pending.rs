//! A handler for unit tests of what stands around handlers.

use async_trait::async_trait;

use crate::runtime::{Exit, Failure, Handler, Policy, TaskContext};

/// Never ends.
pub(super) struct Pending;

#[async_trait]
impl Handler for Pending {
    fn policy(&self, _: &str) -> Option<Policy> {
        Some(Policy::default())
    }

    async fn run(&self, _: TaskContext) -> Result<Exit, Failure> {
        std::future::pending().await
    }
}
