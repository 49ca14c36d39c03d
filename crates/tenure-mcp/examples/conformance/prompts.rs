//! The prompts.

use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult,
    ImageContent, ListPromptsResult, Prompt, PromptArgument, PromptMessage, Role,
};

use crate::fixtures::{Answer, CACHE_TTL_MS, PNG, answer, ask_one, content, elicit, question};

pub(crate) fn list() -> ListPromptsResult {
    let arguments = vec![
        PromptArgument::new("arg1").with_description("First test argument").with_required(true),
        PromptArgument::new("arg2").with_description("Second test argument").with_required(false),
    ];
    let prompt = |name, description, arguments| Prompt::new(name, Some(description), arguments);
    let prompts = vec![
        prompt("test_simple_prompt", "A simple test prompt with no arguments", None),
        prompt(
            "test_prompt_with_arguments",
            "A test prompt that accepts arguments",
            Some(arguments),
        ),
        prompt(
            "test_prompt_with_embedded_resource",
            "A test prompt that includes an embedded resource",
            None,
        ),
        prompt("test_prompt_with_image", "A test prompt that includes an image", None),
        prompt(
            "test_input_required_result_prompt",
            "A prompt that requires elicitation input via InputRequiredResult (SEP-2322)",
            None,
        ),
    ];
    ListPromptsResult { prompts, ..Default::default() }
        .with_ttl_ms(CACHE_TTL_MS)
        .with_cache_scope(CacheScope::Public)
}

pub(crate) fn get(request: GetPromptRequestParams) -> Answer<GetPromptResponse> {
    let said = |text: String| PromptMessage::new_text(Role::User, text);
    let (messages, description) = match request.name.as_str() {
        "test_input_required_result_prompt" => return elicited(&request),
        "test_simple_prompt" => {
            (vec![said("This is a simple test prompt.".into())], "A simple test prompt")
        }
        "test_prompt_with_arguments" => {
            let arguments = request.arguments.unwrap_or_default();
            let argument =
                |name: &str| arguments.get(name).and_then(|value| value.as_str()).unwrap_or("");
            let (first, second) = (argument("arg1"), argument("arg2"));
            let text = format!("Prompt with arguments: arg1='{first}', arg2='{second}'");
            (vec![said(text)], "A prompt with arguments")
        }
        "test_prompt_with_embedded_resource" => {
            let resource = PromptMessage::new_resource(
                Role::User,
                "test://static-text".into(),
                Some("text/plain".into()),
                Some("Resource content for prompt".into()),
                None,
                None,
                None,
            );
            (
                vec![said("Here is a resource:".into()), resource],
                "A prompt with an embedded resource",
            )
        }
        "test_prompt_with_image" => {
            let image = ContentBlock::Image(ImageContent::new(PNG, "image/png"));
            let image = PromptMessage::new(Role::User, image);
            (vec![said("Here is an image:".into()), image], "A prompt with an image")
        }
        name => return Err(ErrorData::invalid_params(format!("Unknown prompt: {name}"), None)),
    };
    Ok(GetPromptResult::new(messages).with_description(description).into())
}

fn elicited(request: &GetPromptRequestParams) -> Answer<GetPromptResponse> {
    let Some(response) = answer(request.input_responses.as_ref(), "user_context") else {
        let asked = question("What context should the prompt use?", "context", "string")?;
        return Ok(ask_one("user_context", elicit(asked)).into());
    };
    let context = content(response, "context").unwrap_or("(no context)");
    let text = format!("Prompt with elicited context: {context}");
    Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)])
        .with_description("A prompt built from elicited context")
        .into())
}
