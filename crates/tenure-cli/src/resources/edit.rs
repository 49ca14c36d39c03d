//! `tenure resources edit`: the value in an editor, then put-if-match.
//!
//! Once the editor has opened, every way out either stores the user's text or says which file
//! keeps it. When somebody else was faster, it may be opened again on both texts brought together.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tenure::resources::{Condition, Document};
use tenure_mcp::http::resources::WrittenDocument;

use crate::error::{CliError, printable};
use crate::output::{note, remark};
use crate::resources::args::Common;
use crate::resources::drafts::Drafts;
use crate::resources::file;
use crate::resources::output::Output;
use crate::resources::place::{Address, Resources};
use crate::resources::together::together;

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
    let mut drafts = Drafts::new(&text)?;
    let mut is_contradictory = false;
    // What is not to be stored as it stands.
    let mut provisional = Some(text);
    let (current, theirs) = loop {
        let round =
            round(resources, address, before.as_ref(), drafts.path(), provisional.as_deref()).await;
        let (mine, current) = match round.map_err(|error| drafts.kept(error))? {
            Round::AsOpened if is_contradictory => {
                note("the file is as it was opened: nothing was decided, and nothing is stored");
                let theirs = etag(before.as_ref());
                break (theirs.clone(), theirs);
            }
            Round::AsOpened | Round::Unchanged => {
                note("nothing was changed");
                drafts.discard();
                return Ok(());
            }
            Round::Stored(written) => {
                drafts.discard();
                return Output::new(common.json).written(&written);
            }
            Round::TooLate { mine, current } => (mine, current),
        };
        let theirs = tell_changes(resources, address, before.as_ref()).await;
        let Some(theirs) = theirs else { break (current.clone(), current) };
        if !agrees("open the editor again on both together?").await {
            break (current, etag(theirs.as_ref()));
        }
        let both = together(before.as_ref(), &mine, theirs.as_ref());
        let both = both.map_err(|error| drafts.kept(error))?;
        drafts.go_on(&both.text).map_err(|error| drafts.kept(error))?;
        is_contradictory = both.is_contradictory;
        provisional = is_contradictory.then_some(both.text);
        before = theirs;
    };
    note(&format!("bring both together in {}, then", drafts.path().display()));
    let there = common.arguments().map_err(|error| drafts.kept(error))?;
    let again = command(address, there, drafts.path(), theirs.as_deref());
    remark(&format!("  {}", printable(&again)));
    Err(drafts.kept(CliError::Changed { current }))
}

fn etag(document: Option<&Document>) -> Option<String> {
    document.map(|it| it.etag().to_string())
}

/// What came of one time in the editor.
enum Round {
    /// The value is the one that is there.
    Unchanged,
    /// The text is still the one that is not to be stored as it stands.
    AsOpened,
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
    provisional: Option<&str>,
) -> Result<Round, CliError> {
    open_editor(path).await?;
    let text = file::text(path)?;
    if provisional == Some(text.as_str()) {
        return Ok(Round::AsOpened);
    }
    let mine = file::parse(path, &text)?;
    if before.is_some_and(|before| before.etag() == mine.etag()) {
        return Ok(Round::Unchanged);
    }
    let condition = match before {
        Some(before) => Condition::ETag(before.etag()),
        None => Condition::Absent,
    };
    match resources.put(address, &mine, condition).await {
        Ok(written) => Ok(Round::Stored(written)),
        Err(CliError::Changed { current }) => Ok(Round::TooLate { mine, current }),
        Err(error) => Err(error),
    }
}

/// Asks at the terminal; an interrupt, and anything but a clear yes, is a no. Nobody is asked who
/// cannot see the question or cannot answer it.
async fn agrees(question: &str) -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    let _ = write!(std::io::stderr(), "tenure: {question} [Y/n] ");
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
            note("somebody else deleted it meanwhile");
            return Some(None);
        }
        Err(error) => {
            note(&format!("what somebody else wrote cannot be read: {}", error.describe()));
            return None;
        }
    };
    note("somebody else changed it meanwhile:");
    let base = before.map_or(Ok(Value::Null), file::value);
    if let (Ok(base), Ok(theirs)) = (base, file::value(&theirs)) {
        for operation in json_patch::diff(&base, &theirs).0 {
            remark(&format!("  {}", printable(&operation.to_string())));
        }
    }
    Some(Some(theirs))
}

/// How to put the file where the edit was to go, for a shell.
fn command(address: &Address, there: Vec<String>, path: &Path, theirs: Option<&str>) -> String {
    let mut words: Vec<String> = ["tenure", "resources", "put", "-f"].map(Into::into).into();
    words.push(path.display().to_string());
    match theirs {
        Some(etag) => words.extend(["--if-match".into(), etag.into()]),
        None => words.push("--create".into()),
    }
    words.extend(there);
    // What follows is no option, whatever it looks like.
    words.extend(["--".into(), address.project().into(), address.text()]);
    let quoted = words.iter().map(|it| shlex::try_quote(it).unwrap_or_else(|_| it.into()));
    quoted.collect::<Vec<_>>().join(" ")
}
