//! Space held back for the day the disk is full: even to delete a job, a database must write.
//!
//! While the ballast is spent no request is admitted, so that the space it gave serves only those
//! that were admitted before.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;

use crate::runtime::durable_file::sync_folder;
use crate::runtime::free_space::free_bytes;
use crate::runtime::private;
use crate::spool::error::NoRoom;
use crate::spool::job::random_bytes;

/// Enough, as measured, to drain a backlog of 20,000 jobs on a disk without a free byte: it holds the
/// write-ahead log between two checkpoints and a group of answers.
const BALLAST_BYTES: u64 = 16 << 20;

/// The smallest `max_size` with which a ballast is kept; for less it would be out of proportion.
const QUOTA_MIN_BYTES: u64 = 4 * BALLAST_BYTES;

/// Free space at which a ballast is put back: as much again stays free for others.
const RESTORE_AT_BYTES: u64 = 2 * BALLAST_BYTES;

/// Free space that SQLite wants to open a database and recover its log, and below which nothing is admitted where no
/// ballast is kept: what is left serves those that were admitted before.
const OPEN_BYTES: u64 = 1 << 20;

const BALLAST_FILE: &str = "spool.ballast";
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    wanted: bool,
    present: bool,
    /// Why it could not be written, if that was tried last.
    failed: Option<String>,
}

impl Ballast {
    pub(super) fn new(dir: &Path, max_size: u64) -> Self {
        let path = dir.join(BALLAST_FILE);
        let wanted = max_size >= QUOTA_MIN_BYTES;
        let size = std::fs::metadata(&path).map_or(0, |found| found.len());
        let mut ballast = Self { path, wanted, present: size > 0, failed: None };
        if size != 0 && (!wanted || size != BALLAST_BYTES) {
            ballast.remove();
        }
        ballast
    }

    /// Gives the space up if the disk is too full for the database to be opened.
    pub(super) fn make_room_to_open(&mut self) {
        if self.present && self.free_bytes().is_some_and(|bytes| bytes < OPEN_BYTES) {
            self.remove();
        }
    }

    /// Gives the space up if it is the disk that is full, and not only the database's own quota.
    pub(super) fn make_room_to_drain(&mut self) {
        if self.present && self.free_bytes().is_some_and(|bytes| bytes < BALLAST_BYTES) {
            tracing::warn!(
                "the spool's disk is full: what was set aside for that (spool.ballast) is given up to finish the jobs \
                 it holds, and new ones are refused until there is space"
            );
            self.remove();
        }
    }

    /// Whether requests may be admitted: while the ballast is spent, only once it could be put back.
    ///
    /// # Errors
    /// Why not, for the caller to hear.
    pub(super) fn room(&mut self) -> Result<(), String> {
        if self.wanted {
            // Whoever deleted it has made the room that it stood for.
            self.present = self.present && self.path.exists();
            self.restore();
            if self.present {
                return Ok(());
            }
        }
        let needed_bytes = needed_bytes(self.wanted);
        match (self.free_bytes(), self.failed.clone()) {
            (Some(free_bytes), _) if free_bytes < needed_bytes => Err(NoRoom { needed_bytes, free_bytes }.to_string()),
            (_, Some(error)) => {
                Err(format!("what is set aside for a full disk, {}, cannot be written: {error}", self.path.display()))
            }
            (_, None) => Ok(()),
        }
    }

    /// Puts the ballast (back) if it is wanted and there is enough space.
    pub(super) fn restore(&mut self) {
        let enough = || self.free_bytes().is_some_and(|bytes| bytes >= RESTORE_AT_BYTES);
        if !self.wanted || self.present || !enough() {
            return;
        }
        match create(&self.path) {
            Ok(()) => (self.present, self.failed) = (true, None),
            Err(error) => {
                self.remove();
                // Said once, and tried again every time.
                if self.failed.replace(error.to_string()).is_none() {
                    tracing::warn!(%error, "space for a full disk cannot be set aside (spool.ballast); nothing is \
                                            kept until it can");
                }
            }
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        free_bytes(self.path.parent()?)
    }

    fn remove(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "what was set aside for a full disk (spool.ballast) \
                cannot be removed");
        }
        self.present = false;
    }
}

