//! The wrapper as the SDK sees it: tasks are answered here, everything else by the handler inside.

// The SDK deprecates what only older revisions of the protocol have; a wrapper must pass it on.
#![expect(deprecated)]

use std::borrow::Cow;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskMethod, CancelTaskParams,
    CancelledNotificationParam, CompleteRequestParams, CompleteResult, ConstString,
    CustomNotification, CustomRequest, CustomResult, DiscoverResult, GetPromptRequestParams,
    GetPromptResponse, GetSkillRequestParams, GetSkillResult, GetTaskMethod, GetTaskParams,
    GetTaskResult, InitializeRequestParams, InitializeResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListSkillsResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion,
    ReadResourceDirectoryRequestParams, ReadResourceDirectoryResult, ReadResourceRequestParams,
    ReadResourceResponse, ServerConfig, SetLevelRequestParams, SubscribeRequestParams,
    SubscriptionFilter, Tool, UnsubscribeRequestParams, UpdateTaskMethod, UpdateTaskParams,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value};
use tenure::tasks::{Task, TaskError, TaskId, TaskRef};

use crate::mcp::convert::{check_response, detailed};
use crate::mcp::error;
use crate::mcp::listen::LISTEN_TASKS;
use crate::mcp::relay::Placed;
use crate::mcp::resources::Named;
use crate::mcp::wrapper::{DurableServer, caller, party};

type Cx = RequestContext<RoleServer>;
type NotificationCx = NotificationContext<RoleServer>;
type Page = Option<PaginatedRequestParams>;

impl<H: ServerHandler> DurableServer<H> {
    /// Leaves out the answers that nothing waits for, and refuses the rest as a whole if one of
    /// them cannot be an answer: the client may correct it, so its key must not be used up.
    fn expected_answers(
        task: &Task,
        responses: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Map<String, Value>, ErrorData> {
        let mut expected = Map::new();
        for (key, response) in responses {
            let Some((_, request)) = task.pending_inputs().find(|(pending, _)| *pending == key)
            else {
                continue;
            };
            check_response(request, &response).map_err(|error| {
                let message = format!("inputResponses.{key}: {}", error.message);
                ErrorData::new(error.code, message, error.data)
            })?;
            expected.insert(key, response);
        }
        Ok(expected)
    }

    /// A request whose parameters did not fit its method arrives here under its own name.
    fn refuse_malformed(&self, request: &CustomRequest, cx: &Cx) -> Option<ErrorData> {
        let methods = [GetTaskMethod::VALUE, UpdateTaskMethod::VALUE, CancelTaskMethod::VALUE];
        if !methods.contains(&request.method.as_str()) {
            return None;
        }
        if !cx.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks()) {
            return Some(error::tasks_not_declared());
        }
        let message = format!("the parameters do not fit {}", request.method);
        Some(ErrorData::invalid_params(message, None))
    }
}

