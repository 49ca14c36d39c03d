//! A TCP proxy that loses answers, cuts connections, or goes silent, when told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How late a request is that was held back.
pub const DELAY: Duration = Duration::from_millis(1_200);

#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    target: AtomicU16,
    /// So many of the next answers are lost, each with its connection.
    lose: AtomicUsize,
    /// So many of the next requests arrive only after a delay.
    late: AtomicUsize,
    /// While set, bytes go nowhere.
    silent: AtomicBool,
    cut: watch::Sender<u64>,
}

impl Proxy {
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            target: AtomicU16::new(target),
            lose: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
            silent: AtomicBool::new(false),
            cut: watch::Sender::new(0),
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
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(pump(Arc::clone(&state), from_client, to_server, false));
                tokio::spawn(pump(Arc::clone(&state), from_server, to_client, true));
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

    /// Holds back the next requests for longer than any test's timeout.
    pub fn delay_requests(&self, count: usize) {
        self.state.late.store(count, Ordering::SeqCst);
    }

    pub fn silence(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }

    /// Sends new connections elsewhere.
    pub fn retarget(&self, port: u16) {
        self.state.target.store(port, Ordering::SeqCst);
    }

    /// Ends every connection there is.
    pub fn cut(&self) {
        self.state.cut.send_modify(|cuts| *cuts += 1);
    }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

async fn pump(state: Arc<State>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, answers: bool) {
    let mut cut = state.cut.subscribe();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = cut.changed() => return,
        };
        if read == 0 || (answers && take_one(&state.lose)) {
            return;
        }
        if !answers && take_one(&state.late) {
            tokio::time::sleep(DELAY).await;
        }
        if state.silent.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
