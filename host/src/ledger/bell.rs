//! How workers tell the ledger's keeper that there is something to read, and what went wrong.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Thread;

/// Rung by workers, heard by the keeper.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    ends: AtomicBool,
    keeper: OnceLock<Thread>,
    /// Entries that a full disk has lost.
    lost: AtomicU64,
    /// Why nothing is written at present.
    trouble: Mutex<Option<String>>,
}

impl Bell {
    /// The keeper is this thread.
    pub(super) fn heard_here(&self) {
        let _ = self.keeper.set(std::thread::current());
    }

    /// There is something to read.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(keeper) = self.keeper.get()
        {
            keeper.unpark();
        }
    }

    /// The keeper shall take over what there is, and end.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn ends(&self) -> bool {
        self.ends.load(Ordering::Acquire)
    }

    /// Whether it was rung since this was last asked.
    pub(super) fn was_rung(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// Entries that were lost because nothing could be written for long.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn lost_one(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Why nothing is written at present, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn failed(&self, error: &io::Error) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        tracing::error!(%error, "the ledger cannot be written: limits are kept in memory, and what is spent meanwhile \
                                 may be missing in it after a restart; make room on its disk");
    }

    pub(super) fn recovered(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        tracing::info!(lost = self.lost(), "the ledger is written again");
    }
}
