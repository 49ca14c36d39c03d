//! What the file looks like inside.

use rusqlite::{Connection, TransactionBehavior};

/// "TNUR": tells our files from those of other programs.
pub(super) const APPLICATION_ID: i32 = 0x544e_5552;

/// Rises when an older program could no longer read or write the file correctly.
pub(super) const FORMAT: i32 = 1;

/// A record's table has a row id: with values of 1 KB `WITHOUT ROWID` cost three times as much.
/// Names are blobs, so their order is that of their bytes and NUL is an ordinary byte. The value is
/// the last column: what a write looks at never touches the value's overflow pages. `former` is the
/// number of a record's rows in the table of that name, so that who keeps none never looks there.
const TABLES: &str = "
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    epoch INTEGER NOT NULL,
    sequence INTEGER NOT NULL
) STRICT;

CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    partition TEXT NOT NULL,
    name BLOB NOT NULL,
    version INTEGER NOT NULL,
    stamp INTEGER NOT NULL,
    tag BLOB,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    counted INTEGER NOT NULL,
    former INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (partition, name)
) STRICT;
CREATE INDEX records_by_revision ON records (partition, revision);
CREATE INDEX records_by_deadline ON records (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX counted_by_deadline ON records (partition, expires_at) WHERE counted = 1;

CREATE TABLE former (
    id INTEGER PRIMARY KEY,
    record INTEGER NOT NULL,
    version INTEGER NOT NULL,
    stamp INTEGER NOT NULL,
    tag BLOB,
    value BLOB NOT NULL,
    UNIQUE (record, version)
) STRICT;

CREATE TABLE counts (
    partition TEXT PRIMARY KEY,
    counted INTEGER NOT NULL
) STRICT;

CREATE TABLE gone (
    revision INTEGER PRIMARY KEY,
    partition TEXT NOT NULL,
    name BLOB NOT NULL
) STRICT;
CREATE INDEX gone_by_partition ON gone (partition, revision);
";

/// Makes an empty database one of ours, in one transaction. Does nothing if somebody else was
/// faster.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    if transaction
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?
        > 0
    {
        return Ok(());
    }
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    let epoch: u64 = rand::random();
    transaction.execute(
        "INSERT INTO meta (id, epoch, sequence) VALUES (0, ?1, 0)",
        [epoch.cast_signed()],
    )?;
    transaction.commit()
}
