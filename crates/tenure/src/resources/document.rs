//! [`Document`]: a JSON value in its canonical form, with its ETag.

use bytes::Bytes;
use serde_json::{Number, Value};

use crate::resources::{ETag, ResourceError};

/// The largest integer that every JSON implementation holds exactly: 2^53 - 1.
const MAX_INTEGER: u64 = (1 << 53) - 1;
/// Doubles that the canonical form writes as larger integers: all of them from 2^53 on, until it
/// writes an exponent.
const LARGE_INTEGERS: std::ops::Range<f64> = 9_007_199_254_740_992.0..1e21;
/// Room for a text whose length is not known.
const SHORT_BYTES: usize = 128;
/// No document nests deeper, whatever the limits: parsers stop here.
const MAX_DEPTH: usize = 128;

/// A JSON value, ready to be stored: canonical text (RFC 8785) and its ETag.
///
/// Numbers are IEEE doubles, as in the RFC: `1.0` and `1` are one value, and a fraction with more
/// digits than a double holds is its nearest double. An integer beyond ±(2^53 - 1), or a double that
/// would be written as such an integer, is refused: it would not come back as it was. Put it into
/// a string. Of members with the same name the last one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    text: Bytes,
    etag: ETag,
    depth: usize,
}

impl Document {
    /// Reads JSON text.
    ///
    /// # Errors
    /// As [`parse_value`](Self::parse_value) and [`from_value`](Self::from_value).
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, ResourceError> {
        let text = text.as_ref();
        Self::canonical(&Self::parse_value(text)?, text.len())
    }

    /// Reads JSON text of what need not become a document, such as a patch.
    ///
    /// # Errors
    /// [`ResourceError::NotJson`]; [`ResourceError::Invalid`] for JSON that no document can have: it
    /// nests too deep, or has a number beyond all doubles.
    pub fn parse_value(text: impl AsRef<[u8]>) -> Result<Value, ResourceError> {
        serde_json::from_slice(text.as_ref()).map_err(|error| {
            // The parser tells its own bounds from errors of the syntax by their text alone.
            let reason = error.to_string();
            if reason.starts_with("recursion limit exceeded") {
                too_deep()
            } else if reason.starts_with("number out of range") {
                invalid(reason)
            } else {
                ResourceError::NotJson { reason }
            }
        })
    }

    /// Takes a value.
    ///
    /// # Errors
    /// [`ResourceError::Invalid`] for a number that would not come back, and for a value that
    /// nests too deep.
    pub fn from_value(value: &Value) -> Result<Self, ResourceError> {
        Self::canonical(value, 0)
    }

    /// `bytes` is about how long the text will be: a buffer that need not grow is not copied.
    fn canonical(value: &Value, bytes: usize) -> Result<Self, ResourceError> {
        let depth = check(value, 1)?;
        let mut text = Vec::with_capacity(bytes.max(SHORT_BYTES));
        serde_json_canonicalizer::to_writer(value, &mut text)
            .map_err(|error| invalid(error.to_string()))?;
        if text.len() < text.capacity() / 2 {
            // A document may live long, and its spelling may have been mostly spaces.
            text.shrink_to_fit();
        }
        Ok(Self { etag: ETag::of(&text), text: text.into(), depth })
    }

    /// The canonical text: what is stored, and what is served.
    #[must_use]
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// The ETag.
    #[must_use]
    pub fn etag(&self) -> ETag {
        self.etag
    }

    /// How deep the value nests; 1 for a number or a string.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }
}

fn invalid(reason: String) -> ResourceError {
    ResourceError::Invalid { what: "value", reason }
}

fn too_deep() -> ResourceError {
    invalid(format!("it nests deeper than {MAX_DEPTH}"))
}

/// Checks all numbers, and tells the depth below and including `depth`.
fn check(value: &Value, depth: usize) -> Result<usize, ResourceError> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    match value {
        Value::Number(number) => check_number(number).map(|()| depth),
        Value::Array(items) => check_all(items, depth),
        Value::Object(members) => check_all(members.values(), depth),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(depth),
    }
}

fn check_all<'a>(
    values: impl IntoIterator<Item = &'a Value>,
    depth: usize,
) -> Result<usize, ResourceError> {
    values.into_iter().try_fold(depth, |deepest, value| Ok(deepest.max(check(value, depth + 1)?)))
}

