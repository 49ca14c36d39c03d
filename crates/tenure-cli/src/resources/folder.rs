//! Resources as files: `KIND/ID.yaml`.
//!
//! What a file system could take for something else is percent-encoded, the dots at both ends of a
//! name included, so no name leaves its folder. An empty name is `%`. A name that is too long for a
//! file goes on in a folder whose name ends with `+`.

use std::path::{Path, PathBuf};

use crate::error::CliError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// Bytes of a file's name, with space for its ending.
const NAME_BYTES: usize = 200;
const EMPTY: &str = "%";
const CONTINUED: char = '+';

/// Writes a file of a resource.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |source| CliError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

/// The file of a resource, below the folder.
pub(crate) fn path(kind: &str, id: &str) -> PathBuf {
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

/// A resource, and the file that has its value.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) path: PathBuf,
}

/// What is in a folder of resources but is none.
pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    pub(crate) reason: &'static str,
}

/// What a folder holds. What is hidden, as its name begins with a dot, is passed over.
#[derive(Default)]
pub(crate) struct Contents {
    /// In the order of their names.
    pub(crate) files: Vec<Named>,
    pub(crate) skipped: Vec<Skipped>,
}

/// The resources that a folder holds. Links to files are followed, and those to the folders of
/// kinds, as a mounted ConfigMap has them; no others, so that there is an end.
pub(crate) fn files(folder: &Path) -> Result<Contents, CliError> {
    let mut found = Contents::default();
    for Entry { name, path, is, .. } in entries(folder)? {
        match is {
            Is::Folder => {
                let kind = decode(&name).ok_or_else(|| unnamed(&path))?;
                found.collect(&kind, "", &path)?;
            }
            Is::File => found.skip(path, "it is in no folder of a kind"),
            Is::Neither => found.skip(path, NEITHER),
        }
    }
    found.files.sort();
    Ok(found)
}

const NEITHER: &str = "it is neither a file nor a folder";

impl Contents {
    fn collect(&mut self, kind: &str, begun: &str, folder: &Path) -> Result<(), CliError> {
        for Entry { name, path, is, is_link } in entries(folder)? {
            match (is, name.strip_suffix(CONTINUED)) {
                (Is::Folder, _) if is_link => self.skip(path, "it is a link to a folder"),
                (Is::Folder, Some(part)) => {
                    self.collect(kind, &format!("{begun}{part}"), &path)?;
                }
                (Is::Folder, None) => return Err(unnamed(&path)),
                (Is::Neither, _) => self.skip(path, NEITHER),
                (Is::File, _) => {
                    let mut endings = [".yaml", ".yml", ".json"].into_iter();
                    let Some(name) = endings.find_map(|it| name.strip_suffix(it)) else {
                        self.skip(path, "its name does not end with .yaml, .yml or .json");
                        continue;
                    };
                    let id = decode(&format!("{begun}{name}")).ok_or_else(|| unnamed(&path))?;
                    self.files.push(Named { kind: kind.to_owned(), id, path });
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: PathBuf, reason: &'static str) {
        self.skipped.push(Skipped { path, reason });
    }
}

struct Entry {
    name: String,
    path: PathBuf,
    is: Is,
    is_link: bool,
}

/// What an entry is, or what it links to.
#[derive(Clone, Copy)]
enum Is {
    File,
    Folder,
    Neither,
}

fn entries(folder: &Path) -> Result<Vec<Entry>, CliError> {
    let failed = |source| CliError::File { path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { return Err(unnamed(&path)) };
        if name.starts_with('.') {
            continue;
        }
        let is_link = entry.file_type().map_err(failed)?.is_symlink();
        let is = match std::fs::metadata(&path) {
            Ok(it) if it.is_file() => Is::File,
            Ok(it) if it.is_dir() => Is::Folder,
            // A link may lead nowhere.
            Ok(_) | Err(_) => Is::Neither,
        };
        entries.push(Entry { name, path, is, is_link });
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
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
        let found = files(folder.path()).unwrap().files.into_iter();
        assert_eq!(found.map(|it| (it.kind, it.id)).collect::<Vec<_>>(), expected);
    }
}
