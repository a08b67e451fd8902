//! The ledger on disk: what was spent, in SQLite, as sums of each minute, which become sums of quarters of an hour.
//!
//! A price is no part of it: tokens are what is kept, and money is made of them when somebody asks.

use super::entry::{Counts, Length, Mark, Name};
use rusqlite::{Connection, OpenFlags, Transaction, params};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The database's name, in the ledger's folder.
pub(crate) const FILE: &str = "ledger.sqlite";
/// The layout. Another one is not opened.
const VERSION: i64 = 1;
/// How long one process waits for another that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Seconds of an entry at first, and once it is old. Days begin at quarters of an hour, wherever somebody is.
pub(crate) const MINUTE_S: i64 = 60;
pub(crate) const QUARTER_S: i64 = 15 * 60;
/// The age at which minutes become quarters: no limit counts minutes that are older.
const FINE_FOR_S: i64 = 2 * 60 * 60;

const SCHEMA: &str = "
CREATE TABLE name (number INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE spent (
    start INTEGER NOT NULL, key INTEGER NOT NULL, grp INTEGER NOT NULL, tenant INTEGER NOT NULL,
    upstream INTEGER NOT NULL, model INTEGER NOT NULL, label INTEGER NOT NULL, tier INTEGER NOT NULL,
    length INTEGER NOT NULL, mark INTEGER NOT NULL,
    requests INTEGER NOT NULL, calls INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
    cache_read INTEGER NOT NULL, cache_write_5m INTEGER NOT NULL, cache_write_1h INTEGER NOT NULL,
    reasoning INTEGER NOT NULL, audio_input INTEGER NOT NULL, audio_output INTEGER NOT NULL,
    PRIMARY KEY (start, key, grp, tenant, upstream, model, label, tier, length, mark)
) STRICT, WITHOUT ROWID;
CREATE TABLE journal (file TEXT PRIMARY KEY, applied INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE mark_of (what TEXT PRIMARY KEY, unix_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

pub(super) const SUMS: &str = "requests, calls, input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, \
                    audio_input, audio_output";
const ADDED: &str = "requests = requests + excluded.requests, calls = calls + excluded.calls, \
                     input = input + excluded.input, output = output + excluded.output, \
                     cache_read = cache_read + excluded.cache_read, \
                     cache_write_5m = cache_write_5m + excluded.cache_write_5m, \
                     cache_write_1h = cache_write_1h + excluded.cache_write_1h, \
                     reasoning = reasoning + excluded.reasoning, audio_input = audio_input + excluded.audio_input, \
                     audio_output = audio_output + excluded.audio_output";
const SUMMED: &str = "sum(requests), sum(calls), sum(input), sum(output), sum(cache_read), sum(cache_write_5m), \
                      sum(cache_write_1h), sum(reasoning), sum(audio_input), sum(audio_output)";

/// What an entry is about. Names are texts here, and numbers in the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct About {
    /// The second at which its minute or its quarter begins.
    pub start_unix_s: i64,
    pub names: [Arc<str>; Name::COUNT],
    pub tier: u8,
    pub length: Length,
    pub mark: Mark,
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub requests: u64,
    pub calls: u64,
    pub counts: Counts,
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Sums) {
        let Sums { requests, calls, counts } = other;
        self.requests = self.requests.saturating_add(*requests);
        self.calls = self.calls.saturating_add(*calls);
        let mine = &mut self.counts;
        for (sum, more) in [
            (&mut mine.input, counts.input),
            (&mut mine.output, counts.output),
            (&mut mine.cache_read, counts.cache_read),
            (&mut mine.cache_write_5m, counts.cache_write_5m),
            (&mut mine.cache_write_1h, counts.cache_write_1h),
            (&mut mine.reasoning, counts.reasoning),
            (&mut mine.audio_input, counts.audio_input),
            (&mut mine.audio_output, counts.audio_output),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    /// Of the ten columns from `first` on.
    pub(super) fn of_row(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Sums> {
        let column =
            |index: usize| Ok::<u64, rusqlite::Error>(row.get::<_, i64>(first + index)?.max(0).cast_unsigned());
        Ok(Sums {
            requests: column(0)?,
            calls: column(1)?,
            counts: Counts {
                input: column(2)?,
                output: column(3)?,
                cache_read: column(4)?,
                cache_write_5m: column(5)?,
                cache_write_1h: column(6)?,
                reasoning: column(7)?,
                audio_input: column(8)?,
                audio_output: column(9)?,
            },
        })
    }
}

/// How far a journal's file has been taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Up to this byte.
    Bytes(u64),
    /// All of it, and it may be deleted.
    Done,
    /// It is deleted, and needs no line any more.
    Gone,
}

/// What is written at once: entries, and how far the journals have come with them. Either all of it is, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub spent: HashMap<About, Sums>,
    pub applied: HashMap<String, Applied>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.spent.is_empty() && self.applied.is_empty()
    }
}

/// The database.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    numbers: HashMap<String, i64>,
}

