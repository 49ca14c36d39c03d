//! Gets and puts of the same moment go to the server as one request.
//!
//! A call that finds no other under way is sent as it is, at once, and so is a get that finds few: the
//! connection pipelines by itself, and a get costs the server the same alone. Others wait for as long as it
//! takes those that are ready to join them: a turn of the runtime. Then a task sends them all, so
//! that a caller who goes away takes nobody along. The puts of one partition are one call of the
//! script, and so never touch more than one slot; several such calls are one pipeline, and so are
//! gets.
//!
//! Whoever has gone before the request leaves is left out: nobody would find out what became of it,
//! and it could undo what was done since. So what waits is taken only when there is a connection.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connect::Link;
use super::error::Failure;
use super::key::RecordKeys;
use super::reply;
use super::scripts::{self, Compiled};
use super::single::Ready;
use crate::clock::Clock;

/// The most calls in one request: few enough that the server works on one request while the next is
/// being made.
const MOST: usize = 32;
/// The most bytes in one request. A single call that is larger goes in a request of its own.
const MOST_BYTES: usize = 256 << 10;
/// The bytes that a get counts as, for the answer that it causes: whatever is behind it in the same
/// request waits for that answer, which may be larger.
const GET_BYTES: usize = 16 << 10;
/// The calls under way from which on a get waits for others.
const MANY: usize = 16;
/// How long a caller relies on the first one of its batch to send all. That one's runtime may be blocked
/// or have ended, so after this time the caller sends what is waiting itself.
const TURN: Duration = Duration::from_millis(20);

/// What may be sent along with others.
#[derive(Clone)]
pub(super) enum Request {
    /// The fields of the record with this key.
    Get(Arc<str>),
    /// A write, with the stamp of this attempt.
    Put(Arc<Put>, u64),
}

/// A write as the script takes it.
pub(super) struct Put {
    pub(super) keys: RecordKeys,
    pub(super) wanted: Vec<u8>,
    pub(super) attributes: Vec<u8>,
    pub(super) capacity: String,
    pub(super) value: Bytes,
}

impl Request {
    /// What puts of one partition have in common.
    fn log(&self) -> Option<&str> {
        match self {
            Self::Get(_) => None,
            Self::Put(put, _) => Some(&put.keys.log),
        }
    }

    /// Whether it waits for others to join it, with so many under way.
    fn joins(&self, others: usize) -> bool {
        match self {
            Self::Get(_) => others >= MANY,
            Self::Put(..) => others > 0,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Get(_) => GET_BYTES,
            Self::Put(put, _) => put.bytes(),
        }
    }
}

impl Put {
    fn bytes(&self) -> usize {
        self.value.len() + self.keys.record.len() + self.attributes.len() + self.wanted.len() + 64
    }
}

type Answer = Result<Value, Failure>;

/// A request whose caller waits for the answer, unless it has gone.
struct Waiting {
    request: Request,
    answer: oneshot::Sender<Answer>,
}

impl Waiting {
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn tell(self, answer: Answer) {
        // The caller may have gone; then nobody needs the answer.
        let _ = self.answer.send(answer);
    }
}

pub(super) struct Batcher {
    link: Arc<Link>,
    write: Compiled,
    clock: Clock,
    waiting: Mutex<Vec<Waiting>>,
    under_way: AtomicUsize,
}

