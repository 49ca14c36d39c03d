//! Clients that create tasks and see each through to its end, whatever happens to the server, and
//! remember what was acknowledged to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Refusal, Request, answer, cancel, create, created, get};
use crate::ledger::now_us;

const TOOLS: [&str; 5] = ["once", "steps", "ask", "rounds", "wait"];
/// Between two polls, and before a request is made again.
const POLL: Duration = Duration::from_millis(50);
const AGAIN: Duration = Duration::from_millis(20);

/// What one client knows of one task. Only what was acknowledged is in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Story {
    /// The client's own name for the call, and its idempotency key if it has one.
    pub(crate) label: String,
    pub(crate) tool: String,
    /// The ids in the replies to the call; all of them ought to be the same.
    pub(crate) ids: Vec<String>,
    pub(crate) answers: BTreeMap<String, String>,
    /// A cancellation was asked for.
    pub(crate) unwanted: bool,
    /// When it was acknowledged.
    pub(crate) cancelled_us: Option<u64>,
    /// How the task ended, as the client was told.
    pub(crate) ended: Option<Value>,
    /// What should not have happened.
    pub(crate) surprises: Vec<String>,
}

/// The stories of all clients, as far as they have come.
pub(crate) type Journal = Arc<Mutex<Vec<Story>>>;

/// Where the server is; nowhere, at times.
pub(crate) type Address = watch::Receiver<Option<String>>;

/// Lives through one story after the other until told to begin no more.
pub(crate) async fn live(
    name: usize,
    seed: u64,
    address: Address,
    journal: Journal,
    last: CancellationToken,
) {
    let seed = seed.wrapping_add(u64::try_from(name).unwrap());
    let mut rng = StdRng::seed_from_u64(seed);
    let client = Client::new();
    for number in 0.. {
        if last.is_cancelled() {
            return;
        }
        let tool = TOOLS[rng.random_range(0..TOOLS.len())];
        let label = format!("{name}-{number}");
        let story = Story { label: label.clone(), tool: tool.into(), ..Story::default() };
        let index = {
            let mut journal = journal.lock();
            journal.push(story);
            journal.len() - 1
        };
        let (client, address, journal) = (client.clone(), address.clone(), Arc::clone(&journal));
        let mut teller = Teller { client, address, journal, index };
        if let Err(surprise) = teller.tell(tool, &label, &mut rng).await {
            teller.note(|story| story.surprises.push(surprise));
        }
    }
}

struct Teller {
    client: Client,
    address: Address,
    journal: Journal,
    index: usize,
}

impl Teller {
    fn note(&self, change: impl FnOnce(&mut Story)) {
        change(&mut self.journal.lock()[self.index]);
    }

    /// One request to the server that is there now, or to the next.
    async fn request(&mut self, request: Request) -> Result<Value, Refusal> {
        let url = self.address.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        self.client.call(&url, request).await
    }

    /// Makes a request again until it is answered. An error in an answer is a surprise.
    async fn insist(&mut self, request: Request) -> Result<Value, String> {
        loop {
            match self.request(request.clone()).await {
                Ok(result) => return Ok(result),
                Err(refusal) if refusal.passes() => tokio::time::sleep(AGAIN).await,
                Err(refusal) => return Err(format!("{request:?}: {refusal:?}")),
            }
        }
    }

    async fn tell(&mut self, tool: &str, label: &str, rng: &mut StdRng) -> Result<(), String> {
        // One that waits to be cancelled must not be lost sight of.
        let keyed = tool == "wait" || rng.random_bool(0.8);
        let Some(id) = self.create(tool, label, keyed, rng.random_bool(0.1)).await? else {
            // Nobody knows its id; the store will be asked about it.
            return Ok(());
        };
        let unwanted = tool == "wait" || rng.random_bool(0.15);
        let mut polls_left = if unwanted { rng.random_range(0..6) } else { u32::MAX };
        loop {
            if polls_left == 0 {
                self.note(|story| story.unwanted = true);
                self.insist(cancel(&id)).await?;
                let now = now_us();
                self.note(|story| _ = story.cancelled_us.get_or_insert(now));
            }
            let task = self.insist(get(&id)).await?;
            match task["status"].as_str() {
                Some("completed" | "failed" | "cancelled") => {
                    self.note(|story| story.ended = Some(task));
                    return Ok(());
                }
                Some("input_required") => self.answer_all(&id, label, &task).await?,
                _ => tokio::time::sleep(POLL).await,
            }
            polls_left = polls_left.saturating_sub(1);
        }
    }

    /// Calls the tool. A call with a key is made again when its reply is lost, and sometimes even
    /// when it is not; a call without one only when it cannot have arrived.
    async fn create(
        &mut self,
        tool: &str,
        label: &str,
        keyed: bool,
        doubly: bool,
    ) -> Result<Option<String>, String> {
        let request = create(tool, json!({ "label": label }), keyed.then_some(label));
        let result = loop {
            match self.request(request.clone()).await {
                Ok(result) => break result,
                Err(Refusal::Lost) if !keyed => return Ok(None),
                Err(refusal) if refusal.passes() => tokio::time::sleep(AGAIN).await,
                Err(refusal) => return Err(format!("{request:?}: {refusal:?}")),
            }
        };
        let id = created(&result);
        self.note(|story| story.ids.push(id.clone()));
        if keyed && doubly {
            let again = created(&self.insist(request).await?);
            self.note(|story| story.ids.push(again));
        }
        Ok(Some(id))
    }

    async fn answer_all(&mut self, id: &str, label: &str, task: &Value) -> Result<(), String> {
        for key in task["inputRequests"].as_object().into_iter().flat_map(|it| it.keys()) {
            let text = format!("{label}:{key}");
            self.note(|story| {
                if story.answers.contains_key(key) {
                    story.surprises.push(format!("asked again for {key}"));
                }
            });
            self.insist(answer(id, key, &text)).await?;
            self.note(|story| _ = story.answers.insert(key.clone(), text));
        }
        Ok(())
    }
}
