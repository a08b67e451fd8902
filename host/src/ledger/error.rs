//! Why the ledger cannot be kept.

use std::io;
use std::path::PathBuf;

/// Why the ledger cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// Its database.
    #[error("its database: {0}")]
    Database(#[from] rusqlite::Error),
    /// Its folder or a journal.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its disk does not answer.
    #[error("the disk of {} does not answer; mend it, or give Spillway another `spool.dir`", .0.display())]
    Silent(PathBuf),
    /// Another process keeps it.
    #[error("another Spillway keeps its ledger in {}; give this one another `spool.dir`", .0.display())]
    Kept(PathBuf),
}
