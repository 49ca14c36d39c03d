//! The list of tools, and those that answer at once.

// Log messages are deprecated, and still in the suite.
#![expect(deprecated)]

use std::time::Duration;

use rmcp::model::{
    AudioContent, CacheScope, CallToolResult, ClientCapabilities, ContentBlock, JsonObject,
    ListToolsResult, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam,
    Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fixtures::{Answer, CACHE_TTL_MS, PNG, WAV, failed, object, text};
use crate::resources::plain;
use crate::server::Fixtures;

type Cx = RequestContext<RoleServer>;

const STEP: Duration = Duration::from_millis(50);
const LOGGER: &str = "tenure-conformance";

/// The tools without arguments.
const PLAIN: &[(&str, &str)] = &[
    ("test_simple_text", "Returns simple text content"),
    ("test_image_content", "Returns image content"),
    ("test_audio_content", "Returns audio content"),
    ("test_embedded_resource", "Returns embedded resource content"),
    ("test_multiple_content_types", "Returns multiple content types"),
    ("test_tool_with_logging", "Sends log messages while it runs"),
    ("test_error_handling", "Always returns an error"),
    ("test_tool_with_progress", "Reports progress"),
    ("test_elicitation_sep1034_defaults", "Elicits values with defaults (SEP-1034)"),
    ("test_elicitation_sep1330_enums", "Elicits enumerations (SEP-1330)"),
    ("test_reconnection", "Answers after a moment, for reconnecting clients"),
    ("test_trigger_tool_change", "Tells listeners that the list of tools changed"),
    ("test_trigger_prompt_change", "Tells listeners that the list of prompts changed"),
    ("test_missing_capability", "Needs a client with sampling"),
    ("test_streaming_elicitation", "Returns an input_required result"),
    ("test_logging_tool", "Logs only if the request has a level"),
    ("test_input_required_result_elicitation", "Asks for a name (SEP-2322)"),
    ("test_input_required_result_sampling", "Asks for a sample (SEP-2322)"),
    ("test_input_required_result_list_roots", "Asks for the roots (SEP-2322)"),
    ("test_input_required_result_request_state", "Hands out a sealed state (SEP-2322)"),
    ("test_input_required_result_multiple_inputs", "Asks for three things (SEP-2322)"),
    ("test_input_required_result_multi_round", "Asks twice (SEP-2322)"),
    ("test_input_required_result_tampered_state", "Refuses a changed state (SEP-2322)"),
    ("test_input_required_result_capabilities", "Asks for what was declared (SEP-2322)"),
    ("failing_job", "A task that ends with a tool error (SEP-2663)"),
    ("protocol_error_job", "A task that fails (SEP-2663)"),
    ("multi_input", "A task that asks two questions at once (SEP-2663)"),
    ("test_tool_with_task", "Asks for a name, then becomes a task (SEP-2663)"),
];

/// All tools.
pub(crate) fn listed() -> Vec<Tool> {
    let no_arguments = json!({ "type": "object", "properties": {} });
    let plain = PLAIN
        .iter()
        .map(|(name, description)| Tool::new(*name, *description, object(no_arguments.clone())));
    plain.chain(with_arguments()).collect()
}

pub(crate) fn list() -> ListToolsResult {
    ListToolsResult { tools: listed(), ..Default::default() }
        .with_ttl_ms(CACHE_TTL_MS)
        .with_cache_scope(CacheScope::Public)
}

fn with_arguments() -> Vec<Tool> {
    let tool =
        |name: &'static str, description: &'static str, properties: Value, required: &[&str]| {
            let mut schema = json!({ "type": "object", "properties": properties });
            if !required.is_empty() {
                schema["required"] = json!(required);
            }
            Tool::new(name, description, object(schema))
        };
    vec![
        tool(
            "test_sampling",
            "Asks the client's model",
            json!({ "prompt": { "type": "string", "description": "The prompt to send" } }),
            &["prompt"],
        ),
        tool(
            "test_elicitation",
            "Asks the person at the client",
            json!({ "message": { "type": "string", "description": "The message to show" } }),
            &["message"],
        ),
        tool(
            "test_custom_header",
            "Has an argument that is mirrored in a header (SEP-2243)",
            json!({ "value": { "type": "string", "x-mcp-header": "Value" } }),
            &["value"],
        ),
        tool(
            "greet",
            "Greets at once, never as a task (SEP-2663)",
            json!({ "name": { "type": "string" } }),
            &["name"],
        ),
        tool(
            "slow_compute",
            "Takes its time (SEP-2663)",
            json!({ "seconds": { "type": "number" }, "label": { "type": "string" } }),
            &[],
        ),
        tool(
            "confirm_delete",
            "A task that asks one question (SEP-2663)",
            json!({ "filename": { "type": "string" } }),
            &[],
        ),
        Tool::new(
            "json_schema_2020_12_tool",
            "Has a schema with the features of JSON Schema 2020-12",
            object(schema_2020_12()),
        ),
    ]
}

fn schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "address",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
        },
        "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["address"] }] }],
        "if": { "required": ["address"] },
        "then": { "properties": { "address": { "required": ["street"] } } },
        "else": { "required": ["name"] },
        "additionalProperties": false,
    })
}

