//! Tools that ask by returning `input_required` (SEP-2322).

// Sampling and roots are deprecated, and still in the suite.
#![expect(deprecated)]

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CreateMessageRequest, CreateMessageRequestParams,
    InputRequest, InputRequests, InputRequiredResult, ListRootsRequest, SamplingMessage,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::fixtures::{Answer, answer, ask_one, content, elicit, internal, object, question, text};
use crate::server::Fixtures;

type Cx = RequestContext<RoleServer>;

pub(crate) async fn call(
    fixtures: &Fixtures,
    request: CallToolRequestParams,
    cx: &Cx,
) -> Answer<CallToolResponse> {
    let name = request.name.strip_prefix("test_input_required_result_");
    match name.unwrap_or(&request.name) {
        "elicitation" | "test_tool_with_task" => greeting(&request).await,
        "sampling" => sampling(&request),
        "list_roots" => list_roots(&request),
        "request_state" | "tampered_state" => confirmation(fixtures, &request),
        "multiple_inputs" => multiple_inputs(fixtures, &request),
        "multi_round" => multi_round(fixtures, &request),
        "capabilities" => capabilities(&request, cx),
        _ => Err(ErrorData::invalid_params(format!("Unknown tool: {}", request.name), None)),
    }
}

async fn greeting(request: &CallToolRequestParams) -> Answer<CallToolResponse> {
    let Some(response) = answer(request.input_responses.as_ref(), "user_name") else {
        return Ok(ask_one("user_name", name_question()?).into());
    };
    let name = content(response, "name").unwrap_or("friend");
    Ok(text(format!("Hello, {name}!")).into())
}

fn sampling(request: &CallToolRequestParams) -> Answer<CallToolResponse> {
    let Some(response) = answer(request.input_responses.as_ref(), "capital_question") else {
        return Ok(ask_one("capital_question", sample("What is the capital of France?")).into());
    };
    let said = content(response, "text").unwrap_or("(no sampling text)");
    Ok(text(format!("Sampling response: {said}")).into())
}

fn list_roots(request: &CallToolRequestParams) -> Answer<CallToolResponse> {
    let Some(response) = answer(request.input_responses.as_ref(), "client_roots") else {
        return Ok(ask_one("client_roots", roots()).into());
    };
    let roots = response.get("roots").and_then(Value::as_array);
    let uris: Vec<&str> = roots
        .into_iter()
        .flatten()
        .filter_map(|root| root.get("uri").and_then(Value::as_str))
        .collect();
    Ok(text(format!("Client roots: [{}]", uris.join(", "))).into())
}

fn confirmation(fixtures: &Fixtures, request: &CallToolRequestParams) -> Answer<CallToolResponse> {
    if opened(fixtures, request)?.is_some() {
        return Ok(text("Confirmed: state-ok").into());
    }
    let asked = elicit(question("Please confirm", "ok", "boolean")?);
    asked_with_state(fixtures, [("confirm", asked)], json!({ "stage": "confirm" }))
}

fn multiple_inputs(
    fixtures: &Fixtures,
    request: &CallToolRequestParams,
) -> Answer<CallToolResponse> {
    let state = opened(fixtures, request)?;
    let has = |key| answer(request.input_responses.as_ref(), key).is_some();
    if state.is_some() && has("user_name") && has("greeting") && has("client_roots") {
        return Ok(text("All inputs received").into());
    }
    let asked = [
        ("user_name", name_question()?),
        ("greeting", sample("Generate a greeting")),
        ("client_roots", roots()),
    ];
    asked_with_state(fixtures, asked, json!({ "stage": "gather" }))
}

fn multi_round(fixtures: &Fixtures, request: &CallToolRequestParams) -> Answer<CallToolResponse> {
    let state = opened(fixtures, request)?;
    match state.and_then(|state| state.get("round")?.as_u64()).unwrap_or(0) {
        0 => {
            let asked = question("Step 1: What is your name?", "name", "string")?;
            asked_with_state(fixtures, [("step1", elicit(asked))], json!({ "round": 1 }))
        }
        1 => {
            let asked = question("Step 2: What is your favorite color?", "color", "string")?;
            asked_with_state(fixtures, [("step2", elicit(asked))], json!({ "round": 2 }))
        }
        _ => Ok(text("Multi-round flow complete").into()),
    }
}

/// Asks for what the client declared, and nothing else.
fn capabilities(request: &CallToolRequestParams, cx: &Cx) -> Answer<CallToolResponse> {
    if request.input_responses.is_some() {
        return Ok(text("Capability-aware flow complete").into());
    }
    let declared = cx.meta.client_capabilities().unwrap_or_default();
    let mut requests = InputRequests::new();
    if declared.elicitation.is_some() {
        requests.insert("user_name".into(), name_question()?);
    }
    if declared.sampling.is_some() {
        requests.insert("greeting".into(), sample("Generate a greeting"));
    }
    if declared.roots.is_some() {
        requests.insert("client_roots".into(), roots());
    }
    if requests.is_empty() {
        return Ok(text("Client declared no MRTR-capable capabilities").into());
    }
    Ok(InputRequiredResult::from_input_requests(requests).into())
}

fn name_question() -> Answer<InputRequest> {
    Ok(elicit(question("What is your name?", "name", "string")?))
}

fn sample(prompt: &str) -> InputRequest {
    let message = SamplingMessage::user_text(prompt);
    InputRequest::CreateMessage(CreateMessageRequest::new(CreateMessageRequestParams::new(
        vec![message],
        100,
    )))
}

fn roots() -> InputRequest {
    InputRequest::ListRoots(ListRootsRequest::default())
}

/// What the tool handed out, back from the client. It is the client's word until the seal is
/// checked.
fn opened(fixtures: &Fixtures, request: &CallToolRequestParams) -> Answer<Option<Value>> {
    let Some(sealed) = &request.request_state else { return Ok(None) };
    fixtures
        .state
        .open_json(sealed)
        .map(Some)
        .map_err(|_| ErrorData::invalid_params("requestState failed integrity verification", None))
}

fn asked_with_state<const N: usize>(
    fixtures: &Fixtures,
    asked: [(&str, InputRequest); N],
    state: Value,
) -> Answer<CallToolResponse> {
    let sealed = fixtures.state.seal_json(&object(state)).map_err(internal)?;
    let asked = asked.map(|(key, request)| (key.to_owned(), request)).into();
    Ok(InputRequiredResult::new(Some(asked), Some(sealed)).into())
}
