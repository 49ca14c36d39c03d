//! Holds the content of an accepted elicitation against the form that was asked for.
//!
//! The SDK's own type of the form says what it can hold: a flat object of texts, numbers, booleans
//! and choices. Members that the form does not name pass, as JSON Schema has it.

use jiff::fmt::temporal::Pieces;
use rmcp::model::{
    ClientResult, ElicitRequest, ElicitRequestParams, ElicitationAction, ElicitationSchema,
    EnumSchema, InputRequest, IntegerSchema, MultiSelectEnumSchema, NumberSchema,
    PrimitiveSchemaDefinition, SingleSelectEnumSchema, StringFormat, StringSchema,
};
use serde_json::{Map, Value};

/// Why a content does not fit: the path of the field, and what it ought to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub(crate) struct Misfit {
    path: String,
    reason: String,
}

/// Refuses an answer that accepts a form with something else.
pub(crate) fn check_answer(request: &InputRequest, answer: &ClientResult) -> Result<(), Misfit> {
    match (request, answer) {
        (
            InputRequest::Elicitation(ElicitRequest {
                params: ElicitRequestParams::FormElicitationParams { requested_schema, .. },
                ..
            }),
            ClientResult::ElicitResult(answer),
        ) if answer.action == ElicitationAction::Accept => {
            check(requested_schema, answer.content.as_ref())
        }
        _ => Ok(()),
    }
}

fn check(form: &ElicitationSchema, content: Option<&Value>) -> Result<(), Misfit> {
    let empty = Map::new();
    let misfit = |path: String, reason: String| Misfit { path, reason };
    let content = match content {
        // Accepting a form without required fields takes no content.
        None => &empty,
        Some(Value::Object(content)) => content,
        Some(_) => return Err(misfit("content".into(), "an object is expected".into())),
    };
    for name in form.required.iter().flatten() {
        if !content.contains_key(name) {
            return Err(misfit(format!("content.{name}"), "it is required".into()));
        }
    }
    for (name, field) in &form.properties {
        let Some(value) = content.get(name) else { continue };
        let is_required = form.required.iter().flatten().any(|it| it == name);
        if value.is_null() && !is_required {
            // Forms that nobody has filled in have it, and tools take it for a field that is not there.
            continue;
        }
        check_field(field, value).map_err(|reason| misfit(format!("content.{name}"), reason))?;
    }
    Ok(())
}

fn check_field(field: &PrimitiveSchemaDefinition, value: &Value) -> Result<(), String> {
    match field {
        PrimitiveSchemaDefinition::Enum(choice) => check_choice(choice, value),
        PrimitiveSchemaDefinition::String(text) => check_text(text, value),
        PrimitiveSchemaDefinition::Number(number) => check_number(number, value),
        PrimitiveSchemaDefinition::Integer(integer) => check_integer(integer, value),
        PrimitiveSchemaDefinition::Boolean(_) => {
            value.as_bool().map(drop).ok_or_else(|| "true or false is expected".into())
        }
        // What a later revision of the SDK knows, and this code does not, is for the tool to judge.
        _ => Ok(()),
    }
}

fn check_text(form: &StringSchema, value: &Value) -> Result<(), String> {
    let text = value.as_str().ok_or("a text is expected")?;
    let length = text.chars().count();
    if let Some(least) = form.min_length.filter(|least| length < *least as usize) {
        return Err(format!("at least {least} characters are expected"));
    }
    if let Some(most) = form.max_length.filter(|most| length > *most as usize) {
        return Err(format!("at most {most} characters are expected"));
    }
    let expected = match form.format {
        Some(StringFormat::Email) if !is_email(text) => "an email address",
        Some(StringFormat::Uri) if !is_uri(text) => "a URI",
        Some(StringFormat::Date) if text.parse::<jiff::civil::Date>().is_err() => "a date",
        Some(StringFormat::DateTime) if !is_date_time(text) => "a date and time with an offset",
        _ => return Ok(()),
    };
    Err(format!("{expected} is expected"))
}

