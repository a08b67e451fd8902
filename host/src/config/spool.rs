//! `[spool]`: the durable queue.

use super::kind::{File, Flag, Size, Time, Whole};
use super::reader::Section;
use super::section::section;
use std::path::PathBuf;
use std::time::Duration;

/// Smallest spool: a job counts 1 KiB besides its texts, so fewer bytes would keep next to nothing.
const SIZE_MIN_BYTES: u64 = 1 << 20;
/// Shortest time for which jobs and answers are kept: below it they are gone before anybody has looked again.
const KEPT_MIN: Duration = Duration::from_secs(1);
/// A day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

section! {
    /// The durable queue, which keeps what cannot be served now for callers that ask for it.
    pub struct SpoolConfig {
        /// Whether requests that cannot be served are kept on disk, to be finished later, for callers that ask for it.
        enabled: bool = true, Flag;
        /// Its folder: private, on a disk that outlives the container. Requests and answers are encrypted in it.
        dir: PathBuf = PathBuf::from("spillway-data"), File;
        /// Most jobs kept.
        max_jobs: u64 = 100_000, Whole(1..=100_000_000);
        /// Most bytes kept.
        max_size: u64 = 4 << 30, Size(SIZE_MIN_BYTES);
        /// How long answers and dead letters are kept.
        retention: Duration = DAY, Time::from(KEPT_MIN);
        /// How long a job may wait to be served before it expires.
        expiry: Duration = DAY, Time::from(KEPT_MIN);
        /// Failures of a job's own before it is dead.
        max_attempts: u32 = 8, Whole(1..=1_000);
        /// Jobs being served at once.
        // Live traffic should not notice the spool.
        concurrency: u32 = 4, Whole(1..=1_000);
    }
}

impl SpoolConfig {
    pub(super) fn read(section: Section<'_>) -> SpoolConfig {
        let mut spool = SpoolConfig::fresh(section.folder());
        spool.take(&section);
        section.finish();
        spool
    }
}
