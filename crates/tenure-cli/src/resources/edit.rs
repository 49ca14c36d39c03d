//! `tenure resources edit`: the value in an editor, then put-if-match.
//!
//! Once the editor has opened, every way out either stores the user's text or says which file
//! keeps it. When somebody else was faster, it may be opened again on both texts brought together.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::NamedTempFile;
use tenure::resources::Document;
use tenure_mcp::http::resources::WrittenDocument;

use crate::error::{CliError, printable};
use crate::output::note;
use crate::resources::args::Common;
use crate::resources::file;
use crate::resources::merge::{Merged, merge};
use crate::resources::output::Output;
use crate::resources::place::{Address, Condition, Resources};

/// Characters of a remark in the editor's file; a value may be large.
const REMARK: usize = 200;

pub(crate) async fn edit(
    resources: &Resources,
    address: &Address,
    common: &Common,
) -> Result<(), CliError> {
    let mut before = match resources.get(address, None).await {
        Ok(found) => Some(found.document),
        Err(CliError::NotFound(_)) => None,
        Err(error) => return Err(error),
    };
    let text = before.as_ref().map_or_else(|| Ok("{}\n".into()), file::yaml)?;
    let path = draft(&text)?.keep().map_err(|error| error.error)?.1;
    let kept = |error| CliError::Kept { path: path.clone(), source: Box::new(error) };
    loop {
        let round = round(resources, address, before.as_ref(), &path).await.map_err(kept)?;
        let (mine, current) = match round {
            Round::Unchanged => {
                note("nothing was changed");
                let _ = std::fs::remove_file(&path);
                return Ok(());
            }
            Round::Stored(written) => {
                let _ = std::fs::remove_file(&path);
                return Output::new(common.json).written(&written);
            }
            Round::TooLate { mine, current } => (mine, current),
        };
        let theirs = tell_changes(resources, address, before.as_ref()).await;
        if let Some(theirs) = &theirs
            && std::io::stdin().is_terminal()
            && agrees("open the editor again on both together?").await
        {
            let both = together(before.as_ref(), &mine, theirs.as_ref()).map_err(kept)?;
            replace(&path, &both).map_err(kept)?;
            before.clone_from(theirs);
            continue;
        }
        let etag = match &theirs {
            Some(theirs) => theirs.as_ref().map(|it| it.etag().to_string()),
            None => current.clone(),
        };
        eprintln!("tenure: bring both together in {}, then", path.display());
        let again = command(address, common, &path, etag.as_deref());
        eprintln!("  {}", printable(&again));
        return Err(kept(CliError::Changed { current }));
    }
}

/// What came of one time in the editor.
enum Round {
    Unchanged,
    Stored(WrittenDocument),
    /// Somebody else was faster, and has left the value with this ETag, or none.
    TooLate {
        mine: Document,
        current: Option<String>,
    },
}

async fn round(
    resources: &Resources,
    address: &Address,
    before: Option<&Document>,
    path: &Path,
) -> Result<Round, CliError> {
    open_editor(path).await?;
    let mine = file::read(path)?;
    if before.is_some_and(|before| before.etag() == mine.etag()) {
        return Ok(Round::Unchanged);
    }
    let condition = match before {
        Some(before) => Condition::Matches(before.etag().to_string()),
        None => Condition::Absent,
    };
    match resources.put(address, &mine, &condition).await {
        Ok(written) => Ok(Round::Stored(written)),
        Err(CliError::Changed { current }) => Ok(Round::TooLate { mine, current }),
        Err(error) => Err(error),
    }
}

/// A file of our own with a text.
fn draft(text: &str) -> Result<NamedTempFile, CliError> {
    let mut file = tempfile::Builder::new().prefix("tenure-").suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// Puts a text in place of the file's, all of it or none.
fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    draft(text)?.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// What the editor is opened on after somebody else was faster.
fn together(
    before: Option<&Document>,
    mine: &Document,
    theirs: Option<&Document>,
) -> Result<String, CliError> {
    let Some(theirs) = theirs else {
        return Ok(format!("# Somebody else deleted it.\n{}", file::yaml(mine)?));
    };
    let base = before.map_or(Ok(Value::Null), file::value)?;
    let Merged { value, contradictions } = merge(&base, file::value(mine)?, file::value(theirs)?);
    let mut text = String::from("# With what somebody else wrote meanwhile.\n");
    let theirs = file::value(theirs)?;
    for pointer in contradictions {
        let theirs = match theirs.pointer(&pointer) {
            Some(theirs) => format!("theirs is {theirs}"),
            None => "they took it away".into(),
        };
        text += &remark(&format!("Both changed {pointer}, and this is yours; {theirs}"));
    }
    Ok(text + &file::yaml(&Document::from_value(&value)?)?)
}

/// A line that is no part of the value: nothing in it ends the line, in any version of YAML.
fn remark(text: &str) -> String {
    let breaks = |it: char| it.is_control() || matches!(it, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let text = text.chars().take(REMARK).map(|it| if breaks(it) { '\u{fffd}' } else { it });
    format!("# {}\n", text.collect::<String>())
}

/// Asks at the terminal; an interrupt, and anything but a clear yes, is a no.
async fn agrees(question: &str) -> bool {
    eprint!("tenure: {question} [Y/n] ");
    let (answer, answered) = tokio::sync::oneshot::channel();
    // Not one of the runtime's threads: it would wait for an answer that is not wanted any more.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        answer.send(read.is_ok_and(|bytes| bytes > 0).then_some(line))
    });
    let answer = tokio::select! {
        answer = answered => answer.ok().flatten(),
        _ = tokio::signal::ctrl_c() => None,
    };
    let answer = answer.map(|it| it.trim().to_lowercase());
    matches!(answer.as_deref(), Some("" | "y" | "yes"))
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

/// Shows what somebody else has done meanwhile. Their value, or none if nothing is there any more;
/// nothing at all if that cannot be told.
async fn tell_changes(
    resources: &Resources,
    address: &Address,
    before: Option<&Document>,
) -> Option<Option<Document>> {
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
    let base = before.map_or(Ok(Value::Null), file::value);
    if let (Ok(base), Ok(theirs)) = (base, file::value(&theirs)) {
        for operation in json_patch::diff(&base, &theirs).0 {
            eprintln!("  {}", printable(&operation.to_string()));
        }
    }
    Some(Some(theirs))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_about_any_value_leaves_the_value_as_it_is() {
        let document = |text: &str| Document::parse(text).unwrap();
        let hostile = "\\n\\r\u{85}\u{2028}b: 2\u{2029}c: 3\\u0000".repeat(100);
        let theirs = format!("{{\"a\\nd: 4\":\"{hostile}\"}}");
        let mine = document(r#"{"a\nd: 4":1}"#);
        let text = together(None, &mine, Some(&document(&theirs))).unwrap();
        assert!(text.contains("Both changed /a"), "{text}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, text).unwrap();
        assert_eq!(file::read(&path).unwrap(), mine);
    }
}
