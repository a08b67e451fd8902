//! The thread that owns the writing connection, and its group commit.
//!
//! What waits is run in one transaction, each operation behind a savepoint of its own, and
//! acknowledged after the commit, which `synchronous = FULL` ends with a flush of the log. After a
//! failed commit nothing of the group is acknowledged and the connection is dropped: a flush that
//! failed is never repeated, because the kernel may have thrown away what it could not write and will
//! then report success.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::failure::Failure;
use super::home::Home;
use super::operation::{Fate, Kind, Operation};
use super::operations::Limits;
use super::schema;
use super::standing::Standing;
use crate::spool::error::OpenError;
use crate::spool::seal::Sealer;

/// Operations in one transaction: where the measured gain of a shared flush has long levelled off.
pub(crate) const GROUP_MAX: usize = 256;

/// Bytes of requests and answers in one transaction, which bounds the log and how long one waits for
/// the others. A single operation may be larger.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// Frames in the log at which it is copied back into the database: SQLite's own default, 4 MiB.
const CHECKPOINT_FRAMES: i64 = 1000;

/// The open database and what its operations need.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) connection: Connection,
    pub(super) sealer: Sealer,
    /// Random per process, so that a lease of an earlier one is never taken for one of this.
    pub(super) incarnation: [u8; 16],
    pub(super) limits: Limits,
    /// Where damage is told.
    pub(super) standing: Arc<Standing>,
}

/// Why a transaction was not committed.
enum Abort {
    /// An operation, whose result tells why, left the transaction unusable.
    Operation(Fate),
    /// The transaction could not begin or end.
    Transaction(Failure),
}

pub(super) struct Writer {
    home: Home,
    commits: u64,
}

impl Writer {
    pub(super) fn new(home: Home) -> Self {
        Self { home, commits: 0 }
    }

