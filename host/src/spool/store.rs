//! The spool's store: SQLite in write-ahead mode, one writer thread with group commit, one reader.
//!
//! The writer thread owns the only connection that writes. What waits in its channel is put into one
//! transaction and acknowledged after that transaction is synced, so that a flush is shared by all who
//! wait for one. Reads have a read-only connection and a thread of their own: write-ahead mode never
//! makes a reader wait for a writer, so a client that polls its job does not wait behind the disk's
//! flushes, and a flood of polls does not delay a commit.
//!
//! The handle outlives what it stands for: while the folder cannot be opened, or has gone, the store is
//! shut, every operation says why, and `home` opens it again when that can be done.

mod ballast;
mod claims;
mod failure;
mod file_system;
mod folder;
mod home;
mod operation;
mod operations;
mod queries;
mod schema;
mod standing;
mod survey;
#[cfg(test)]
mod tests;
mod upkeep;
mod watch;
mod worker;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use ring::rand::SystemRandom;
use tokio::sync::oneshot;

use self::failure::Failure;
use self::home::Home;
use self::operation::{Kind, Operation};
use self::operations::Limits;
use self::queries::ReadView;
use self::standing::Standing;
use self::worker::Worker;
use self::writer::{Store, Writer};
use super::error::{EnqueueError, OpenError, StoreError};
use super::job::{CancelOutcome, ClaimedJob, Counts, JobId, JobView, Lease, NewJob, StoredResponse, random_bytes};
use super::seal::Sealer;

pub(crate) use self::survey::{Survey, survey};
pub(crate) use self::writer::GROUP_MAX;

/// How long a request waits for its commit before it is refused. A client that asked for a `202` is
/// better served by an error within seconds than by silence, and a healthy disk flushes in well under
/// one.
pub(crate) const ENQUEUE_DEADLINE: Duration = Duration::from_secs(5);

/// Requests to the writer that may wait; senders beyond wait for a place. Four groups keep the writer
/// busy, and more would only be memory.
const WRITES_WAITING_MAX: usize = 4 * GROUP_MAX;

/// Reads that may wait; senders beyond wait for a place.
const READS_WAITING_MAX: usize = 256;

/// Where the spool lives and how much it takes.
#[derive(Debug, Clone)]
pub(crate) struct SpoolSettings {
    /// A folder of the spool's own on a local disk, created if it is missing.
    pub dir: PathBuf,
    /// Queued and running jobs at which new ones are refused.
    pub max_jobs: u64,
    /// Bytes of requests and answers at which new requests are refused. Answers to requests already
    /// taken are stored even beyond it. The database file keeps below about twice this, which is how
    /// badly its pages may be filled.
    pub max_size: u64,
    /// How long ended jobs and their answers are kept.
    pub retention: Duration,
    /// The key for what is stored; without it, the folder's own `spool.key` is used and, in an empty
    /// folder, created.
    pub sealer: Option<Sealer>,
}

/// The handle to the spool, open or shut; clones share one store.
///
/// When the last clone is dropped, what was already asked for is finished, the threads end and the
/// folder is free again; that drop blocks for as long as the last commit takes.
///
/// A future that is dropped before its answer may leave its operation done or not done. An undelivered
/// enqueue or claim is undone where it can be, but for certainty run claims and adoptions in a task
/// that is not cancelled.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    threads: Arc<Threads>,
    standing: Arc<Standing>,
    enqueue_deadline: Duration,
}

/// Dropped in this order: SQLite tidies up only when the writer's connection is the last to close.
#[derive(Debug)]
struct Threads {
    reader: Worker<queries::Read>,
    writer: Worker<Operation>,
}

/// How the first opening goes.
#[derive(Debug)]
pub(crate) struct FirstOpening(Receiver<Result<(), OpenError>>);

impl FirstOpening {
    /// Waits for the end of it; `None` if it takes longer than `patience`, as on a disk that hangs. It goes on then.
    pub(crate) fn wait(self, patience: Duration) -> Option<Result<(), OpenError>> {
        self.0.recv_timeout(patience).ok()
    }
}

