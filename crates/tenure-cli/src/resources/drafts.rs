//! The files in which an edit keeps the user's text.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::error::CliError;

/// The file that the editor is opened on, and those of the rounds before: what brings two values
/// together knows nothing of the user's comments and layout.
pub(crate) struct Drafts {
    open: PathBuf,
    /// What the open one was opened with.
    text: String,
    earlier: Vec<PathBuf>,
}

impl Drafts {
    pub(crate) fn new(text: &str) -> Result<Self, CliError> {
        Ok(Self { open: draft(text)?, text: text.into(), earlier: Vec::new() })
    }

    /// The one that is open.
    pub(crate) fn path(&self) -> &Path {
        &self.open
    }

    /// Goes on with another text, in a file of its own.
    pub(crate) fn go_on(&mut self, text: &str) -> Result<(), CliError> {
        let next = draft(text)?;
        self.earlier.push(std::mem::replace(&mut self.open, next));
        self.text = text.into();
        Ok(())
    }

    /// An error that says where the user's text is, if the user has written any.
    pub(crate) fn kept(&self, source: CliError) -> CliError {
        let is_of_the_user = |it: &str| it != self.text && !it.trim().is_empty();
        let text = std::fs::read_to_string(&self.open);
        if self.earlier.is_empty() && text.is_ok_and(|it| !is_of_the_user(&it)) {
            let _ = std::fs::remove_file(&self.open);
            return source;
        }
        let (path, earlier) = (self.open.clone(), self.earlier.clone());
        CliError::Kept { path, earlier, source: Box::new(source) }
    }

    /// Nothing in them is needed any more.
    pub(crate) fn discard(self) {
        for path in self.earlier.iter().chain([&self.open]) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn draft(text: &str) -> Result<PathBuf, CliError> {
    let mut file = tempfile::Builder::new().prefix("tenure-").suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    Ok(file.keep().map_err(|error| error.error)?.1)
}
