//! The spool's store: SQLite in write-ahead mode, one writer thread with group commit, one reader.
//!
//! The writer thread owns the only connection that writes. What waits in its channel is put into one
//! transaction and acknowledged after that transaction is synced, so that a flush is shared by all who
//! wait for one. Reads have a read-only connection and a thread of their own: write-ahead mode never
//! makes a reader wait for a writer, so a client that polls its job does not wait behind the disk's
//! flushes, and a flood of polls does not delay a commit.

mod ballast;
mod claims;
mod failure;
mod folder;
mod operation;
mod operations;
mod queries;
mod schema;
#[cfg(test)]
mod tests;
mod upkeep;
mod worker;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::SystemRandom;
use tokio::sync::oneshot;

use self::ballast::Ballast;
use self::failure::Failure;
use self::folder::Folder;
use self::operation::{Kind, Operation};
use self::operations::Limits;
use self::queries::ReadView;
use self::worker::Worker;
use self::writer::{Store, Writer};
use super::error::{EnqueueError, OpenError, StoreError};
use super::job::{CancelOutcome, ClaimedJob, Counts, JobId, JobView, Lease, NewJob, StoredResponse, random_bytes};
use super::seal::Sealer;

pub use self::upkeep::CRASHES_MAX;
pub use self::writer::GROUP_MAX;

/// How long a request waits for its commit before it is refused. A client that asked for a `202` is
/// better served by an error within seconds than by silence, and a healthy disk flushes in well under
/// one.
pub const ENQUEUE_DEADLINE: Duration = Duration::from_secs(5);

/// Requests to the writer that may wait; senders beyond wait for a place. Four groups keep the writer
/// busy, and more would only be memory.
const WRITES_WAITING_MAX: usize = 4 * GROUP_MAX;

/// Reads that may wait; senders beyond wait for a place.
const READS_WAITING_MAX: usize = 256;

/// Where the spool lives and how much it takes.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// A folder of the spool's own on a local disk, created if it is missing.
    pub dir: PathBuf,
    /// Queued and running jobs at which new ones are refused.
    pub max_jobs: u64,
    /// Bytes of requests and answers at which new requests are refused. Answers to requests already
    /// taken are stored even beyond it. The database file keeps below about twice this, which is how
    /// badly its pages may be filled.
    pub max_bytes: u64,
    /// How long ended jobs and their answers are kept.
    pub retention: Duration,
    /// The key for what is stored; without it, the folder's own `spool.key` is used and, in an empty
    /// folder, created.
    pub sealer: Option<Sealer>,
}

/// The handle to the spool; clones share one store.
///
/// When the last clone is dropped, what was already asked for is finished, the threads end and the
/// folder is free again; that drop blocks for as long as the last commit takes.
///
/// A future that is dropped before its answer may leave its operation done or not done. An undelivered
/// enqueue or claim is undone where it can be, but for certainty run claims and adoptions in a task
/// that is not cancelled.
#[derive(Debug, Clone)]
pub struct Spool {
    threads: Arc<Threads>,
    enqueue_deadline: Duration,
}

/// Dropped in this order: SQLite tidies up only when the writer's connection is the last to close,
/// and the folder must stay locked until then.
#[derive(Debug)]
struct Threads {
    reader: Worker<queries::Read>,
    writer: Worker<Operation>,
    _folder: Arc<Folder>,
}

