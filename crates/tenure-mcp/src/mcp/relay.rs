//! A subscription that the SDK serves, whose notifications pass through us.
//!
//! The SDK acknowledges a subscription by itself, before anybody else can add to it. Where it serves
//! a part of a subscription only, it gets a peer of its own: a service with nothing in it, on a
//! transport that leads here.

use std::future::Future;
use std::{io, iter};

use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use rmcp::model::{
    ClientRequest, JsonRpcMessage, ServerNotification, SubscriptionFilter,
    SubscriptionsListenRequest, SubscriptionsListenRequestParams,
};
use rmcp::service::{
    RequestContext, RunningService, RxJsonRpcMessage, Service, TxJsonRpcMessage,
    serve_directly_with_ct,
};
use rmcp::transport::Transport;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::mpsc;

/// Notifications on their way to the client. Whoever sends faster waits.
const BACKLOG: usize = 32;

/// A part of a subscription, before it is served.
pub(super) struct Relay {
    notifications: mpsc::Receiver<ServerNotification>,
    context: RequestContext<RoleServer>,
    service: RunningService<RoleServer, Nobody>,
}

/// Marks a part of a subscription, whose place the whole has taken.
#[derive(Clone)]
pub(super) struct Placed;

struct Nobody;
impl ServerHandler for Nobody {}

impl Relay {
    /// A part of the subscription that `cx` asks for.
    pub(super) fn new(cx: &RequestContext<RoleServer>) -> Self {
        let (sender, notifications) = mpsc::channel(BACKLOG);
        let transport = RelayTransport { notifications: sender };
        let service = serve_directly_with_ct(Nobody, transport, None, cx.ct.child_token());
        let mut context = RequestContext::new(cx.id.clone(), service.peer().clone());
        context.ct = cx.ct.child_token();
        context.meta = cx.meta.clone();
        context.extensions = cx.extensions.clone();
        context.extensions.insert(Placed);
        Self { notifications, context, service }
    }

    /// What the SDK sends for `filter`, the acknowledgement first, until the subscription ends.
    pub(super) fn serve<S: Service<RoleServer>>(
        self,
        server: S,
        filter: SubscriptionFilter,
    ) -> BoxStream<'static, Result<ServerNotification, ErrorData>> {
        let Self { notifications, context, service } = self;
        let params = SubscriptionsListenRequestParams::new(filter);
        let request =
            ClientRequest::SubscriptionsListenRequest(SubscriptionsListenRequest::new(params));
        let serving = async move { server.handle_request(request, context).await }.boxed();
        // The stream owns the service, because the notifications arrive through it.
        stream::unfold(Some((notifications, serving, service)), |served| async {
            let (mut notifications, mut serving, service) = served?;
            tokio::select! {
                // `biased`: notifications come before the end of what sent them.
                biased;
                Some(notification) = notifications.recv() => {
                    Some((vec![Ok(notification)], Some((notifications, serving, service))))
                }
                served = &mut serving => {
                    // What was sent before the end is told before it.
                    let last = iter::from_fn(|| notifications.try_recv().ok()).map(Ok);
                    Some((last.chain(served.err().map(Err)).collect(), None))
                }
            }
        })
        .flat_map(stream::iter)
        .boxed()
    }
}

struct RelayTransport {
    notifications: mpsc::Sender<ServerNotification>,
}

impl Transport<RoleServer> for RelayTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let notifications = self.notifications.clone();
        async move {
            let JsonRpcMessage::Notification(message) = message else {
                return Err(io::Error::other("a subscription takes nothing but notifications"));
            };
            let sent = notifications.send(message.notification).await;
            sent.map_err(|_| io::Error::other("the subscription has ended"))
        }
    }

    /// Nobody speaks back; the transport ends with its service.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        self.notifications.closed().await;
        None
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::{ClientNotification, NumberOrString, ServerConfig, ServerResult};
    use rmcp::service::{NotificationContext, serve_directly};
    use tokio::runtime::Handle;
    use tokio::task::block_in_place;

    use super::*;

    /// Sends a notification and ends, before the receiver had a turn.
    struct Brief;

    impl Service<RoleServer> for Brief {
        async fn handle_request(
            &self,
            _: ClientRequest,
            cx: RequestContext<RoleServer>,
        ) -> Result<ServerResult, ErrorData> {
            let tell = cx.peer.notify_tool_list_changed();
            block_in_place(|| Handle::current().block_on(tell)).unwrap();
            Err(ErrorData::internal_error("the end", None))
        }

        async fn handle_notification(
            &self,
            _: ClientNotification,
            _: NotificationContext<RoleServer>,
        ) -> Result<(), ErrorData> {
            Ok(())
        }

        fn get_info(&self) -> ServerConfig {
            ServerConfig::default()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_last_news_comes_before_the_end() {
        let (sender, _requests) = mpsc::channel(1);
        let transport = RelayTransport { notifications: sender };
        let peer = serve_directly(Nobody, transport, None);
        let cx = RequestContext::new(NumberOrString::Number(1), peer.peer().clone());
        let told = Relay::new(&cx).serve(Brief, SubscriptionFilter::new());
        let told: Vec<_> = told.map(|it| it.map_err(|error| error.message)).collect().await;
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(matches!(told[0], Ok(ServerNotification::ToolListChangedNotification(_))));
        assert_eq!(told[1].as_ref().unwrap_err(), "the end");
    }
}
