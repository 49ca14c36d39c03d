//! Resources as files: `KIND/ID.yaml`.
//!
//! What a file system could take for something else is percent-encoded, the dots at both ends of a
//! name included, so no name leaves its folder. An empty name is `%`. A name that is too long for a
//! file goes on in a folder whose name ends with `+`.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tenure::resources::{Condition, Document};

use crate::error::{CliError, printable};
use crate::output::note;
use crate::progress::Progress;
use crate::resources::file;
use crate::resources::output::told;
use crate::resources::place::{Address, Resources};

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// Bytes of a file's name, with space for its ending.
const NAME_BYTES: usize = 200;
const EMPTY: &str = "%";
const CONTINUED: char = '+';

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
            write(&folder.join(path(&resource.kind, &resource.id)), &text)?;
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

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |source| CliError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

/// What an import did, or would do.
#[derive(Debug, Default)]
struct Summary {
    created: usize,
    replaced: usize,
    unchanged: usize,
    kept: usize,
    failed: usize,
}

impl Summary {
    fn tell(&self, dry_run: bool) {
        let Self { created, replaced, unchanged, kept, failed } = self;
        let would = if dry_run { "would be: " } else { "" };
        told(&format!(
            "{would}created {created}, replaced {replaced}, unchanged {unchanged}, kept {kept}, \
             failed {failed}"
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
    let files = files(folder)?;
    let reached = Cell::new(("reading", 0));
    let what = || {
        let (doing, number) = reached.get();
        format!("importing into {project}: {doing} file {number} of {}", files.len())
    };
    let import = Import { resources, project, overwrite, dry_run };
    Progress::on_a_terminal().of(what, import.run(&files, &reached)).await
}

/// A kind, an id, and the file that has the value.
type Named = (String, String, PathBuf);

/// Where an import goes, and on what terms.
struct Import<'a> {
    resources: &'a Resources,
    project: &'a str,
    overwrite: bool,
    dry_run: bool,
}

impl Import<'_> {
    async fn run(
        &self,
        files: &[Named],
        reached: &Cell<(&'static str, usize)>,
    ) -> Result<(), CliError> {
        for (number, (kind, id, path)) in files.iter().enumerate() {
            reached.set(("reading", number + 1));
            // Whoever tells of this gets a turn.
            tokio::task::yield_now().await;
            // Twice, because all values at once may not fit into memory.
            file::read(path)?;
            Address::of(self.project, kind, id)?;
        }
        let mut summary = Summary::default();
        let mut stopped = None;
        let doing = if self.dry_run { "comparing" } else { "writing" };
        for (number, (kind, id, path)) in files.iter().enumerate() {
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
        if !self.dry_run {
            self.resources.put(address, document, condition).await?;
        }
        told(&format!("{verb:<8} {}", printable(&address.text())));
        *count += 1;
        Ok(())
    }
}

/// The file of a resource, below the folder.
fn path(kind: &str, id: &str) -> PathBuf {
    let mut path = PathBuf::from(encode(kind));
    let name = encode(id);
    let mut rest = name.as_str();
    while rest.len() > NAME_BYTES {
        let (part, after) = rest.split_at(NAME_BYTES);
        path.push(format!("{}{CONTINUED}", visible(part)));
        rest = after;
    }
    path.push(format!("{}.yaml", visible(rest)));
    path
}

/// A name that begins with a dot is hidden, and passed over by an import.
fn visible(part: &str) -> String {
    match part.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => part.into(),
    }
}

fn encode(name: &str) -> String {
    if name.is_empty() {
        return EMPTY.into();
    }
    let mut name = utf8_percent_encode(name, ESCAPED).to_string();
    if name.ends_with('.') {
        name.truncate(name.len() - 1);
        name.push_str("%2E");
    }
    if name.starts_with('.') {
        name.replace_range(..1, "%2E");
    }
    name
}

fn decode(name: &str) -> Option<String> {
    if name == EMPTY {
        return Some(String::new());
    }
    percent_decode_str(name).decode_utf8().ok().map(Into::into)
}

/// The resources that a folder holds, as kind, id and file, in the order of their names. What is not
/// a file or a folder, such as a link, is left alone.
fn files(folder: &Path) -> Result<Vec<Named>, CliError> {
    let mut found = Vec::new();
    for (name, path, is_folder) in entries(folder)? {
        if !is_folder {
            continue;
        }
        let kind = decode(&name).ok_or_else(|| unnamed(&path))?;
        collect(&kind, "", &path, &mut found)?;
    }
    found.sort();
    Ok(found)
}

fn collect(kind: &str, begun: &str, folder: &Path, found: &mut Vec<Named>) -> Result<(), CliError> {
    for (name, path, is_folder) in entries(folder)? {
        let part = name.strip_suffix(CONTINUED);
        match (is_folder, part) {
            (true, Some(part)) => collect(kind, &format!("{begun}{part}"), &path, found)?,
            (true, None) => return Err(unnamed(&path)),
            (false, _) => {
                let endings = [".yaml", ".yml", ".json"];
                let Some(name) = endings.iter().find_map(|it| name.strip_suffix(it)) else {
                    continue;
                };
                let id = decode(&format!("{begun}{name}")).ok_or_else(|| unnamed(&path))?;
                found.push((kind.to_owned(), id, path));
            }
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, bool)>, CliError> {
    let failed = |source| CliError::File { path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { return Err(unnamed(&path)) };
        if (kind.is_dir() || kind.is_file()) && !name.starts_with('.') {
            entries.push((name, path, kind.is_dir()));
        }
    }
    Ok(entries)
}

fn unnamed(path: &Path) -> CliError {
    CliError::Value(format!("{} is not the name of a resource", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use super::*;

    #[test]
    fn any_resource_has_a_file_of_its_own_that_stays_in_the_folder() {
        let long = "/é".repeat(85);
        let dotted = format!("{}.b", "a".repeat(NAME_BYTES));
        let names = [
            "",
            "%",
            ".",
            "..",
            "../../etc",
            "/",
            "a/b",
            "a b",
            "A",
            "é",
            "\0",
            "+",
            "x.yaml",
            "CON",
            &long,
            &dotted,
        ];
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for kind in names.iter().filter(|it| it.len() <= 64) {
            for id in names {
                let path = path(kind, id);
                assert!(path.components().all(|it| matches!(it, Component::Normal(_))), "{path:?}");
                write(&folder.path().join(path), "1\n").unwrap();
                expected.push(((*kind).to_owned(), id.to_owned()));
            }
        }
        expected.sort();
        let found = files(folder.path()).unwrap().into_iter();
        assert_eq!(found.map(|(kind, id, _)| (kind, id)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_value_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        let hostile = r#"["yes","1e3","~","null","0x1f","- a","a: b","\u0000é\n"," x ","","1.5","2001-01-01",
            "<<","!tag","*a","&a","%","@","`",1e21,1e-7,-0.5,9007199254740991,null,true,{"":{"a":[]},"y":{},"1":1}]"#;
        let document = Document::parse(hostile).unwrap();
        write(&path, &file::yaml(&document).unwrap()).unwrap();
        assert_eq!(file::read(&path).unwrap(), document);
    }
}
