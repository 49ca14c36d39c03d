//! The fixtures that become tasks, as plain tools: they sleep, fail, and ask their peer.

use std::time::Duration;

use rmcp::model::{CallToolResult, ElicitRequestParams, JsonObject};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::Value;
use tokio::time::sleep;

use crate::fixtures::{Answer, failed, internal, question, text};

type Cx = RequestContext<RoleServer>;

/// Calls the job `name`; `None` if there is none.
pub(crate) async fn call(
    name: &str,
    arguments: &JsonObject,
    cx: &Cx,
) -> Option<Answer<CallToolResult>> {
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str);
    Some(match name {
        "greet" => Ok(text(format!("Hello, {}!", argument("name").unwrap_or("friend")))),
        "slow_compute" => {
            let seconds = arguments.get("seconds").and_then(Value::as_f64).unwrap_or(1.0);
            slow_compute(seconds, argument("label").unwrap_or("compute"), cx).await
        }
        "failing_job" => {
            sleep(Duration::from_secs(1)).await;
            Ok(failed("failing_job: intentional tool execution error"))
        }
        "protocol_error_job" => {
            sleep(Duration::from_millis(200)).await;
            Err(internal("protocol_error_job: intentional protocol-level failure"))
        }
        "confirm_delete" => confirm_delete(argument("filename").unwrap_or("file.txt"), cx).await,
        "multi_input" => multi_input(cx).await,
        _ => return None,
    })
}

async fn slow_compute(seconds: f64, label: &str, cx: &Cx) -> Answer<CallToolResult> {
    let duration = Duration::try_from_secs_f64(seconds)
        .map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
    tokio::select! {
        () = cx.ct.cancelled() => Err(internal("cancelled")),
        () = sleep(duration) => Ok(text(format!("slow_compute({label}) done after {seconds}s"))),
    }
}

async fn confirm_delete(filename: &str, cx: &Cx) -> Answer<CallToolResult> {
    let asked = question(&format!("Delete {filename}?"), "confirm", "boolean")?;
    let confirmed = ask(cx, asked, "confirm").await?.and_then(|value| value.as_bool());
    let confirmed = confirmed.unwrap_or(false);
    Ok(text(format!("confirm_delete({filename}): confirmed = {confirmed}")))
}

async fn multi_input(cx: &Cx) -> Answer<CallToolResult> {
    let (a, b) = tokio::try_join!(
        // The suite answers with a name, and an answer has to fit what was asked.
        ask(cx, question("Provide name A", "name", "string")?, "name"),
        ask(cx, question("Provide name B", "name", "string")?, "name"),
    )?;
    let shown = |value: Option<Value>| {
        value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or("(none)".into())
    };
    Ok(text(format!("multi_input: a = {}, b = {}", shown(a), shown(b))))
}

/// Asks the person at the client, and picks a field of the answer.
async fn ask(cx: &Cx, asked: ElicitRequestParams, field: &str) -> Answer<Option<Value>> {
    let answer = cx.peer.create_elicitation(asked).await.map_err(internal)?;
    Ok(answer.content.and_then(|content| content.get(field).cloned()))
}