impl Spool {
    /// Starts the spool, which opens its folder on a thread of its own, and takes back the jobs that ran when another
    /// process ended: they are queued again, or dead if that happened more than [`CRASHES_MAX`] times. What cannot be
    /// opened is tried again with every operation, once a second at most, and what was deleted or replaced while it was
    /// open is opened anew. `now_ms` is asked for the time then, and told when something last changed there: that has
    /// happened, so a clock that says less is behind, and by it jobs would wait for longer than they were told to. A
    /// damaged job never keeps the spool from opening.
    ///
    /// # Errors
    /// [`OpenError::System`] if there are no threads or random numbers to be had.
    pub(crate) fn start(
        settings: SpoolSettings,
        now_ms: impl Fn(u64) -> u64 + Send + 'static,
    ) -> Result<(Self, FirstOpening), OpenError> {
        let incarnation =
            random_bytes(&SystemRandom::new()).ok_or_else(|| OpenError::System("random numbers".to_owned()))?;
        let limits = Limits {
            max_jobs: settings.max_jobs,
            max_size: settings.max_size,
            retention_ms: crate::runtime::clock::milliseconds(settings.retention),
        };
        let standing = Arc::new(Standing::new(ENQUEUE_DEADLINE, settings.retention));
        let reads = ReadView::new(Arc::clone(&standing));
        let reader = Worker::spawn("spool-reader", READS_WAITING_MAX, |queue| {
            reads.serve(queue);
        })?;
        let let_go = reader.nudge(queries::Read::nothing);
        let home = Home::new(settings, limits, incarnation, Box::new(now_ms), Arc::clone(&standing), let_go);
        let mut writer = Writer::new(home);
        let (opened, first) = sync_channel(1);
        let threads = Threads {
            reader,
            writer: Worker::spawn("spool-writer", WRITES_WAITING_MAX, move |queue| {
                // Whoever started it may not wait for it.
                let _ = opened.send(writer.open());
                writer.serve(queue);
            })?,
        };
        let spool = Self { threads: Arc::new(threads), standing, enqueue_deadline: ENQUEUE_DEADLINE };
        Ok((spool, FirstOpening(first)))
    }

    /// Whether a request would be kept now, as far as is known without asking the disk.
    #[must_use]
    pub(crate) fn promises(&self) -> bool {
        self.standing.promises()
    }

    /// Everything about it that is not as it should be, a sentence each. Asks no disk.
    #[must_use]
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.standing.troubles()
    }

    /// What was lost since the process began, while somebody may still ask for it: a sentence.
    #[must_use]
    pub(crate) fn loss(&self) -> Option<String> {
        self.standing.loss()
    }

    /// Whether another process has the folder, so that what lies in it is not this one's to write.
    #[must_use]
    pub(crate) fn is_anothers(&self) -> bool {
        self.standing.is_anothers()
    }

    /// Puts a request on disk. When this returns an id, the request is synced and will end in a
    /// visible terminal state.
    ///
    /// # Errors
    /// See [`EnqueueError`]. On any of them, a deadline missed included, the job will not run.
    pub(crate) async fn enqueue(&self, job: NewJob) -> Result<JobId, EnqueueError> {
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
    pub(crate) async fn adopt(&self, job: NewJob) -> Result<Lease, EnqueueError> {
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
    pub(crate) async fn claim(&self, upstream: &str, now_ms: u64) -> Result<Option<ClaimedJob>, StoreError> {
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
    pub(crate) async fn complete(
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
    pub(crate) async fn release(
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
    pub(crate) async fn bury(
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
    pub(crate) async fn cancel(&self, id: JobId, now_ms: u64) -> Result<CancelOutcome, StoreError> {
        self.settle(0, move |store| operations::cancel(store, id, now_ms)).await
    }

    /// Expires the queued jobs whose time has passed, deletes the ended ones whose retention is over,
    /// and gives the file's free space back to the disk. Returns how many jobs it touched.
    /// Call it every few seconds.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn purge_expired(&self, now_ms: u64) -> Result<u64, StoreError> {
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
    pub(crate) async fn get(&self, id: JobId) -> Result<Option<JobView>, StoreError> {
        self.read(move |view| view.job(id)).await
    }

    /// The stored answer of a job, verbatim; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Damaged`].
    pub(crate) async fn response(&self, id: JobId) -> Result<Option<StoredResponse>, StoreError> {
        self.read(move |view| view.response(id)).await
    }

    /// How many jobs stand where. Costs the same however many there are.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(ReadView::counts).await
    }

    /// The upstreams with queued jobs, by name, and when the first job of each may run; 0 is now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn runnable_upstreams(&self) -> Result<Vec<(String, u64)>, StoreError> {
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
        // Nobody's time is spent on a disk that is known to hang.
        if let Some(why) = self.standing.hangs() {
            return Err(Failure::Unavailable(why).into());
        }
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
