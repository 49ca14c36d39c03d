//! `tenure resources edit`: the value in an editor, then put-if-match.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tenure::resources::Document;

use crate::error::{CliError, printable};
use crate::resources::file;
use crate::resources::output::Output;
use crate::resources::place::{Address, Condition, Resources};

pub(crate) async fn edit(
    resources: &Resources,
    address: &Address,
    output: &Output,
) -> Result<(), CliError> {
    let before = match resources.get(address, None).await {
        Ok(found) => Some(found.document),
        Err(CliError::NoResource) => None,
        Err(error) => return Err(error),
    };
    let path = draft(before.as_ref())?;
    let kept = |error| CliError::Kept { path: path.clone(), source: Box::new(error) };
    open_editor(&path).map_err(kept)?;
    let after = file::read(&path).map_err(kept)?;
    if before.as_ref().is_some_and(|before| before.etag() == after.etag()) {
        output.note("nothing was changed");
        let _ = std::fs::remove_file(&path);
        return Ok(());
    }
    let condition = match &before {
        Some(before) => Condition::Matches(before.etag().to_string()),
        None => Condition::Absent,
    };
    match resources.put(address, &after, &condition).await {
        Ok(written) => {
            let _ = std::fs::remove_file(&path);
            output.written(&written)
        }
        Err(CliError::Changed { current }) => {
            tell_changes(resources, address, before.as_ref(), &path).await?;
            Err(CliError::Changed { current })
        }
        Err(error) => Err(kept(error)),
    }
}

/// A file of our own with the value, that stays until the edit has succeeded.
fn draft(before: Option<&Document>) -> Result<PathBuf, CliError> {
    let text = before.map_or_else(|| Ok("{}\n".into()), file::yaml)?;
    let mut file = tempfile::Builder::new().prefix("tenure-").suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    let (_, path) = file.keep().map_err(|error| error.error)?;
    Ok(path)
}

fn open_editor(path: &Path) -> Result<(), CliError> {
    let named = std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR"));
    let editor = named.unwrap_or_else(|_| "vi".into());
    // The variable may hold arguments, and so it is the shell's to read.
    let status =
        Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(path).status()?;
    if status.success() {
        return Ok(());
    }
    Err(CliError::Value(format!("the editor {editor} failed")))
}

/// Shows what somebody else has changed meanwhile, and how to go on.
async fn tell_changes(
    resources: &Resources,
    address: &Address,
    before: Option<&Document>,
    path: &Path,
) -> Result<(), CliError> {
    eprintln!("tenure: somebody else changed it meanwhile:");
    let base = before.map_or_else(|| Ok(serde_json::Value::Null), file::value)?;
    let (theirs, etag) = match resources.get(address, None).await {
        Ok(found) => (file::value(&found.document)?, found.document.etag().to_string()),
        Err(CliError::NoResource) => {
            eprintln!("  it was deleted");
            eprintln!("your version is in {}", path.display());
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for operation in json_patch::diff(&base, &theirs).0 {
        eprintln!("  {}", printable(&operation.to_string()));
    }
    eprintln!("your version is in {}; bring both together there, then", path.display());
    eprintln!(
        "  tenure resources put {} {} -f {} --if-match {etag}",
        printable(address.project()),
        printable(&address.text()),
        path.display(),
    );
    Ok(())
}