impl<H: ServerHandler> ServerHandler for DurableServer<H> {
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        cx: Cx,
    ) -> Result<CallToolResponse, ErrorData> {
        self.call(request, cx).await
    }

    async fn get_task(&self, request: GetTaskParams, cx: Cx) -> Result<GetTaskResult, ErrorData> {
        let owner = caller(&cx.extensions)?;
        let id = TaskId::from(request.task_id.as_str());
        let read = async {
            let task = self.tasks().get(&owner, &id).await;
            task.map_err(|error| error::of_task(&request.task_id, error))
        };
        Ok(GetTaskResult::new(detailed(self.in_time(read).await?)?))
    }

    async fn update_task(&self, request: UpdateTaskParams, cx: Cx) -> Result<(), ErrorData> {
        let of_task = |error| error::of_task(&request.task_id, error);
        let owner = caller(&cx.extensions)?;
        let id = TaskId::from(request.task_id.as_str());
        let read = async { self.tasks().get(&owner, &id).await.map_err(of_task) };
        let task = self.in_time(read).await?;
        let answers = Self::expected_answers(&task, request.input_responses)?;
        if answers.is_empty() {
            return Ok(());
        }
        let (tasks, task) = (self.tasks().clone(), TaskRef::new(owner, id));
        let writing = async move { tasks.deliver_inputs(&task, answers).await };
        match self.shared.writes.carry_out(Box::pin(writing)).await {
            // It ended meanwhile: nothing waits for the answers any more.
            Ok(_) | Err(TaskError::Finished { .. }) => Ok(()),
            Err(error) => Err(of_task(error)),
        }
    }

    async fn cancel_task(&self, request: CancelTaskParams, cx: Cx) -> Result<(), ErrorData> {
        let task = TaskRef::new(caller(&cx.extensions)?, request.task_id.as_str());
        let tasks = self.tasks().clone();
        let writing = async move { tasks.cancel(&task, None).await };
        match self.shared.writes.carry_out(Box::pin(writing)).await {
            // What has ended stays as it is, and the client is told so by the next `tasks/get`.
            Ok(_) | Err(TaskError::Finished { .. }) => Ok(()),
            Err(error) => Err(error::of_task(&request.task_id, error)),
        }
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        cx: Cx,
    ) -> Result<CustomResult, ErrorData> {
        if request.method == LISTEN_TASKS {
            return self.listen_to_tasks(request, cx).await;
        }
        match self.refuse_malformed(&request, &cx) {
            Some(error) => Err(error),
            None => self.shared.inner.on_custom_request(request, cx).await,
        }
    }

    fn get_info(&self) -> ServerConfig {
        let mut info = self.shared.inner.get_info();
        self.declare(&mut info.capabilities);
        info
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        cx: Cx,
    ) -> Result<InitializeResult, ErrorData> {
        let mut result = self.shared.inner.initialize(request, cx).await?;
        self.declare(&mut result.capabilities);
        Ok(result)
    }

    fn negotiate_initialize(
        &self,
        request: &InitializeRequestParams,
    ) -> Result<InitializeResult, ErrorData> {
        let mut result = self.shared.inner.negotiate_initialize(request)?;
        self.declare(&mut result.capabilities);
        Ok(result)
    }

    async fn discover(&self, cx: Cx) -> Result<DiscoverResult, ErrorData> {
        let mut result = self.shared.inner.discover(cx).await?;
        self.declare(&mut result.capabilities);
        Ok(result)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.shared.inner.supported_protocol_versions()
    }

    async fn ping(&self, cx: Cx) -> Result<(), ErrorData> {
        self.shared.inner.ping(cx).await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        cx: Cx,
    ) -> Result<CompleteResult, ErrorData> {
        self.shared.inner.complete(request, cx).await
    }

    async fn set_level(&self, request: SetLevelRequestParams, cx: Cx) -> Result<(), ErrorData> {
        self.shared.inner.set_level(request, cx).await
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        cx: Cx,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.shared.inner.get_prompt(request, cx).await
    }

    async fn list_prompts(&self, page: Page, cx: Cx) -> Result<ListPromptsResult, ErrorData> {
        self.shared.inner.list_prompts(page, cx).await
    }

    async fn list_resources(&self, page: Page, cx: Cx) -> Result<ListResourcesResult, ErrorData> {
        if self.shows_resources() {
            return self.list_with_ours(page, cx).await;
        }
        self.shared.inner.list_resources(page, cx).await
    }

    async fn list_resource_templates(
        &self,
        page: Page,
        cx: Cx,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        if self.shows_resources() {
            return self.list_templates_with_ours(page, cx).await;
        }
        self.shared.inner.list_resource_templates(page, cx).await
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        cx: Cx,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if let Named::Ours { key } = self.named(&request.uri) {
            return self.read_ours(&request.uri, key, &cx.extensions).await;
        }
        self.shared.inner.read_resource(request, cx).await
    }

    async fn read_resource_directory(
        &self,
        request: ReadResourceDirectoryRequestParams,
        cx: Cx,
    ) -> Result<ReadResourceDirectoryResult, ErrorData> {
        self.shared.inner.read_resource_directory(request, cx).await
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        self.accept_ours(requested)
    }

    async fn listen(&self, cx: SubscriptionContext) -> Result<(), ErrorData> {
        let request = cx.request_context();
        let caller = party(&request.extensions)?;
        // A part of a subscription to tasks is within the place of the whole.
        let _place = match request.extensions.get::<Placed>() {
            Some(Placed) => None,
            None => Some(self.shared.listeners.take(caller.owner())?),
        };
        let listening = async {
            if self.shows_resources() {
                return self.listen_with_ours(&caller, cx).await;
            }
            self.shared.inner.listen(cx).await
        };
        tokio::select! {
            done = listening => done,
            () = self.shared.closing.cancelled() => Ok(()),
            () = caller.ended(self.tasks().clock()) => Ok(()),
        }
    }

    async fn subscribe(&self, request: SubscribeRequestParams, cx: Cx) -> Result<(), ErrorData> {
        if let Named::Ours { key } = self.named(&request.uri) {
            return self.subscribe_to_ours(request.uri, key, cx).await;
        }
        self.shared.inner.subscribe(request, cx).await
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        cx: Cx,
    ) -> Result<(), ErrorData> {
        if let Named::Ours { .. } = self.named(&request.uri) {
            self.unsubscribe_from_ours(&request.uri);
            return Ok(());
        }
        self.shared.inner.unsubscribe(request, cx).await
    }

    async fn list_tools(&self, page: Page, cx: Cx) -> Result<ListToolsResult, ErrorData> {
        let cursor = page.as_ref().and_then(|page| page.cursor.clone());
        let listed = self.shared.inner.list_tools(page, cx).await?;
        self.look_for_declared(cursor.as_deref(), &listed);
        Ok(listed)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.shared.inner.get_tool(name)
    }

    async fn list_skills(&self, page: Page, cx: Cx) -> Result<ListSkillsResult, ErrorData> {
        self.shared.inner.list_skills(page, cx).await
    }

    async fn get_skill(
        &self,
        request: GetSkillRequestParams,
        cx: Cx,
    ) -> Result<GetSkillResult, ErrorData> {
        self.shared.inner.get_skill(request, cx).await
    }

    async fn on_cancelled(&self, notification: CancelledNotificationParam, cx: NotificationCx) {
        self.shared.inner.on_cancelled(notification, cx).await;
    }

    async fn on_progress(&self, notification: ProgressNotificationParam, cx: NotificationCx) {
        self.shared.inner.on_progress(notification, cx).await;
    }

    async fn on_initialized(&self, cx: NotificationCx) {
        if let (true, Ok(caller)) = (self.shows_resources(), party(&cx.extensions)) {
            self.announce_list_changes(&caller, cx.peer.clone()).await;
        }
        self.shared.inner.on_initialized(cx).await;
    }

    async fn on_roots_list_changed(&self, cx: NotificationCx) {
        self.shared.inner.on_roots_list_changed(cx).await;
    }

    async fn on_custom_notification(&self, notification: CustomNotification, cx: NotificationCx) {
        self.shared.inner.on_custom_notification(notification, cx).await;
    }
}
