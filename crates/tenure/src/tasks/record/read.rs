//! Reading a task into its place, field by field.
//!
//! It is as strict as the derived `Deserialize` of [`Task`], with the same errors. But that one
//! hands the task through each layer of the parser, and a task is hundreds of bytes; and it makes
//! an id and an owner that the caller has already.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use crate::tasks::{Call, Task};

/// What is read into its place.
trait Place {
    const WHAT: &'static str;
    type Field: Field;

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        field: Self::Field,
        from: &mut A,
    ) -> Result<(), A::Error>;
}

/// A member of an object by its name; no other is known. Those that must be there come first.
trait Field: DeserializeOwned {
    const REQUIRED: &'static [&'static str];
    const OPTIONAL: &'static [&'static str];

    fn index(&self) -> usize;
}

macro_rules! fields {
    ($field:ident {
        $($required:ident: $required_name:literal,)*;
        $($optional:ident: $optional_name:literal,)*
    }) => {
        #[derive(Clone, Copy, serde::Deserialize)]
        #[serde(field_identifier)]
        enum $field {
            $(#[serde(rename = $required_name)] $required,)*
            $(#[serde(rename = $optional_name)] $optional,)*
        }

        impl Field for $field {
            const REQUIRED: &'static [&'static str] = &[$($required_name),*];
            const OPTIONAL: &'static [&'static str] = &[$($optional_name),*];

            fn index(&self) -> usize {
                *self as usize
            }
        }
    };
}

struct Filling<'a, P>(&'a mut P);

impl<'de, P: Place> DeserializeSeed<'de> for Filling<'_, P> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'de, P: Place> Visitor<'de> for Filling<'_, P> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(P::WHAT)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        // A bit for each field that came.
        let mut seen = 0_u32;
        while let Some(field) = members.next_key::<P::Field>()? {
            let bit = 1 << field.index();
            if seen & bit != 0 {
                let name = P::Field::REQUIRED.iter().chain(P::Field::OPTIONAL).nth(field.index());
                return Err(A::Error::duplicate_field(name.copied().unwrap_or_default()));
            }
            seen |= bit;
            self.0.read(field, &mut members)?;
        }
        match P::Field::REQUIRED.get(seen.trailing_ones() as usize) {
            Some(missing) => Err(A::Error::missing_field(missing)),
            None => Ok(()),
        }
    }
}

/// What a record says.
pub(super) struct Envelope<'a> {
    pub(super) schema: u32,
    pub(super) named: Named<'a>,
}

/// A task whose id and owner are known before it is read.
pub(super) struct Named<'a> {
    task: &'a mut Task,
    /// The bytes name another id or owner.
    pub(super) foreign: bool,
}

/// Reads the stored form of the task whose id and owner `task` has. What it has in the fields that
/// may be left out must be what leaving them out means.
pub(super) fn read_into<'a>(task: &'a mut Task, text: &str) -> serde_json::Result<Envelope<'a>> {
    let mut envelope = Envelope { schema: 0, named: Named { task, foreign: false } };
    let mut parser = serde_json::Deserializer::from_str(text);
    parser.deserialize_map(Filling(&mut envelope))?;
    parser.end()?;
    Ok(envelope)
}

fields! {
    EnvelopeField {
        Schema: "schema",
        Task: "task",
        ;
    }
}

impl Place for Envelope<'_> {
    const WHAT: &'static str = "struct Stored";
    type Field = EnvelopeField;

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        field: EnvelopeField,
        from: &mut A,
    ) -> Result<(), A::Error> {
        match field {
            EnvelopeField::Schema => self.schema = from.next_value()?,
            EnvelopeField::Task => from.next_value_seed(Filling(&mut self.named))?,
        }
        Ok(())
    }
}