impl Spool {
    /// Opens the spool in its folder and takes back the jobs that ran when the last process ended:
    /// they are queued again, or dead if that happened more than [`CRASHES_MAX`] times. Blocks on the
    /// disk; a damaged job never keeps the spool from opening.
    ///
    /// # Errors
    /// See [`OpenError`]; each says what to do.
    pub fn open(settings: SpoolSettings, now_ms: u64) -> Result<Self, OpenError> {
        let folder = Arc::new(Folder::lock(settings.dir)?);
        let mut ballast = Ballast::new(folder.dir(), settings.max_bytes);
        ballast.make_room_to_open();
        let sealer = folder.sealer(settings.sealer)?;
        let incarnation =
            random_bytes(&SystemRandom::new()).ok_or_else(|| OpenError::System("random numbers".to_owned()))?;
        let limits = Limits {
            max_jobs: settings.max_jobs,
            max_bytes: settings.max_bytes,
            retention_ms: crate::clock::milliseconds(settings.retention),
        };
        let connection = folder.open_database(&sealer, &limits)?;
        let store = Store::new(connection, sealer.clone(), incarnation, limits);
        upkeep::recover(&store, now_ms).map_err(|failure| OpenError::Database {
            path: folder.database(),
            problem: StoreError::from(failure).to_string(),
        })?;
        ballast.restore();

        let reads = ReadView::new(folder.database(), sealer);
        let writer = Writer::new(store, Arc::clone(&folder), ballast);
        let threads = Threads {
            reader: Worker::spawn("spool-reader", READS_WAITING_MAX, |queue| {
                reads.serve(queue);
            })?,
            writer: Worker::spawn("spool-writer", WRITES_WAITING_MAX, |queue| {
                writer.serve(queue);
            })?,
            _folder: folder,
        };
        Ok(Self { threads: Arc::new(threads), enqueue_deadline: ENQUEUE_DEADLINE })
    }

    /// Puts a request on disk. When this returns an id, the request is synced and will end in a
    /// visible terminal state.
    ///
    /// # Errors
    /// See [`EnqueueError`]. On any of them, a deadline missed included, the job will not run.
    pub async fn enqueue(&self, job: NewJob) -> Result<JobId, EnqueueError> {
        let bytes = operations::job_bytes(&job);
        let (operation, answer) = Operation::undoable(
            Kind::Admission,
            bytes,
            move |store| operations::enqueue(store, &job),
            operations::withdraw,
        );
        self.admit(operation, answer).await
    }

    /// Puts a request on disk whose call is already under way in this process: the job is leased from
    /// the start, and after a crash it is queued.
    ///
    /// # Errors
    /// See [`EnqueueError`]. On any of them the job will not run.
    pub async fn adopt(&self, job: NewJob) -> Result<Lease, EnqueueError> {
        let bytes = operations::job_bytes(&job);
        let (operation, answer) = Operation::undoable(
            Kind::Admission,
            bytes,
            move |store| operations::adopt(store, &job),
            operations::disown,
        );
        self.admit(operation, answer).await
    }

