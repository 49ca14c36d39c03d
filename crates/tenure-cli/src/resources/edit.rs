//! `tenure resources edit`: the value in an editor, then put-if-match.
//!
//! Once the editor has opened, every way out either stores the user's text or says which file
//! keeps it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tenure::resources::Document;

use crate::error::{CliError, printable};
use crate::output::note;
use crate::resources::args::Common;
use crate::resources::file;
use crate::resources::output::Output;
use crate::resources::place::{Address, Condition, Resources};

pub(crate) async fn edit(
    resources: &Resources,
    address: &Address,
    common: &Common,
) -> Result<(), CliError> {
    let output = Output::new(common.json);
    let before = match resources.get(address, None).await {
        Ok(found) => Some(found.document),
        Err(CliError::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    let path = draft(before.as_ref())?;
    let kept = |error| CliError::Kept { path: path.clone(), source: Box::new(error) };
    open_editor(&path).await.map_err(kept)?;
    let after = file::read(&path).map_err(kept)?;
    if before.as_ref().is_some_and(|before| before.etag() == after.etag()) {
        note("nothing was changed");
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
        Err(error) => {
            if let CliError::Changed { current } = &error {
                let theirs = tell_changes(resources, address, before.as_ref()).await;
                let theirs = theirs.unwrap_or_else(|| current.clone());
                eprintln!("tenure: bring both together in {}, then", path.display());
                let again = command(address, common, &path, theirs.as_deref());
                eprintln!("  {}", printable(&again));
            }
            Err(kept(error))
        }
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

/// Opens the editor and waits for its end. From here on Ctrl-C is the editor's: a late one must not
/// take the text with it.
async fn open_editor(path: &Path) -> Result<(), CliError> {
    // An empty variable names none; the shell would run the draft itself.
    let named = |variable| std::env::var(variable).ok().filter(|it| !it.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".into());
    // The variable may hold arguments, and so it is the shell's to read.
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(path);
    #[cfg(unix)]
    let _ignored = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let ended = tokio::task::spawn_blocking(move || command.status()).await;
    if ended.map_err(std::io::Error::other)??.success() {
        return Ok(());
    }
    Err(CliError::Value(format!("the editor {editor} failed")))
}

/// Shows what somebody else has done meanwhile. Their ETag, or none if nothing is there any more;
/// nothing at all if that cannot be told.
async fn tell_changes(
    resources: &Resources,
    address: &Address,
    before: Option<&Document>,
) -> Option<Option<String>> {
    let theirs = match resources.get(address, None).await {
        Ok(found) => found.document,
        Err(CliError::NotFound(_)) => {
            eprintln!("tenure: somebody else deleted it meanwhile");
            return Some(None);
        }
        Err(error) => {
            eprintln!("tenure: what somebody else wrote cannot be read: {}", error.describe());
            return None;
        }
    };
    eprintln!("tenure: somebody else changed it meanwhile:");
    let base = before.map_or_else(|| Ok(serde_json::Value::Null), file::value);
    if let (Ok(base), Ok(theirs)) = (base, file::value(&theirs)) {
        for operation in json_patch::diff(&base, &theirs).0 {
            eprintln!("  {}", printable(&operation.to_string()));
        }
    }
    Some(Some(theirs.etag().to_string()))
}

/// How to put the file where the edit was to go, for a shell.
fn command(address: &Address, common: &Common, path: &Path, theirs: Option<&str>) -> String {
    let mut words: Vec<String> = ["tenure", "resources", "put", "-f"].map(Into::into).into();
    words.push(path.display().to_string());
    match theirs {
        Some(etag) => words.extend(["--if-match".into(), etag.into()]),
        None => words.push("--create".into()),
    }
    words.extend(common.arguments());
    // What follows is no option, whatever it looks like.
    words.extend(["--".into(), address.project().into(), address.text()]);
    let quoted = words.iter().map(|it| shlex::try_quote(it).unwrap_or_else(|_| it.into()));
    quoted.collect::<Vec<_>>().join(" ")
}