/// Counts a call for as long as somebody waits for it.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Batcher {
    pub(super) fn new(link: Arc<Link>, clock: Clock) -> Self {
        let (waiting, under_way) = (Mutex::default(), AtomicUsize::new(0));
        Self { link, write: scripts::write(), clock, waiting, under_way }
    }

    /// Sends a request, alone or with others, and waits for its answer.
    pub(super) async fn send(self: &Arc<Self>, request: Request) -> Answer {
        let others = self.under_way.fetch_add(1, Ordering::Relaxed);
        let _under_way = UnderWay(&self.under_way);
        let single = match self.link.single() {
            Some(single) if request.joins(others) => single,
            _ => return self.send_alone(&request).await,
        };
        let (answer, mut answered) = oneshot::channel();
        if self.join(Waiting { request, answer }) {
            let sending = Arc::clone(self).send_waiting();
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                sending.await;
            });
        }
        let answer = match timeout(TURN, &mut answered).await {
            Ok(answer) => answer,
            Err(_) => {
                if !self.waiting.lock().is_empty() {
                    tokio::spawn(Arc::clone(self).send_waiting());
                }
                // Another task has taken the request, and its runtime may be blocked as well.
                let Ok(answer) = timeout(single.patience(), answered).await else {
                    return Err(lost());
                };
                answer
            }
        };
        // The channel closes without an answer if the runtime of that task has ended.
        answer.unwrap_or_else(|_| Err(lost()))
    }

    async fn send_alone(&self, request: &Request) -> Answer {
        let cmd = self.command(&[request]);
        let answer = match self.link.send(&cmd).await {
            Err(failure) if failure.is_no_script() => {
                self.link.send(&self.write.with_source(&cmd)).await
            }
            answer => answer,
        };
        own_answer(request, answer)
    }

    /// Queues a request. True if it is the only one: its caller then has to send the queue.
    fn join(&self, it: Waiting) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.push(it);
        waiting.len() == 1
    }

    /// Sends all that waits, as soon as there is a connection.
    async fn send_waiting(self: Arc<Self>) {
        let Some(single) = self.link.single() else { return };
        let ready = single.ready().await;
        let waiting = mem::take(&mut *self.waiting.lock());
        let ready = match ready {
            Ok(ready) => ready,
            Err(failure) => {
                return waiting.into_iter().for_each(|it| it.tell(Err(failure.clone())));
            }
        };
        join_all(batches(waiting).into_iter().map(|batch| self.carry(ready.share(), batch))).await;
    }

    /// Sends a batch, and gives everybody their answer.
    async fn carry(&self, mut ready: Ready<'_>, batch: Vec<Waiting>) {
        let groups = by_command(batch);
        let mut cmds = Pipeline::with_capacity(groups.len());
        for group in &groups {
            cmds.add_command(self.command_for(group));
        }
        let answers = ready.send_all(&cmds).await;
        let told = groups.into_iter().zip(answers);
        join_all(told.map(|(group, answer)| self.finish(ready.share(), group, answer))).await;
    }

    /// Hands out the answer to one command, if it need not be sent again.
    async fn finish(&self, mut ready: Ready<'_>, mut group: Vec<Waiting>, mut answer: Answer) {
        if answer.as_ref().is_err_and(Failure::is_no_script) {
            group.retain(Waiting::is_wanted);
            if group.is_empty() {
                return;
            }
            answer = ready.send(&self.write.with_source(&self.command_for(&group))).await;
        }
        // If the user lacks the right to one of the keys, Redis refuses the whole call before the script
        // begins. So each write is sent again by itself, to find out which ones are refused.
        let concerns_some = answer.as_ref().is_err_and(Failure::is_denied) && group.len() > 1;
        if !concerns_some {
            return tell(group, answer);
        }
        join_all(group.into_iter().filter(Waiting::is_wanted).map(async |it| {
            let mut ready = ready.share();
            let answer = ready.send(&self.command(&[&it.request])).await;
            // A group of one is never split again, so the recursion ends here.
            Box::pin(self.finish(ready, vec![it], answer)).await;
        }))
        .await;
    }

    fn command_for(&self, group: &[Waiting]) -> Cmd {
        self.command(&group.iter().map(|it| &it.request).collect::<Vec<_>>())
    }

    /// The command for one get, or for puts of one partition.
    fn command(&self, requests: &[&Request]) -> Cmd {
        if let [Request::Get(record)] = requests {
            let mut cmd = Cmd::with_capacity(4, record.len() + 32);
            cmd.arg("HMGET").arg(&**record).arg(&reply::FIELDS);
            return cmd;
        }
        let puts: Vec<_> = requests
            .iter()
            .filter_map(|request| match request {
                Request::Put(put, stamp) => Some((&**put, stamp)),
                Request::Get(_) => None,
            })
            .collect();
        let mut keys = Vec::with_capacity(1 + puts.len());
        keys.extend(puts.first().map(|(put, _)| &*put.keys.log));
        keys.extend(puts.iter().map(|(put, _)| &*put.keys.record));
        let bytes = puts.iter().map(|(put, _)| put.bytes()).sum();
        let mut call = self.write.call(&keys, 5 * puts.len(), bytes);
        call.arg(format!("{:016}", self.clock.now().as_millis()));
        for (put, stamp) in puts {
            call.arg(&*put.wanted).arg(format!("{stamp:016x}")).arg(&*put.attributes);
            call.arg(&*put.capacity).arg(&*put.value);
        }
        call.cmd
    }
}

