//! Runs a wrapped tool as a task.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::OptionFuture;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorCode, InputRequest, ProgressNotificationParam,
    RequestId,
};
use rmcp::{ErrorData, ServerHandler};
use serde_json::{Map, Value};
use tenure::clock::Clock;
use tenure::runtime::{Exit, Failure, Handler, Policy, TaskContext};
use tokio::sync::{mpsc, oneshot, watch};

use crate::mcp::convert::{CallContext, can_answer, stored_request};
use crate::mcp::error;
use crate::mcp::peer::{PeerEvent, TaskPeer};
use crate::mcp::policy::{TaskPolicy, TaskSupport};
use crate::mcp::rounds::{Round, cannot_ask};

/// Between two writes of a status message, however fast the tool reports.
const STATUS_INTERVAL_MS: u64 = 200;
/// For so long a tool that waits for an answer may take to return once its run has to stop: one that
/// heeds its cancellation does at once, and the others would only be waited for.
const QUIT_MS: u64 = 250;
/// Questions by request that one run may have open at a time.
const OPEN_QUESTIONS: usize = 64;

/// The wrapped handler as the runtime sees it.
pub(crate) struct Background<H> {
    pub(crate) inner: Arc<H>,
    pub(crate) tools: Arc<HashMap<String, TaskPolicy>>,
    pub(crate) clock: Clock,
    pub(crate) message_bytes: usize,
}

#[async_trait]
impl<H: ServerHandler> Handler for Background<H> {
    fn policy(&self, tool: &str) -> Option<Policy> {
        let policy = self.tools.get(tool).filter(|policy| policy.support != TaskSupport::Never)?;
        Some(policy.execution(self.inner.get_tool(tool).as_ref()))
    }

    async fn run(&self, task: TaskContext) -> Result<Exit, Failure> {
        let exit = self.rounds(&task).await;
        exit.map_err(|error| self.failure(&task.call().tool, error))
    }
}

impl<H: ServerHandler> Background<H> {
    /// Calls the tool until it has a result, or until somebody has to answer first.
    async fn rounds(&self, task: &TaskContext) -> Result<Exit, ErrorData> {
        let context = CallContext::restore(&task.call().context)?;
        let mut round = Round::restore(&task.task())?;
        loop {
            let request = round.request(&task.task(), &context);
            let asked = match self.call(task, &context, request).await? {
                CallToolResponse::Complete(result) => {
                    let result = serde_json::to_value(result)
                        .map_err(|error| error::unfit("the result of the tool", error))?;
                    return Ok(Exit::Complete(result));
                }
                CallToolResponse::InputRequired(asked) => asked,
                _ => {
                    return Err(ErrorData::internal_error(
                        "a tool that runs as a task cannot create another",
                        None,
                    ));
                }
            };
            let questions = round.end(asked, &context.client_capabilities)?;
            if !questions.requests.is_empty() {
                let (requests, variables) = (questions.requests, questions.variables);
                return Ok(Exit::Park { requests, variables });
            }
            task.set_variables(questions.variables).await.map_err(error::of_call)?;
            tokio::select! {
                () = self.clock.sleep_millis(round.pause_ms()) => {}
                // Between two rounds nothing runs, so whoever takes over may go on.
                () = task.cancellation().cancelled() => {
                    return Ok(Exit::Park { requests: Map::new(), variables: Map::new() });
                }
            }
        }
    }

