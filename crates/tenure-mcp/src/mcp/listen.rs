//! `subscriptions/listen` with `taskIds`: a task's changes, pushed.
//!
//! The SDK drops `taskIds` while it parses, and its stream of a subscription takes no
//! notifications of tasks. So such a request is renamed before the SDK sees it (over HTTP by
//! `http::body`, on standard input by [`stdio`](crate::stdio)) and answered here. What else the
//! request asks for is served by the SDK all the same, through a [`Relay`].

use std::collections::BTreeSet;
use std::future::ready;

use futures::StreamExt;
use futures::stream::{self, BoxStream, SelectAll};
use rmcp::model::{
    CustomNotification, CustomRequest, CustomResult, DetailedTask, ErrorCode,
    NotificationMetaObject, RequestId, ServerNotification, SubscriptionFilter,
    SubscriptionsListenResult, TaskStatusNotification, TaskStatusNotificationParams,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Deserialize;
use serde_json::{Value, json};
use tenure::Owner;
use tenure::tasks::{TaskError, TaskId};

use crate::mcp::convert::detailed;
use crate::mcp::error;
use crate::mcp::relay::Relay;
use crate::mcp::wrapper::{DurableServer, party};

/// The method as clients name it.
pub(crate) const LISTEN: &str = "subscriptions/listen";
/// The method under which a request with task ids reaches the handler.
pub(crate) const LISTEN_TASKS: &str = "tenure/subscriptions/listen";
/// Tasks that one stream follows.
const MAX_TASKS: usize = 100;

const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// What a listener is told, until all of it has ended.
type News = SelectAll<BoxStream<'static, Result<ServerNotification, ErrorData>>>;

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
    #[serde(flatten)]
    rest: SubscriptionFilter,
}

impl<H: ServerHandler> DurableServer<H> {
    /// Acknowledges once every watch is in place, then sends each task as it is and as it becomes,
    /// and what else was asked for, until all of it has ended, the client leaves, its credential
    /// ends, or the server closes. A watch that fails ends the stream with an error, so that the
    /// client listens again.
    pub(crate) async fn listen_to_tasks(
        &self,
        request: CustomRequest,
        cx: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if !cx.client_capabilities().is_some_and(|capabilities| capabilities.supports_tasks()) {
            return Err(error::tasks_not_declared());
        }
        let caller = party(&cx.extensions)?;
        let owner = caller.owner();
        let filter = filter(request.params)?;
        let _place = self.shared.listeners.take(owner)?;
        let tell = async {
            let (accepted, mut news) = self.in_time(self.accept(&cx, owner, filter)).await?;
            acknowledge(&cx, accepted).await?;
            while let Some(notification) = news.next().await {
                send(&cx, notification?).await?;
            }
            Ok::<_, ErrorData>(())
        };
        tokio::select! {
            told = tell => told?,
            () = cx.ct.cancelled() => {}
            () = self.shared.closing.cancelled() => {}
            () = caller.ended(self.tasks().clock()) => {}
        }
        self.closing_result(cx.id)
    }

    /// What is accepted of a filter, and the news of it.
    async fn accept(
        &self,
        cx: &RequestContext<RoleServer>,
        owner: &Owner,
        filter: Filter,
    ) -> Result<(Value, News), ErrorData> {
        let (ids, mut news) = self.follow(cx, owner, filter.task_ids).await?;
        let mut accepted = json!({ "taskIds": ids });
        if filter.rest == SubscriptionFilter::default() {
            return Ok((accepted, news));
        }
        let mut rest = Relay::new(cx).serve(self.clone(), filter.rest);
        match rest.next().await {
            Some(Ok(ServerNotification::SubscriptionsAcknowledgedNotification(acknowledged))) => {
                let filter = acknowledged.params.notifications;
                accepted = serde_json::to_value(&filter)
                    .map_err(|error| error::unfit("a filter", error))?;
                accepted["taskIds"] = json!(ids);
                if filter != SubscriptionFilter::default() {
                    news.push(rest);
                }
            }
            // The handler has no subscriptions, so there is nothing but the tasks.
            Some(Err(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {}
            Some(Err(error)) => return Err(error),
            Some(Ok(_)) | None => return Err(error::unfit("a subscription", "not acknowledged")),
        }
        Ok((accepted, news))
    }

    /// Follows those ids that are tasks of the owner; the others are left out without a word.
    async fn follow(
        &self,
        cx: &RequestContext<RoleServer>,
        owner: &Owner,
        ids: BTreeSet<String>,
    ) -> Result<(Vec<String>, News), ErrorData> {
        let mut accepted = Vec::with_capacity(ids.len());
        let mut news = News::new();
        for id in ids {
            let followed = self.tasks().follow(owner, &TaskId::from(id.as_str())).await;
            let mut followed = followed.map_err(|error| error::of_task(&id, error))?.boxed();
            match followed.next().await {
                Some(Ok(task)) => {
                    let subscription = cx.id.clone();
                    let states = stream::once(ready(Ok(task))).chain(followed);
                    let states = states.filter_map(move |state| {
                        ready(match state {
                            Ok(task) => Some(detailed(task).map(|it| status(&subscription, it))),
                            // It expired while we listened: there is nothing more to tell of it.
                            Err(TaskError::NotFound) => None,
                            Err(error) => Some(Err(error::of_call(error))),
                        })
                    });
                    news.push(states.boxed());
                    accepted.push(id);
                }
                Some(Err(TaskError::NotFound)) | None => {}
                Some(Err(error)) => return Err(error::of_task(&id, error)),
            }
        }
        Ok((accepted, news))
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

fn filter(params: Option<Value>) -> Result<Filter, ErrorData> {
    let invalid = |reason: String| ErrorData::invalid_params(reason, None);
    let params = ListenParams::deserialize(params.unwrap_or_default())
        .map_err(|error| invalid(error.to_string()))?;
    if params.notifications.task_ids.len() > MAX_TASKS {
        return Err(invalid(format!("taskIds: at most {MAX_TASKS} tasks for one subscription")));
    }
    Ok(params.notifications)
}

async fn acknowledge(cx: &RequestContext<RoleServer>, accepted: Value) -> Result<(), ErrorData> {
    let acknowledgement = CustomNotification::new(
        "notifications/subscriptions/acknowledged",
        Some(json!({ "_meta": { SUBSCRIPTION_ID: cx.id }, "notifications": accepted })),
    );
    send(cx, ServerNotification::CustomNotification(acknowledgement)).await
}

fn status(subscription: &RequestId, task: DetailedTask) -> ServerNotification {
    let mut meta = NotificationMetaObject::new();
    meta.set_subscription_id(subscription.clone());
    let params = TaskStatusNotificationParams::new(task).with_meta(meta);
    ServerNotification::TaskStatusNotification(TaskStatusNotification::new(params))
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
        assert_eq!(filter(params(MAX_TASKS)).unwrap().task_ids.len(), MAX_TASKS);
        assert!(filter(params(MAX_TASKS + 1)).is_err());
        assert!(filter(Some(json!({ "notifications": { "taskIds": [1] } }))).is_err());
    }
}
