//! [`ETag`]: what a value is called.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::resources::ResourceError;
use crate::store::Tag;

/// What the text of a tag takes: base64 without padding.
const TEXT_BYTES: usize = (Tag::BYTES * 8).div_ceil(6);

/// A strong validator: the SHA-256 of a value's canonical form.
///
/// Its text is 43 characters of base64url, without the quotes that HTTP puts around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ETag(Tag);

impl ETag {
    pub(super) fn of(canonical: &[u8]) -> Self {
        Self(Tag::new(Sha256::digest(canonical).into()))
    }

    pub(super) fn from_tag(tag: Tag) -> Self {
        Self(tag)
    }

    pub(super) fn tag(self) -> Tag {
        self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_BYTES];
        URL_SAFE_NO_PAD.encode_slice(self.0.as_bytes(), &mut text).map_err(|_| fmt::Error)?;
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for ETag {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        // Decoding refuses other spellings of the same bytes.
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| Self(Tag::new(bytes))).ok_or_else(|| ResourceError::Invalid {
            what: "ETag",
            reason: "it is not one of this server's".into(),
        })
    }
}

impl From<ETag> for String {
    fn from(etag: ETag) -> Self {
        etag.to_string()
    }
}

impl TryFrom<String> for ETag {
    type Error = ResourceError;

    fn try_from(text: String) -> Result<Self, ResourceError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_survives_its_text_form_and_nothing_else_parses() {
        let etag = ETag::of(b"{}");
        // `printf '{}' | sha256sum`, in base64url: the same in every process and release.
        assert_eq!(etag.to_string(), "RBNvo1WzZ4oRRq0W9-hknpT7T8If536DEMBg9hyq_4o");
        assert_eq!(etag.to_string().parse::<ETag>().unwrap(), etag);
        let text = etag.to_string();
        for foreign in ["", "*", "x", &format!("\"{text}\""), &text[1..], &format!("{text}=")] {
            assert!(foreign.parse::<ETag>().is_err(), "{foreign}");
        }
    }
}