    /// One call of the tool, with a peer that leads to the task.
    async fn call(
        &self,
        task: &TaskContext,
        context: &CallContext,
        request: CallToolRequestParams,
    ) -> Result<CallToolResponse, ErrorData> {
        let (peer, mut events) = TaskPeer::new(context.client_capabilities.clone());
        let (message, messages) = watch::channel(None);
        let mut latest = messages.clone();
        let response = tokio::select! {
            response = self.inner.call_tool(request, peer.context(task)) => response,
            () = self.serve_peer(task, context, &peer, &mut events, &message) => Err(gone()),
            () = self.report(task, messages) => Err(gone()),
        };
        // Sent before the tool returned, and not taken in before it was seen to return.
        while let Ok(event) = events.try_recv() {
            if let PeerEvent::Progress(progress) = event {
                message.send_replace(Some(progress_text(progress)));
            }
        }
        // What the tool said last is the last word, even if it was too soon after the one before.
        if response.is_ok() && latest.has_changed().unwrap_or(false) {
            let last = latest.borrow_and_update().clone();
            if last != task.task().status_message
                && let Some(last) = last
            {
                let _ = task.set_status(last).await;
            }
        }
        response
    }

    /// Passes on what the tool sends. Ends with the peer; or when the run has to stop and the tool
    /// waits for an answer. That question is never answered, not even with an error: most tools would
    /// make a result of it, and the task would have ended before its owner could answer.
    ///
    /// A question that the tool withdraws is withdrawn from the task, too, and the tool goes on when it has
    /// its slot again. The SDK tells of its own timeouts only: a call that the tool merely drops is
    /// waited for until the tool returns.
    async fn serve_peer(
        &self,
        task: &TaskContext,
        context: &CallContext,
        peer: &TaskPeer,
        events: &mut mpsc::Receiver<PeerEvent>,
        message: &watch::Sender<Option<String>>,
    ) {
        let asked = Asked::default();
        let mut waiting = FuturesUnordered::new();
        let mut open = HashMap::new();
        let mut quit = OptionFuture::default();
        loop {
            tokio::select! {
                Some(()) = &mut quit => return,
                event = events.recv() => match event {
                    Some(PeerEvent::Progress(progress)) => {
                        message.send_replace(Some(progress_text(progress)));
                    }
                    Some(PeerEvent::Ask { id, request }) => {
                        let allowed = can_answer(&context.client_capabilities, &request)
                            && open.len() < OPEN_QUESTIONS;
                        let (withdraw, withdrawn) = oneshot::channel();
                        if allowed {
                            open.insert(id.clone(), withdraw);
                        }
                        let asked = &asked;
                        let answered = async move {
                            let answer = if allowed {
                                ask(task, asked, &request).await?
                            } else {
                                Err(cannot_ask())
                            };
                            peer.answer(id.clone(), &request, answer).await;
                            Some(id)
                        };
                        waiting.push(until_withdrawn(task, answered, withdrawn));
                    }
                    Some(PeerEvent::Withdraw { id, resumed }) => {
                        if let Some(withdraw) = open.remove(&id) {
                            // It fails when the answer was faster.
                            let _ = withdraw.send(resumed);
                        }
                    }
                    None => return,
                },
                Some(ended) = waiting.next() => match ended {
                    Waited::Answered(id) => drop(open.remove(&id)),
                    Waited::InVain => {
                        quit = Some(Box::pin(self.clock.sleep_millis(QUIT_MS))).into();
                    }
                    Waited::Withdrawn => {}
                }
            }
        }
    }

    /// Writes the latest message, at most one per interval. Never ends by itself.
    async fn report(&self, task: &TaskContext, mut messages: watch::Receiver<Option<String>>) {
        while messages.changed().await.is_ok() {
            let message = messages.borrow_and_update().clone();
            if let Some(message) = message
                && let Err(error) = task.set_status(message).await
            {
                // Progress is not worth failing for: if the task is no longer ours, or the store
                // is gone, the next write that matters will say so.
                tracing::debug!(task = %task.id(), %error, "a status message was not written");
            }
            self.clock.sleep_millis(STATUS_INTERVAL_MS).await;
        }
        std::future::pending().await
    }

    fn failure(&self, tool: &str, error: ErrorData) -> Failure {
        let again = self.tools.get(tool).is_some_and(|policy| policy.max_attempts > 1)
            && error.code == ErrorCode::INTERNAL_ERROR;
        let message = error::cut(&error.message, self.message_bytes).to_owned();
        let error = serde_json::to_value(error).unwrap_or_default();
        if again { Failure::retryable(error, message) } else { Failure::new(error, message) }
    }
}

