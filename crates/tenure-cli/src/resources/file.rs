//! Values in files: YAML or JSON.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use tenure::resources::Document;

use crate::error::CliError;
use crate::resources::yaml;

/// What a file may weigh. No value that a store takes is larger, YAML with its spaces included.
const MAX_BYTES: u64 = 4 * 1_024 * 1_024;

/// Reads a value: JSON from a file of that name, YAML (which JSON is) from all else.
pub(crate) fn read(path: &Path) -> Result<Document, CliError> {
    parse(path, &text(path)?)
}

/// A file's text, whatever it says.
pub(crate) fn text(path: &Path) -> Result<String, CliError> {
    let failed = |source| CliError::File { path: path.to_owned(), source };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    }
    if text.len() as u64 > MAX_BYTES {
        return Err(CliError::Value(format!("{} is too large", path.display())));
    }
    Ok(text)
}

/// The value that a file of this name and text has.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Document, CliError> {
    if is_blank(text) {
        let reason = "there is no value in it; null, if that is meant, is written null";
        return Err(CliError::Value(format!("{}: {reason}", path.display())));
    }
    let is_json = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("json"));
    let value = if is_json {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        yaml::read(text).map_err(|error| error.to_string())
    };
    let document = value
        .and_then(|value: Value| Document::from_value(&value).map_err(|error| error.to_string()));
    document.map_err(|reason| CliError::Value(format!("{}: {reason}", path.display())))
}

/// A value as YAML.
pub(crate) fn yaml(document: &Document) -> Result<String, CliError> {
    yaml::write(&value(document)?)
}

/// Whether there is nothing but remarks. YAML takes that for null, but whoever empties a file does
/// not mean that.
fn is_blank(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().map(str::trim);
    lines.all(|it| it.starts_with('#') || matches!(it, "" | "---" | "..."))
}

/// A document's value.
pub(crate) fn value(document: &Document) -> Result<Value, CliError> {
    serde_json::from_slice(document.text()).map_err(|error| CliError::Answer(error.into()))
}