fields! {
    TaskField {
        Id: "id",
        Owner: "owner",
        Status: "status",
        CreatedAt: "created_at",
        UpdatedAt: "updated_at",
        Call: "call",
        Rerun: "rerun",
        Phase: "phase",
        Attempt: "attempt",
        ;
        StatusMessage: "status_message",
        TtlMs: "ttl_ms",
        PollIntervalMs: "poll_interval_ms",
        Worker: "worker",
        Variables: "variables",
        Inputs: "inputs",
        Outcome: "outcome",
    }
}

impl Place for Named<'_> {
    const WHAT: &'static str = "struct Task";
    type Field = TaskField;

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        field: TaskField,
        from: &mut A,
    ) -> Result<(), A::Error> {
        let task = &mut *self.task;
        match field {
            TaskField::Id => self.foreign |= !from.next_value_seed(Is(task.id.as_str()))?,
            TaskField::Owner => self.foreign |= !from.next_value_seed(Is(task.owner.as_str()))?,
            TaskField::Status => task.status = from.next_value()?,
            TaskField::StatusMessage => task.status_message = from.next_value()?,
            TaskField::CreatedAt => task.created_at = from.next_value()?,
            TaskField::UpdatedAt => task.updated_at = from.next_value()?,
            TaskField::TtlMs => task.ttl_ms = from.next_value()?,
            TaskField::PollIntervalMs => task.poll_interval_ms = from.next_value()?,
            TaskField::Call => from.next_value_seed(Filling(&mut task.call))?,
            TaskField::Rerun => task.rerun = from.next_value()?,
            TaskField::Phase => task.phase = from.next_value()?,
            TaskField::Attempt => task.attempt = from.next_value()?,
            TaskField::Worker => task.worker = from.next_value()?,
            TaskField::Variables => task.variables = from.next_value()?,
            TaskField::Inputs => task.inputs = from.next_value()?,
            TaskField::Outcome => task.outcome = from.next_value()?,
        }
        Ok(())
    }
}

fields! {
    CallField {
        Tool: "tool",
        ;
        Arguments: "arguments",
        Context: "context",
    }
}

impl Place for Call {
    const WHAT: &'static str = "struct Call";
    type Field = CallField;

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        field: CallField,
        from: &mut A,
    ) -> Result<(), A::Error> {
        match field {
            CallField::Tool => self.tool = from.next_value()?,
            CallField::Arguments => self.arguments = from.next_value()?,
            CallField::Context => self.context = from.next_value()?,
        }
        Ok(())
    }
}

/// Whether a text is this one.
struct Is<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<bool, D::Error> {
        parser.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        Ok(text == self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::clock::Timestamp;
    use crate::owner::Owner;
    use crate::tasks::record::{blank, encode};
    use crate::tasks::{Input, Outcome, Phase, Rerun, Status};

    /// What the derived reader makes of the whole.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Stored {
        #[allow(dead_code)]
        schema: u32,
        task: Task,
    }

    fn full() -> Task {
        let members = Map::from_iter([("a".to_owned(), json!({"b": [1.5, null, "é\n"]}))]);
        let input = Input { response: Some(json!(1)), ..Input::new(json!("?")) };
        Task {
            status: Status::InputRequired,
            status_message: Some("\"quoted\" \\ é \u{1F600}".into()),
            created_at: Timestamp::from_millis(1),
            updated_at: Timestamp::from_millis(2),
            ttl_ms: Some(3),
            poll_interval_ms: Some(4),
            call: Call { tool: "t".into(), arguments: members.clone(), context: json!({"c": 1}) },
            rerun: Rerun::AfterCrash,
            phase: Phase::Parked,
            attempt: 5,
            worker: Some("w".into()),
            variables: members,
            inputs: [("k".to_owned(), input)].into(),
            outcome: Some(Outcome::Error(json!({"code": -1}))),
            ..named()
        }
    }

    fn named() -> Task {
        blank(Owner::new("a\"b\n").unwrap(), "t/é\u{1}".into(), 0)
    }