    /// Opens the store for the first time. What it fails of now is tried again later.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub(super) fn open(&mut self) -> Result<(), OpenError> {
        self.home.standing().works(true);
        let opened = self.home.open();
        self.home.standing().works(false);
        opened
    }

    /// Serves until the queue is closed and empty. Whatever waits when a transaction ends is the next
    /// group. Returns how many transactions were committed.
    pub(super) fn serve(mut self, mut queue: mpsc::Receiver<Operation>) -> u64 {
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.bytes;
            let mut group = vec![first];
            while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
                let Ok(next) = queue.try_recv() else { break };
                bytes = bytes.saturating_add(next.bytes);
                group.push(next);
            }
            self.serve_group(group);
        }
        self.commits
    }

    /// Runs a group and answers each of its operations.
    pub(super) fn serve_group(&mut self, group: Vec<Operation>) {
        self.home.standing().works(true);
        self.work_off(group);
        self.home.standing().works(false);
    }

    fn work_off(&mut self, mut group: Vec<Operation>) {
        group.retain(|operation| !operation.task.is_abandoned());
        let mut undo = Vec::new();
        if let Err(Failure::Shut(why)) = self.home.look() {
            return refuse(group, || Failure::Shut(why.clone()));
        }
        self.refuse_on_full_disk(&mut group);
        match self.commit(&mut group) {
            Ok(()) => answer(group, &mut undo),
            Err(Abort::Operation(fate)) => self.serve_one_by_one(fate, group, &mut undo),
            Err(Abort::Transaction(failure)) if failure.is_no_space() => {
                self.serve_one_by_one(Fate::NoSpace, group, &mut undo);
            }
            Err(Abort::Transaction(failure)) => self.give_up(group, &failure),
        }
        self.checkpoint();
        if !undo.is_empty() {
            // These have nobody to answer, so they leave nothing to undo in turn.
            self.work_off(undo);
        }
    }

    /// After a group was rolled back because of one of its operations, gives each a transaction of its
    /// own. Settlements may now exceed the quota: they bring answers to what was taken before.
    fn serve_one_by_one(&mut self, fate: Fate, group: Vec<Operation>, undo: &mut Vec<Operation>) {
        self.react(fate);
        for operation in group {
            let settles = operation.kind == Kind::Settlement;
            let mut alone = vec![operation];
            self.refuse_on_full_disk(&mut alone);
            if settles {
                self.limit_pages(schema::lift_page_limit);
            }
            match self.commit(&mut alone) {
                Ok(()) => answer(alone, undo),
                Err(Abort::Operation(fate)) => {
                    self.react(fate);
                    // The disk may be full by now, and says how full better than the database does.
                    if fate == Fate::NoSpace {
                        self.refuse_on_full_disk(&mut alone);
                    }
                    answer(alone, undo);
                }
                Err(Abort::Transaction(failure)) => self.give_up(alone, &failure),
            }
            if settles {
                let limits = self.home.limits();
                self.limit_pages(|connection| schema::limit_pages(connection, &limits));
            }
        }
    }

    /// While the ballast is spent, what space there is belongs to the jobs already taken.
    fn refuse_on_full_disk(&mut self, group: &mut Vec<Operation>) {
        let admissions = group.iter().any(|operation| operation.kind == Kind::Admission);
        if !admissions {
            return;
        }
        if let Err(why) = self.home.room() {
            let refused = group.extract_if(.., |operation| operation.kind == Kind::Admission).collect();
            refuse(refused, || Failure::Unavailable(why.clone()));
        }
    }

    /// One transaction for the group. An operation that fails for its own reason is undone alone and
    /// keeps its failure as its result.
    fn commit(&mut self, group: &mut [Operation]) -> Result<(), Abort> {
        if group.is_empty() {
            return Ok(());
        }
        if self.home.store().is_err() {
            self.home.look().map_err(Abort::Transaction)?;
        }
        let store = self.home.store().map_err(Abort::Transaction)?;
        let connection = &store.connection;
        let transact = |sql: &str| run(connection, sql).map_err(Abort::Transaction);
        transact("BEGIN IMMEDIATE")?;
        for operation in group {
            transact("SAVEPOINT operation")?;
            let fate = operation.task.run(store);
            // On some errors SQLite rolls the whole transaction back.
            if connection.is_autocommit() || matches!(fate, Fate::NoSpace | Fate::Io) {
                roll_back(connection);
                return Err(match fate {
                    Fate::Done => {
                        Abort::Transaction(Failure::Unavailable("SQLite ended the transaction early".to_owned()))
                    }
                    Fate::Failed | Fate::NoSpace | Fate::Io => Abort::Operation(fate),
                });
            }
            if fate == Fate::Failed {
                transact("ROLLBACK TO operation")?;
            }
            transact("RELEASE operation")?;
        }
        if let Err(abort) = transact("COMMIT") {
            roll_back(connection);
            return Err(abort);
        }
        self.commits += 1;
        if self.home.standing().was_written(Ok(())) {
            tracing::info!("the spool commits again");
        }
        // What was synced into a file that is deleted is not on disk.
        self.home.leave_if_changed();
        self.home.store().map(|_| ()).map_err(Abort::Transaction)
    }

    fn react(&mut self, fate: Fate) {
        match fate {
            Fate::Done | Fate::Failed => {}
            Fate::NoSpace => self.home.make_room_to_drain(),
            Fate::Io => self.home.disconnect(),
        }
    }

    /// Acknowledges nothing of the group and gives the connection up.
    fn give_up(&mut self, group: Vec<Operation>, failure: &Failure) {
        if let Failure::Shut(why) = failure {
            return refuse(group, || Failure::Shut(why.clone()));
        }
        let why = failure.to_string();
        // Said once, and tried again with every group.
        if self.home.standing().was_written(Err(why.clone())) {
            tracing::error!(operations = group.len(), why, "the spool cannot commit");
        }
        if failure.is_damage() {
            self.home.standing().is_damaged(why.clone());
        }
        self.home.disconnect();
        refuse(group, || Failure::Unavailable(why.clone()));
    }

    fn limit_pages(&self, set: impl FnOnce(&Connection) -> rusqlite::Result<()>) {
        if let Ok(store) = self.home.store()
            && let Err(error) = set(&store.connection)
        {
            tracing::warn!(%error, "cannot change the spool's page limit");
        }
    }

    /// Copies the log back once it has grown. A failure is treated like that of a commit, since the
    /// flush it contains must not be repeated on the same connection.
    fn checkpoint(&mut self) {
        let Ok(store) = self.home.store() else { return };
        let (frames, copied) = match checkpoint(&store.connection, "NOOP") {
            Ok(found) => found,
            Err(failure) => return self.give_up(Vec::new(), &failure),
        };
        if frames >= CHECKPOINT_FRAMES && copied < frames {
            match checkpoint(&store.connection, "PASSIVE") {
                Ok(_) => {}
                Err(failure) if failure.is_no_space() => self.react(Fate::NoSpace),
                Err(failure) => self.give_up(Vec::new(), &failure),
            }
        }
    }
}

fn answer(group: Vec<Operation>, undo: &mut Vec<Operation>) {
    undo.extend(group.into_iter().filter_map(|operation| operation.task.answer()));
}

fn refuse(group: Vec<Operation>, mut why: impl FnMut() -> Failure) {
    for operation in group {
        operation.task.refuse(why());
    }
}

fn run(connection: &Connection, sql: &str) -> Result<(), Failure> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn roll_back(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(failure) = run(connection, "ROLLBACK")
    {
        tracing::warn!(?failure, "cannot roll back");
    }
}

/// The frames in the log, and how many of them are in the database as well.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> Result<(i64, i64), Failure> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    Ok(statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?)
}
