//! What can go wrong, whose fault it is, and what to do next.

use std::fmt;
use std::path::PathBuf;

use crate::runtime::size::size;

/// Which of the spool's bounds was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// `max_jobs`: queued and running jobs.
    Jobs,
    /// `max_size`: requests and answers kept.
    Bytes,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jobs => "jobs",
            Self::Bytes => "bytes",
        })
    }
}

/// Why a request was not taken. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnqueueError {
    /// A bound is reached; it passes when jobs drain or retention ends.
    #[error("the spool is full, holding {depth} of {limit} {bound}; try again when it has drained")]
    Full {
        bound: Bound,
        /// What is held, in units of the bound.
        depth: u64,
        /// The bound's value.
        limit: u64,
    },
    /// The request alone exceeds what one job may take, so waiting does not help.
    #[error(
        "the request takes {bytes} bytes and the spool keeps at most {limit_bytes} for one job; \
         send less or raise the spool's `max_size`"
    )]
    TooLarge {
        /// What the request would take.
        bytes: u64,
        /// The most one job may take.
        limit_bytes: u64,
    },
    /// The store does not work at the moment, or did not answer in time.
    #[error("the spool cannot store the request now: {0}")]
    Unavailable(String),
}

/// Why an operation on a stored job failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The job was settled, claimed again or recovered since the lease was granted: whatever the
    /// holder did no longer counts.
    #[error("the lease is stale: the job was settled or claimed again since; drop this result")]
    StaleLease,
    /// The answer is larger than the store can keep; the lease still holds.
    #[error("the answer takes {bytes} bytes and the spool keeps at most {limit_bytes} for one")]
    TooLarge {
        /// What the answer would take.
        bytes: u64,
        /// The most one answer may take.
        limit_bytes: u64,
    },
    /// What is stored cannot be read back. Other jobs are not affected.
    #[error("the stored record is damaged: {0}")]
    Damaged(String),
    /// The store is not open; whoever shut it has told so, and it is opened again when that can be done.
    #[error("{0}")]
    Shut(String),
    /// The store does not work at the moment. A write may or may not have happened: after repeating
    /// it, a stale lease means that it had.
    #[error("the spool's store does not work now: {0}")]
    Unavailable(String),
}

/// There is too little space on the spool's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its disk is full: it needs {} free, {} are; make room, and it goes on by itself",
    size(*needed_bytes), size(*free_bytes)
)]
pub(crate) struct NoRoom {
    /// What must be free before anything is promised.
    pub needed_bytes: u64,
    /// What is free for an unprivileged process.
    pub free_bytes: u64,
}

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Another process has the folder open.
    #[error(
        "{holder} already uses the spool folder {}; stop it, or give this one a folder of its own",
        dir.display()
    )]
    Locked {
        dir: PathBuf,
        /// Who holds it, as far as its lock file says.
        holder: String,
    },
    /// The folder or a file in it cannot be used.
    #[error("{}: {problem}", path.display())]
    Folder {
        path: PathBuf,
        /// What went wrong and what to do.
        problem: String,
    },
    /// There is too little space to open it.
    #[error("{0}")]
    NoRoom(#[from] NoRoom),
    /// The folder lies on a file system that cannot keep the promise.
    #[error(
        "{} lies on {kind}, where a database is easily corrupted; give the spool a local disk",
        dir.display()
    )]
    NetworkFileSystem {
        dir: PathBuf,
        /// The file system's name.
        kind: &'static str,
    },
    /// A later Spillway has written the folder.
    #[error(
        "{} has schema version {found} and this Spillway knows up to {known}; run the newer \
         Spillway, or give this one another folder", path.display()
    )]
    NewerSchema {
        path: PathBuf,
        found: i64,
        /// The newest version this build can read.
        known: i64,
    },
    /// The jobs were sealed with another key.
    #[error(
        "the key does not open the jobs in {}; bring back the key they were sealed with (the file \
         spool.key, or the one configured), or move the folder away to start empty", dir.display()
    )]
    WrongKey { dir: PathBuf },
    /// SQLite cannot work with the database as a whole.
    #[error(
        "the database {} cannot be opened: {problem}; if it is damaged, move the folder away to \
         start empty, and keep it for recovery", path.display()
    )]
    Database {
        path: PathBuf,
        /// SQLite's words.
        problem: String,
    },
    /// The system refuses what the spool needs to run: a thread, or random numbers.
    #[error("the system refuses {0}")]
    System(String),
}
