//! What several fixtures need.

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResult, ContentBlock, ElicitRequest, ElicitRequestParams, InputRequest,
    InputRequiredResult, InputResponses, JsonObject,
};
use serde_json::{Map, Value, json};

/// How long clients may cache lists and resources.
pub(crate) const CACHE_TTL_MS: u64 = 60_000;
/// A red pixel.
pub(crate) const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";
/// No samples at all.
pub(crate) const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

pub(crate) type Answer<T> = Result<T, ErrorData>;

pub(crate) fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

pub(crate) fn failed(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text)])
}

pub(crate) fn internal(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

pub(crate) fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// An elicitation of one required property.
pub(crate) fn question(message: &str, property: &str, kind: &str) -> Answer<ElicitRequestParams> {
    form(message, json!({ property: { "type": kind } }), json!([property]))
}

/// An elicitation of several properties.
pub(crate) fn form(
    message: &str,
    properties: Value,
    required: Value,
) -> Answer<ElicitRequestParams> {
    let mut schema = json!({ "type": "object", "properties": properties });
    if required != json!([]) {
        schema["required"] = required;
    }
    Ok(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.into(),
        requested_schema: serde_json::from_value(schema).map_err(internal)?,
    })
}

pub(crate) fn elicit(params: ElicitRequestParams) -> InputRequest {
    InputRequest::Elicitation(ElicitRequest::new(params))
}

/// A round that asks one question.
pub(crate) fn ask_one(key: &str, request: InputRequest) -> InputRequiredResult {
    InputRequiredResult::from_input_requests([(key.to_owned(), request)].into())
}

/// An answer is usable when it is an object. Anything else is asked for again.
pub(crate) fn answer<'a>(
    responses: Option<&'a InputResponses>,
    key: &str,
) -> Option<&'a Map<String, Value>> {
    responses?.get(key)?.as_object()
}

/// A field of what the person filled in.
pub(crate) fn content<'a>(response: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    response.get("content")?.get(field)?.as_str()
}
