//! Open files: each connection is one.

use tenure::Chain;

/// What the store, the listener and the tools need beside the connections.
const RESERVE: u64 = 256;

/// As many of these connections as the process may have, whose soft limit is raised if need be.
pub(super) fn allow(connections: usize) -> usize {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(RESERVE);
    let allowed = match raised(wanted) {
        Ok(limit) => within(connections, limit),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "the limit of open files is unknown");
            connections
        }
    };
    if allowed < connections {
        tracing::warn!(
            "the limit of open files allows {allowed} connections instead of {connections}; \
             raise it to {wanted}"
        );
    }
    allowed
}

#[cfg(unix)]
fn raised(wanted: u64) -> std::io::Result<u64> {
    rlimit::increase_nofile_limit(wanted)
}

#[cfg(not(unix))]
fn raised(wanted: u64) -> std::io::Result<u64> {
    Ok(wanted)
}

fn within(connections: usize, limit: u64) -> usize {
    // Under a limit below the reserve the half that is left is better than nothing.
    let free = limit.saturating_sub(RESERVE).max(limit / 2).max(1);
    usize::try_from(free).map_or(connections, |free| connections.min(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_open_files_to_the_rest() {
        assert_eq!(within(4_096, 1_048_576), 4_096);
        assert_eq!(within(4_096, 4_096), 3_840);
        assert_eq!(within(4_096, 1_024), 768);
        assert_eq!(within(4_096, 100), 50);
        assert_eq!(within(4_096, 0), 1);
        assert_eq!(within(2, 1_024), 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_soft_limit_that_is_too_low_is_raised() {
        let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
        rlimit::Resource::NOFILE.set(hard.min(512), hard).unwrap();
        allow(1_000);
        let (soft, _) = rlimit::Resource::NOFILE.get().unwrap();
        assert_eq!(soft, hard.min(1_256));
    }
}
