//! Values as YAML, which can say more than a value holds.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::CliError;

/// Reads a value. A number that no value has is refused; left to itself, the parser takes `.inf`
/// for null and `1e400` for text.
pub(crate) fn read(text: &str) -> Result<Value, yaml_serde::Error> {
    Strictly { text }.deserialize(yaml_serde::Deserializer::from_str(text))
}

/// Writes a value.
pub(crate) fn write(value: &Value) -> Result<String, CliError> {
    let text = yaml_serde::to_string(value).map_err(|error| CliError::Answer(error.into()))?;
    if read(&text).is_ok_and(|back| back == *value) {
        return Ok(text);
    }
    // Such as the text "1e400", which is written without quotes. JSON is YAML, and has them.
    let text = serde_json::to_string_pretty(value);
    text.map(|it| it + "\n").map_err(|error| CliError::Answer(error.into()))
}

/// Makes a value of what a parser of this text finds.
#[derive(Clone, Copy)]
struct Strictly<'t> {
    text: &'t str,
}

impl Strictly<'_> {
    /// Whether a part of the text stands there without quotes.
    fn is_plain(self, part: &str) -> bool {
        let start = part.as_ptr().addr().checked_sub(self.text.as_ptr().addr());
        let before = start.and_then(|it| self.text.as_bytes().get(it.checked_sub(1)?));
        !matches!(before, Some(b'"' | b'\''))
    }
}

/// Whether this is a number, and larger than any double.
fn is_beyond_doubles(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    // A double may also be spelled out, as inf.
    digits.starts_with(|it: char| it.is_ascii_digit() || it == '.')
        && digits.parse::<f64>().is_ok_and(f64::is_infinite)
}

impl<'de> DeserializeSeed<'de> for Strictly<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strictly<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Err(too_large(&value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Err(too_large(&value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| {
            E::custom("there is no such number as .inf or .nan in a value; use a string")
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value, E> {
        if is_beyond_doubles(text) && self.is_plain(text) {
            return Err(too_large(&text));
        }
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            values.insert(name, members.next_value_seed(self)?);
        }
        Ok(Value::Object(values))
    }
}

fn too_large<E: Error>(number: &impl fmt::Display) -> E {
    E::custom(format_args!("the number {number} is too large for a value; use a string"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_no_value_has_is_refused_with_its_place() {
        for (text, place) in [
            ("a: [1, .nan]", "a[1]"),
            (".inf", ""),
            ("- -.INF", ".[0]"),
            ("a:\n  b: 1e400", "a.b"),
            ("{\"a\":-1e400}", "a"),
            ("[+9.9E+999]", ".[0]"),
            ("- 340282366920938463463374607431768211455", ".[0]"),
            ("a: !!float .inf", "a"),
            (&format!("- {}", "9".repeat(400)), ".[0]"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("use a string"), "{text}: {error}");
            assert!(error.starts_with(place), "{text}: {error}");
        }
    }

    #[test]
    fn what_only_looks_like_such_a_number_is_text() {
        for (text, value) in [
            ("\"1e400\"", "1e400"),
            ("'1e400'", "1e400"),
            ("|-\n  1e400", "1e400"),
            ("1e400a", "1e400a"),
            ("infinity", "infinity"),
            ("'.nan'", ".nan"),
        ] {
            assert_eq!(read(text).unwrap(), json!(value), "{text}");
        }
        assert_eq!(read("{ 'a': '1e400', b: [\"1e400\"] }").unwrap()["b"], json!(["1e400"]));
    }

    #[test]
    fn what_is_written_is_read_again_as_it_was() {
        let hostile = r#"["yes","1e3","1e400","-.5E999",".nan","~","null","0x1f","- a","a: b","\u0000é\n",
            " x ","","1.5","2001-01-01","<<","!tag","*a","&a","%","@","`",1e21,1e-7,-0.5,9007199254740991,
            null,true,{"":{"a":[]},"y":{},"1":1,"1e400":2}]"#;
        let value: Value = serde_json::from_str(hostile).unwrap();
        assert_eq!(read(&write(&value).unwrap()).unwrap(), value);
        let items = value.as_array().unwrap();
        for item in items {
            assert_eq!(read(&write(item).unwrap()).unwrap(), *item);
        }
    }
}
