//! Lines for people, a document a line for programs.

use std::io::{self, Write as _};

use tenure_mcp::http::resources::{
    EventDocument, HistoryDocument, ResourceDocument, WrittenDocument,
};

use crate::error::CliError;
use crate::output::{document, line, note};
use crate::resources::place::address;
use crate::resources::{Found, file};

pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) fn written(&self, written: &WrittenDocument) -> Result<(), CliError> {
        if self.json { document(written) } else { line(&written.etag) }
    }

    pub(crate) fn value(&self, found: &Found) -> Result<(), CliError> {
        if self.json {
            return line(&String::from_utf8_lossy(found.document.text()));
        }
        let text = file::yaml(&found.document)?;
        let mut out = io::stdout().lock();
        Ok(write!(out, "# ETag: {}\n{text}", found.document.etag())?)
    }

    pub(crate) fn row(&self, resource: &ResourceDocument) -> Result<(), CliError> {
        if self.json {
            return document(resource);
        }
        let ResourceDocument { etag, updated_at, updated_by, .. } = resource;
        let by = updated_by.as_deref().unwrap_or("-");
        let address = address(&resource.kind, &resource.id);
        line(&format!("{etag}  {updated_at:<24}  {by:<12}  {address}"))
    }

    /// How many rows there were, for people.
    pub(crate) fn total(&self, rows: usize) {
        match (self.json, rows) {
            (true, _) => {}
            (false, 1) => note("1 resource"),
            (false, _) => note(&format!("{rows} resources")),
        }
    }

    pub(crate) fn history(&self, history: &HistoryDocument) -> Result<(), CliError> {
        for version in &history.versions {
            if self.json {
                document(version)?;
                continue;
            }
            let by = version.written_by.as_deref().unwrap_or("-");
            let (number, etag, at) = (version.number, &version.etag, &version.written_at);
            line(&format!("{number:>6}  {etag}  {at:<24}  {by}"))?;
        }
        history.unreadable.iter().for_each(|it| note(it));
        Ok(())
    }

    pub(crate) fn event(&self, event: &EventDocument) -> Result<(), CliError> {
        if self.json {
            return document(event);
        }
        match event {
            EventDocument::Present(it) | EventDocument::Put(it) => {
                let address = address(&it.kind, &it.id);
                line(&format!("{:<8}  {}  {address}", event.name(), it.etag))
            }
            EventDocument::Deleted { kind, id } => {
                line(&format!("{:<8}  {:<43}  {}", event.name(), "-", address(kind, id)))
            }
            _ => line(event.name()),
        }
    }
}

/// What was done, told to whoever still reads: work in progress goes on when nobody does.
pub(crate) fn told(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}