/// The keys that this run has asked under.
#[derive(Default)]
struct Asked(Mutex<HashSet<String>>);

impl Asked {
    /// The key of a question: that of an equal one of an earlier run that this run has not come to
    /// yet, so that the answer given then is found; else the next free one. A client may not look at a
    /// key twice, so what was withdrawn is asked under another.
    fn key(&self, task: &TaskContext, request: &Value) -> String {
        let mut asked = self.0.lock();
        let inputs = task.task().inputs;
        let key = |number: usize| format!("in-{number}");
        let earlier = (1..=inputs.len()).map(key).filter(|key| !asked.contains(key)).find(|key| {
            let earlier = inputs.get(key).filter(|input| !input.withdrawn);
            earlier.is_some_and(|input| input.request == *request)
        });
        let key = earlier.unwrap_or_else(|| {
            let free = |key: &String| !asked.contains(key) && !inputs.contains_key(key);
            (1..).map(key).find(free).unwrap_or_default()
        });
        asked.insert(key.clone());
        key
    }
}

/// How a wait for an answer ended.
enum Waited {
    Answered(RequestId),
    /// The run has to stop first.
    InVain,
    /// The tool no longer wants one.
    Withdrawn,
}

/// Waits for an answer until the tool no longer does. Then the tool goes on in its turn.
async fn until_withdrawn(
    task: &TaskContext,
    answered: impl Future<Output = Option<RequestId>>,
    withdrawn: oneshot::Receiver<oneshot::Sender<()>>,
) -> Waited {
    let resumed = tokio::select! {
        answered = answered => return answered.map_or(Waited::InVain, Waited::Answered),
        Ok(resumed) = withdrawn => resumed,
    };
    task.resume().await;
    // The tool may have gone meanwhile; then nobody waits for its slot.
    let _ = resumed.send(());
    Waited::Withdrawn
}

/// Asks the owner of the task, and waits for the answer. `None` when the run has to stop first.
async fn ask(
    task: &TaskContext,
    asked: &Asked,
    request: &InputRequest,
) -> Option<Result<Value, ErrorData>> {
    let request = match stored_request(request) {
        Ok(request) => request,
        Err(error) => return Some(Err(error)),
    };
    let key = asked.key(task, &request);
    let requests = Map::from_iter([(key.clone(), request)]);
    match task.request_inputs(requests).await {
        Ok(mut answers) => {
            let answer = answers.remove(&key);
            Some(answer.ok_or_else(|| error::unfit("an answer", "it is missing")))
        }
        Err(_) if task.cancellation().is_cancelled() => None,
        Err(error) => Some(Err(error::of_call(error))),
    }
}

fn gone() -> ErrorData {
    ErrorData::internal_error("the task has no client any more", None)
}

