//! What two people made of one value, brought together.

use serde_json::{Map, Value};

/// A value in which both changes are, and where they contradict each other.
#[derive(Debug, PartialEq)]
pub(crate) struct Merged {
    pub(crate) value: Value,
    /// JSON pointers (RFC 6901) to what both changed, and differently. It is as mine has it.
    pub(crate) contradictions: Vec<String>,
}

/// Merges the members of objects one by one; all else, lists included, is taken as a whole.
pub(crate) fn merge(base: &Value, mine: Value, theirs: Value) -> Merged {
    let mut contradictions = Vec::new();
    let path = &mut String::new();
    let value = either(Some(base), Some(mine), Some(theirs), path, &mut contradictions);
    // Nobody took the value as a whole away.
    Merged { value: value.unwrap_or_default(), contradictions }
}

/// `None` is a member that is not there.
fn either(
    base: Option<&Value>,
    mine: Option<Value>,
    theirs: Option<Value>,
    path: &mut String,
    contradictions: &mut Vec<String>,
) -> Option<Value> {
    match (mine, theirs) {
        (mine, theirs) if theirs.as_ref() == base || mine == theirs => mine,
        (mine, theirs) if mine.as_ref() == base => theirs,
        (Some(Value::Object(mine)), Some(Value::Object(theirs))) => {
            let base = base.and_then(Value::as_object);
            Some(Value::Object(members(base, mine, theirs, path, contradictions)))
        }
        (mine, _) => {
            contradictions.push(path.clone());
            mine
        }
    }
}

fn members(
    base: Option<&Map<String, Value>>,
    mut mine: Map<String, Value>,
    mut theirs: Map<String, Value>,
    path: &mut String,
    contradictions: &mut Vec<String>,
) -> Map<String, Value> {
    let added = theirs.keys().filter(|name| !mine.contains_key(*name)).cloned();
    let names: Vec<String> = mine.keys().cloned().chain(added).collect();
    let mut merged = Map::new();
    for name in names {
        let end = path.len();
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let base = base.and_then(|base| base.get(&name));
        let (mine, theirs) = (mine.remove(&name), theirs.remove(&name));
        let value = either(base, mine, theirs, path, contradictions);
        merged.extend(value.map(|value| (name, value)));
        path.truncate(end);
    }
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(base: Value, mine: Value, theirs: Value) -> (Value, Vec<String>) {
        let Merged { value, contradictions } = merge(&base, mine, theirs);
        (value, contradictions)
    }

    #[test]
    fn changes_of_different_members_come_together() {
        let base = json!({ "a": 1, "b": { "c": 1, "d": 1 }, "gone": 1, "left": 1 });
        let mine = json!({ "a": 2, "b": { "c": 2, "d": 1 }, "left": 1, "new": { "m": 1 } });
        let theirs = json!({ "a": 1, "b": { "c": 1, "d": 2 }, "gone": 1, "new": { "t": 1 } });
        let both = json!({ "a": 2, "b": { "c": 2, "d": 2 }, "new": { "m": 1, "t": 1 } });
        assert_eq!(merged(base, mine, theirs), (both, vec![]));
    }

    #[test]
    fn where_both_changed_the_same_mine_stays_and_is_named() {
        let base = json!({ "a/b": 1, "~": [1], "gone": 1, "same": 1, "kept": 1 });
        let mine = json!({ "a/b": 2, "~": [1, 2], "same": 2, "kept": 2 });
        let theirs = json!({ "a/b": 3, "~": [0, 1], "gone": 2, "same": 2 });
        let (value, contradictions) = merged(base, mine.clone(), theirs);
        assert_eq!(value, mine);
        assert_eq!(contradictions, ["/a~1b", "/kept", "/~0", "/gone"]);
        assert_eq!(merged(json!(1), json!(2), json!(3)), (json!(2), vec![String::new()]));
        assert_eq!(merged(json!(1), json!(1), json!([])), (json!([]), vec![]));
    }

    #[test]
    fn two_beginnings_come_together() {
        let both = json!({ "a": 1, "b": 2 });
        assert_eq!(merged(Value::Null, json!({ "a": 1 }), json!({ "b": 2 })), (both, vec![]));
    }
}
