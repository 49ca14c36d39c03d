//! Opening: is the file ours, whole, and of a format we know? What is not is left as it is.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use super::error::{SqliteError, translate};
use super::schema::{self, APPLICATION_ID, FORMAT};
use super::{Durability, FileOptions};
use crate::store::StoreError;

/// Short, so that a process can get in between the commits of a busy other one.
const BUSY_PAUSE: Duration = Duration::from_micros(500);
/// Between two attempts at opening a file that others are opening.
const OPEN_PAUSE: Duration = Duration::from_millis(5);
/// Files up to this size are checked as a whole when they are opened.
const CHECKED_BYTES: u64 = 32 << 20;
/// The write-ahead log is cut back to this size when it starts over.
const LOG_BYTES: u64 = 64 << 20;
/// Each connection keeps as many statements prepared; we have fewer.
const STATEMENTS: usize = 32;

/// A file that was accepted, from which further connections can be made.
#[derive(Debug, Clone)]
pub(super) struct Database {
    path: PathBuf,
    options: FileOptions,
    /// The folder takes no log and there is none, so the file is all there is.
    immutable: bool,
}

impl Database {
    /// Accepts the file, after creating it if there is none, and hands out the first connection.
    pub(super) fn open(
        path: &Path,
        options: &FileOptions,
    ) -> Result<(Self, Connection), StoreError> {
        // Made absolute, so that the working directory may change.
        let path = std::path::absolute(path).map_err(|error| unreadable(path, error))?;
        Self::open_at(&path, options).map_err(|error| match engine_code(&error) {
            Some(ErrorCode::CannotOpen) => denied(&path).unwrap_or(error),
            _ => error,
        })
    }

    fn open_at(path: &Path, options: &FileOptions) -> Result<(Self, Connection), StoreError> {
        prepare(path, options)?;
        inspect(path)?;
        let mut database =
            Self { path: path.to_owned(), options: options.clone(), immutable: false };
        let first = database.accept_in_time().or_else(|error| {
            if log_exists(&database.path) || !takes_no_log(&database.path, &error) {
                return Err(error);
            }
            database.options.read_only = true;
            database.immutable = true;
            database.accept().map_err(|_| error)
        })?;
        Ok((database, first))
    }

    /// A further connection, for reading.
    pub(super) fn reader(&self) -> Result<Connection, StoreError> {
        let connection = self.connect()?;
        connection
            .pragma_update(None, "query_only", true)
            .map_err(|error| translate(error, "opening the file"))?;
        Ok(connection)
    }

    /// A connection that never waits: it is asked on async threads.
    pub(super) fn probe(&self) -> Result<Connection, StoreError> {
        let connection = self.reader()?;
        connection
            .busy_timeout(Duration::ZERO)
            .map_err(|error| translate(error, "opening the file"))?;
        Ok(connection)
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let access = if self.options.read_only {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        } else {
            OpenFlags::SQLITE_OPEN_READ_WRITE
        };
        let mut connection = connect(&self.path, access, self.immutable)
            .map_err(|error| translate(error, "opening the file"))?;
        configure(&mut connection, &self.options)
            .map_err(|error| translate(error, "opening the file"))?;
        Ok(connection)
    }

    /// Of those that open a file at the same time, the engine sends one away without a wait.
    fn accept_in_time(&self) -> Result<Connection, StoreError> {
        let (started, limit) = (Instant::now(), self.options.lock_wait());
        loop {
            match self.accept() {
                Err(error) if is_in_use(&error) && started.elapsed() < limit => {
                    thread::sleep(OPEN_PAUSE);
                }
                accepted => return accepted,
            }
        }
    }

    fn accept(&self) -> Result<Connection, StoreError> {
        let connection = self.connect()?;
        let failed = |error| translate(error, "opening the file");
        // Closing must not move a log into a file that turns out to be damaged.
        let flag = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(flag, true).map_err(failed)?;
        check_whole(&self.path, &connection)?;
        if !connection.is_readonly(MAIN_DB).map_err(failed)? {
            start_log(&connection, &self.options)?;
        }
        connection.set_db_config(flag, false).map_err(failed)?;
        Ok(connection)
    }
}