/// Progress as words: the tool's own if it has any.
fn progress_text(progress: ProgressNotificationParam) -> String {
    match (progress.message, progress.total) {
        (Some(message), _) => message,
        (None, Some(total)) => format!("{} of {total}", progress.progress),
        (None, None) => progress.progress.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use rmcp::RoleServer;
    use rmcp::model::{
        CallToolResult, ClientCapabilities, ContentBlock, ElicitRequestParams, InputRequiredResult,
        ServerConfig,
    };
    use rmcp::service::{RequestContext, ServiceError};
    use serde::Deserialize as _;
    use serde_json::json;
    use tenure::Owner;
    use tenure::clock::Timestamp;
    use tenure::runtime::{Worker, WorkerOptions};
    use tenure::store::InMemoryBackend;
    use tenure::tasks::{Call, NewTask, Outcome, Phase, Rerun, Status, Task, TaskRef, TaskStore};

    use tokio::sync::Semaphore;

    use super::*;

    fn question() -> ElicitRequestParams {
        let schema = json!({ "type": "object", "properties": {} });
        ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: "?".into(),
            requested_schema: serde_json::from_value(schema).unwrap(),
        }
    }

    /// Asks, and waits for as long as it takes.
    struct Patient;

    impl ServerHandler for Patient {
        fn get_info(&self) -> ServerConfig {
            ServerConfig::default()
        }

        async fn call_tool(
            &self,
            _: CallToolRequestParams,
            cx: RequestContext<RoleServer>,
        ) -> Result<CallToolResponse, ErrorData> {
            // As many tools do, it makes a result of whatever comes.
            let asked = cx.peer.create_elicitation(question()).await;
            Ok(CallToolResult::success(vec![ContentBlock::text(format!("{asked:?}"))]).into())
        }
    }

    /// Asks more often than it may have questions open, and never waits for long.
    struct Impatient;

    impl ServerHandler for Impatient {
        fn get_info(&self) -> ServerConfig {
            ServerConfig::default()
        }

        async fn call_tool(
            &self,
            _: CallToolRequestParams,
            cx: RequestContext<RoleServer>,
        ) -> Result<CallToolResponse, ErrorData> {
            let mut timeouts = 0;
            for _ in 0..2 * OPEN_QUESTIONS {
                let timeout = Some(Duration::from_secs(1));
                let asked = cx.peer.create_elicitation_with_timeout(question(), timeout);
                timeouts += usize::from(matches!(asked.await, Err(ServiceError::Timeout { .. })));
            }
            Ok(CallToolResult::success(vec![ContentBlock::text(timeouts.to_string())]).into())
        }
    }

    /// Asks for a second, and goes on without an answer when it may. Its second call asks nothing.
    struct Brisk {
        calls: AtomicUsize,
        /// It drops its question, so that the SDK tells nobody.
        drops: bool,
        gate: Arc<Gate>,
    }

    /// Opens to the calls that go on.
    struct Gate {
        reached: AtomicUsize,
        opens: Semaphore,
    }

    impl Gate {
        async fn pass(&self) {
            self.reached.fetch_add(1, Ordering::SeqCst);
            self.opens.acquire().await.unwrap().forget();
        }
    }

    impl Brisk {
        fn new(permits: usize) -> (Self, Arc<Gate>) {
            let gate = Gate { reached: AtomicUsize::new(0), opens: Semaphore::new(permits) };
            let gate = Arc::new(gate);
            (Self { calls: AtomicUsize::new(0), drops: false, gate: Arc::clone(&gate) }, gate)
        }
    }

    impl ServerHandler for Brisk {
        fn get_info(&self) -> ServerConfig {
            ServerConfig::default()
        }

        async fn call_tool(
            &self,
            _: CallToolRequestParams,
            cx: RequestContext<RoleServer>,
        ) -> Result<CallToolResponse, ErrorData> {
            let is_first = self.calls.fetch_add(1, Ordering::SeqCst) == 0;
            let second = Duration::from_secs(1);
            if is_first && self.drops {
                let asked = tokio::time::timeout(second, cx.peer.create_elicitation(question()));
                asked.await.map_err(|_| ErrorData::internal_error("no answer", None))?.unwrap();
            } else if is_first {
                let asked = cx.peer.create_elicitation_with_timeout(question(), Some(second)).await;
                assert!(matches!(asked, Err(ServiceError::Timeout { .. })));
            }
            self.gate.pass().await;
            Ok(CallToolResult::success(Vec::new()).into())
        }
    }

    /// Wants to be called again, and again.
    struct Restless;

    impl ServerHandler for Restless {
        fn get_info(&self) -> ServerConfig {
            ServerConfig::default()
        }

        async fn call_tool(
            &self,
            _: CallToolRequestParams,
            _: RequestContext<RoleServer>,
        ) -> Result<CallToolResponse, ErrorData> {
            Ok(InputRequiredResult::from_request_state("on").into())
        }
    }

    struct Scene {
        tasks: TaskStore,
        worker: Worker,
        task: Task,
    }

    /// A task of this handler's only tool.
    async fn scene(inner: impl ServerHandler) -> Scene {
        scene_of(inner, TaskPolicy::required()).await
    }

    async fn scene_of(inner: impl ServerHandler, policy: TaskPolicy) -> Scene {
        scene_with(inner, policy, WorkerOptions::default()).await
    }

    async fn scene_with(
        inner: impl ServerHandler,
        policy: TaskPolicy,
        options: WorkerOptions,
    ) -> Scene {
        let clock = Clock::manual(Timestamp::from_millis(1_000));
        let tasks = TaskStore::new(Arc::new(InMemoryBackend::new(clock.clone())), clock.clone());
        let tools = HashMap::from([("tool".to_owned(), policy)]);
        let background =
            Background { inner: inner.into(), tools: tools.into(), clock, message_bytes: 256 };
        let worker = Worker::start(tasks.clone(), Arc::new(background), options).await.unwrap();
        let task = submit(&worker).await;
        Scene { tasks, worker, task }
    }

    /// A task of a client that can be asked.
    async fn submit(worker: &Worker) -> Task {
        let capabilities = json!({ "elicitation": { "form": {} } });
        let context = CallContext {
            client_capabilities: ClientCapabilities::deserialize(capabilities).unwrap(),
            ..CallContext::default()
        };
        let mut call = Call::new("tool", Map::new());
        call.context = serde_json::to_value(context).unwrap();
        worker.submit(&Owner::local(), NewTask::new(call)).await.unwrap()
    }

    impl Scene {
        async fn until(&self, wanted: impl Fn(&Task) -> bool) -> Task {
            loop {
                let task = self.task().await;
                if wanted(&task) {
                    return task;
                }
                tokio::task::yield_now().await;
            }
        }

        async fn task(&self) -> Task {
            self.tasks.get(&self.task.owner, &self.task.id).await.unwrap()
        }
    }

    /// The time of the SDK's timeouts passes by itself.
    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_withdrawn_takes_no_place_among_the_open_ones() {
        let scene = scene(Impatient).await;
        tokio::time::sleep(Duration::from_secs(3 * OPEN_QUESTIONS as u64)).await;
        let task = scene.task().await;
        assert_eq!(task.status, Status::Completed, "{:?}", task.status_message);
        let Some(Outcome::Result(result)) = task.outcome else { panic!("it has no result") };
        let timeouts = (2 * OPEN_QUESTIONS).to_string();
        assert_eq!(result["content"][0]["text"], Value::from(timeouts), "none was refused");
        assert_eq!(scene.worker.in_care(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_withdrawn_is_not_asked_any_more_and_takes_no_late_answer() {
        let (brisk, gate) = Brisk::new(0);
        let scene = scene(brisk).await;
        let asked = scene.until(|task| task.status == Status::InputRequired).await;
        assert_eq!(asked.pending_inputs().count(), 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let task = scene.task().await;
        assert_eq!((task.status, task.pending_inputs().count()), (Status::Working, 0));
        let this = TaskRef::new(task.owner, task.id);
        let late = Map::from_iter([("in-1".to_owned(), json!({ "action": "decline" }))]);
        let task = scene.tasks.deliver_inputs(&this, late).await.unwrap();
        assert_eq!(task.inputs["in-1"].response, None);
        gate.opens.add_permits(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.task().await.status, Status::Completed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_that_has_withdrawn_its_question_goes_on_when_it_has_its_slot_again() {
        let (brisk, gate) = Brisk::new(0);
        let options = WorkerOptions { concurrency: 1, ..WorkerOptions::default() };
        let scene = scene_with(brisk, TaskPolicy::required(), options).await;
        scene.until(|task| task.status == Status::InputRequired).await;
        let other = submit(&scene.worker).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(scene.task().await.status, Status::Working, "its question is withdrawn");
        assert_eq!(gate.reached.load(Ordering::SeqCst), 1, "the other one, which has the slot");
        gate.opens.add_permits(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let other = scene.tasks.get(&other.owner, &other.id).await.unwrap();
        assert_eq!(other.status, Status::Completed);
        assert_eq!(scene.task().await.status, Status::Working);
        gate.opens.add_permits(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.task().await.status, Status::Completed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_the_tool_has_dropped_holds_up_no_further_attempt() {
        let brisk = Brisk { drops: true, ..Brisk::new(1).0 };
        let policy = TaskPolicy::required().retry(2, 1_000);
        let scene = scene_of(brisk, policy).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let task = scene.task().await;
        assert_eq!((task.status, task.phase), (Status::Working, Phase::Retrying));
        scene.tasks.clock().advance_millis(1_000);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(scene.task().await.status, Status::Completed);
    }

    /// What is logged as an error while it lives.
    fn errors() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
        struct Log(Arc<Mutex<Vec<u8>>>);

        impl std::io::Write for Log {
            fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
                self.0.lock().extend_from_slice(text);
                Ok(text.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        let log = Arc::<Mutex<Vec<u8>>>::default();
        let writer = Arc::clone(&log);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::ERROR)
            .without_time()
            .with_ansi(false)
            .with_writer(move || Log(Arc::clone(&writer)))
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// Shuts down while a question is open.
    async fn shut_down_while_asking(policy: TaskPolicy, drain_ms: u64) -> (Task, String) {
        let scene = scene_of(Patient, policy).await;
        while scene.task().await.status != Status::InputRequired {
            tokio::task::yield_now().await;
        }
        let (log, _guard) = errors();
        let clock = scene.tasks.clock().clone();
        tokio::join!(scene.worker.shutdown(drain_ms), async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            clock.advance_millis(QUIT_MS);
        });
        tracing::error!("this one");
        let log = String::from_utf8(std::mem::take(&mut *log.lock())).unwrap();
        (scene.task().await, log)
    }

    #[tokio::test]
    async fn a_shutdown_leaves_a_question_to_be_answered_later_and_waits_for_nobody() {
        let (task, log) =
            shut_down_while_asking(TaskPolicy::required().rerun_after_crash(), 3_600_000).await;
        assert_eq!((task.status, task.phase), (Status::InputRequired, Phase::Queued));
        assert!(log.contains("this one") && log.lines().count() == 1, "{log}");
    }

    #[tokio::test]
    async fn a_shutdown_makes_no_result_of_a_question_of_a_tool_that_may_not_run_twice() {
        let (task, _) = shut_down_while_asking(TaskPolicy::required().never_rerun(), 0).await;
        assert_eq!(task.status, Status::Failed, "{:?}", task.outcome);
        assert!(task.status_message.unwrap().contains("shut down while the tool was running"));
    }

    /// Waits until the tool has returned for the first time.
    async fn paused() -> Scene {
        let scene = scene(Restless).await;
        while scene.task().await.variables.is_empty() {
            tokio::task::yield_now().await;
        }
        scene
    }

    #[tokio::test]
    async fn a_pause_between_two_rounds_ends_with_a_cancel() {
        let scene = paused().await;
        scene.tasks.cancel(&TaskRef::new(scene.task.owner, scene.task.id), None).await.unwrap();
        // No time passes.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(scene.worker.in_care(), 0);
    }

    #[tokio::test]
    async fn a_shutdown_in_a_pause_between_two_rounds_leaves_the_task_to_others() {
        let scene = paused().await;
        // By the worker's clock no time passes.
        let shutdown = scene.worker.shutdown(0);
        tokio::time::timeout(Duration::from_secs(60), shutdown).await.expect("no grace is needed");
        let task = scene.task().await;
        assert_eq!(task.rerun, Rerun::Never);
        assert_eq!((task.status, task.phase), (Status::Working, Phase::Parked));
    }
}