fn check_number(number: &Number) -> Result<(), ResourceError> {
    let integer = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    let comes_back = match (integer, number.as_f64()) {
        (Some(magnitude), _) => magnitude <= MAX_INTEGER,
        (None, Some(double)) => !LARGE_INTEGERS.contains(&double.abs()),
        (None, None) => false,
    };
    if comes_back {
        return Ok(());
    }
    Err(invalid(format!("the number {number} is beyond ±(2^53 - 1); use a string")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(json: &str) -> String {
        String::from_utf8(Document::parse(json).unwrap().text().to_vec()).unwrap()
    }

    #[test]
    fn equal_values_are_one_document_however_they_are_spelled() {
        let spellings = [
            r#"{"b":1,"a":[1.5,"é",null]}"#,
            " {\n \"a\" : [ 15e-1 , \"\\u00e9\" , null ],\t\"b\": 1.0 } ",
        ];
        let documents = spellings.map(|it| Document::parse(it).unwrap());
        assert_eq!(documents[0], documents[1]);
        assert_eq!(&documents[0].text()[..], r#"{"a":[1.5,"é",null],"b":1}"#.as_bytes());
        let different = Document::parse(r#"{"a":[1.5,"é",null],"b":2}"#).unwrap();
        assert_ne!(different.etag(), documents[0].etag());
    }

    /// The example of RFC 8785, section 3.2.3: members in the order of their UTF-16 units.
    #[test]
    fn members_are_in_the_order_of_the_rfc() {
        let json = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
            "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let canonical = text(json);
        let order = ["\\r", "1", "\u{80}", "ö", "€", "😀", "\u{fb33}"];
        let places: Vec<_> =
            order.iter().map(|name| canonical.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{canonical}");
    }

    /// The samples of RFC 8785, appendix B, that are not refused.
    #[test]
    fn numbers_are_those_of_the_rfc() {
        for (json, canonical) in [
            ("-0", "0"),
            ("-0.0", "0"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("9007199254740991", "9007199254740991"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-7"),
            ("0.000001", "0.000001"),
            ("333333333.33333329", "333333333.3333333"),
            ("4.50", "4.5"),
        ] {
            assert_eq!(text(json), canonical);
            assert_eq!(text(&text(json)), canonical);
        }
    }

    #[test]
    fn numbers_that_would_not_come_back_are_refused() {
        for json in [
            "9007199254740992",
            "-9007199254740992",
            "18446744073709551615",
            "[[{\"a\":9007199254740993}]]",
            "1e16",
            "123456789012345678901",
            "9.99e20",
            "1e400",
        ] {
            let refused = Document::parse(json);
            assert!(matches!(refused, Err(ResourceError::Invalid { .. })), "{json}");
        }
        let reason = Document::parse("9007199254740993").unwrap_err().to_string();
        assert_eq!(
            reason,
            "value: the number 9007199254740993 is beyond ±(2^53 - 1); use a string"
        );
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let texts = ["", "{", "nope", "NaN", "1 2", "\u{feff}1", "\"\\ud800\"", "\"\u{0}\""];
        for text in texts.map(str::as_bytes).into_iter().chain([&b"\"\xff\""[..]]) {
            let refused = Document::parse(text);
            assert!(matches!(refused, Err(ResourceError::NotJson { .. })), "{text:?}");
        }
    }

    #[test]
    fn depth_is_counted_and_bounded() {
        assert_eq!(Document::from_value(&json!(1)).unwrap().depth(), 1);
        assert_eq!(Document::from_value(&json!([{"a": [1]}, 2])).unwrap().depth(), 4);
        let mut deep = json!(1);
        for _ in 0..MAX_DEPTH {
            deep = json!([deep]);
        }
        assert!(Document::from_value(&deep).is_err());
        // What the parser itself refuses to go into is no error of the syntax.
        for depth in [MAX_DEPTH, MAX_DEPTH + 1, 10 * MAX_DEPTH] {
            let refused = Document::parse("[".repeat(depth) + "1" + &"]".repeat(depth));
            let reason = refused.unwrap_err().to_string();
            assert_eq!(reason, "value: it nests deeper than 128", "{depth}");
        }
    }
}
