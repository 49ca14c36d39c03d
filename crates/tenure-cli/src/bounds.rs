//! How much `tenure serve` takes on, and how much of it from one owner.

use std::num::NonZeroUsize;

use clap::{Args, value_parser};
use tenure::runtime::WorkerOptions;
use tenure_mcp::LISTENERS_PER_OWNER;
use tenure_mcp::http::HttpOptions;

/// The bounds that operators set.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bounds over HTTP")]
pub(crate) struct Bounds {
    /// Open connections; others wait. Half of them may be streams of /v1. There are fewer if the
    /// process may not have so many open files. The shares of one owner come to a quarter of them
    /// by default, so that others find a place: raise these too when you raise a share.
    #[arg(
        long,
        value_name = "COUNT",
        env = "TENURE_CONNECTIONS",
        default_value_t = count(HttpOptions::default().connections)
    )]
    pub(crate) connections: NonZeroUsize,
    /// Streams of /v1 that one owner may have open.
    #[arg(
        long,
        value_name = "COUNT",
        env = "TENURE_STREAMS_PER_OWNER",
        default_value_t = count(HttpOptions::default().streams_per_owner)
    )]
    pub(crate) streams_per_owner: NonZeroUsize,
    /// Subscriptions of MCP clients that one owner may have open.
    #[arg(
        long,
        value_name = "COUNT",
        env = "TENURE_LISTENERS_PER_OWNER",
        default_value_t = count(LISTENERS_PER_OWNER)
    )]
    pub(crate) listeners_per_owner: NonZeroUsize,
    /// Sessions of MCP clients of 2025-11-25 and before that one owner may have open.
    #[arg(
        long,
        value_name = "COUNT",
        env = "TENURE_SESSIONS_PER_OWNER",
        default_value_t = count(HttpOptions::default().sessions_per_owner)
    )]
    pub(crate) sessions_per_owner: NonZeroUsize,
    /// How long a connection may stay open without a request, and how long the head of one may take
    /// to come, in milliseconds.
    #[arg(
        long,
        value_name = "MS",
        env = "TENURE_IDLE_MS",
        default_value_t = HttpOptions::default().header_read_ms,
        value_parser = value_parser!(u64).range(100..=3_600_000)
    )]
    pub(crate) idle_ms: u64,
    /// Tools that run as tasks at the same time; others wait.
    #[arg(
        long,
        value_name = "COUNT",
        help_heading = "Bounds of tasks",
        env = "TENURE_CONCURRENCY",
        default_value_t = count(WorkerOptions::default().concurrency)
    )]
    pub(crate) concurrency: NonZeroUsize,
    /// Those of one owner; half of all if not given and there are several owners. Its other tasks
    /// hold up nobody else's.
    #[arg(
        long,
        value_name = "COUNT",
        help_heading = "Bounds of tasks",
        env = "TENURE_CONCURRENCY_PER_OWNER"
    )]
    pub(crate) concurrency_per_owner: Option<NonZeroUsize>,
}

impl Bounds {
    pub(crate) fn apply(&self, options: &mut HttpOptions) {
        options.connections = self.connections.get();
        options.streams = self.connections.get().div_ceil(2);
        options.streams_per_owner = self.streams_per_owner.get();
        options.sessions_per_owner = self.sessions_per_owner.get();
        options.header_read_ms = self.idle_ms;
    }

    /// With one owner there is nobody to leave room for.
    pub(crate) fn worker(&self, has_one_owner: bool) -> WorkerOptions {
        let options = WorkerOptions::default();
        let all = has_one_owner.then_some(self.concurrency);
        WorkerOptions {
            concurrency: self.concurrency.get(),
            concurrency_per_owner: self.concurrency_per_owner.or(all).map(NonZeroUsize::get),
            capacity_per_owner: has_one_owner.then_some(options.capacity),
            ..options
        }
    }
}

fn count(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Alone {
        #[command(flatten)]
        bounds: Bounds,
    }

    fn parsed(arguments: &[&str]) -> Bounds {
        let arguments = [&["tenure"], arguments].concat();
        Alone::try_parse_from(arguments).unwrap().bounds
    }

    fn applied(arguments: &[&str]) -> HttpOptions {
        let mut options = HttpOptions::default();
        parsed(arguments).apply(&mut options);
        options
    }

    #[test]
    fn what_is_not_said_is_as_the_library_has_it() {
        let (ours, theirs) = (applied(&[]), HttpOptions::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        assert_eq!(parsed(&[]).worker(false), WorkerOptions::default());
    }

    #[test]
    fn one_owner_alone_has_all_there_is() {
        let worker = parsed(&["--concurrency=8"]).worker(true);
        assert_eq!((worker.concurrency, worker.concurrency_per_owner), (8, Some(8)));
        assert_eq!(worker.capacity_per_owner, Some(worker.capacity));
    }

    #[test]
    fn the_help_says_which_bounds_go_together() {
        let help = Alone::command().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains("raise these too when you raise a share"), "{help}");
    }

    #[test]
    fn each_bound_is_the_one_that_was_said() {
        let options = applied(&[
            "--connections=9",
            "--streams-per-owner=2",
            "--sessions-per-owner=3",
            "--idle-ms=400",
        ]);
        let bounds = (options.connections, options.streams, options.streams_per_owner);
        assert_eq!(bounds, (9, 5, 2));
        assert_eq!((options.sessions_per_owner, options.header_read_ms), (3, 400));
        let worker = parsed(&["--concurrency=8", "--concurrency-per-owner=3"]).worker(true);
        assert_eq!((worker.concurrency, worker.concurrency_per_owner), (8, Some(3)));
        for refused in [
            "--connections=0",
            "--concurrency-per-owner=0",
            "--idle-ms=1",
            "--sessions-per-owner=many",
        ] {
            assert!(Alone::try_parse_from(["tenure", refused]).is_err(), "{refused}");
        }
    }
}
