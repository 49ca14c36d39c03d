//! Versioned values: JSON documents with ETags, conditional writes, a bounded history and watches
//! that lose nothing.
//!
//! ```
//! use std::sync::Arc;
//!
//! use serde_json::json;
//! use tenure::clock::Clock;
//! use tenure::resources::{Document, ResourceError, ResourceKey, ResourceStore};
//! use tenure::store::InMemoryBackend;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let clock = Clock::system();
//! let resources = ResourceStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock);
//! let planner = ResourceKey::new("acme", "agent", "planner")?;
//!
//! let first = resources.put(&planner, &Document::from_value(&json!({"model": "small"}))?).await?;
//! let alice = resources.by("alice")?;
//! alice.put_if_match(&planner, &Document::parse(r#"{"model":"large"}"#)?, first.etag).await?;
//!
//! // Somebody else started from the same value, and is told instead of winning silently.
//! let late = Document::from_value(&json!({"model": "tiny"}))?;
//! let refused = resources.by("bob")?.put_if_match(&planner, &late, first.etag).await;
//! assert!(matches!(refused, Err(ResourceError::ETagMismatch { .. })));
//!
//! let now = resources.get(&planner).await?;
//! assert_eq!(now.value()?, json!({"model": "large"}));
//! assert_eq!(now.meta.updated_by.as_deref(), Some("alice"));
//! resources.revert(&planner, 1).await?;
//! # Ok::<_, ResourceError>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//! - **An [`ETag`] names a value**, not a write: equal values have equal ones in every process and
//!   on every backend, and so a value that comes back (A, B, A) brings its ETag back. Who must tell
//!   the two apart demands the version: [`Condition::Version`].
//! - **Value and ETag are one write.** What is stored and served is the canonical form (RFC 8785),
//!   whose hash the ETag is. See [`Document`] for what that makes of numbers.
//! - **A conditional write is one write** of the store, without a read before it.
//! - **The history is part of the write**: every acknowledged version is in it, until as many newer
//!   ones are as [`ResourceLimits::history_versions`] says. It ends with the resource.
//! - **A [`watch`](ResourceStore::watch) loses nothing silently**; see [`ResourceEvent`].

mod document;
mod error;
mod etag;
mod history;
mod key;
mod limits;
mod record;
mod scope;
mod store;
mod update;
mod watch;

pub use document::Document;
pub use error::ResourceError;
pub use etag::ETag;
pub use key::ResourceKey;
pub use limits::ResourceLimits;
pub use record::{Metadata, Resource, ResourceVersion, Summary};
pub use scope::{KindPattern, Scope};
pub use store::{Condition, Effect, ResourcePage, ResourceStore, Written};
pub use watch::ResourceEvent;
