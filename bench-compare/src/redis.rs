//! Redis: our backend beside the least that the server can do on the same terms, and beside
//! pmcp-tasks. One server, started here, without persistence.

mod calls;
mod lifecycle;
mod peers;
pub mod server;

use anyhow::Result;

use self::server::Server;
use crate::measure::Effort;
use crate::table;

const PMCP: &str = "pmcp-tasks";
const FLOOR: &str = "floor";

/// Measures, and prints the table.
pub async fn run(effort: Effort) -> Result<()> {
    let server = Server::start().await?;
    let mut rows = calls::run(effort, server.url()).await?;
    rows.extend(lifecycle::run(effort, server.url()).await?);
    let note = "1 KB values, a key for each caller; time is wall time divided by the calls of all \
                callers. The floor is `HGETALL`, and `EVALSHA` of a minimal compare-and-set, over \
                one multiplexed connection; it keeps no index, no deadline, and tells nobody."
        .to_owned();
    table::print("Redis", &rows, &[note]);
    Ok(())
}
