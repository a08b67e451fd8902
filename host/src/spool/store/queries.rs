//! What is read, on a connection that cannot write and a thread of its own.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::{mpsc, oneshot};

use super::failure::Failure;
use super::operations::{state_of, to_millis, unknown_state};
use super::schema;
use super::standing::{Opening, Standing};
use crate::spool::codec;
use crate::spool::job::{Counts, JobId, JobState, JobView, StoredResponse};
use crate::spool::seal::Purpose;

/// One question, with the place for its answer inside. Tells whether the connection is still good.
pub(super) struct Read(Box<dyn FnOnce(&ReadView) -> bool + Send>);

/// A connection to what is open.
struct Connected {
    opening: Arc<Opening>,
    connection: Connection,
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Read")
    }
}

impl Read {
    /// Asks nothing; whoever answers looks at what is open all the same.
    pub(super) fn nothing() -> Self {
        Self(Box::new(|_| true))
    }

    pub(super) fn new<T: Send + 'static>(
        query: impl FnOnce(&ReadView) -> Result<T, Failure> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, Failure>>) {
        let (reply, answer) = oneshot::channel();
        let read = Self(Box::new(move |view| {
            if reply.is_closed() {
                return true;
            }
            let outcome = query(view);
            let good = !matches!(&outcome, Err(failure) if failure.is_io());
            view.tell(outcome.as_ref().err());
            // Nobody waits any more: a read leaves nothing to undo.
            let _ = reply.send(outcome);
            good
        }));
        (read, answer)
    }
}

/// A view of the last committed state.
pub(super) struct ReadView {
    standing: Arc<Standing>,
    connected: Result<Connected, Failure>,
}

impl ReadView {
    pub(super) fn new(standing: Arc<Standing>) -> Self {
        Self { standing, connected: Err(Failure::stopped()) }
    }

    /// Answers until the queue is closed. After an I/O error, the next question gets a new
    /// connection.
    pub(super) fn serve(mut self, mut queue: mpsc::Receiver<Read>) {
        while let Some(Read(answer)) = queue.blocking_recv() {
            self.follow();
            if !answer(&self) {
                self.connected = Err(Failure::stopped());
            }
        }
    }

    /// Connects to what is open, if that is another than before; to nothing if its files have changed, which the writer
    /// will find out as well.
    fn follow(&mut self) {
        let opening = match self.standing.opening() {
            Ok(opening) => opening,
            Err(shut) => {
                self.connected = Err(shut);
                return;
            }
        };
        if let Some(why) = opening.watch.changed() {
            self.connected = Err(Failure::Shut(why));
        } else if !matches!(&self.connected, Ok(connected) if Arc::ptr_eq(&connected.opening, &opening)) {
            self.connected = match schema::open_reader(&opening.database) {
                Ok(connection) => Ok(Connected { opening, connection }),
                Err(error) => {
                    tracing::error!(%error, "the spool's reader cannot connect");
                    Err(Failure::Sqlite(error))
                }
            };
        }
    }

    /// Tells how a question went.
    fn tell(&self, failure: Option<&Failure>) {
        match failure {
            Some(Failure::Shut(_)) => {}
            Some(failure) if failure.is_damage() => self.standing.is_damaged(failure.to_string()),
            failure => self.standing.was_read(failure.map_or(Ok(()), |failure| Err(failure.to_string()))),
        }
    }

    fn connected(&self) -> Result<&Connected, Failure> {
        self.connected.as_ref().map_err(|failure| match failure {
            Failure::Shut(why) => Failure::Shut(why.clone()),
            failure => Failure::Unavailable(failure.to_string()),
        })
    }

    fn connection(&self) -> Result<&Connection, Failure> {
        self.connected().map(|connected| &connected.connection)
    }

