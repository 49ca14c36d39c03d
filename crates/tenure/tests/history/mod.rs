//! Records what concurrent callers do to one key, and has it judged: is there one order, in keeping
//! with real time, in which a single register would have given these answers?

use std::sync::{Arc, Mutex};

use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};
use tenure::store::{Key, Precondition, StorageBackend, StoreError, VersionToken, Write};

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

/// The model: one versioned register, version and value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Register(Option<(u64, u64)>);

impl Register {
    fn write(&mut self, value: u64) -> Ret {
        let version = self.0.map_or(1, |(version, _)| version + 1);
        self.0 = Some((version, value));
        Ret::Written(version)
    }

    fn conflict(&self) -> Ret {
        Ret::Conflict(self.0.map(|(version, _)| version))
    }
}

impl SequentialSpec for Register {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        match *op {
            Op::Get => Ret::Found(self.0),
            Op::Put(value) => self.write(value),
            Op::Create(value) if self.0.is_none() => self.write(value),
            Op::Replace(expected, value) if self.0.is_some_and(|(_, at)| at == expected) => {
                self.write(value)
            }
            Op::Create(_) | Op::Replace(..) => self.conflict(),
            Op::Delete => Ret::Deleted(self.0.take().is_some()),
        }
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        self.invoke(op) == *ret
    }
}

type Tester = LinearizabilityTester<u64, Register>;

/// What happened, in its order. A call is known by its number.
#[derive(Debug, Default)]
struct Record(Vec<Moment>);

#[derive(Clone, Debug)]
enum Moment {
    Invoked {
        thread: u64,
        call: usize,
        op: Op,
    },
    Returned {
        thread: u64,
        ret: Ret,
    },
    /// The call failed and says that nothing was written.
    NotDone {
        call: usize,
    },
}

impl Record {
    fn judge(&self) {
        // What was not done tells nothing, and fits in everywhere: with many of them a search for
        // an order of all would not come to its end.
        let done = |call: &usize| {
            !self.0.iter().any(|it| matches!(it, Moment::NotDone { call: at } if at == call))
        };
        let mut tester = Tester::new(Register::default());
        for moment in &self.0 {
            match moment.clone() {
                Moment::Invoked { thread, call, op } if done(&call) => {
                    tester.on_invoke(thread, op).unwrap();
                }
                Moment::Returned { thread, ret } => {
                    tester.on_return(thread, ret).unwrap();
                }
                Moment::Invoked { .. } | Moment::NotDone { .. } => {}
            }
        }
        assert!(tester.is_consistent(), "not linearizable: {tester:?}");
    }
}

/// Lets four callers work on one key, a store handle each, and judges what they saw.
pub async fn judge(stores: &[Arc<dyn StorageBackend>], key: &Key, calls: u64) {
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
    record.lock().unwrap().judge();
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
    let mut thread = caller;
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
        let call = {
            let Record(moments) = &mut *record.lock().unwrap();
            let call = moments.len();
            moments.push(Moment::Invoked { thread, call, op: op.clone() });
            call
        };
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
                record.lock().unwrap().0.push(Moment::NotDone { call });
                continue;
            }
            Err(StoreError::OutcomeUnknown(_)) => {
                thread += 4;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        record.lock().unwrap().0.push(Moment::Returned { thread, ret });
    }
}
