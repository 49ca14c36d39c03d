//! An error with its causes, for logs and for people.

use std::error::Error;
use std::fmt;

/// Shows an error and its causes in one line, as `what failed: why: and why that`.
///
/// An error of this crate names its cause as its source and not in its own text. Errors of other
/// crates may do both; a cause that was named already is left out.
///
/// ```
/// use tenure::{Chain, store::StoreError};
///
/// let error = StoreError::Full(Some("quota of 5 GB reached".into()));
/// assert_eq!(Chain(&error).to_string(), "the store is full: quota of 5 GB reached");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let words = cause.to_string();
            if !text.contains(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            next = cause.source();
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        source: Option<Box<Failure>>,
    }

    fn failure(texts: &[&'static str]) -> Option<Box<Failure>> {
        let (text, causes) = texts.split_first()?;
        Some(Box::new(Failure { text, source: failure(causes) }))
    }

    #[test]
    fn every_cause_is_named_once() {
        for (texts, told) in [
            (&["a"][..], "a"),
            (&["a", "b", "c"], "a: b: c"),
            (&["cannot write: disk", "disk", "sector 7"], "cannot write: disk: sector 7"),
        ] {
            assert_eq!(Chain(&*failure(texts).unwrap()).to_string(), told);
        }
    }
}
