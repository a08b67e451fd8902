//! How workers tell the ledger's keeper that there is something to read, and what stands in the way of either.

use super::error::LedgerError;
use super::sheet::{self, Sheet};
use crate::runtime::sync::lock;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Most bytes of journals in memory. Beyond it workers keep what they have to write, as with a disk that is full.
const MEMORY_BYTES_MAX: u64 = 32 << 20;
/// How long the keeper may be at one round before it is told that its disk hangs.
const ROUND_TAKES_AT_MOST: Duration = Duration::from_secs(5);

/// Rung by workers, heard by the keeper.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    ends: AtomicBool,
    keeper: OnceLock<Thread>,
    /// Entries that a full disk has lost.
    lost: AtomicU64,
    /// Whether journals are written in memory.
    is_in_memory: bool,
    /// How many bytes of memory they take.
    in_memory: AtomicU64,
    /// When the keeper has begun its round, while it is at one.
    round: Mutex<Option<Instant>>,
    /// Whether it is told that its disk hangs.
    is_told: AtomicBool,
    /// Why workers write nothing at present.
    unwritten: Mutex<Option<String>>,
    /// Why the keeper takes nothing over at present.
    untaken: Mutex<Option<String>>,
}

impl Bell {
    /// A bell for journals that are written in memory, or else on a disk.
    pub(super) fn new(is_in_memory: bool) -> Bell {
        Bell { is_in_memory, ..Bell::default() }
    }

    /// A new file for a journal.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn begin_sheet(&self, path: &Path) -> io::Result<Sheet> {
        let bytes = sheet::BYTES_MAX as u64;
        if self.is_in_memory && self.in_memory.load(Ordering::Relaxed) + bytes > MEMORY_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::QuotaExceeded, "its disk takes nothing over from memory"));
        }
        let sheet = Sheet::begin(path, self.is_in_memory)?;
        self.in_memory.fetch_add(bytes, Ordering::Relaxed);
        Ok(sheet)
    }

    /// So many bytes of memory are free again.
    pub(super) fn freed(&self, bytes: u64) {
        // What an earlier process has written was never counted.
        let less = |taken: u64| Some(taken.saturating_sub(bytes));
        let _ = self.in_memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// The keeper begins a round, or has ended it.
    pub(super) fn at_round(&self, is_at_one: bool) {
        *lock(&self.round) = is_at_one.then(Instant::now);
    }

    /// Tells once that the disk hangs, and once that it no longer does.
    pub(super) fn look(&self) {
        let hangs = self.hangs_since().is_some();
        match (self.is_told.swap(hangs, Ordering::Relaxed), hangs) {
            (false, true) => tracing::error!(
                "the ledger's disk does not answer: limits hold, and what is spent is kept in memory until it does"
            ),
            (true, false) => tracing::info!("the ledger's disk answers again"),
            _ => {}
        }
    }

    /// How long the keeper has been at its round, where that is too long.
    fn hangs_since(&self) -> Option<Duration> {
        lock(&self.round).map(|began| began.elapsed()).filter(|elapsed| *elapsed > ROUND_TAKES_AT_MOST)
    }

    /// The keeper is this thread.
    pub(super) fn heard_here(&self) {
        let _ = self.keeper.set(std::thread::current());
    }

    /// There is something to read.
    pub(crate) fn ring(&self) {
        // Looking costs no core anything while it rings already, and what was written before has long been seen when the
        // keeper reads: it waits for more first.
        if !self.rung.load(Ordering::Relaxed)
            && !self.rung.swap(true, Ordering::AcqRel)
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

    /// What keeps it from being written at present, if anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        let said =
            |why: &Mutex<Option<String>>, what: &str| Some(format!("{what} ({}); limits hold", lock(why).clone()?));
        let hangs = || {
            let hangs = self.hangs_since()?;
            Some(format!("its disk has not answered for {} s; limits hold, in memory", hangs.as_secs()))
        };
        let unwritten = || said(&self.unwritten, "calls cannot be written down");
        unwritten().or_else(hangs).or_else(|| said(&self.untaken, "it is not taken over from its journals"))
    }

    /// A worker cannot write.
    pub(super) fn failed(&self, error: &io::Error) {
        *lock(&self.unwritten) = Some(error.to_string());
        tracing::error!(%error, "the ledger cannot be written: limits are kept in memory, and what is spent meanwhile \
                                 may be missing in it after a restart; make room on its disk");
    }

    /// A worker writes again.
    pub(super) fn recovered(&self) {
        *lock(&self.unwritten) = None;
        tracing::info!(lost = self.lost(), "the ledger is written again");
    }

    /// How the keeper's round has ended: the first of several failures is told.
    pub(super) fn took_over(&self, done: &Result<(), LedgerError>) {
        let why = done.as_ref().err().map(ToString::to_string);
        let former = std::mem::replace(&mut *lock(&self.untaken), why.clone());
        if let (None, Some(error)) = (former, why) {
            tracing::error!(error, "the ledger is not taken over from its journals, which keep it meanwhile");
        }
    }
}