/// Whether somebody else has the file for a moment.
fn is_in_use(error: &StoreError) -> bool {
    matches!(engine_code(error), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether a file that could not be opened can only be read, because its folder takes no log. Any
/// other trouble must not make a store that refuses writes.
fn takes_no_log(path: &Path, error: &StoreError) -> bool {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match engine_code(error) {
        Some(ErrorCode::ReadOnly) => true,
        Some(ErrorCode::CannotOpen) => tempfile::tempfile_in(folder).is_err_and(|error| {
            matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
        }),
        _ => false,
    }
}

fn engine_code(error: &StoreError) -> Option<ErrorCode> {
    let (StoreError::ReadOnly(source) | StoreError::Unavailable { source, .. }) = error else {
        return None;
    };
    source.as_ref()?.downcast_ref::<SqliteError>()?.0.sqlite_error_code()
}

/// Makes sure that there is a database at `path`.
fn prepare(path: &Path, options: &FileOptions) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            Err(StoreError::InvalidLocation(format!("{} is a folder", path.display())))
        }
        // An empty file is an empty database, for instance one made by `mktemp`.
        Ok(metadata) if metadata.len() == 0 && !options.read_only && !log_exists(path) => {
            connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, false)
                .and_then(|mut connection| {
                    configure(&mut connection, options)?;
                    schema::create(&mut connection)
                })
                .map_err(|error| translate(error, "creating the file"))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound && !options.read_only => create(path),
        Err(error) => Err(unreadable(path, error)),
    }
}

/// Creates the file under another name first, so that a crash half-way leaves no half of one. If
/// somebody else created it meanwhile, theirs stays.
fn create(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        let text = format!("the folder {} does not exist", folder.display());
        return Err(StoreError::InvalidLocation(text));
    }
    let unwritable = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly(Some(error.into()))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(Some(error.into())),
        _ => unreadable(path, error),
    };
    let temporary = tempfile::Builder::new()
        .prefix(".tenure-")
        .tempfile_in(folder)
        .map_err(unwritable)?
        // Closes it: closing it later would drop the locks that the engine holds on the file.
        .into_temp_path();
    connect(&temporary, OpenFlags::SQLITE_OPEN_READ_WRITE, false)
        .and_then(|mut connection| {
            schema::create(&mut connection)?;
            connection.close().map_err(|(_, error)| error)
        })
        .map_err(|error| translate(error, "creating the file"))?;
    match temporary.persist_noclobber(path) {
        Err(taken) if taken.error.kind() != ErrorKind::AlreadyExists => {
            return Err(unwritable(taken.error));
        }
        _ => {}
    }
    // Without this, a power failure could take the file's name and leave its blocks.
    #[cfg(unix)]
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritable)?;
    Ok(())
}

/// Refuses what is not ours, by a connection that cannot write and, where there is no log, leaves
/// no trace beside the file either.
fn inspect(path: &Path) -> Result<(), StoreError> {
    let read = || -> rusqlite::Result<(i32, i32)> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, !log_exists(path))?;
        let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        Ok((number("application_id")?, number("user_version")?))
    };
    let name = path.display();
    let not_ours = || StoreError::Foreign(format!("{name} is not a Tenure store"));
    let numbers = read().map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => not_ours(),
        _ => translate(error, "looking at the file"),
    });
    match numbers? {
        (APPLICATION_ID, FORMAT) => Ok(()),
        (APPLICATION_ID, newer) if newer > FORMAT => Err(StoreError::Foreign(format!(
            "{name} has format {newer}; this version of Tenure knows formats up to {FORMAT}"
        ))),
        (APPLICATION_ID, other) => {
            Err(StoreError::Foreign(format!("{name} has the unknown format {other}")))
        }
        _ => Err(not_ours()),
    }
}

