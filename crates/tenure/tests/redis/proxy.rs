//! A TCP proxy that loses answers, cuts connections, or goes silent, when told to.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    target: AtomicU16,
    /// So many of the next answers are lost, each with its connection.
    lose: AtomicUsize,
    /// The answer to the next request that contains this is lost, with its connection.
    lose_answer_to: Mutex<Option<&'static str>>,
    /// So many of the next requests are lost, each with its connection.
    lose_requests: AtomicUsize,
    /// A connection whose client sends this carries no more of what it sends, and stays open.
    ignore_from: Mutex<Option<&'static str>>,
    /// So many of the next requests arrive only after a delay.
    late: AtomicUsize,
    delay_ms: AtomicU64,
    /// Ends the delays.
    released: Notify,
    /// While set, bytes go nowhere.
    silent: AtomicBool,
    cut: watch::Sender<u64>,
    /// Connections so far.
    connections: AtomicUsize,
    /// How many of them have ended.
    ended: AtomicUsize,
    /// How many of the first of them carry no messages of Pub/Sub.
    deaf: AtomicUsize,
}

impl Proxy {
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            target: AtomicU16::new(target),
            lose: AtomicUsize::new(0),
            lose_answer_to: Mutex::default(),
            lose_requests: AtomicUsize::new(0),
            ignore_from: Mutex::default(),
            late: AtomicUsize::new(0),
            delay_ms: AtomicU64::new(0),
            released: Notify::new(),
            silent: AtomicBool::new(false),
            cut: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            deaf: AtomicUsize::new(0),
        };
        let proxy = Self { port, state: Arc::new(state) };
        let state = Arc::clone(&proxy.state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) =
                    TcpStream::connect(("127.0.0.1", state.target.load(Ordering::SeqCst))).await
                else {
                    continue;
                };
                let number = state.connections.fetch_add(1, Ordering::SeqCst);
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(pump(Arc::clone(&state), from_client, to_server, None));
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    pump(Arc::clone(&state), from_server, to_client, Some(number)).await;
                    state.ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn lose_answers(&self, count: usize) {
        self.state.lose.store(count, Ordering::SeqCst);
    }

    pub fn lose_answer_to(&self, text: &'static str) {
        *self.state.lose_answer_to.lock().unwrap() = Some(text);
    }

    pub fn lose_requests(&self, count: usize) {
        self.state.lose_requests.store(count, Ordering::SeqCst);
    }

    pub fn ignore_from(&self, text: &'static str) {
        *self.state.ignore_from.lock().unwrap() = Some(text);
    }

    /// Holds back the next requests, which should be for longer than the test's timeout.
    pub fn delay_requests(&self, count: usize, delay: Duration) {
        self.state.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
        self.state.late.store(count, Ordering::SeqCst);
    }

    /// Lets go of the requests that are held back.
    pub fn release_requests(&self) {
        self.state.released.notify_waiters();
    }

    pub fn silence(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// Sends new connections elsewhere.
    pub fn retarget(&self, port: u16) {
        self.state.target.store(port, Ordering::SeqCst);
    }

    /// From now on the connections there are carry everything but messages of Pub/Sub.
    pub fn deafen(&self) {
        self.state.deaf.store(self.connections(), Ordering::SeqCst);
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many connections have ended.
    pub fn ended(&self) -> usize {
        self.state.ended.load(Ordering::SeqCst)
    }

    /// Ends every connection there is.
    pub fn cut(&self) {
        self.state.cut.send_modify(|cuts| *cuts += 1);
    }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Carries one direction of a connection: requests, or the answers of the connection of this number.
async fn pump(
    state: Arc<State>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answers_of: Option<usize>,
) {
    let answers = answers_of.is_some();
    let mut cut = state.cut.subscribe();
    let mut buffer = vec![0; 64 << 10];
    let mut ignored = false;
    loop {
        let read = tokio::select! {
            // First: what was cut off carries nothing more.
            biased;
            _ = cut.changed() => return,
            read = from.read(&mut buffer) => read.unwrap_or(0),
        };
        if read == 0 || (answers && take_one(&state.lose)) {
            return;
        }
        if !answers {
            let mut text = state.lose_answer_to.lock().unwrap();
            if text.is_some_and(|text| contains(&buffer[..read], text)) {
                *text = None;
                state.lose.store(1, Ordering::SeqCst);
            }
        }
        if !answers {
            let text = *state.ignore_from.lock().unwrap();
            ignored |= text.is_some_and(|text| contains(&buffer[..read], text));
        }
        if ignored {
            continue;
        }
        if !answers && take_one(&state.lose_requests) {
            return;
        }
        if !answers && take_one(&state.late) {
            let delay = Duration::from_millis(state.delay_ms.load(Ordering::SeqCst));
            let _ = tokio::time::timeout(delay, state.released.notified()).await;
        }
        if answers_of.is_some_and(|number| number < state.deaf.load(Ordering::SeqCst))
            && contains(&buffer[..read], "\r\nmessage\r\n")
        {
            continue;
        }
        if state.silent.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
