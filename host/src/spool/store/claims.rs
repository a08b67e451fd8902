//! Taking the next job from the queue, and passing over those that cannot be taken.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failure::Failure;
use super::operations::{bounded, end_unanswered, from_millis, release, to_millis};
use super::writer::Store;
use crate::spool::codec;
use crate::spool::job::{ClaimedJob, JobId, JobState, Lease, NewJob};
use crate::spool::seal::Purpose;

/// Jobs whose time has come that one claim makes runnable. A bound on the time a claim takes: when
/// more fall due at once, their order by priority is exact only after as many claims as it takes.
const DUE_MAX: u32 = 1024;

/// Expired or damaged jobs that one claim passes over before it reports none; the next goes on.
const PASSED_OVER_MAX: u32 = 1024;

pub(super) fn claim(store: &Store, upstream: &str, now_ms: u64) -> Result<Option<ClaimedJob>, Failure> {
    let connection = &store.connection;
    let now = from_millis(now_ms);
    connection
        .prepare_cached(
            "UPDATE jobs SET not_before_ms = 0 WHERE seq IN (
                 SELECT seq FROM jobs
                 WHERE state = 0 AND upstream = ?1 AND not_before_ms BETWEEN 1 AND ?2
                 ORDER BY not_before_ms LIMIT ?3)",
        )?
        .execute(params![upstream, now, DUE_MAX])?;
    // Damaged jobs that cannot even be marked stay in front of the queue and are skipped.
    let mut stuck = 0_u32;
    for _ in 0..PASSED_OVER_MAX {
        let next: Option<i64> = connection
            .prepare_cached(
                "SELECT seq FROM jobs WHERE state = 0 AND upstream = ?1 AND not_before_ms = 0
                 ORDER BY priority DESC, seq LIMIT 1 OFFSET ?2",
            )?
            .query_row(params![upstream, stuck], |row| row.get(0))
            .optional()?;
        let Some(seq) = next else {
            return Ok(None);
        };
        match lease(store, seq, now_ms) {
            Ok(Some(claimed)) => return Ok(Some(claimed)),
            Ok(None) => {}
            Err(failure) if failure.is_damage() => {
                store.standing.is_damaged(failure.to_string());
                if let Err(error) = quarantine(connection, seq, &failure, now) {
                    tracing::error!(seq, ?error, "a damaged job cannot be marked as dead");
                    stuck += 1;
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(None)
}

/// Leases one queued job, or expires it and returns `None`. Reads everything before it writes, so
/// that a damaged job is left as it was.
fn lease(store: &Store, seq: i64, now_ms: u64) -> Result<Option<ClaimedJob>, Failure> {
    let connection = &store.connection;
    let (id, mut claimed, sealed) = connection
        .prepare_cached(
            "SELECT id, upstream, dialect, model, request_id, priority, created_ms, expires_at_ms,
                 attempts, fence, sealed
             FROM jobs LEFT JOIN payloads USING (seq) WHERE seq = ?1",
        )?
        .query_row([seq], |row| queued_job(store, row))?;
    if claimed.job.expires_at_ms <= now_ms {
        end_unanswered(connection, seq, JobState::Expired, now_ms)?;
        return Ok(None);
    }
    let sealed = sealed.ok_or_else(|| Failure::Damaged("its request is missing".to_owned()))?;
    let payload = store
        .sealer
        .open(Purpose::Request, id, sealed, codec::decode_payload)?
        .ok_or_else(|| Failure::Damaged("its request cannot be read".to_owned()))?;
    claimed.job.method = payload.method;
    claimed.job.path_and_query = payload.path_and_query;
    claimed.job.headers = payload.headers;
    claimed.job.body = payload.body;
    connection
        .prepare_cached(
            "UPDATE jobs SET state = 1, attempts = ?2, fence = ?3, incarnation = ?4, updated_ms = ?5
             WHERE seq = ?1",
        )?
        .execute(params![
            seq,
            claimed.attempts,
            claimed.lease.attempt,
            claimed.lease.incarnation,
            from_millis(now_ms),
        ])?;
    Ok(Some(claimed))
}

/// A row of the query in [`lease`], its numbers those of the attempt that is about to begin.
fn queued_job(store: &Store, row: &Row<'_>) -> rusqlite::Result<(JobId, ClaimedJob, Option<Vec<u8>>)> {
    let id = JobId::from_bytes(row.get("id")?);
    let claimed = ClaimedJob {
        lease: Lease { id, attempt: row.get::<_, u32>("fence")?.wrapping_add(1), incarnation: store.incarnation },
        attempts: row.get::<_, u32>("attempts")?.saturating_add(1),
        job: NewJob {
            upstream: row.get("upstream")?,
            dialect: row.get("dialect")?,
            model: row.get("model")?,
            method: String::new(),
            path_and_query: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            priority: row.get("priority")?,
            created_ms: to_millis(row.get("created_ms")?),
            expires_at_ms: to_millis(row.get("expires_at_ms")?),
            request_id: row.get("request_id")?,
        },
    };
    Ok((id, claimed, row.get("sealed")?))
}

/// Undoes a claim that nobody heard of.
pub(super) fn unclaim(store: &Store, lease: &Lease, now_ms: u64) -> Result<(), Failure> {
    release(store, lease, 0, "claimed by a task that had ended", false, now_ms)
}

/// Ends a job that cannot be read, with the reason, so that those behind it are served.
pub(super) fn quarantine(connection: &Connection, seq: i64, failure: &Failure, now: i64) -> Result<(), Failure> {
    let reason = format!("damaged: {failure}");
    tracing::error!(seq, reason, "a stored job is damaged and given up");
    connection
        .prepare_cached(
            "UPDATE jobs SET state = 3, incarnation = NULL, reason = ?2, updated_ms = ?3
             WHERE seq = ?1",
        )?
        .execute(params![seq, bounded(&reason), now])?;
    Ok(())
}
