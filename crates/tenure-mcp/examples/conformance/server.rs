//! The handler: which fixture answers what.

// The suite for 2025-11-25 still wants what the SDK deprecates.
#![expect(deprecated)]

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CompletionInfo,
    GetPromptRequestParams, GetPromptResponse, Implementation, InitializeRequestParams,
    InitializeResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    Reference, RequestStateCodec, ServerCapabilities, ServerConfig, SetLevelRequestParams,
    SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext, SubscriptionSink};
use rmcp::{ErrorData, RoleServer, ServerHandler};

use crate::fixtures::{Answer, internal};
use crate::{elicitation, jobs, prompts, resources, rounds, tools};

type Cx = RequestContext<RoleServer>;
type Page = Option<PaginatedRequestParams>;

/// Seals what clients hand back. A fixed key will do for fixtures; a server keeps its own secret.
const STATE_KEY: &[u8] = b"the key of the conformance fixtures, known to all";

pub(crate) struct Fixtures {
    pub(crate) state: RequestStateCodec,
    sinks: Mutex<HashMap<u64, SubscriptionSink>>,
    next_sink: AtomicU64,
}

impl Fixtures {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            state: RequestStateCodec::new_unchecked(STATE_KEY),
            sinks: Mutex::default(),
            next_sink: AtomicU64::new(0),
        })
    }

    /// Everybody who listens at the moment.
    pub(crate) fn listeners(&self) -> Vec<SubscriptionSink> {
        self.sinks.lock().map(|sinks| sinks.values().cloned().collect()).unwrap_or_default()
    }
}

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_logging()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("tenure-conformance", env!("CARGO_PKG_VERSION")))
            .with_instructions("The fixtures of the conformance suite")
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        cx: Cx,
    ) -> Answer<InitializeResult> {
        cx.peer.set_peer_info(request.clone());
        self.negotiate_initialize(&request)
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, cx: SubscriptionContext) -> Answer<()> {
        let key = self.next_sink.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut sinks) = self.sinks.lock() {
            sinks.insert(key, cx.sink().clone());
        }
        cx.cancelled().await;
        if let Ok(mut sinks) = self.sinks.lock() {
            sinks.remove(&key);
        }
        Ok(())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::listed().into_iter().find(|tool| tool.name == name)
    }

    async fn list_tools(&self, _: Page, _: Cx) -> Answer<ListToolsResult> {
        Ok(tools::list())
    }

    async fn call_tool(&self, request: CallToolRequestParams, cx: Cx) -> Answer<CallToolResponse> {
        let name = request.name.clone();
        if name.starts_with("test_input_required_result_") || name == "test_tool_with_task" {
            return rounds::call(self, request, &cx).await;
        }
        let arguments = request.arguments.unwrap_or_default();
        if let Some(result) = jobs::call(&name, &arguments, &cx).await {
            return result.map(Into::into);
        }
        if let Some(result) = elicitation::call(&name, &arguments, &cx).await {
            return result;
        }
        match tools::call(self, &name, &arguments, &cx).await {
            Some(result) => result.map(Into::into),
            None => Err(ErrorData::invalid_params(format!("Unknown tool: {name}"), None)),
        }
    }

    async fn list_prompts(&self, _: Page, _: Cx) -> Answer<ListPromptsResult> {
        Ok(prompts::list())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: Cx,
    ) -> Answer<GetPromptResponse> {
        prompts::get(request)
    }

    async fn list_resources(&self, _: Page, _: Cx) -> Answer<ListResourcesResult> {
        Ok(resources::list())
    }

    async fn list_resource_templates(&self, _: Page, _: Cx) -> Answer<ListResourceTemplatesResult> {
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: Cx,
    ) -> Answer<ReadResourceResponse> {
        resources::read(&request.uri)
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: Cx) -> Answer<()> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: Cx) -> Answer<()> {
        Ok(())
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: Cx) -> Answer<()> {
        Ok(())
    }

    async fn complete(&self, request: CompleteRequestParams, _: Cx) -> Answer<CompleteResult> {
        let values = match (&request.r#ref, request.argument.name.as_str()) {
            (Reference::Resource(_), "id") => vec!["1".into(), "2".into(), "3".into()],
            (Reference::Prompt(_), "name") => {
                vec!["Alice".into(), "Bob".into(), "Charlie".into()]
            }
            (Reference::Prompt(_), "style") => {
                vec!["friendly".into(), "formal".into(), "casual".into()]
            }
            (Reference::Prompt(prompt), _) => vec![prompt.name.clone()],
            _ => Vec::new(),
        };
        Ok(CompleteResult::new(CompletionInfo::new(values).map_err(internal)?))
    }
}