    fn read(text: &str) -> Result<Task, String> {
        let mut task = named();
        let read = read_into(&mut task, text).map_err(|error| reason(&error))?;
        assert!(!read.named.foreign, "{text}");
        Ok(task)
    }

    fn derived(text: &str) -> Result<Task, String> {
        let read = serde_json::from_str::<Stored>(text).map_err(|error| reason(&error));
        read.map(|it| it.task)
    }

    /// Without the list of the names that are known, which is in another order.
    fn reason(error: &serde_json::Error) -> String {
        let text = error.to_string();
        text.split_once(", expected one of").map_or(text.clone(), |(reason, _)| reason.to_owned())
    }

    type Members = Vec<(String, String)>;

    /// The members of an object, each as its name and its text.
    fn members(object: &str) -> Members {
        let object: Map<String, Value> = serde_json::from_str(object).unwrap();
        object.into_iter().map(|(name, value)| (name, value.to_string())).collect()
    }

    fn object(members: &Members) -> String {
        let members: Vec<_> = members.iter().map(|(name, it)| format!("\"{name}\":{it}")).collect();
        format!("{{{}}}", members.join(","))
    }

    /// An object with one thing wrong or odd about it.
    fn variants(members: &Members) -> Vec<Members> {
        let mut variants = vec![members.clone(), members.iter().rev().cloned().collect()];
        let changed = |change: &dyn Fn(&mut Members)| {
            let mut members = members.clone();
            change(&mut members);
            members
        };
        variants.push(changed(&|it| it.push(("unknown".into(), "1".into()))));
        for at in 0..members.len() {
            variants.push(changed(&|it| drop(it.remove(at))));
            variants.push(changed(&|it| it.push(it[at].clone())));
            for other in
                ["null", "1", "-1", "1.5", "\"x\"", "[]", "{}", "true", "18446744073709551616"]
            {
                variants.push(changed(&|it| it[at].1 = other.into()));
            }
        }
        variants
    }

    #[test]
    fn it_takes_and_refuses_what_the_derived_reader_does() {
        let envelope = String::from_utf8(encode(&full()).unwrap()).unwrap();
        let inner = |of: &Members, name| of.iter().position(|it| it.0 == name).unwrap();
        let task = members(&envelope);
        let task = members(&task[inner(&task, "task")].1);
        let call_at = inner(&task, "call");
        let around_task = |it: &Members| format!("{{\"schema\":1,\"task\":{}}}", object(it));
        let around_call = |it: &Members| {
            let mut task = task.clone();
            task[call_at].1 = object(it);
            around_task(&task)
        };
        let mut texts: Vec<_> = variants(&members(&envelope)).iter().map(object).collect();
        texts.extend(variants(&task).iter().map(around_task));
        texts.extend(variants(&members(&task[call_at].1)).iter().map(around_call));
        texts.extend(["", "1", "{} ", "[1]"].map(|tail| format!("{envelope}{tail}")));
        texts.extend(envelope.char_indices().map(|(at, _)| envelope[..at].to_owned()));
        // The id and the owner are known, so another one is not an error of the text.
        texts.retain(|it| !it.contains("\"id\":\"x\"") && !it.contains("\"owner\":\"x\""));
        // A list of the fields is refused, and was never written.
        texts.retain(|it| !it.contains("\"call\":[]") && !it.contains("\"task\":[]"));
        assert!(texts.len() > 300);
        for text in texts {
            assert_eq!(read(&text), derived(&text), "{text}");
        }
    }

    #[test]
    fn another_id_or_owner_is_told() {
        let text = String::from_utf8(encode(&full()).unwrap()).unwrap();
        let others =
            [blank(named().owner, "t".into(), 0), blank(Owner::new("a").unwrap(), named().id, 0)];
        for mut other in others {
            assert!(read_into(&mut other, &text).unwrap().named.foreign);
        }
        assert_eq!(read(&text), Ok(full()));
    }
}
