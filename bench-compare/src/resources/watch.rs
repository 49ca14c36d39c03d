//! From the call of `put` on one connection to the event in the hands of a watcher on another.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use tenure::clock::Clock;
use tenure::resources::{ResourceEvent, ResourceKey, ResourceStore, Scope};
use tenure::store::{RedisBackend, RedisOptions};

use super::document;
use crate::measure::{Effort, median};
use crate::table::{Figure, Row, Target};

const PUTS: usize = 2_000;

pub async fn run(effort: Effort, redis: &str) -> Result<Vec<Row>> {
    let (writer, reader) = (replica(redis).await?, replica(redis).await?);
    let mut events = pin!(reader.watch(Scope::project("watched")?, None));
    while !matches!(events.next().await.context("ended")??, ResourceEvent::Primed(_)) {}
    let key = ResourceKey::new("watched", "agent", "planner")?;
    let mut times = Vec::new();
    for number in 0..effort.calls(PUTS) {
        let document = document(number)?;
        let started = Instant::now();
        let written = writer.put(&key, &document).await?;
        loop {
            let event = events.next().await.context("ended")??;
            if matches!(event, ResourceEvent::Put { version, .. } if version == written.version) {
                break;
            }
        }
        #[allow(clippy::cast_precision_loss)]
        times.push(started.elapsed().as_nanos() as f64);
    }
    Ok(vec![Row {
        what: "from a put to a watcher on another replica, Redis, median".into(),
        ours: Figure::Time(median(times)),
        theirs: None,
        target: Target::TimeBelow(10e6),
    }])
}

async fn replica(redis: &str) -> Result<ResourceStore> {
    let clock = Clock::system();
    let options = RedisOptions::default().prefix("watched");
    let backend = RedisBackend::connect(redis, options, clock.clone()).await?;
    Ok(ResourceStore::new(Arc::new(backend), clock))
}
