//! What the writer does to jobs. Each function runs inside a transaction that its caller commits; on
//! an error the caller undoes whatever the function did, and nothing else.

use ring::rand::SystemRandom;
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Failure;
use super::writer::Store;
use crate::spool::codec;
use crate::spool::error::Bound;
use crate::spool::job::{CancelOutcome, JobId, JobState, Lease, NewJob, StoredResponse};
use crate::spool::seal::{Purpose, SEAL_BYTES};

/// What a job counts against `max_size` besides its texts: its row, its place in the indexes, and
/// what is kept of it when it has ended.
const JOB_OVERHEAD_BYTES: usize = 1024;

/// The largest sealed record; SQLite's own limit is a billion bytes.
const RECORD_MAX_BYTES: usize = 512 << 20;

/// Text of a reason that is kept.
const REASON_MAX_BYTES: usize = 1024;

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_jobs: u64,
    pub(super) max_size: u64,
    pub(super) retention_ms: u64,
}

/// A state as it is stored.
pub(super) fn code_of(state: JobState) -> i64 {
    state as i64
}

/// The state stored as `code`, if it is one.
pub(super) fn state_of(code: i64) -> Option<JobState> {
    usize::try_from(code).ok().and_then(|index| JobState::ALL.get(index).copied())
}

/// Times beyond SQLite's integers mean never, and are read back as such.
pub(super) fn from_millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn to_millis(value: i64) -> u64 {
    match value {
        i64::MAX => u64::MAX,
        value => u64::try_from(value).unwrap_or(0),
    }
}

/// What a job counts against `max_size` while its request is kept.
pub(super) fn job_bytes(job: &NewJob) -> usize {
    JOB_OVERHEAD_BYTES
        + SEAL_BYTES
        + codec::payload_bytes(job)
        + job.upstream.len()
        + job.dialect.len()
        + job.model.as_deref().map_or(0, str::len)
        + job.request_id.len()
}

/// What an answer counts against `max_size`.
pub(super) fn answer_bytes(response: Option<&StoredResponse>) -> usize {
    response.map_or(0, |response| SEAL_BYTES + codec::response_bytes(response))
}

pub(super) fn enqueue(store: &Store, job: &NewJob) -> Result<JobId, Failure> {
    insert(store, job, JobState::Queued)
}

pub(super) fn adopt(store: &Store, job: &NewJob) -> Result<Lease, Failure> {
    let id = insert(store, job, JobState::Leased)?;
    Ok(Lease { id, attempt: 1, incarnation: store.incarnation })
}

fn insert(store: &Store, job: &NewJob, state: JobState) -> Result<JobId, Failure> {
    let bytes = job_bytes(job);
    admit(store, bytes as u64)?;
    let id = JobId::random(&SystemRandom::new())
        .ok_or_else(|| Failure::Unavailable("the system's random generator failed".to_owned()))?;
    let plain = codec::encode_payload(job).ok_or_else(|| too_large(bytes))?;
    let sealed = store.sealer.seal(Purpose::Request, id, &plain)?;
    let (attempts, incarnation) = match state {
        JobState::Leased => (1, Some(store.incarnation)),
        JobState::Queued | JobState::Done | JobState::Dead | JobState::Cancelled | JobState::Expired => (0, None),
    };
    let mut statement = store.connection.prepare_cached(
        "INSERT INTO jobs (id, state, upstream, dialect, model, request_id, priority, created_ms,
             updated_ms, not_before_ms, expires_at_ms, attempts, fence, incarnation, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, 0, ?9, ?10, ?10, ?11, ?12)",
    )?;
    let seq = statement.insert(params![
        id.as_bytes(),
        code_of(state),
        job.upstream,
        job.dialect,
        job.model,
        job.request_id,
        job.priority,
        from_millis(job.created_ms),
        from_millis(job.expires_at_ms),
        attempts,
        incarnation,
        bytes as i64,
    ])?;
    store
        .connection
        .prepare_cached("INSERT INTO payloads (seq, sealed) VALUES (?1, ?2)")?
        .execute(params![seq, sealed])?;
    Ok(id)
}

/// Refuses at the door what is beyond a bound.
fn admit(store: &Store, bytes: u64) -> Result<(), Failure> {
    let limits = &store.limits;
    let limit_bytes = limits.max_size.min(RECORD_MAX_BYTES as u64);
    if bytes > limit_bytes {
        return Err(Failure::TooLarge { bytes, limit_bytes });
    }
    let (jobs, stored): (i64, i64) = store
        .connection
        .prepare_cached("SELECT SUM(jobs) FILTER (WHERE state IN (0, 1)), SUM(bytes) FROM tally")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (jobs, stored) = (to_millis(jobs), to_millis(stored));
    if jobs >= limits.max_jobs {
        return Err(Failure::Full { bound: Bound::Jobs, depth: jobs, limit: limits.max_jobs });
    }
    if stored.saturating_add(bytes) > limits.max_size {
        return Err(Failure::Full { bound: Bound::Bytes, depth: stored, limit: limits.max_size });
    }
    Ok(())
}

fn too_large(bytes: usize) -> Failure {
    Failure::TooLarge { bytes: bytes as u64, limit_bytes: RECORD_MAX_BYTES as u64 }
}

