//! Records what concurrent callers do to one key, and has it judged: is there one order, in keeping
//! with real time, in which a single register would have given these answers?

use std::sync::{Arc, Mutex};

use tenure::store::{Key, Precondition, StorageBackend, StoreError, VersionToken, Write};
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// A call. Every write carries a number of its own as value.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Get,
    Put(u64),
    Create(u64),
    /// A conditional write that expects the record as the first number's write left it.
    Replace(u64, u64),
    Delete,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Ret {
    Found(Option<(u64, u64)>),
    Written(u64),
    /// With the version that is there.
    Conflict(Option<u64>),
    Deleted(bool),
}

/// A call with its answer, if that is known.
pub type Call = (Op, Option<Ret>);

/// The model: one versioned register, version and value.
struct Register;

type Content = Option<(u64, u64)>;

impl Specification for Register {
    type State = Content;
    type Operation = Call;

    fn init() -> Content {
        None
    }

    /// An answer that is not known may be any.
    fn apply((op, ret): &Call, content: &Content) -> (bool, Content) {
        let (would_be, after) = answer(op, *content);
        (ret.as_ref().is_none_or(|ret| *ret == would_be), after)
    }
}

fn answer(op: &Op, content: Content) -> (Ret, Content) {
    let version = content.map(|(version, _)| version);
    let written = |value| {
        let version = version.map_or(1, |version| version + 1);
        (Ret::Written(version), Some((version, value)))
    };
    match *op {
        Op::Get => (Ret::Found(content), content),
        Op::Put(value) => written(value),
        Op::Create(value) if content.is_none() => written(value),
        Op::Replace(expected, value) if content.is_some_and(|(_, at)| at == expected) => {
            written(value)
        }
        Op::Create(_) | Op::Replace(..) => (Ret::Conflict(version), content),
        Op::Delete => (Ret::Deleted(content.is_some()), None),
    }
}

/// What is known of the effect of a call.
#[derive(Clone, Debug)]
enum Fate {
    /// It may take effect at any time, or never.
    Unknown,
    Answered(Ret),
    NotDone,
}

#[derive(Clone, Copy, Debug)]
enum Moment {
    Invoked(usize),
    Returned(usize),
}

/// What happened, in its order.
#[derive(Debug, Default)]
pub struct Record {
    calls: Vec<(usize, Op, Fate)>,
    moments: Vec<Moment>,
}

impl Record {
    /// Tells the number of the call.
    pub fn invoked(&mut self, thread: usize, op: Op) -> usize {
        let call = self.calls.len();
        self.calls.push((thread, op, Fate::Unknown));
        self.moments.push(Moment::Invoked(call));
        call
    }

    pub fn returned(&mut self, call: usize, ret: Ret) {
        self.calls[call].2 = Fate::Answered(ret);
        self.moments.push(Moment::Returned(call));
    }

    /// The call failed and says that nothing was done.
    pub fn not_done(&mut self, call: usize) {
        self.calls[call].2 = Fate::NotDone;
    }

    pub fn is_linearizable(&self) -> bool {
        // Later than all others is as good as never.
        let unknown = |call: &usize| matches!(self.calls[*call].2, Fate::Unknown);
        let never = (0..self.calls.len()).filter(unknown).map(Moment::Returned);
        let actions = self.moments.iter().copied().chain(never).filter_map(|moment| {
            let (Moment::Invoked(call) | Moment::Returned(call)) = moment;
            let (thread, op, fate) = &self.calls[call];
            let call = match fate {
                Fate::Unknown => (op.clone(), None),
                Fate::Answered(ret) => (op.clone(), Some(ret.clone())),
                Fate::NotDone => return None,
            };
            Some((
                *thread,
                match moment {
                    Moment::Invoked(_) => Action::Call(call),
                    Moment::Returned(_) => Action::Response(call),
                },
            ))
        });
        // It remembers where it has been: without that, a search does not always come to its end.
        WGLChecker::<Register>::is_linearizable(History::from_actions(actions.collect()))
    }
}

/// Lets four callers work on one key, a store handle each, and judges what they saw. Tells of how many
/// calls nobody knows what became.
pub async fn judge(stores: &[Arc<dyn StorageBackend>], key: &Key, calls: u64) -> usize {
    let record = Arc::new(Mutex::new(Record::default()));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let store = Arc::clone(&stores[caller as usize % stores.len()]);
            tokio::spawn(work(store, key.clone(), Arc::clone(&record), caller, calls))
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let record = record.lock().unwrap();
    assert!(record.is_linearizable(), "not linearizable: {record:?}");
    record.calls.iter().filter(|(_, _, fate)| matches!(fate, Fate::Unknown)).count()
}

async fn work(
    store: Arc<dyn StorageBackend>,
    key: Key,
    record: Arc<Mutex<Record>>,
    caller: u64,
    calls: u64,
) {
    let mut known: Option<(u64, VersionToken)> = None;
    // A caller whose call has no outcome goes on as another, for that call may yet take effect.
    let mut thread = caller as usize;
    for number in 1..=calls {
        let value = caller * 1_000_000 + number;
        let (op, precondition) = match (rand::random_range(0..8), known) {
            (0 | 1, _) => (Op::Get, Precondition::Any),
            (2, _) => (Op::Put(value), Precondition::Any),
            (3, _) => (Op::Delete, Precondition::Any),
            (4 | 5, None) | (4, _) => (Op::Create(value), Precondition::Absent),
            (_, Some((at, token))) => (Op::Replace(at, value), Precondition::Matches(token)),
            (_, None) => (Op::Get, Precondition::Any),
        };
        let call = record.lock().unwrap().invoked(thread, op.clone());
        let write = Write::new(value.to_be_bytes().to_vec());
        let result = match op {
            Op::Get => store.get(&key).await.map(|record| {
                let found = record.map(|record| {
                    let value = u64::from_be_bytes((*record.value).try_into().unwrap());
                    known = Some((value, record.token));
                    (record.token.version(), value)
                });
                Ret::Found(found)
            }),
            Op::Delete => store.delete(&key, precondition).await.map(Ret::Deleted),
            _ => store.put_if_version(&key, write, precondition).await.map(|token| {
                known = Some((value, token));
                Ret::Written(token.version())
            }),
        };
        let ret = match result {
            Ok(ret) => ret,
            Err(StoreError::VersionConflict { current }) => {
                Ret::Conflict(current.map(|it| it.token.version()))
            }
            Err(StoreError::Unavailable { .. }) => {
                record.lock().unwrap().not_done(call);
                continue;
            }
            Err(StoreError::OutcomeUnknown(_)) => {
                thread += 4;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        record.lock().unwrap().returned(call, ret);
    }
}