/// RFC 3339. As its parts: together they may be beyond the moments that a `Timestamp` holds, such as
/// the last second of the year 9999.
fn is_date_time(text: &str) -> bool {
    let fraction = text.find('.').map_or("", |dot| &text[dot + 1..]);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    // Finer than nanoseconds is valid, and nothing that the parser takes.
    let end_of_fraction = text.len() - fraction.len() + digits;
    let text = format!(
        "{}{}",
        &text[..end_of_fraction - digits.saturating_sub(9)],
        &text[end_of_fraction..]
    );
    let parts = Pieces::parse(&text);
    parts.is_ok_and(|it| it.time().is_some() && it.offset().is_some())
}

/// No more than what every address has: whether it exists, only a mail can tell.
fn is_email(text: &str) -> bool {
    let parts = text.rsplit_once('@');
    parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !text.contains(char::is_whitespace)
}

/// A scheme, a colon and something without spaces (RFC 3986, section 3).
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(scheme_part)
        && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn check_number(form: &NumberSchema, value: &Value) -> Result<(), String> {
    let number = value.as_f64().ok_or("a number is expected")?;
    within(number, form.minimum, form.maximum)
}

fn check_integer(form: &IntegerSchema, value: &Value) -> Result<(), String> {
    // 1.0 is an integer in JSON Schema, and so are those that no `i64` holds.
    let whole = value.as_f64().filter(|number| number.fract() == 0.0);
    let number = whole.ok_or("an integer is expected")?;
    match value.as_i64() {
        Some(integer) => within(integer, form.minimum, form.maximum),
        None => {
            #[expect(clippy::cast_precision_loss, reason = "it is beyond all of them")]
            let [least, most] = [form.minimum, form.maximum].map(|it| it.map(|it| it as f64));
            within(number, least, most)
        }
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    number: T,
    minimum: Option<T>,
    maximum: Option<T>,
) -> Result<(), String> {
    match (minimum, maximum) {
        (Some(minimum), _) if number < minimum => Err(format!("at least {minimum} is expected")),
        (_, Some(maximum)) if number > maximum => Err(format!("at most {maximum} is expected")),
        _ => Ok(()),
    }
}

fn check_choice(form: &EnumSchema, value: &Value) -> Result<(), String> {
    match form {
        EnumSchema::Single(SingleSelectEnumSchema::Untitled(form)) => one_of(&form.enum_, value),
        EnumSchema::Single(SingleSelectEnumSchema::Titled(form)) => {
            one_of(form.one_of.iter().map(|choice| &choice.const_), value)
        }
        EnumSchema::Multi(MultiSelectEnumSchema::Untitled(form)) => {
            some_of(&form.items.enum_, (form.min_items, form.max_items), value)
        }
        EnumSchema::Multi(MultiSelectEnumSchema::Titled(form)) => {
            let choices = form.items.any_of.iter().map(|choice| &choice.const_);
            some_of(choices, (form.min_items, form.max_items), value)
        }
        EnumSchema::Legacy(form) => one_of(&form.enum_, value),
        _ => Ok(()),
    }
}

fn one_of<'a>(choices: impl IntoIterator<Item = &'a String>, value: &Value) -> Result<(), String> {
    let is_one = choices.into_iter().any(|choice| value == choice.as_str());
    if is_one { Ok(()) } else { Err("one of the choices is expected".into()) }
}

