//! The stored form of a task: JSON with a schema version in front, the same bytes for the same task.

mod read;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Map;

use self::read::read_into;
use crate::clock::Timestamp;
use crate::owner::Owner;
use crate::store::Record;
use crate::tasks::{Call, Phase, Rerun, Status, Task, TaskError, TaskId};

/// Rises with every change that an older program could not keep: a new field included, because
/// a program that does not know a field would drop it. It stays 1 until the first release.
pub(crate) const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Stored<'a> {
    schema: u32,
    task: &'a Task,
}

/// What every schema has.
#[derive(Deserialize)]
struct Versioned {
    schema: u32,
}

pub(crate) fn encode(task: &Task) -> Result<Vec<u8>, TaskError> {
    let mut bytes = serde_json::to_vec(&Stored { schema: SCHEMA, task })
        .map_err(|error| TaskError::Invalid { what: "task", reason: error.to_string() })?;
    // A store in memory keeps these bytes as they are.
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// Reads a task back. A record that is not the task `id` of `owner` is unreadable, never somebody
/// else's task.
pub(crate) fn decode(owner: &Owner, id: &TaskId, record: &Record) -> Result<Task, TaskError> {
    let unreadable = |reason: String| TaskError::Unreadable { id: id.clone(), reason };
    // As text at once, so that the parser need not look at each string again.
    let text = std::str::from_utf8(&record.value)
        .map_err(|error| unreadable(format!("damaged: {error}")))?;
    let mut task = blank(owner.clone(), id.clone(), record.token.version());
    let read = read_into(&mut task, text).map_err(|error| {
        unreadable(match serde_json::from_str::<Versioned>(text) {
            Ok(Versioned { schema }) if schema != SCHEMA => unknown_schema(schema),
            _ => format!("damaged: {error}"),
        })
    })?;
    if read.schema != SCHEMA {
        return Err(unreadable(unknown_schema(read.schema)));
    }
    if read.named.foreign {
        return Err(unreadable("it belongs to another task or owner".into()));
    }
    Ok(task)
}

/// A task of which only its name is known: the other fields are what leaving them out means, or wait
/// to be read.
fn blank(owner: Owner, id: TaskId, version: u64) -> Task {
    Task {
        id,
        version,
        owner,
        status: Status::Working,
        status_message: None,
        created_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(0),
        ttl_ms: None,
        poll_interval_ms: None,
        call: Call::new(String::new(), Map::new()),
        rerun: Rerun::Never,
        phase: Phase::Queued,
        attempt: 0,
        worker: None,
        variables: Map::new(),
        inputs: BTreeMap::new(),
        outcome: None,
    }
}

fn unknown_schema(schema: u32) -> String {
    format!("it has schema {schema}, this program knows {SCHEMA}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::store::VersionToken;
    use crate::tasks::{Input, Outcome};

    fn owner() -> Owner {
        Owner::new("alice").unwrap()
    }

    fn task() -> Task {
        let mut arguments = Map::new();
        // Beyond 2^53: a codec that goes through doubles would change it.
        arguments.insert("n".into(), json!(u64::MAX));
        Task {
            id: "t1".into(),
            version: 1,
            owner: owner(),
            status: Status::Working,
            status_message: Some("é".into()),
            created_at: Timestamp::from_millis(1),
            updated_at: Timestamp::from_millis(2),
            ttl_ms: Some(3),
            poll_interval_ms: None,
            call: Call::new("tool", arguments),
            rerun: Rerun::Never,
            phase: Phase::Queued,
            attempt: 0,
            worker: None,
            variables: Map::new(),
            inputs: Default::default(),
            outcome: None,
        }
    }

    fn decode_bytes(bytes: impl Into<bytes::Bytes>) -> Result<Task, TaskError> {
        let record = Record {
            value: bytes.into(),
            token: VersionToken::new(1),
            tag: None,
            created_at: Timestamp::from_millis(1),
            expires_at: None,
        };
        decode(&owner(), &"t1".into(), &record)
    }

    #[test]
    fn the_same_task_is_the_same_bytes_in_whatever_order_it_was_filled() {
        let filled = |names: [&str; 3]| {
            let mut task = task();
            let members =
                names.map(|name| (name.to_owned(), json!({ name: 1, "inner": u64::MAX })));
            task.variables.extend(members.clone());
            task.call.context = Value::Object(Map::from_iter(members.clone()));
            let response = Some(json!({ "b": 1, "a": 2 }));
            task.inputs.insert("k".into(), Input { response, ..Input::new(Value::Null) });
            task.outcome = Some(Outcome::Result(Value::Object(Map::from_iter(members))));
            String::from_utf8(encode(&task).unwrap()).unwrap()
        };
        let bytes = filled(["c", "a", "b"]);
        assert_eq!(bytes, filled(["b", "c", "a"]));
        let members = r#"{"a":{"a":1,"inner":18446744073709551615},"b":{"b":1,"inner":18446744073709551615},"c":{"c":1,"inner":18446744073709551615}}"#;
        for place in [
            format!(r#""context":{members}"#),
            format!(r#""variables":{members}"#),
            r#""inputs":{"k":{"request":null,"response":{"a":2,"b":1}}}"#.to_owned(),
            format!(r#""outcome":{{"result":{members}}}"#),
        ] {
            assert!(bytes.contains(&place), "{place} in {bytes}");
        }
    }

    #[test]
    fn a_task_survives_its_stored_form() {
        assert_eq!(decode_bytes(encode(&task()).unwrap()).unwrap(), task());
        // An answer may be null, and is no open question.
        for response in [None, Some(Value::Null), Some(json!({ "a": 1 }))] {
            let mut task = task();
            let input = Input { response, ..Input::new(json!({ "method": "ask" })) };
            task.inputs.insert("w".into(), Input { withdrawn: true, ..input.clone() });
            task.inputs.insert("k".into(), input);
            assert_eq!(decode_bytes(encode(&task).unwrap()).unwrap(), task);
        }
    }

    #[test]
    fn a_newer_schema_is_named_and_not_guessed_at() {
        for newer in [r#"{"schema":2,"task":{"steps":[]}}"#.to_owned(), {
            let same_shape = String::from_utf8(encode(&task()).unwrap()).unwrap();
            same_shape.replace(r#""schema":1"#, r#""schema":2"#)
        }] {
            let error = decode_bytes(newer).unwrap_err().to_string();
            assert_eq!(error, "task t1 cannot be read: it has schema 2, this program knows 1");
        }
    }

    #[test]
    fn damaged_bytes_unknown_fields_and_foreign_owners_are_unreadable() {
        let mut extra: serde_json::Value =
            serde_json::from_slice(&encode(&task()).unwrap()).unwrap();
        extra["task"]["added_later"] = json!(1);
        let mut foreign = task();
        foreign.owner = Owner::new("bob").unwrap();
        for bytes in
            [b"\xff\xfe".to_vec(), extra.to_string().into_bytes(), encode(&foreign).unwrap()]
        {
            assert!(matches!(decode_bytes(bytes), Err(TaskError::Unreadable { .. })));
        }
    }
}