    pub(super) fn job(&self, id: JobId) -> Result<Option<JobView>, Failure> {
        let found = self
            .connection()?
            .prepare_cached(
                "SELECT *, EXISTS (SELECT 1 FROM responses WHERE responses.seq = jobs.seq)
                     AS has_response
                 FROM jobs WHERE id = ?1",
            )?
            .query_row([id.as_bytes()], |row| Ok((row.get("state")?, view(row)?)))
            .optional()?;
        let Some((code, mut view)) = found else {
            return Ok(None);
        };
        view.state = state_of(code).ok_or_else(|| unknown_state(code))?;
        Ok(Some(view))
    }

    pub(super) fn response(&self, id: JobId) -> Result<Option<StoredResponse>, Failure> {
        let sealed: Option<Vec<u8>> = self
            .connection()?
            .prepare_cached("SELECT sealed FROM responses JOIN jobs USING (seq) WHERE id = ?1")?
            .query_row([id.as_bytes()], |row| row.get(0))
            .optional()?;
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        self.connected()?
            .opening
            .sealer
            .open(Purpose::Response, id, sealed, codec::decode_response)?
            .ok_or_else(|| Failure::Damaged("its answer cannot be read".to_owned()))
            .map(Some)
    }

    pub(super) fn counts(&self) -> Result<Counts, Failure> {
        // One transaction, so that the figures are of one moment.
        let snapshot = self.connection()?.unchecked_transaction()?;
        let mut counts = Counts::default();
        let mut statement = snapshot.prepare_cached("SELECT state, jobs, bytes FROM tally")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let code = row.get(0)?;
            let jobs = to_millis(row.get(1)?);
            match state_of(code).ok_or_else(|| unknown_state(code))? {
                JobState::Queued => counts.queued = jobs,
                JobState::Leased => counts.leased = jobs,
                JobState::Done => counts.done = jobs,
                JobState::Dead => counts.dead = jobs,
                JobState::Cancelled => counts.cancelled = jobs,
                JobState::Expired => counts.expired = jobs,
            }
            counts.stored_bytes += to_millis(row.get(2)?);
        }
        let oldest: Option<i64> = snapshot
            .prepare_cached("SELECT MIN(created_ms) FROM jobs WHERE state = 0")?
            .query_row([], |row| row.get(0))?;
        counts.oldest_queued_created_ms = oldest.map(to_millis);
        Ok(counts)
    }

    /// Goes from name to name and from there to the first job due, so that the cost depends on the
    /// upstreams and not on the jobs.
    pub(super) fn runnable_upstreams(&self) -> Result<Vec<(String, u64)>, Failure> {
        let found = self
            .connection()?
            .prepare_cached(
                "WITH RECURSIVE names (name) AS (
                     SELECT (SELECT MIN(upstream) FROM jobs WHERE state = 0)
                     UNION ALL
                     SELECT (SELECT MIN(upstream) FROM jobs WHERE state = 0 AND upstream > name)
                     FROM names WHERE name IS NOT NULL)
                 SELECT name, (SELECT MIN(not_before_ms) FROM jobs
                               WHERE state = 0 AND upstream = name)
                 FROM names WHERE name IS NOT NULL",
            )?
            .query_map([], |row| Ok((row.get(0)?, to_millis(row.get(1)?))))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(found)
    }
}

/// All of a job's row but its state.
fn view(row: &Row<'_>) -> rusqlite::Result<JobView> {
    Ok(JobView {
        id: JobId::from_bytes(row.get("id")?),
        state: JobState::Queued,
        upstream: row.get("upstream")?,
        dialect: row.get("dialect")?,
        model: row.get("model")?,
        request_id: row.get("request_id")?,
        priority: row.get("priority")?,
        created_ms: to_millis(row.get("created_ms")?),
        updated_ms: to_millis(row.get("updated_ms")?),
        not_before_ms: to_millis(row.get("not_before_ms")?),
        expires_at_ms: to_millis(row.get("expires_at_ms")?),
        attempts: row.get("attempts")?,
        crash_count: row.get("crash_count")?,
        last_reason: row.get("reason")?,
        has_response: row.get("has_response")?,
    })
}
