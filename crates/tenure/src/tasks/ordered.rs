//! One value, one text: JSON objects are written with their members in the order of their names.
//!
//! `serde_json` does so by itself, unless another crate of the program switches its feature
//! `preserve_order` on: then the same variables, set in another order, would be other bytes. Numbers
//! are written as they are; none goes through a double.

use serde::{Deserialize as _, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        value(self.0, serializer)
    }
}

pub(super) fn value<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Value::Object(members) => object(members, serializer),
        Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
        other => other.serialize(serializer),
    }
}

/// As [`value`], for an optional field.
pub(super) fn optional<S: Serializer>(
    field: &Option<Value>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    field.as_ref().map(Ordered).serialize(serializer)
}

/// Reads an optional field that is there: its null is a value.
pub(super) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

pub(super) fn object<S: Serializer>(
    members: &Map<String, Value>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if members.keys().is_sorted() {
        return write(members.iter(), serializer);
    }
    write(in_order(members.iter()).into_iter(), serializer)
}

fn in_order<'a>(
    members: impl Iterator<Item = (&'a String, &'a Value)>,
) -> Vec<(&'a String, &'a Value)> {
    let mut members: Vec<_> = members.collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    members
}

fn write<'a, S: Serializer>(
    members: impl Iterator<Item = (&'a String, &'a Value)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(members.map(|(name, value)| (name, Ordered(value))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_written_in_the_order_of_their_names_in_whatever_order_they_come() {
        // Not a map: whether that keeps an order is what this must not depend on.
        let members = [("b", json!(1)), ("é", json!([2])), ("a\u{1}", json!({})), ("a", json!(0))];
        let members = members.map(|(name, value)| (name.to_owned(), value));
        let mut text = Vec::new();
        let ordered = in_order(members.iter().map(|(name, value)| (name, value)));
        write(ordered.into_iter(), &mut serde_json::Serializer::new(&mut text)).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), r#"{"a":0,"a\u0001":{},"b":1,"é":[2]}"#);
    }

    #[test]
    fn objects_within_values_are_ordered_and_numbers_stay_as_they_are() {
        let text = r#"[{"z":{"b":18446744073709551615,"a":-9223372036854775808},"y":0.1},1e+300]"#;
        let parsed: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_string(&Ordered(&parsed)).unwrap(),
            r#"[{"y":0.1,"z":{"a":-9223372036854775808,"b":18446744073709551615}},1e+300]"#
        );
    }
}
