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

use super::ballast::Ballast;
use super::failure::Failure;
use super::folder::Folder;
use super::operation::{Fate, Kind, Operation};
use super::operations::Limits;
use super::schema;
use crate::spool::seal::Sealer;

/// Operations in one transaction: where the measured gain of a shared flush has long levelled off.
pub const GROUP_MAX: usize = 256;

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
}

impl Store {
    pub(super) fn new(connection: Connection, sealer: Sealer, incarnation: [u8; 16], limits: Limits) -> Self {
        Self { connection, sealer, incarnation, limits }
    }
}

/// Why a transaction was not committed.
enum Abort {
    /// An operation, whose result tells why, left the transaction unusable.
    Operation(Fate),
    /// The transaction could not begin or end.
    Transaction(Failure),
}

pub(super) struct Writer {
    /// `None` after a failure, until it could be opened again.
    store: Option<Store>,
    reopen: Reopen,
    ballast: Ballast,
    commits: u64,
}

struct Reopen {
    folder: Arc<Folder>,
    sealer: Sealer,
    incarnation: [u8; 16],
    limits: Limits,
}

impl Writer {
    pub(super) fn new(store: Store, folder: Arc<Folder>, ballast: Ballast) -> Self {
        let reopen =
            Reopen { folder, sealer: store.sealer.clone(), incarnation: store.incarnation, limits: store.limits };
        Self { store: Some(store), reopen, ballast, commits: 0 }
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
    pub(super) fn serve_group(&mut self, mut group: Vec<Operation>) {
        group.retain(|operation| !operation.task.is_abandoned());
        let mut undo = Vec::new();
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
            self.serve_group(undo);
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
                    answer(alone, undo);
                }
                Err(Abort::Transaction(failure)) => self.give_up(alone, &failure),
            }
            if settles {
                let limits = self.reopen.limits;
                self.limit_pages(|connection| schema::limit_pages(connection, &limits));
            }
        }
    }

    /// While the ballast is spent, what space there is belongs to the jobs already taken.
    fn refuse_on_full_disk(&mut self, group: &mut Vec<Operation>) {
        let ballast = &mut self.ballast;
        let refused = group.extract_if(.., |operation| operation.kind == Kind::Admission && !ballast.admits());
        for operation in refused {
            operation.task.refuse(Failure::Unavailable("its disk is full; free some space, then try again".to_owned()));
        }
    }

    /// One transaction for the group. An operation that fails for its own reason is undone alone and
    /// keeps its failure as its result.
    fn commit(&mut self, group: &mut [Operation]) -> Result<(), Abort> {
        if group.is_empty() {
            return Ok(());
        }
        let store = self.open().map_err(Abort::Transaction)?;
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
        Ok(())
    }

    /// The store, opened again if it was given up.
    fn open(&mut self) -> Result<&Store, Failure> {
        let store = match self.store.take() {
            Some(store) => store,
            None => {
                let Reopen { folder, sealer, incarnation, limits } = &self.reopen;
                let connection =
                    folder.open_database(sealer, limits).map_err(|error| Failure::Unavailable(error.to_string()))?;
                tracing::info!("the spool's database is open again");
                Store::new(connection, sealer.clone(), *incarnation, *limits)
            }
        };
        Ok(self.store.insert(store))
    }

    fn react(&mut self, fate: Fate) {
        match fate {
            Fate::Done | Fate::Failed => {}
            Fate::NoSpace => self.ballast.make_room_to_drain(),
            Fate::Io => self.store = None,
        }
    }

    /// Acknowledges nothing of the group and gives the connection up.
    fn give_up(&mut self, group: Vec<Operation>, failure: &Failure) {
        let why = failure.to_string();
        tracing::error!(operations = group.len(), why, "the spool cannot commit");
        self.store = None;
        for operation in group {
            operation.task.refuse(Failure::Unavailable(why.clone()));
        }
    }

    fn limit_pages(&self, set: impl FnOnce(&Connection) -> rusqlite::Result<()>) {
        if let Some(store) = &self.store
            && let Err(error) = set(&store.connection)
        {
            tracing::warn!(%error, "cannot change the spool's page limit");
        }
    }

    /// Copies the log back once it has grown. A failure is treated like that of a commit, since the
    /// flush it contains must not be repeated on the same connection.
    fn checkpoint(&mut self) {
        let Some(store) = &self.store else { return };
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
fn checkpoint(connection: &Connection, mode: &str) -> Result<(i64, i64), Failure> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    Ok(statement.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?)
}