impl Store {
    /// Opens the database in this folder, or makes it.
    ///
    /// # Errors
    /// When it cannot be opened, or is of another layout.
    pub(crate) fn open(folder: &Path) -> rusqlite::Result<Store> {
        let connection = Connection::open(folder.join(FILE))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // What a loss of power takes of it is taken over from the journals again.
        connection.pragma_update(None, "synchronous", "normal")?;
        match connection.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                connection.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"))?;
            }
            VERSION => {}
            _ => return Err(rusqlite::Error::InvalidQuery),
        }
        Ok(Store { connection, numbers: HashMap::new() })
    }

    /// Opens the database for who only asks. `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn look(folder: &Path) -> rusqlite::Result<Option<Store>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        // One thread has it, so that a lock for each value that is read would be for nobody.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(Some(Store { connection, numbers: HashMap::new() }))
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How far each journal's file has been taken over.
    pub(crate) fn applied(&self) -> rusqlite::Result<HashMap<String, Applied>> {
        let mut files = self.connection.prepare("SELECT file, applied FROM journal")?;
        let applied = files.query_map([], |row| {
            let bytes: i64 = row.get(1)?;
            Ok((row.get(0)?, u64::try_from(bytes).map_or(Applied::Done, Applied::Bytes)))
        })?;
        applied.collect()
    }

    /// Writes all of a batch, or nothing.
    pub(crate) fn commit(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let Store { connection, numbers } = self;
        let transaction = connection.transaction()?;
        let written = write(&transaction, numbers, batch).and_then(|()| transaction.commit());
        if written.is_err() {
            // Numbers of names that were not written are not known.
            numbers.clear();
        }
        written
    }

    /// Has minutes that are old become quarters of an hour, and those older than `retention` one sum.
    pub(crate) fn condense(&mut self, now_unix_s: i64, retention: Duration) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let fine = (now_unix_s - FINE_FOR_S).div_euclid(QUARTER_S) * QUARTER_S;
        let since = since(&transaction, "condensed")?;
        let keys = "key, grp, tenant, upstream, model, label, tier, length, mark";
        let merge = |start: &str, keys: &str, only: &str| {
            format!(
                "INSERT INTO spent (start, key, grp, tenant, upstream, model, label, tier, length, mark, {SUMS}) \
                 SELECT {start}, {keys}, {SUMMED} FROM spent WHERE {only} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 \
                 ON CONFLICT DO UPDATE SET {ADDED}"
            )
        };
        let minutes = format!("start >= ?1 AND start < ?2 AND start % {QUARTER_S} != 0");
        transaction.execute(&merge(&format!("start / {QUARTER_S} * {QUARTER_S}"), keys, &minutes), [since, fine])?;
        transaction.execute(&format!("DELETE FROM spent WHERE {minutes}"), [since, fine])?;
        let retention_s = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
        let kept = now_unix_s.saturating_sub(retention_s);
        // Who asks for months that long ago asks in vain, but what was spent in total is known.
        let old = "start > 0 AND start < ?1";
        transaction.execute(&merge("0", "key, grp, 0, upstream, model, 0, tier, length, mark", old), [kept])?;
        transaction.execute(&format!("DELETE FROM spent WHERE {old}"), [kept])?;
        transaction.execute("INSERT OR REPLACE INTO mark_of (what, unix_s) VALUES ('condensed', ?1)", [fine])?;
        transaction.commit()
    }
}

fn since(transaction: &Transaction<'_>, what: &str) -> rusqlite::Result<i64> {
    let found = transaction.query_row("SELECT unix_s FROM mark_of WHERE what = ?1", [what], |row| row.get(0));
    match found {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(0),
        found => found,
    }
}

fn write(transaction: &Transaction<'_>, numbers: &mut HashMap<String, i64>, batch: &Batch) -> rusqlite::Result<()> {
    let marks = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20";
    let mut insert = transaction.prepare_cached(&format!(
        "INSERT INTO spent (start, key, grp, tenant, upstream, model, label, tier, length, mark, {SUMS}) VALUES ({marks}) \
         ON CONFLICT DO UPDATE SET {ADDED}"
    ))?;
    for (about, sums) in &batch.spent {
        let mut names = [0; Name::COUNT];
        for (number, name) in names.iter_mut().zip(&about.names) {
            *number = number_of(transaction, numbers, name)?;
        }
        let [key, group, tenant, upstream, model, label] = names;
        let Counts { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output } =
            sums.counts;
        insert.execute(params![
            about.start_unix_s,
            key,
            group,
            tenant,
            upstream,
            model,
            label,
            about.tier,
            about.length.number(),
            about.mark.number(),
            column(sums.requests),
            column(sums.calls),
            column(input),
            column(output),
            column(cache_read),
            column(cache_write_5m),
            column(cache_write_1h),
            column(reasoning),
            column(audio_input),
            column(audio_output),
        ])?;
    }
    for (file, applied) in &batch.applied {
        match applied {
            Applied::Bytes(bytes) => applied_to(transaction, file, column(*bytes))?,
            Applied::Done => applied_to(transaction, file, -1)?,
            Applied::Gone => {
                transaction.execute("DELETE FROM journal WHERE file = ?1", [file])?;
            }
        }
    }
    Ok(())
}

fn applied_to(transaction: &Transaction<'_>, file: &str, applied: i64) -> rusqlite::Result<()> {
    transaction.execute("INSERT OR REPLACE INTO journal (file, applied) VALUES (?1, ?2)", params![file, applied])?;
    Ok(())
}

/// SQLite's numbers have a sign.
fn column(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A name's number; 0 is none.
fn number_of(transaction: &Transaction<'_>, numbers: &mut HashMap<String, i64>, name: &str) -> rusqlite::Result<i64> {
    if name.is_empty() {
        return Ok(0);
    }
    if let Some(number) = numbers.get(name) {
        return Ok(*number);
    }
    transaction.execute("INSERT OR IGNORE INTO name (text) VALUES (?1)", [name])?;
    let number = transaction.query_row("SELECT number FROM name WHERE text = ?1", [name], |row| row.get(0))?;
    numbers.insert(name.to_owned(), number);
    Ok(number)
}