    /// Takes the next job of `upstream` that may run at `now_ms`: the highest priority first, then
    /// the order of arrival. Its attempt is on disk before this returns. Jobs that turn out expired or
    /// unreadable on the way are ended and passed over.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn claim(&self, upstream: &str, now_ms: u64) -> Result<Option<ClaimedJob>, StoreError> {
        let upstream = upstream.to_owned();
        let (operation, answer) = Operation::undoable(
            Kind::Settlement,
            0,
            move |store| claims::claim(store, &upstream, now_ms),
            move |store, claimed| match claimed {
                Some(claimed) => claims::unclaim(store, &claimed.lease, now_ms),
                None => Ok(()),
            },
        );
        Ok(self.write(operation, answer).await?)
    }

    /// Ends a job with its answer; the request itself is deleted. Pass an `Arc` to keep the answer for
    /// another try.
    ///
    /// # Errors
    /// [`StoreError::StaleLease`], [`StoreError::TooLarge`] or [`StoreError::Unavailable`]; after the
    /// last two the lease still holds.
    pub async fn complete(
        &self,
        lease: &Lease,
        response: impl Into<Arc<StoredResponse>>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let (lease, response) = (lease.clone(), response.into());
        let bytes = operations::answer_bytes(Some(&response));
        self.settle(bytes, move |store| operations::complete(store, &lease, &response, now_ms)).await
    }

    /// Queues a leased job again, to run at `not_before_ms` or later, with the reason. Without
    /// `counts`, the attempt is given back, as when a breaker kept the call from being made.
    ///
    /// # Errors
    /// [`StoreError::StaleLease`] or [`StoreError::Unavailable`].
    pub async fn release(
        &self,
        lease: &Lease,
        not_before_ms: u64,
        reason: impl Into<String>,
        counts: bool,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let (lease, reason) = (lease.clone(), reason.into());
        self.settle(0, move |store| operations::release(store, &lease, not_before_ms, &reason, counts, now_ms)).await
    }

    /// Gives a job up, with the reason and the last answer if there was one. The request is kept with
    /// the dead letter until retention ends. A reason must hold no secret: it is stored in clear.
    ///
    /// # Errors
    /// As for [`Spool::complete`].
    pub async fn bury(
        &self,
        lease: &Lease,
        reason: impl Into<String>,
        response: Option<StoredResponse>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let (lease, reason) = (lease.clone(), reason.into());
        let bytes = operations::answer_bytes(response.as_ref());
        self.settle(bytes, move |store| operations::bury(store, &lease, &reason, response.as_ref(), now_ms)).await
    }

    /// Withdraws a job that has not begun to run.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Damaged`].
    pub async fn cancel(&self, id: JobId, now_ms: u64) -> Result<CancelOutcome, StoreError> {
        self.settle(0, move |store| operations::cancel(store, id, now_ms)).await
    }

    /// Expires the queued jobs whose time has passed, deletes the ended ones whose retention is over,
    /// and gives the file's free space back to the disk. Returns how many jobs it touched.
    /// Call it every few seconds.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn purge_expired(&self, now_ms: u64) -> Result<u64, StoreError> {
        let mut total = 0;
        // Each batch is an operation of its own, so that others get their turn in between.
        loop {
            let batch = self.settle(0, move |store| upkeep::purge(store, now_ms));
            let purged = batch.await?;
            total += purged.jobs;
            if !purged.more {
                break;
            }
        }
        while self.settle(0, upkeep::shrink).await? {}
        Ok(total)
    }

    /// What may be told of a job; `None` if there is none of this id, or none any more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Damaged`].
    pub async fn get(&self, id: JobId) -> Result<Option<JobView>, StoreError> {
        self.read(move |view| view.job(id)).await
    }

    /// The stored answer of a job, verbatim; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Damaged`].
    pub async fn response(&self, id: JobId) -> Result<Option<StoredResponse>, StoreError> {
        self.read(move |view| view.response(id)).await
    }

    /// How many jobs stand where. Costs the same however many there are.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(ReadView::counts).await
    }

    /// The upstreams with queued jobs, by name, and when the first job of each may run; 0 is now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn runnable_upstreams(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.read(ReadView::runnable_upstreams).await
    }

    async fn settle<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnMut(&Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (operation, answer) = Operation::new(Kind::Settlement, bytes, work);
        Ok(self.write(operation, answer).await?)
    }

    async fn write<T>(
        &self,
        operation: Operation,
        answer: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.threads.writer.send(operation).await?;
        answer.await.unwrap_or_else(|_| Err(Failure::stopped()))
    }

    async fn admit<T>(
        &self,
        operation: Operation,
        mut answer: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, EnqueueError> {
        let exchange = async {
            self.threads.writer.send(operation).await?;
            (&mut answer).await.unwrap_or_else(|_| Err(Failure::stopped()))
        };
        let outcome = match tokio::time::timeout(self.enqueue_deadline, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // Once closed, either the answer is here already or the writer learns that nobody
                // waits, and withdraws the job.
                answer.close();
                answer.try_recv().unwrap_or_else(|_| {
                    Err(Failure::Unavailable(format!(
                        "the disk did not confirm the write within {:?}; the request was dropped, \
                         try again",
                        self.enqueue_deadline
                    )))
                })
            }
        };
        Ok(outcome?)
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&ReadView) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (read, answer) = queries::Read::new(query);
        self.threads.reader.send(read).await?;
        Ok(answer.await.unwrap_or_else(|_| Err(Failure::stopped()))?)
    }
}
