//! The Lua scripts. Each is atomic, and one round trip.
//!
//! They compute some keys: a listing those of the records, a write those of the indexes. All carry
//! the hash tag of the declared keys, so they live on the same node, which is what Redis Cluster
//! asks for. Declaring them all would cost every write more than it brings.

use redis::{Cmd, Script};

use crate::limits;

/// How far the clocks of two processes, or of a process and the server, may differ. The server
/// reclaims a record that much after its deadline, so that nobody's live record is taken away.
pub(super) const SKEW_MS: u64 = limits::CLOCK_SKEW_MS;
/// How long a record has been over, by the server's clock, before a listing puts its name aside. What
/// was put aside is only looked for by who asks with a clock that is further behind than that.
const PAST_MS: u64 = 2_000;
/// Entries of a log that a watcher reads at once: a position and, after it, as many changes as it may
/// lag behind.
pub(super) const BACKLOG: usize = limits::WATCH_BACKLOG + 1;
/// How long the keys of an empty partition stay, and how long a lost write is kept from landing.
pub(super) const GRACE_MS: u64 = 3_600_000;
/// Names that one call of a listing looks at before it lets others have the server.
const PAGE_SCAN: usize = 4_096;
/// Lost writes of one record that are kept from landing at the same time. The outcome of one more
/// is unknown.
const FENCED: usize = 32;

pub(super) struct Scripts {
    pub(super) delete: Compiled,
    pub(super) settle: Compiled,
    pub(super) list: Compiled,
    pub(super) position: Compiled,
    pub(super) changes: Compiled,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            delete: Compiled::new(include_str!("delete.lua")),
            settle: Compiled::new(include_str!("settle.lua")),
            list: Compiled::new(include_str!("list.lua")),
            position: Compiled::new(include_str!("position.lua")),
            changes: Compiled::new(include_str!("changes.lua")),
        }
    }
}

/// The script that puts.
pub(super) fn write() -> Compiled {
    Compiled::new(include_str!("write.lua"))
}

pub(super) struct Compiled {
    source: String,
    hash: String,
}

impl Compiled {
    fn new(body: &str) -> Self {
        let kept = limits::KEPT_VERSIONS;
        let source = format!(
            "local BACKLOG, SKEW_MS, GRACE_MS = {BACKLOG}, {SKEW_MS}, {GRACE_MS}\n\
             local LOG_LENGTH = '{BACKLOG}' -- To print a number costs Lua more than the rest.\n\
             local PAGE_SCAN, KEPT = {PAGE_SCAN}, {kept}\n\
             local FENCED, PAST_MS = {FENCED}, {PAST_MS}\n{body}"
        );
        let hash = Script::new(&source).get_hash().to_owned();
        Self { source, hash }
    }

    /// The call by hash. `args` is the number of what follows, and `bytes` its size, to allocate
    /// once.
    pub(super) fn call(&self, keys: &[&str], args: usize, bytes: usize) -> Call<'_> {
        let keys_bytes: usize = keys.iter().map(|key| key.len()).sum();
        let mut cmd = Cmd::with_capacity(4 + keys.len() + args, 64 + keys_bytes + bytes);
        cmd.arg("EVALSHA").arg(&self.hash).arg(keys.len());
        for key in keys {
            cmd.arg(*key);
        }
        Call { cmd, script: self }
    }

    /// The same call with the script's text, for a server that does not know it.
    pub(super) fn with_source(&self, call: &Cmd) -> Cmd {
        let mut cmd = Cmd::new();
        for (index, arg) in call.args_iter().enumerate() {
            match (index, arg) {
                (0, _) => cmd.arg("EVAL"),
                (1, _) => cmd.arg(&self.source),
                (_, redis::Arg::Simple(bytes)) => cmd.arg(bytes),
                (_, _) => &mut cmd,
            };
        }
        cmd
    }
}

/// A command that may have to bring its script along.
pub(super) struct Call<'a> {
    pub(super) cmd: Cmd,
    script: &'a Compiled,
}

impl Call<'_> {
    pub(super) fn arg(&mut self, arg: impl redis::ToRedisArgs) -> &mut Self {
        self.cmd.arg(arg);
        self
    }

    pub(super) fn with_source(&self) -> Cmd {
        self.script.with_source(&self.cmd)
    }
}
