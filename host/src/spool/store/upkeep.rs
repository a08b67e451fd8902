//! What keeps the spool in order: recovery when it opens, expiry, retention and shrinking while it runs.

use rusqlite::{Connection, params};

use super::claims::quarantine;
use super::failure::Failure;
use super::operations::{end_unanswered, from_millis, state_of, to_millis, unknown_state};
use super::schema;
use super::writer::Store;
use crate::spool::job::JobState;

/// Restarts during a run that a job survives. A process that ends a fourth time while it runs the
/// same job most likely ends because of it.
pub(crate) const CRASHES_MAX: u32 = 3;

/// Jobs that one purge touches, so that others wait some milliseconds at most.
const PURGE_MAX: u32 = 256;

/// Free pages that stay in the file for the next jobs: 4 MiB.
const FREE_PAGES_KEPT: u32 = 1024;

/// Pages one step gives back to the disk: 4 MiB, since as much may first have to be written to the
/// log, for which a full disk has only the space of the ballast.
const FREE_PAGES_RETURNED: u32 = 1024;

/// What one purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Purged {
    pub(super) jobs: u64,
    pub(super) more: bool,
}

pub(super) fn purge(store: &Store, now_ms: u64) -> Result<Purged, Failure> {
    let connection = &store.connection;
    let deleted = connection
        .prepare_cached(
            "DELETE FROM jobs WHERE seq IN (
                 SELECT seq FROM jobs WHERE state >= 2 AND updated_ms <= ?1
                 ORDER BY updated_ms LIMIT ?2)",
        )?
        .execute(params![from_millis(now_ms) - from_millis(store.limits.retention_ms), PURGE_MAX,])?;
    let expired = connection
        .prepare_cached("SELECT seq FROM jobs WHERE state = 0 AND expires_at_ms <= ?1 LIMIT ?2")?
        .query_map(params![from_millis(now_ms), PURGE_MAX], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    for &seq in &expired {
        end_unanswered(connection, seq, JobState::Expired, now_ms)?;
    }
    let full = PURGE_MAX as usize;
    Ok(Purged { jobs: (deleted + expired.len()) as u64, more: deleted == full || expired.len() == full })
}

/// Gives some free pages back to the disk and tells whether there are more to give. Without this, a
/// file that once was large stays so after it has drained.
pub(super) fn shrink(store: &Store) -> Result<bool, Failure> {
    let connection = &store.connection;
    let free = free_pages(connection)?;
    let pages = free.saturating_sub(FREE_PAGES_KEPT).min(FREE_PAGES_RETURNED);
    if pages == 0 {
        return Ok(false);
    }
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    // Each step returns one page.
    let mut steps = statement.query([])?;
    while steps.next()?.is_some() {}
    // A database made by other means may not shrink at all, which must not be tried for ever.
    let left = free_pages(connection)?;
    Ok(left < free && left > FREE_PAGES_KEPT)
}

fn free_pages(connection: &Connection) -> Result<u32, Failure> {
    let mut statement = connection.prepare_cached("PRAGMA freelist_count")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// When something last changed in the spool; 0 if nothing ever has, or if that cannot be read.
pub(super) fn latest_ms(connection: &Connection) -> u64 {
    let latest = connection.query_row("SELECT MAX(updated_ms) FROM jobs", [], |row| row.get::<_, Option<i64>>(0));
    latest.ok().flatten().map_or(0, to_millis)
}

/// Settles what another process left: its leased jobs are queued again or, after too many such ends,
/// dead; rows in no known state are dead. What this process has leased stays so, since a store may be
/// opened again while its jobs are served. A row that resists is left alone and reported, since one bad
/// row must not keep the spool closed.
pub(super) fn recover(store: &Store, now_ms: u64) -> Result<(), Failure> {
    let connection = &store.connection;
    let now = from_millis(now_ms);
    let unclear = connection
        .prepare(
            "SELECT seq, state FROM jobs
             WHERE state NOT IN (0, 2, 3, 4, 5) AND (incarnation IS NULL OR incarnation <> ?1)",
        )?
        .query_map([store.incarnation], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, i64)>>>();
    let unclear = match unclear.map_err(Failure::from) {
        Ok(unclear) => unclear,
        Err(failure) if failure.is_damage() => {
            tracing::error!(?failure, "the jobs that ran cannot be listed; they stay as they are");
            store.standing.is_damaged(failure.to_string());
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    // A store that is full must still open.
    schema::lift_page_limit(connection)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for &(seq, code) in &unclear {
        let settled = match state_of(code) {
            Some(_) => requeue(connection, seq, now),
            None => quarantine(connection, seq, &unknown_state(code), now),
        };
        match settled {
            Err(failure) if failure.is_damage() => {
                tracing::error!(seq, ?failure, "a damaged job cannot be recovered");
                store.standing.is_damaged(failure.to_string());
            }
            settled => settled?,
        }
    }
    connection.execute_batch("COMMIT")?;
    schema::limit_pages(connection, &store.limits)?;
    if !unclear.is_empty() {
        tracing::info!(jobs = unclear.len(), "took back the jobs that ran when the last process ended");
    }
    Ok(())
}

fn requeue(connection: &Connection, seq: i64, now: i64) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached(
        "UPDATE jobs SET crash_count = crash_count + 1, incarnation = NULL, not_before_ms = 0,
             updated_ms = ?2,
             state = CASE WHEN crash_count < ?3 THEN 0 ELSE 3 END,
             reason = CASE WHEN crash_count < ?3 THEN 'the process ended while running it'
                 ELSE 'poison: the process ended ' || (crash_count + 1) || ' times while running it'
                 END
         WHERE seq = ?1",
    )?;
    statement.execute(params![seq, now, CRASHES_MAX])?;
    Ok(())
}