/// Calls the tool `name`; `None` if there is none.
pub(crate) async fn call(
    fixtures: &Fixtures,
    name: &str,
    arguments: &JsonObject,
    cx: &Cx,
) -> Option<Answer<CallToolResult>> {
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str);
    Some(Ok(match name {
        "test_simple_text" => text("This is a simple text response for testing."),
        "test_image_content" => {
            CallToolResult::success(vec![ContentBlock::image(PNG, "image/png")])
        }
        "test_audio_content" => {
            let audio = ContentBlock::Audio(AudioContent::new(WAV, "audio/wav"));
            CallToolResult::success(vec![audio])
        }
        "test_embedded_resource" => embedded_resource(),
        "test_multiple_content_types" => multiple_content_types(),
        "test_error_handling" => failed("This tool intentionally returns an error for testing"),
        "test_custom_header" => match argument("value") {
            Some(value) => text(value),
            None => return Some(Err(ErrorData::invalid_params("value must be a string", None))),
        },
        "json_schema_2020_12_tool" => {
            text(format!("Hello, {}!", argument("name").unwrap_or("world")))
        }
        "test_tool_with_logging" => with_logging(cx).await,
        "test_logging_tool" => {
            if let Some(level) = cx.meta.log_level() {
                log(cx, level, "logLevel was requested").await;
            }
            text("Logging tool completed")
        }
        "test_tool_with_progress" => with_progress(cx).await,
        "test_reconnection" => {
            sleep(2 * STEP).await;
            text("Reconnection test completed")
        }
        "test_trigger_tool_change" => {
            for listener in fixtures.listeners() {
                let _ = listener.notify_tool_list_changed().await;
            }
            text("Tool list change triggered")
        }
        "test_trigger_prompt_change" => {
            for listener in fixtures.listeners() {
                let _ = listener.notify_prompt_list_changed().await;
            }
            text("Prompt list change triggered")
        }
        "test_missing_capability" => {
            if cx.meta.client_capabilities().unwrap_or_default().sampling.is_none() {
                let sampling = ClientCapabilities::builder().enable_sampling().build();
                return Some(Err(ErrorData::missing_required_client_capability(sampling)));
            }
            text("Required capability declared")
        }
        _ => return None,
    }))
}

fn embedded_resource() -> CallToolResult {
    let resource = plain(
        "test://embedded-resource",
        "text/plain",
        "This is an embedded resource content.".into(),
    );
    CallToolResult::success(vec![ContentBlock::resource(resource)])
}

fn multiple_content_types() -> CallToolResult {
    let resource = plain(
        "test://mixed-content-resource",
        "application/json",
        r#"{"test":"data","value":123}"#.into(),
    );
    CallToolResult::success(vec![
        ContentBlock::text("Multiple content types test:"),
        ContentBlock::image(PNG, "image/png"),
        ContentBlock::resource(resource),
    ])
}

async fn with_logging(cx: &Cx) -> CallToolResult {
    for message in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        log(cx, LoggingLevel::Info, message).await;
        sleep(STEP).await;
    }
    text("Logging test completed")
}

async fn log(cx: &Cx, level: LoggingLevel, message: &str) {
    let message = LoggingMessageNotificationParam::new(level, json!(message)).with_logger(LOGGER);
    let _ = cx.peer.notify_logging_message(message).await;
}

async fn with_progress(cx: &Cx) -> CallToolResult {
    let token = cx.meta.get_progress_token();
    for (progress, message) in [(0.0, "Starting"), (50.0, "Halfway"), (100.0, "Complete")] {
        if let Some(token) = &token {
            let progress = ProgressNotificationParam::new(token.clone(), progress)
                .with_total(100.0)
                .with_message(message);
            let _ = cx.peer.notify_progress(progress).await;
        }
        sleep(STEP).await;
    }
    text("Progress test completed")
}
