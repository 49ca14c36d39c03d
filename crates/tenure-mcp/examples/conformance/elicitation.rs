//! Tools that ask the client while they run.

// Sampling is deprecated, and still in the suite.
#![expect(deprecated)]

use rmcp::RoleServer;
use rmcp::model::{
    CallToolResponse, CreateMessageRequestParams, ElicitRequestParams, ElicitResult,
    ElicitationAction, JsonObject, SamplingMessage,
};
use rmcp::service::RequestContext;
use serde_json::{Value, json};

use crate::fixtures::{Answer, ask_one, elicit, failed, form, question, text};

type Cx = RequestContext<RoleServer>;

/// Calls the tool `name`; `None` if there is none.
pub(crate) async fn call(
    name: &str,
    arguments: &JsonObject,
    cx: &Cx,
) -> Option<Answer<CallToolResponse>> {
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str);
    Some(match name {
        "test_sampling" => Ok(sample(argument("prompt").unwrap_or("Hello"), cx).await),
        "test_elicitation" => {
            let message = argument("message").unwrap_or("Please provide your information");
            asked(person(message), "User response", true, cx).await
        }
        "test_elicitation_sep1034_defaults" => {
            asked(defaults(), "Elicitation completed", true, cx).await
        }
        "test_elicitation_sep1330_enums" => {
            asked(enums(), "Enum elicitation completed", false, cx).await
        }
        "test_streaming_elicitation" => question("Provide a value", "value", "string")
            .map(|asked| ask_one("streaming_elicitation", elicit(asked)).into()),
        _ => return None,
    })
}

async fn sample(prompt: &str, cx: &Cx) -> CallToolResponse {
    let message = SamplingMessage::user_text(prompt);
    let sampled = cx.peer.create_message(CreateMessageRequestParams::new(vec![message], 100)).await;
    match sampled {
        Ok(result) => {
            let said = result.message.content.first().and_then(|content| content.as_text());
            let said = said.map_or("No text response", |said| said.text.as_str());
            text(format!("LLM response: {said}")).into()
        }
        Err(error) => failed(format!("Sampling error: {error}")).into(),
    }
}

async fn asked(
    params: Answer<ElicitRequestParams>,
    label: &str,
    shows_content: bool,
    cx: &Cx,
) -> Answer<CallToolResponse> {
    Ok(match cx.peer.create_elicitation(params?).await {
        Ok(ElicitResult { action, content, .. }) => {
            let action = match action {
                ElicitationAction::Accept => "accept",
                ElicitationAction::Decline => "decline",
                ElicitationAction::Cancel => "cancel",
                _ => "unknown",
            };
            let content =
                if shows_content { format!(", content={content:?}") } else { String::new() };
            text(format!("{label}: action={action}{content}")).into()
        }
        Err(error) => failed(format!("Elicitation error: {error}")).into(),
    })
}

fn person(message: &str) -> Answer<ElicitRequestParams> {
    let properties = json!({
        "username": { "type": "string", "description": "User's response" },
        "email": { "type": "string", "description": "User's email address" },
    });
    form(message, properties, json!(["username", "email"]))
}

/// Every type with a default (SEP-1034).
fn defaults() -> Answer<ElicitRequestParams> {
    let properties = json!({
        "name": { "type": "string", "description": "User's name", "default": "John Doe" },
        "age": { "type": "integer", "description": "User's age", "default": 30 },
        "score": { "type": "number", "description": "User's score", "default": 95.5 },
        "status": {
            "type": "string",
            "description": "User's status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {
            "type": "boolean",
            "description": "Whether user is verified",
            "default": true,
        },
    });
    form("Please provide values (all have defaults)", properties, json!([]))
}

/// Every way to write an enumeration (SEP-1330).
fn enums() -> Answer<ElicitRequestParams> {
    let titled = |values: [(&str, &str); 3]| {
        values.map(|(value, title)| json!({ "const": value, "title": title }))
    };
    let options = titled([
        ("value1", "First Option"),
        ("value2", "Second Option"),
        ("value3", "Third Option"),
    ]);
    let choices = titled([
        ("value1", "First Choice"),
        ("value2", "Second Choice"),
        ("value3", "Third Choice"),
    ]);
    let plain = ["option1", "option2", "option3"];
    let properties = json!({
        "untitledSingle": { "type": "string", "enum": plain },
        "titledSingle": { "type": "string", "oneOf": options },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": plain } },
        "titledMulti": { "type": "array", "items": { "anyOf": choices } },
    });
    form("Test enum schema improvements", properties, json!([]))
}
