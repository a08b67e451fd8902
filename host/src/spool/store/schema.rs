//! The tables, and how a connection to them is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::operations::Limits;
use crate::spool::error::OpenError;
use crate::spool::job::{ID_BYTES, JobId};
use crate::spool::seal::{Purpose, Sealer};

/// The schema this build writes, kept in `user_version`.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// SQLite's own default, stated because the page limit is computed from it.
const PAGE_BYTES: u64 = 4096;

/// Pages for the schema and for a queue with a tiny quota: one MiB.
const PAGES_MIN: u64 = 256;

/// The most pages SQLite knows.
const PAGES_MAX: u64 = 4_294_967_294;

/// How long a connection waits for another's lock. The folder is locked for this process, so only a
/// tool that an operator runs beside it can hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements kept prepared: somewhat more than the operations use.
const STATEMENTS_MAX: usize = 64;

/// The length to which a log that was once longer is cut when it starts anew: four checkpoints' worth.
const LOG_KEPT_BYTES: u64 = 16 << 20;

/// What is sealed into the database to recognise its key.
const KEY_CHECK: &[u8] = b"spillway";

/// The state codes are the positions in `JobState::ALL`: 0 queued, 1 leased, 2 done, 3 dead,
/// 4 cancelled, 5 expired. Each index holds only the rows of the states it serves, so that ended jobs
/// do not slow the queue down.
///
/// `not_before_ms` is 0 for what may run now, and a claim first sets those whose time has come to 0:
/// so one index yields the next job by priority and arrival, the first to become due, and the
/// upstreams that wait. The tally is kept by triggers, hence within every transaction: it is exact
/// after any crash and never has to be counted.
const SCHEMA: &str = "
CREATE TABLE jobs (
    seq           INTEGER PRIMARY KEY,
    id            BLOB    NOT NULL UNIQUE,
    state         INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),
    upstream      TEXT    NOT NULL,
    dialect       TEXT    NOT NULL,
    model         TEXT,
    request_id    TEXT    NOT NULL,
    priority      INTEGER NOT NULL,
    created_ms    INTEGER NOT NULL,
    updated_ms    INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    fence         INTEGER NOT NULL,
    crash_count   INTEGER NOT NULL DEFAULT 0,
    incarnation   BLOB,
    reason        TEXT,
    bytes         INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_runnable ON jobs (upstream, not_before_ms, priority DESC) WHERE state = 0;
CREATE INDEX jobs_expiring ON jobs (expires_at_ms) WHERE state = 0;
CREATE INDEX jobs_by_age   ON jobs (created_ms) WHERE state = 0;
CREATE INDEX jobs_ended    ON jobs (updated_ms) WHERE state >= 2;
CREATE INDEX jobs_unclear  ON jobs (state) WHERE state NOT IN (0, 2, 3, 4, 5);

CREATE TABLE payloads (
    seq    INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    sealed BLOB NOT NULL
) STRICT;
CREATE TABLE responses (
    seq    INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    sealed BLOB NOT NULL
) STRICT;

CREATE TABLE tally (
    state INTEGER PRIMARY KEY,
    jobs  INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO tally VALUES (0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0);
CREATE TRIGGER tally_insert AFTER INSERT ON jobs BEGIN
    UPDATE tally SET jobs = jobs + 1, bytes = bytes + NEW.bytes WHERE state = NEW.state;
END;
CREATE TRIGGER tally_delete AFTER DELETE ON jobs BEGIN
    UPDATE tally SET jobs = jobs - 1, bytes = bytes - OLD.bytes WHERE state = OLD.state;
END;
CREATE TRIGGER tally_update AFTER UPDATE OF state, bytes ON jobs BEGIN
    UPDATE tally SET jobs = jobs - 1, bytes = bytes - OLD.bytes WHERE state = OLD.state;
    UPDATE tally SET jobs = jobs + 1, bytes = bytes + NEW.bytes WHERE state = NEW.state;
END;

CREATE TABLE key_check (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    sealed BLOB NOT NULL
) STRICT;
";

/// Opens the one connection that writes, and creates the tables in a new database.
pub(super) fn open_writer(path: &Path, sealer: &Sealer, limits: &Limits) -> Result<Connection, OpenError> {
    let database = |error: rusqlite::Error| OpenError::Database { path: path.to_owned(), problem: error.to_string() };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(database)?;
    let found = user_version(&connection).map_err(database)?;
    if found > SCHEMA_VERSION {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    set_up(&connection).map_err(database)?;
    limit_pages(&connection, limits).map_err(database)?;
    if found < SCHEMA_VERSION {
        let sealed = sealer
            .seal(Purpose::KeyCheck, no_job(), KEY_CHECK)
            .map_err(|error| OpenError::System(error.to_string()))?;
        create_tables(&mut connection, &sealed).map_err(database)?;
    }
    if !key_fits(&connection, sealer).map_err(database)? {
        return Err(OpenError::WrongKey { dir: path.parent().unwrap_or(path).to_owned() });
    }
    Ok(connection)
}

/// Opens a connection that cannot write.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // The first two take effect on a database without tables only. `fullfsync` is for macOS, whose
    // plain fsync leaves data in the drive's cache. The log is checkpointed by the writer itself,
    // because SQLite's automatic checkpoint keeps its errors to itself.
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES};
         PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA fullfsync = ON;
         PRAGMA checkpoint_fullfsync = ON;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = {LOG_KEPT_BYTES};
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA cell_size_check = ON;
         PRAGMA temp_store = MEMORY;"
    ))
}

/// Bounds the file. Logical accounting refuses first; this holds even if a page is filled as badly as
/// a page can be, which is a record of just over half of it.
pub(super) fn limit_pages(connection: &Connection, limits: &Limits) -> rusqlite::Result<()> {
    set_page_limit(connection, limits.max_size.div_ceil(PAGE_BYTES / 2) + PAGES_MIN)
}

/// Lets the file grow as far as the disk goes, for the answers to what was already taken.
pub(super) fn lift_page_limit(connection: &Connection) -> rusqlite::Result<()> {
    set_page_limit(connection, PAGES_MAX)
}

fn set_page_limit(connection: &Connection, pages: u64) -> rusqlite::Result<()> {
    let pages = pages.min(PAGES_MAX);
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}

fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn create_tables(connection: &mut Connection, key_check: &[u8]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute("INSERT INTO key_check (id, sealed) VALUES (1, ?1)", params![key_check])?;
    transaction.execute_batch(&format!("PRAGMA user_version = {SCHEMA_VERSION}"))?;
    transaction.commit()
}

fn key_fits(connection: &Connection, sealer: &Sealer) -> rusqlite::Result<bool> {
    let sealed: Option<Vec<u8>> =
        connection.query_row("SELECT sealed FROM key_check WHERE id = 1", [], |row| row.get(0)).optional()?;
    Ok(sealed.is_some_and(|sealed| {
        sealer.open(Purpose::KeyCheck, no_job(), sealed, |plain| plain == KEY_CHECK).unwrap_or(false)
    }))
}

fn no_job() -> JobId {
    JobId::from_bytes([0; ID_BYTES])
}
