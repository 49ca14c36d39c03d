//! The signals that ask a server for an end.

use tokio_util::sync::CancellationToken;

use crate::output::note;

/// The first signal shuts down politely, the second at once.
pub(crate) async fn heed(mut signals: Signals, shutdown: CancellationToken, drain_ms: u64) {
    if signals.first().await.is_err() {
        return;
    }
    shutdown.cancel();
    note(&format!("shutting down; running tools have {drain_ms} ms, Ctrl-C again ends at once"));
    if signals.next().await.is_ok() {
        std::process::exit(130);
    }
}

#[cfg(unix)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// The terminal is closed; `None` for a program that is to outlive it.
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let ends_with_terminal = !ignores_hangup();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: ends_with_terminal.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn first(&mut self) -> std::io::Result<()> {
        let hangup = self.hangup.as_mut();
        let hangup = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hangup => {}
        }
        Ok(())
    }

    /// Not a hangup: when a terminal is closed, the shell and the system each send one.
    async fn next(&mut self) -> std::io::Result<()> {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        Ok(())
    }
}

/// Whether the program was started to outlive its terminal, as `nohup` does. To listen to the signal
/// would undo that.
#[cfg(target_os = "linux")]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the lowest bit. Where nobody can tell, the signal keeps its meaning.
    ignored.is_none_or(|mask| mask & 1 == 1)
}

/// The same where the system cannot be asked: `nohup` leaves no terminal to write errors to.
#[cfg(all(unix, not(target_os = "linux")))]
fn ignores_hangup() -> bool {
    !std::io::IsTerminal::is_terminal(&std::io::stderr())
}

#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[allow(clippy::unnecessary_wraps)]
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn first(&mut self) -> std::io::Result<()> {
        tokio::signal::ctrl_c().await
    }

    async fn next(&mut self) -> std::io::Result<()> {
        tokio::signal::ctrl_c().await
    }
}