/// Divides what is waiting into batches within the bounds, gets apart from puts. Requests whose callers
/// have gone are dropped.
fn batches(mut waiting: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    waiting.retain(Waiting::is_wanted);
    let is_get = |it: &Waiting| matches!(it.request, Request::Get(_));
    let (gets, puts): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_get);
    let mut batches = within_bounds(gets);
    batches.extend(within_bounds(puts));
    batches
}

fn within_bounds(waiting: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let (mut batches, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for it in waiting {
        bytes += it.request.bytes();
        match batches.last_mut() {
            Some(batch) if batch.len() < MOST && bytes <= MOST_BYTES => batch.push(it),
            _ => {
                bytes = it.request.bytes();
                batches.push(vec![it]);
            }
        }
    }
    batches
}

/// Parts a batch into what makes one command: a get, or the puts of a partition.
fn by_command(batch: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut groups = Vec::<Vec<Waiting>>::new();
    for it in batch {
        let log = it.request.log();
        let partition = groups.iter_mut().find(|group| {
            log.is_some() && group.first().and_then(|first| first.request.log()) == log
        });
        match partition {
            Some(group) => group.push(it),
            None => groups.push(vec![it]),
        }
    }
    groups
}

/// The answers to the puts of one call.
fn each(answer: Answer, count: usize) -> Vec<Answer> {
    match answer {
        Ok(Value::Array(answers)) if answers.len() == count => answers
            .into_iter()
            .map(|answer| answer.extract_error().map_err(Failure::of_sent))
            .collect(),
        Ok(_) => vec![Err(lost()); count],
        Err(failure) => vec![Err(failure); count],
    }
}

/// The answer to a request that was a command of its own.
fn own_answer(request: &Request, answer: Answer) -> Answer {
    match request {
        Request::Get(_) => answer,
        Request::Put(..) => each(answer, 1).pop().unwrap_or_else(|| Err(lost())),
    }
}

/// Hands out the answer to one command.
fn tell(group: Vec<Waiting>, answer: Answer) {
    let answers = match group.first() {
        Some(Waiting { request: Request::Get(_), .. }) => vec![answer],
        _ => each(answer, group.len()),
    };
    for (it, answer) in group.into_iter().zip(answers) {
        it.tell(answer);
    }
}

/// Anything may have happened.
fn lost() -> Failure {
    let reason = "the request of several calls has no answer for this one";
    Failure::Lost(io::Error::other(reason).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(is_get: bool, bytes: usize) -> Request {
        let keys = || RecordKeys { record: "r".into(), log: "l".into() };
        let put = |value| Put {
            keys: keys(),
            wanted: Vec::new(),
            attributes: Vec::new(),
            capacity: String::new(),
            value,
        };
        if is_get {
            Request::Get("r".into())
        } else {
            Request::Put(Arc::new(put(vec![0; bytes].into())), 1)
        }
    }

    /// The sizes of the batches that these make.
    fn sizes(requests: impl IntoIterator<Item = Request>) -> Vec<usize> {
        let (waiting, _answered): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .map(|request| {
                let (answer, answered) = oneshot::channel();
                (Waiting { request, answer }, answered)
            })
            .unzip();
        batches(waiting).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_batch_is_bounded_and_what_is_large_makes_no_get_wait() {
        assert_eq!(sizes((0..40).map(|_| request(true, 0))), [16, 16, 8]);
        assert_eq!(sizes((0..40).map(|_| request(false, 10))), [32, 8]);
        assert_eq!(sizes((0..5).map(|_| request(false, 100 << 10))), [2, 2, 1]);
        assert_eq!(sizes((0..4).map(|it| request(it % 2 == 0, 1 << 20))), [2, 1, 1]);
    }

    #[test]
    fn whoever_has_gone_is_left_out() {
        let (answer, answered) = oneshot::channel();
        drop(answered);
        assert!(batches(vec![Waiting { request: request(false, 1), answer }]).is_empty());
    }
}