/// Undoes an enqueue that nobody heard of, unless the job already runs.
pub(super) fn withdraw(store: &Store, id: JobId) -> Result<(), Failure> {
    store.connection.prepare_cached("DELETE FROM jobs WHERE id = ?1 AND state = 0")?.execute([id.as_bytes()])?;
    Ok(())
}

/// Undoes an adoption that nobody heard of.
pub(super) fn disown(store: &Store, lease: Lease) -> Result<(), Failure> {
    let seq = held(store, &lease)?;
    store.connection.prepare_cached("DELETE FROM jobs WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}

/// The row a lease stands for, if it still does.
fn held(store: &Store, lease: &Lease) -> Result<i64, Failure> {
    store
        .connection
        .prepare_cached(
            "SELECT seq FROM jobs
             WHERE id = ?1 AND state = 1 AND fence = ?2 AND incarnation = ?3",
        )?
        .query_row(params![lease.id.as_bytes(), lease.attempt, lease.incarnation], |row| row.get(0))
        .optional()?
        .ok_or(Failure::StaleLease)
}

pub(super) fn complete(store: &Store, lease: &Lease, response: &StoredResponse, now_ms: u64) -> Result<(), Failure> {
    let seq = held(store, lease)?;
    // The request goes first: on a crowded disk its pages are what the answer is written to.
    delete_payload(&store.connection, seq)?;
    let bytes = keep_response(store, seq, lease.id, response)?;
    store
        .connection
        .prepare_cached(
            "UPDATE jobs SET state = 2, incarnation = NULL, reason = NULL, updated_ms = ?2,
                 bytes = ?3
             WHERE seq = ?1",
        )?
        .execute(params![seq, from_millis(now_ms), (JOB_OVERHEAD_BYTES + bytes) as i64,])?;
    Ok(())
}

pub(super) fn release(
    store: &Store,
    lease: &Lease,
    not_before_ms: u64,
    reason: &str,
    counts: bool,
    now_ms: u64,
) -> Result<(), Failure> {
    let seq = held(store, lease)?;
    store
        .connection
        .prepare_cached(
            "UPDATE jobs SET state = 0, incarnation = NULL, not_before_ms = ?2, reason = ?3,
                 attempts = MAX(attempts - ?4, 0), updated_ms = ?5
             WHERE seq = ?1",
        )?
        .execute(params![seq, from_millis(not_before_ms), bounded(reason), u8::from(!counts), from_millis(now_ms),])?;
    Ok(())
}

pub(super) fn bury(
    store: &Store,
    lease: &Lease,
    reason: &str,
    response: Option<&StoredResponse>,
    now_ms: u64,
) -> Result<(), Failure> {
    let seq = held(store, lease)?;
    let bytes = match response {
        Some(response) => keep_response(store, seq, lease.id, response)?,
        None => 0,
    };
    store
        .connection
        .prepare_cached(
            "UPDATE jobs SET state = 3, incarnation = NULL, reason = ?2, updated_ms = ?3,
                 bytes = bytes + ?4
             WHERE seq = ?1",
        )?
        .execute(params![seq, bounded(reason), from_millis(now_ms), bytes as i64,])?;
    Ok(())
}

fn keep_response(store: &Store, seq: i64, id: JobId, response: &StoredResponse) -> Result<usize, Failure> {
    let bytes = answer_bytes(Some(response));
    if bytes > RECORD_MAX_BYTES {
        return Err(too_large(bytes));
    }
    let plain = codec::encode_response(response).ok_or_else(|| too_large(bytes))?;
    let sealed = store.sealer.seal(Purpose::Response, id, &plain)?;
    store
        .connection
        .prepare_cached("INSERT OR REPLACE INTO responses (seq, sealed) VALUES (?1, ?2)")?
        .execute(params![seq, sealed])?;
    Ok(bytes)
}

pub(super) fn cancel(store: &Store, id: JobId, now_ms: u64) -> Result<CancelOutcome, Failure> {
    let found: Option<(i64, i64)> = store
        .connection
        .prepare_cached("SELECT seq, state FROM jobs WHERE id = ?1")?
        .query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((seq, code)) = found else {
        return Ok(CancelOutcome::NotFound);
    };
    match state_of(code).ok_or_else(|| unknown_state(code))? {
        JobState::Queued => {
            end_unanswered(&store.connection, seq, JobState::Cancelled, now_ms)?;
            Ok(CancelOutcome::Cancelled)
        }
        JobState::Leased => Ok(CancelOutcome::Running),
        ended @ (JobState::Done | JobState::Dead | JobState::Cancelled | JobState::Expired) => {
            Ok(CancelOutcome::Finished(ended))
        }
    }
}

pub(super) fn unknown_state(code: i64) -> Failure {
    Failure::Damaged(format!("{code} is no state of a job"))
}

/// Ends a job that will never run; what is left of it is its row.
pub(super) fn end_unanswered(connection: &Connection, seq: i64, state: JobState, now_ms: u64) -> Result<(), Failure> {
    delete_payload(connection, seq)?;
    connection
        .prepare_cached("UPDATE jobs SET state = ?2, updated_ms = ?3, bytes = ?4 WHERE seq = ?1")?
        .execute(params![seq, code_of(state), from_millis(now_ms), JOB_OVERHEAD_BYTES as i64,])?;
    Ok(())
}

fn delete_payload(connection: &Connection, seq: i64) -> Result<(), Failure> {
    connection.prepare_cached("DELETE FROM payloads WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}

pub(super) fn bounded(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_MAX_BYTES)]
}
