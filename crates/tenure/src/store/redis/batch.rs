//! Gets and puts of the same moment go to the server as one request.
//!
//! A call that finds no other under way is sent as it is, at once. Others wait for as long as it
//! takes those that are ready to join them: a turn of the runtime. Then a task sends them all, so
//! that a caller who goes away takes nobody along. The puts of one partition are one call of the
//! script, and so never touch more than one slot; what remains is one pipeline.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::oneshot;

use super::connect::Link;
use super::error::Failure;
use super::key::RecordKeys;
use super::reply;
use super::scripts::{self, Compiled};
use crate::clock::Clock;

/// Calls in one request: few enough for the server to work on one while the next is made.
const MOST: usize = 32;
/// Bytes in one request, beyond which only a call that is larger by itself goes.
const MOST_BYTES: usize = 256 << 10;

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

    fn bytes(&self) -> usize {
        match self {
            Self::Get(record) => record.len() + 64,
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
        if others == 0 || !self.link.takes_batches() {
            return self.send_alone(&request).await;
        }
        let (answer, answered) = oneshot::channel();
        if self.join(Waiting { request, answer }) {
            tokio::spawn(Duty(Some(Arc::clone(self))).done());
        }
        // Without an answer only when the runtime of the first that waited has ended.
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    async fn send_alone(&self, request: &Request) -> Answer {
        let cmd = self.command(&[request]);
        let answer = self.link.send(&cmd).await;
        let answer = self.or_with_source(&cmd, answer).await;
        match request {
            Request::Get(_) => answer,
            Request::Put(..) => each(answer, 1).pop().unwrap_or_else(|| Err(lost())),
        }
    }

    /// True for the first, who has to have all sent.
    fn join(&self, it: Waiting) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.push(it);
        waiting.len() == 1
    }

    /// Sends a batch, and gives everybody their answer.
    async fn carry(&self, batch: Vec<Waiting>) {
        let groups = by_command(batch);
        let mut cmds = Pipeline::with_capacity(groups.len());
        for group in &groups {
            let requests: Vec<_> = group.iter().map(|it| &it.request).collect();
            cmds.add_command(self.command(&requests));
        }
        let answers = self.link.send_all(&cmds).await;
        let telling = groups.into_iter().zip(cmds.cmd_iter()).zip(answers);
        join_all(telling.map(async |((group, cmd), answer)| {
            match self.or_with_source(cmd, answer).await {
                Err(failure) if failure.is_denied() && group.len() > 1 => {
                    self.send_each_alone(group).await;
                }
                answer => tell(group, answer),
            }
        }))
        .await;
    }

    /// What the server does when a user lacks a right to one key of a call is to refuse the call,
    /// before the script begins. So it is found out whom that concerns.
    async fn send_each_alone(&self, group: Vec<Waiting>) {
        join_all(group.into_iter().map(async |it| {
            let answer = self.send_alone(&it.request).await;
            // Whose caller has gone, needs none.
            let _ = it.answer.send(answer);
        }))
        .await;
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

    /// Brings the script along if that was what was missing.
    async fn or_with_source(&self, cmd: &Cmd, answer: Answer) -> Answer {
        match answer {
            Err(failure) if failure.is_no_script() => {
                self.link.send(&self.write.with_source(cmd)).await
            }
            answer => answer,
        }
    }
}

/// The duty to send what waits. When a runtime ends before its tasks have, so does this, and leaves
/// those who wait without an answer, instead of waiting for ever with all who join them.
struct Duty(Option<Arc<Batcher>>);

impl Duty {
    async fn done(mut self) {
        tokio::task::yield_now().await;
        let Some(batcher) = self.0.take() else { return };
        let mut batches = batches(mem::take(&mut *batcher.waiting.lock()));
        let last = batches.pop();
        for batch in batches {
            let batcher = Arc::clone(&batcher);
            tokio::spawn(async move { batcher.carry(batch).await });
        }
        if let Some(last) = last {
            batcher.carry(last).await;
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(batcher) = &self.0 {
            let waiting = mem::take(&mut *batcher.waiting.lock());
            drop(waiting);
        }
    }
}

/// Parts what waits, but for what nobody waits for any more, where the bounds are.
fn batches(waiting: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let (mut batches, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for it in waiting.into_iter().filter(|it| !it.answer.is_closed()) {
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

/// Hands out the answer to one command.
fn tell(group: Vec<Waiting>, answer: Answer) {
    let answers = match group.first() {
        Some(Waiting { request: Request::Get(_), .. }) => vec![answer],
        _ => each(answer, group.len()),
    };
    for (it, answer) in group.into_iter().zip(answers) {
        // Whose caller has gone, needs none.
        let _ = it.answer.send(answer);
    }
}

/// Anything may have happened.
fn lost() -> Failure {
    let reason = "the request of several calls has no answer for this one";
    Failure::Lost(io::Error::other(reason).into())
}