/// Refuses a file that is damaged, as far as that can be told in a bounded time: always by its
/// length and its tables, and up to [`CHECKED_BYTES`] by reading all of it.
fn check_whole(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let failed = |error| translate(error, "checking the file");
    let damaged =
        |what: String| StoreError::Foreign(format!("{} is damaged: {what}", path.display()));
    let length = fs::metadata(path).map_err(|error| unreadable(path, error))?.len();
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let expected = number("page_count").map_err(failed)? * number("page_size").map_err(failed)?;
    if length < expected && !log_exists(path) {
        return Err(damaged(format!("{length} bytes of {expected}")));
    }
    connection
        .query_row("SELECT epoch, sequence FROM meta", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
        .map_err(|error| damaged(error.to_string()))?;
    if length <= CHECKED_BYTES {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(damaged(verdict));
        }
    }
    Ok(())
}

fn start_log(connection: &Connection, options: &FileOptions) -> Result<(), StoreError> {
    let failed = |error| translate(error, "opening the file");
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        let reason = format!("the file system takes no write-ahead log (it offers {mode:?})");
        return Err(StoreError::Engine { reason, source: None });
    }
    let synchronous = match options.durability {
        Durability::Full => "FULL",
        Durability::Relaxed => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES).map_err(failed)?;
    if let Some(bytes) = options.max_bytes {
        let page_size: u64 =
            connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(failed)?;
        let pages = (bytes / page_size).clamp(1, u64::from(u32::MAX - 1));
        connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .map_err(failed)?;
    }
    Ok(())
}

fn connect(path: &Path, access: OpenFlags, immutable: bool) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if !immutable {
        return Connection::open_with_flags(path, flags);
    }
    const RESERVED: &percent_encoding::AsciiSet =
        &percent_encoding::CONTROLS.add(b'%').add(b'?').add(b'#');
    let bytes = path.as_os_str().as_encoded_bytes();
    let escaped = percent_encoding::percent_encode(bytes, RESERVED);
    Connection::open_with_flags(
        format!("file:{escaped}?immutable=1"),
        flags | OpenFlags::SQLITE_OPEN_URI,
    )
}

fn configure(connection: &mut Connection, options: &FileOptions) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // One plan for each statement. Else the engine makes a new one whenever a `LIMIT` is bound, which
    // is nearly a third of its time for a page.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    let limit = options.lock_wait();
    connection.busy_handler(Some(move |count: i32| {
        thread::sleep(BUSY_PAUSE);
        BUSY_PAUSE * count.unsigned_abs() < limit
    }))
}

/// True when a write-ahead log with content lies beside the file.
fn log_exists(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0)
}

/// The file that the engine keeps beside its own.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// What to say of a file that may not be read, which no other attempt will change. The engine only
/// says that it cannot be opened. To open it here as well would drop the engine's locks on it.
#[cfg(unix)]
fn denied(path: &Path) -> Option<StoreError> {
    use rustix::fs::{Access, access};
    let files = ["", "-wal", "-shm"].map(|end| beside(path, end));
    files.iter().find_map(|file| match access(file, Access::READ_OK) {
        Err(error) if error == rustix::io::Errno::ACCESS => Some(unreadable(file, error.into())),
        _ => None,
    })
}

#[cfg(not(unix))]
fn denied(_path: &Path) -> Option<StoreError> {
    None
}

fn unreadable(path: &Path, error: std::io::Error) -> StoreError {
    let name = path.display();
    match error.kind() {
        ErrorKind::NotFound => StoreError::InvalidLocation(format!("there is no file {name}")),
        ErrorKind::PermissionDenied => {
            let reason = format!("permission denied: {name}");
            StoreError::Engine { reason, source: Some(error.into()) }
        }
        _ => StoreError::Unavailable { reason: name.to_string(), source: Some(error.into()) },
    }
}
