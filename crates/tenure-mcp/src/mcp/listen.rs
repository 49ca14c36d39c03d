//! `subscriptions/listen` with `taskIds`: a task's changes, pushed.
//!
//! The SDK drops `taskIds` while it parses, and its stream of a subscription takes no
//! notifications of tasks. So such a request is renamed before the SDK sees it (over HTTP by
//! `http::body`, on standard input by [`stdio`](crate::stdio)) and answered here.
//!
//! A request that asks for task ids and for list changes at once gets the tasks. The
//! acknowledgement names what was accepted, so the client knows to ask for the rest by itself.

use std::collections::BTreeSet;
use std::future::ready;

use futures::StreamExt;
use futures::stream::{self, BoxStream, SelectAll};
use rmcp::model::{
    CustomNotification, CustomRequest, CustomResult, DetailedTask, NotificationMetaObject,
    RequestId, ServerNotification, SubscriptionsListenResult, TaskStatusNotification,
    TaskStatusNotificationParams,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Deserialize;
use serde_json::{Value, json};
use tenure::Owner;
use tenure::tasks::{Task, TaskError, TaskId};

use crate::mcp::convert::detailed;
use crate::mcp::error;
use crate::mcp::wrapper::{DurableServer, caller};

/// The method as clients name it.
pub(crate) const LISTEN: &str = "subscriptions/listen";
/// The method under which a request with task ids reaches the handler.
pub(crate) const LISTEN_TASKS: &str = "tenure/subscriptions/listen";
/// Tasks that one stream follows.
const MAX_TASKS: usize = 100;

const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

type States = SelectAll<BoxStream<'static, Result<Task, TaskError>>>;

/// Renames a request that listens to tasks. Tells whether it was one.
pub(crate) fn reroute(message: &mut Value) -> bool {
    let listens = message.get("method").and_then(Value::as_str) == Some(LISTEN)
        && message.pointer("/params/notifications/taskIds").is_some();
    if listens {
        message["method"] = LISTEN_TASKS.into();
    }
    listens
}

#[derive(Deserialize)]
struct ListenParams {
    notifications: Filter,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    task_ids: BTreeSet<String>,
}

impl<H: ServerHandler> DurableServer<H> {
    /// Acknowledges once every watch is in place, then sends each task as it is and as it becomes,
    /// until all of them have ended, the client leaves, or the server closes.
    pub(crate) async fn listen_to_tasks(
        &self,
        request: CustomRequest,
        cx: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if !cx.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks()) {
            return Err(error::tasks_not_declared());
        }
        let owner = caller(&cx.extensions)?;
        let ids = task_ids(request.params)?;
        let Ok(_listener) = self.shared.listeners.try_acquire() else {
            let retryable = Some(json!({ "retryable": true }));
            return Err(ErrorData::internal_error("too many clients are listening", retryable));
        };
        let (accepted, mut states) = self.follow(&owner, ids).await?;
        acknowledge(&cx, &accepted).await?;
        loop {
            tokio::select! {
                () = cx.ct.cancelled() => break,
                () = self.shared.closing.cancelled() => break,
                state = states.next() => match state {
                    Some(Ok(task)) => notify(&cx, detailed(task)?).await?,
                    // It expired while we listened: there is nothing more to tell of it.
                    Some(Err(TaskError::NotFound)) => {}
                    Some(Err(error)) => return Err(error::of_call(error)),
                    None => break,
                },
            }
        }
        self.closing_result(cx.id)
    }

    /// Follows those ids that are tasks of the owner; the others are left out without a word.
    async fn follow(
        &self,
        owner: &Owner,
        ids: BTreeSet<String>,
    ) -> Result<(Vec<String>, States), ErrorData> {
        let mut accepted = Vec::with_capacity(ids.len());
        let mut states = SelectAll::new();
        for id in ids {
            let followed = self.tasks().follow(owner, &TaskId::from(id.as_str())).await;
            let mut followed = followed.map_err(|error| error::of_task(&id, error))?.boxed();
            match followed.next().await {
                Some(Ok(task)) => {
                    states.push(stream::once(ready(Ok(task))).chain(followed).boxed());
                    accepted.push(id);
                }
                Some(Err(TaskError::NotFound)) | None => {}
                Some(Err(error)) => return Err(error::of_task(&id, error)),
            }
        }
        Ok((accepted, states))
    }

    fn closing_result(&self, subscription: RequestId) -> Result<CustomResult, ErrorData> {
        let unfit = |error| error::unfit("the result of a subscription", error);
        let mut result = serde_json::to_value(SubscriptionsListenResult::complete(subscription))
            .map_err(unfit)?;
        result["_meta"][SERVER_INFO] =
            serde_json::to_value(self.get_info().server_info).map_err(unfit)?;
        Ok(CustomResult::new(result))
    }
}

fn task_ids(params: Option<Value>) -> Result<BTreeSet<String>, ErrorData> {
    let invalid = |reason: String| ErrorData::invalid_params(reason, None);
    let params = ListenParams::deserialize(params.unwrap_or_default())
        .map_err(|error| invalid(error.to_string()))?;
    let ids = params.notifications.task_ids;
    if ids.len() > MAX_TASKS {
        return Err(invalid(format!("taskIds: at most {MAX_TASKS} tasks for one subscription")));
    }
    Ok(ids)
}

async fn acknowledge(
    cx: &RequestContext<RoleServer>,
    accepted: &[String],
) -> Result<(), ErrorData> {
    let acknowledgement = CustomNotification::new(
        "notifications/subscriptions/acknowledged",
        Some(json!({
            "_meta": { SUBSCRIPTION_ID: cx.id },
            "notifications": { "taskIds": accepted },
        })),
    );
    send(cx, ServerNotification::CustomNotification(acknowledgement)).await
}

async fn notify(cx: &RequestContext<RoleServer>, task: DetailedTask) -> Result<(), ErrorData> {
    let mut meta = NotificationMetaObject::new();
    meta.set_subscription_id(cx.id.clone());
    let params = TaskStatusNotificationParams::new(task).with_meta(meta);
    let notification = TaskStatusNotification::new(params);
    send(cx, ServerNotification::TaskStatusNotification(notification)).await
}

async fn send(
    cx: &RequestContext<RoleServer>,
    notification: ServerNotification,
) -> Result<(), ErrorData> {
    // Nobody will read this error: the client has gone.
    cx.peer
        .send_notification(notification)
        .await
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_subscription_with_task_ids_is_rerouted() {
        let mut tasks =
            json!({ "method": LISTEN, "params": { "notifications": { "taskIds": [] } } });
        assert!(reroute(&mut tasks));
        assert_eq!(tasks["method"], LISTEN_TASKS);
        for mut other in [
            json!({ "method": LISTEN, "params": { "notifications": { "toolsListChanged": true } } }),
            json!({ "method": "tasks/get", "params": { "notifications": { "taskIds": [] } } }),
            json!([1]),
        ] {
            let before = other.clone();
            assert!(!reroute(&mut other));
            assert_eq!(other, before);
        }
    }

    #[test]
    fn the_number_of_tasks_of_a_stream_is_bounded() {
        let params = |count: usize| {
            let ids: Vec<String> = (0..count).map(|id| id.to_string()).collect();
            Some(json!({ "notifications": { "taskIds": ids } }))
        };
        assert_eq!(task_ids(params(MAX_TASKS)).unwrap().len(), MAX_TASKS);
        assert!(task_ids(params(MAX_TASKS + 1)).is_err());
        assert!(task_ids(Some(json!({ "notifications": { "taskIds": [1] } }))).is_err());
    }
}
