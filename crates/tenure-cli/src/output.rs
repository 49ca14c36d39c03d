//! Results go to standard output, a line at a time. One that cannot be written is an error; `main`
//! knows the one that is none, a reader that has seen enough.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::{CliError, printable};

/// A document, for programs. JSON escapes what would drive a terminal.
pub(crate) fn document(document: &impl Serialize) -> Result<(), CliError> {
    let text = json(document)?;
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// A line, for people.
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    Ok(writeln!(io::stdout().lock(), "{}", printable(text))?)
}

/// A remark, which is no part of the result.
pub(crate) fn note(text: &str) {
    remark(&format!("tenure: {}", printable(text)));
}

/// A line on standard error as it is. Nothing stops when nobody reads it; `eprintln!` would panic.
pub(crate) fn remark(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

pub(crate) fn json(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string(value).map_err(|error| CliError::Answer(error.into()))
}