/// Random bytes, so that no file system compresses them away.
fn create(path: &Path) -> io::Result<()> {
    let chunk: [u8; CHUNK_BYTES] =
        random_bytes(&SystemRandom::new()).ok_or_else(|| io::Error::other("the system's random generator failed"))?;
    let mut file = private::options().write(true).create_new(true).open(path)?;
    for _ in 0..BALLAST_BYTES / CHUNK_BYTES as u64 {
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Why nothing would be admitted in `dir`, or where it would be made, if it is for want of space. What a ballast holds
/// counts as free.
pub(super) fn no_room_to_admit(dir: &Path, max_size: u64) -> Option<NoRoom> {
    let ballast = std::fs::metadata(dir.join(BALLAST_FILE)).map_or(0, |found| found.len());
    let free_bytes = free_bytes_near(dir)?.saturating_add(ballast);
    let needed_bytes = needed_bytes(max_size >= QUOTA_MIN_BYTES);
    (free_bytes < needed_bytes).then_some(NoRoom { needed_bytes, free_bytes })
}

/// What is free where `dir` is, or would be made.
pub(super) fn free_bytes_near(dir: &Path) -> Option<u64> {
    dir.ancestors().find_map(free_bytes)
}

/// Why nothing can be opened in `dir`, or where it would be made, if it is for want of space.
pub(super) fn no_room_to_open(dir: &Path, max_size: u64) -> Option<NoRoom> {
    let free_bytes = free_bytes_near(dir)?;
    let needed_bytes = needed_bytes(max_size >= QUOTA_MIN_BYTES);
    (free_bytes < OPEN_BYTES).then_some(NoRoom { needed_bytes, free_bytes })
}

/// What must be free before anything is admitted, with or without a ballast.
fn needed_bytes(ballast: bool) -> u64 {
    if ballast { RESTORE_AT_BYTES } else { OPEN_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ballast_is_kept_only_with_a_quota_in_proportion() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("spool.ballast");
        let mut ballast = Ballast::new(dir.path(), QUOTA_MIN_BYTES);
        ballast.restore();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), BALLAST_BYTES);

        let mut smaller = Ballast::new(dir.path(), QUOTA_MIN_BYTES - 1);
        assert!(!file.exists());
        assert_eq!(smaller.room(), Ok(()));
        smaller.restore();
        assert!(!file.exists());
    }

    #[test]
    fn a_spent_ballast_is_put_back_before_anything_is_admitted_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("spool.ballast");
        let mut ballast = Ballast::new(dir.path(), QUOTA_MIN_BYTES);
        ballast.restore();
        ballast.remove();
        assert!(!file.exists());
        assert_eq!(ballast.room(), Ok(()));
        assert_eq!(std::fs::metadata(&file).unwrap().len(), BALLAST_BYTES);
    }

    #[test]
    fn a_ballast_that_somebody_deleted_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("spool.ballast");
        let mut ballast = Ballast::new(dir.path(), QUOTA_MIN_BYTES);
        ballast.restore();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(ballast.room(), Ok(()));
        assert_eq!(std::fs::metadata(&file).unwrap().len(), BALLAST_BYTES);
    }

    #[test]
    fn a_ballast_cut_short_by_a_crash_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("spool.ballast");
        std::fs::write(&file, b"short").unwrap();
        let mut ballast = Ballast::new(dir.path(), QUOTA_MIN_BYTES);
        assert!(!file.exists());
        ballast.restore();
        assert_eq!(std::fs::metadata(&file).unwrap().len(), BALLAST_BYTES);
    }

    #[test]
    fn a_ballast_stays_while_the_disk_has_space() {
        let dir = tempfile::tempdir().unwrap();
        let mut ballast = Ballast::new(dir.path(), QUOTA_MIN_BYTES);
        ballast.restore();
        ballast.make_room_to_open();
        ballast.make_room_to_drain();
        assert!(ballast.present);
    }
}
