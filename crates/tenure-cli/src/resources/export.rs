//! `tenure resources export`: a project to files.

use std::cell::Cell;
use std::path::Path;

use tenure::resources::Document;

use crate::error::CliError;
use crate::output::note;
use crate::progress::Progress;
use crate::resources::output::told;
use crate::resources::place::Resources;
use crate::resources::{file, folder};

/// Writes every resource of a project to a file.
pub(crate) async fn export(
    resources: &Resources,
    project: &str,
    folder: &Path,
) -> Result<(), CliError> {
    let written = Cell::new(0);
    let what = || format!("exporting {project}: {} written so far", written.get());
    let work = export_all(resources, project, folder, &written);
    Progress::on_a_terminal().of(what, work).await
}

async fn export_all(
    resources: &Resources,
    project: &str,
    folder: &Path,
    written: &Cell<usize>,
) -> Result<(), CliError> {
    let (mut unreadable, mut cursor) = (0, None);
    loop {
        let page = resources.page(project, None, cursor, true).await?;
        for reason in &page.unreadable {
            note(reason);
            unreadable += 1;
        }
        for resource in page.resources {
            let value = resource.value.unwrap_or_default();
            let text = file::yaml(&Document::from_value(&value)?)?;
            folder::write(&folder.join(folder::path(&resource.kind, &resource.id)), &text)?;
            written.set(written.get() + 1);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    told(&format!("written {}, unreadable {unreadable}", written.get()));
    if unreadable > 0 {
        return Err(CliError::Value("not all resources could be read".into()));
    }
    Ok(())
}
