//! `tenure resources import`: files to a project.

use std::cell::Cell;
use std::path::Path;

use tenure::resources::{Condition, Document};

use crate::error::{CliError, printable};
use crate::output::note;
use crate::progress::Progress;
use crate::resources::file;
use crate::resources::folder::{self, Contents, Named, Skipped};
use crate::resources::output::told;
use crate::resources::place::{Address, Resources, address};

/// What an import did, or would do.
#[derive(Debug, Default)]
struct Summary {
    created: usize,
    replaced: usize,
    unchanged: usize,
    kept: usize,
    failed: usize,
    skipped: usize,
}

impl Summary {
    fn tell(&self, dry_run: bool) {
        let Self { created, replaced, unchanged, kept, failed, skipped } = self;
        let would = if dry_run { "would be: " } else { "" };
        told(&format!(
            "{would}created {created}, replaced {replaced}, unchanged {unchanged}, kept {kept}, \
             failed {failed}, skipped {skipped}"
        ));
    }
}

/// Reads every file first: with one that is wrong nothing is written. A resource that is refused,
/// or that somebody else changes at the same time, does not hold up the others.
pub(crate) async fn import(
    resources: &Resources,
    project: &str,
    folder: &Path,
    overwrite: bool,
    dry_run: bool,
) -> Result<(), CliError> {
    let Contents { files, skipped } = folder::files(folder)?;
    for Skipped { path, reason } in &skipped {
        note(&format!("skipped {}: {reason}", path.display()));
    }
    must_differ(&files)?;
    let reached = Cell::new(("reading", 0));
    let what = || {
        let (doing, number) = reached.get();
        format!("importing into {project}: {doing} file {number} of {}", files.len())
    };
    let import = Import { resources, project, overwrite, dry_run, skipped: skipped.len() };
    Progress::on_a_terminal().of(what, import.run(&files, &reached)).await
}

/// Refuses files that are one resource, for nobody can say which of them it is to be.
fn must_differ(files: &[Named]) -> Result<(), CliError> {
    let is_one = |one: &Named, other: &Named| (&one.kind, &one.id) == (&other.kind, &other.id);
    let mut failed = 0;
    for file in files.chunk_by(is_one).filter(|files| files.len() > 1).flatten() {
        let address = address(&file.kind, &file.id);
        note(&format!("{}: {address} is in another file as well", file.path.display()));
        failed += 1;
    }
    if failed == 0 {
        return Ok(());
    }
    Err(CliError::Value(format!("{failed} files share a resource; nothing was imported")))
}

/// Where an import goes, and on what terms.
struct Import<'a> {
    resources: &'a Resources,
    project: &'a str,
    overwrite: bool,
    dry_run: bool,
    skipped: usize,
}

impl Import<'_> {
    async fn run(
        &self,
        files: &[Named],
        reached: &Cell<(&'static str, usize)>,
    ) -> Result<(), CliError> {
        for (number, Named { kind, id, path }) in files.iter().enumerate() {
            reached.set(("reading", number + 1));
            // Whoever tells of this gets a turn.
            tokio::task::yield_now().await;
            // Twice, because all values at once may not fit into memory.
            file::read(path)?;
            Address::of(self.project, kind, id)?;
        }
        let mut summary = Summary { skipped: self.skipped, ..Summary::default() };
        let mut stopped = None;
        let doing = if self.dry_run { "comparing" } else { "writing" };
        for (number, Named { kind, id, path }) in files.iter().enumerate() {
            reached.set((doing, number + 1));
            let address = Address::of(self.project, kind, id)?;
            let done = match file::read(path) {
                Ok(document) => self.one(&address, &document, &mut summary).await,
                Err(changed_meanwhile) => Err(changed_meanwhile),
            };
            let Err(error) = done else { continue };
            if !error.is_about_one_resource() {
                stopped = Some(error);
                break;
            }
            note(&format!("{}: {}", address.text(), error.describe()));
            summary.failed += 1;
        }
        summary.tell(self.dry_run);
        match (stopped, summary.failed) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(()),
            (None, failed) => {
                Err(CliError::Value(format!("{failed} of {} could not be imported", files.len())))
            }
        }
    }

    async fn one(
        &self,
        address: &Address,
        document: &Document,
        summary: &mut Summary,
    ) -> Result<(), CliError> {
        let current = match self.resources.get(address, None).await {
            Ok(found) => Some(found.document.etag()),
            Err(CliError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let (verb, count, condition) = match current {
            None => ("create", &mut summary.created, Condition::Absent),
            Some(etag) if etag == document.etag() => {
                summary.unchanged += 1;
                return Ok(());
            }
            Some(etag) if self.overwrite => {
                ("replace", &mut summary.replaced, Condition::ETag(etag))
            }
            Some(_) => {
                told(&format!("keep     {}", printable(&address.text())));
                summary.kept += 1;
                return Ok(());
            }
        };
        if self.dry_run {
            self.resources.judge(address, document).await?;
        } else {
            self.resources.put(address, document, condition).await?;
        }
        told(&format!("{verb:<8} {}", printable(&address.text())));
        *count += 1;
        Ok(())
    }
}
