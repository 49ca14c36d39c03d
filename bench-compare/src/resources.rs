//! Resources: the library beside the raw backend, a listing among many, a watch across replicas,
//! and HTTP beside a handler that does nothing but keep a map.

mod floor;
mod http;
mod library;
mod listing;
mod watch;

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use tenure::resources::Document;

use crate::measure::Effort;
use crate::redis::server::Server;
use crate::table;

/// Measures, and prints the table.
pub async fn run(effort: Effort, folder: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in(folder)?;
    let server = Server::start().await?;
    let mut rows = library::run(effort, folder.path(), server.url()).await?;
    rows.extend(listing::run(effort).await?);
    rows.extend(watch::run(effort, server.url()).await?);
    let (of_http, note) = http::run(effort).await?;
    rows.extend(of_http);
    table::print("Resources", &rows, &[note]);
    Ok(())
}

/// A value of about 1 KB that no other number has.
fn value(number: usize) -> Value {
    json!({ "model": "large", "number": number, "prompt": "x".repeat(970) })
}

fn document(number: usize) -> Result<Document> {
    Ok(Document::from_value(&value(number))?)
}
