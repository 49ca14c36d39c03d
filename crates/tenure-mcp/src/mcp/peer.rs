//! The client as a tool sees it while it runs as a task.
//!
//! The client that called has long got its answer, so what the tool sends goes to the task
//! instead. The SDK makes a [`Peer`](rmcp::service::Peer) only for a service on a transport;
//! this is a service with nothing in it, on a transport that leads to the task.

use std::future::Future;
use std::io;

use rmcp::model::{
    ClientCapabilities, ErrorCode, Implementation, InitializeRequestParams, InputRequest,
    JsonRpcMessage, ProgressNotificationParam, ProgressToken, ProtocolVersion, RequestId,
    ServerNotification, ServerRequest,
};
use rmcp::service::{
    RequestContext, RunningService, RxJsonRpcMessage, TxJsonRpcMessage, serve_directly_with_ct,
};
use rmcp::transport::Transport;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;
use tenure::runtime::TaskContext;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::mcp::convert::client_result;

/// Messages on their way between the tool and its task. A tool that sends faster waits.
const BACKLOG: usize = 32;

/// What a tool did with its peer.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    /// It reports progress.
    Progress(ProgressNotificationParam),
    /// It asks the client for something, and waits for the answer to `id`.
    Ask { id: RequestId, request: InputRequest },
    /// It no longer waits for the answer to `id`. It goes on once `resumed` is used or dropped.
    Withdraw { id: RequestId, resumed: oneshot::Sender<()> },
}

/// A peer whose messages go to a task. Dropping it closes the peer.
pub(crate) struct TaskPeer {
    service: RunningService<RoleServer, Nobody>,
    answers: mpsc::Sender<RxJsonRpcMessage<RoleServer>>,
    capabilities: ClientCapabilities,
}

struct Nobody;
impl ServerHandler for Nobody {}

impl TaskPeer {
    /// A peer for a client with these capabilities, and what the tool does with it.
    pub(crate) fn new(capabilities: ClientCapabilities) -> (Self, mpsc::Receiver<PeerEvent>) {
        let (events_in, events) = mpsc::channel(BACKLOG);
        let (answers, answers_out) = mpsc::channel(BACKLOG);
        let transport =
            TaskTransport { events: events_in, inbound: answers_out, refusals: answers.clone() };
        // From 2026-07-28 on the SDK refuses requests to the client, so this peer is older. The
        // tool may ask either way: by a request, or by returning `input_required`.
        let client = InitializeRequestParams::new(capabilities.clone(), implementation())
            .with_protocol_version(ProtocolVersion::V_2025_11_25);
        let service =
            serve_directly_with_ct(Nobody, transport, Some(client), CancellationToken::new());
        (Self { service, answers, capabilities }, events)
    }

    /// The context of one call of the tool.
    pub(crate) fn context(&self, task: &TaskContext) -> RequestContext<RoleServer> {
        let id = RequestId::String(task.id().as_str().into());
        let mut context = RequestContext::new(id.clone(), self.service.peer().clone());
        context.ct = task.cancellation().clone();
        context.meta.set_protocol_version(ProtocolVersion::V_2026_07_28);
        context.meta.set_client_capabilities(self.capabilities.clone());
        context.meta.set_client_info(implementation());
        // Without a token, tools that look for one stay silent.
        context.meta.set_progress_token(ProgressToken(id));
        context.extensions.insert(task.clone());
        context
    }

    /// Answers what the tool asked.
    pub(crate) async fn answer(
        &self,
        id: RequestId,
        request: &InputRequest,
        answer: Result<Value, ErrorData>,
    ) {
        let result = answer.and_then(|value| client_result(request, value));
        let message = match result {
            Ok(result) => JsonRpcMessage::response(result, id),
            Err(error) => JsonRpcMessage::error(error, Some(id)),
        };
        // It fails only when the service has ended, and with it whoever waits.
        let _ = self.answers.send(message).await;
    }
}

fn implementation() -> Implementation {
    Implementation::new("tenure", env!("CARGO_PKG_VERSION"))
}

struct TaskTransport {
    events: mpsc::Sender<PeerEvent>,
    inbound: mpsc::Receiver<RxJsonRpcMessage<RoleServer>>,
    refusals: mpsc::Sender<RxJsonRpcMessage<RoleServer>>,
}

impl Transport<RoleServer> for TaskTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let (events, refusals) = (self.events.clone(), self.refusals.clone());
        let send = async move |event| {
            events.send(event).await.map_err(|_| io::Error::other("the task has ended"))
        };
        async move {
            let event = match message {
                JsonRpcMessage::Notification(message) => match message.notification {
                    ServerNotification::ProgressNotification(progress) => {
                        PeerEvent::Progress(progress.params)
                    }
                    ServerNotification::CancelledNotification(cancelled) => {
                        let Some(id) = cancelled.params.request_id else { return Ok(()) };
                        let (resumed, has_resumed) = oneshot::channel();
                        send(PeerEvent::Withdraw { id, resumed }).await?;
                        // The SDK has the tool wait until this is sent. Dropped unsent, it says the same:
                        // the question had been answered, or the run is over.
                        let _ = has_resumed.await;
                        return Ok(());
                    }
                    // Log messages and list changes are for a live client; there is none.
                    _ => return Ok(()),
                },
                JsonRpcMessage::Request(message) => {
                    let id = message.id;
                    let request = match message.request {
                        ServerRequest::ElicitRequest(request) => InputRequest::Elicitation(request),
                        ServerRequest::CreateMessageRequest(request) => {
                            InputRequest::CreateMessage(request)
                        }
                        ServerRequest::ListRootsRequest(request) => {
                            InputRequest::ListRoots(request)
                        }
                        _ => {
                            let error = ErrorData::new(
                                ErrorCode::METHOD_NOT_FOUND,
                                "a task cannot send this to its client",
                                None,
                            );
                            let _ = refusals.send(JsonRpcMessage::error(error, Some(id))).await;
                            return Ok(());
                        }
                    };
                    PeerEvent::Ask { id, request }
                }
                _ => return Ok(()),
            };
            send(event).await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        self.inbound.recv().await
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.inbound.close();
        Ok(())
    }
}