fn some_of<'a>(
    choices: impl IntoIterator<Item = &'a String> + Clone,
    (least, most): (Option<u64>, Option<u64>),
    value: &Value,
) -> Result<(), String> {
    let chosen = value.as_array().ok_or("an array of choices is expected")?;
    within(chosen.len() as u64, least, most).map_err(|reason| format!("choices: {reason}"))?;
    chosen.iter().try_for_each(|value| one_of(choices.clone(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form() -> ElicitationSchema {
        serde_json::from_value(json!({
            "type": "object",
            "required": ["sure"],
            "properties": {
                "sure": { "type": "boolean" },
                "name": { "type": "string", "minLength": 2, "maxLength": 3 },
                "mail": { "type": "string", "format": "email" },
                "site": { "type": "string", "format": "uri" },
                "day": { "type": "string", "format": "date" },
                "moment": { "type": "string", "format": "date-time" },
                "share": { "type": "number", "minimum": 0.5, "maximum": 1 },
                "count": { "type": "integer", "minimum": 1, "maximum": 9 },
                "size": { "type": "string", "enum": ["s", "m"] },
                "old": { "type": "string", "enum": ["s", "m"], "enumNames": ["small", "medium"] },
                "titled": { "type": "string", "oneOf": [{ "const": "s", "title": "small" }] },
                "some": {
                    "type": "array", "minItems": 1, "maxItems": 2,
                    "items": { "type": "string", "enum": ["s", "m"] },
                },
                "titles": {
                    "type": "array",
                    "items": { "anyOf": [{ "const": "s", "title": "small" }] },
                },
            },
        }))
        .unwrap()
    }

    fn refusal(field: &str, value: Value) -> Option<String> {
        let content = json!({ "sure": true, field: value });
        check(&form(), Some(&content)).err().map(|error| error.to_string())
    }

    #[test]
    fn what_fits_passes() {
        for (field, value) in [
            ("sure", json!(false)),
            ("name", json!("éé")),
            ("mail", json!("a@b")),
            ("site", json!("mailto:a@b")),
            ("site", json!("https://example.org/x?y#z")),
            ("day", json!("2026-07-28")),
            ("moment", json!("2026-07-28T12:00:00Z")),
            ("moment", json!("2026-07-28T12:00:00.5+02:00")),
            ("moment", json!("9999-12-31T23:59:59Z")),
            ("moment", json!("2026-07-28T12:00:00.12345678901Z")),
            ("mail", json!(null)),
            ("share", json!(1)),
            ("count", json!(9)),
            ("count", json!(3.0)),
            ("size", json!("m")),
            ("old", json!("m")),
            ("titled", json!("s")),
            ("some", json!(["s", "m"])),
            ("titles", json!(["s"])),
            ("titles", json!([])),
            ("unheard-of", json!({ "a": [1] })),
        ] {
            assert_eq!(refusal(field, value.clone()), None, "{field}: {value}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_the_name_of_its_field() {
        for (field, value) in [
            ("sure", json!("notabool")),
            ("sure", json!(null)),
            ("name", json!(7)),
            ("name", json!("é")),
            ("name", json!("four")),
            ("mail", json!("nobody")),
            ("mail", json!("@b")),
            ("site", json!("example.org")),
            ("site", json!("1:x")),
            ("day", json!("28.7.2026")),
            ("day", json!("2026-02-30")),
            ("moment", json!("2026-07-28")),
            ("moment", json!("2026-07-28T12:00:00")),
            ("share", json!("1")),
            ("share", json!(0.25)),
            ("share", json!(1.5)),
            ("count", json!(1.5)),
            ("count", json!(0)),
            ("count", json!(10)),
            ("count", json!(1e300)),
            ("count", json!("1")),
            ("size", json!("l")),
            ("size", json!(1)),
            ("old", json!("medium")),
            ("titled", json!("small")),
            ("some", json!([])),
            ("some", json!(["s", "m", "s"])),
            ("some", json!(["l"])),
            ("some", json!("s")),
            ("titles", json!(["small"])),
        ] {
            let refusal = refusal(field, value.clone()).unwrap_or_default();
            assert!(refusal.starts_with(&format!("content.{field}: ")), "{value}: {refusal:?}");
        }
    }

    #[test]
    fn what_is_required_must_be_there() {
        let refusal =
            |content: Option<Value>| check(&form(), content.as_ref()).unwrap_err().to_string();
        assert_eq!(refusal(None), "content.sure: it is required");
        assert_eq!(refusal(Some(json!({}))), "content.sure: it is required");
        assert_eq!(refusal(Some(json!([true]))), "content: an object is expected");
        let free = serde_json::from_value(json!({ "type": "object", "properties": {} })).unwrap();
        assert_eq!(check(&free, None), Ok(()));
    }
}
