//! The spool's folder: private, locked for one process, on a disk that can be trusted.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::file_system::FileSystem;
use super::operations::Limits;
use super::schema;
use super::watch::Watch;
use crate::runtime::durable_file::{self, Access, sync_folder};
use crate::runtime::file_identity::FileId;
use crate::runtime::private;
use crate::spool::error::OpenError;
use crate::spool::seal::{Key, Sealer};

pub(super) const LOCK_FILE: &str = "spool.lock";
pub(super) const KEY_FILE: &str = "spool.key";
pub(super) const DATABASE_FILE: &str = "spool.db";
/// What SQLite lays beside the database: the log, which holds the last commits, and the index of it.
const LOG_FILE: &str = "spool.db-wal";
const LOG_INDEX_FILE: &str = "spool.db-shm";
/// A log whose database is gone. It may be all that is left of what was kept.
const ORPHANED_LOG_FILE: &str = "spool.db-wal.orphaned";

/// What the lock file may say of its holder: a process id and little else.
const HOLDER_BYTES_MAX: u64 = 32;

/// A locked folder. The lock is the process's and goes with it, however it ends.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    _lock: File,
    lock_id: FileId,
    /// What lies there ends with the container or the machine: the file system's name.
    perishable: Option<&'static str>,
}

/// What the jobs are sealed with, and where that came from.
#[derive(Debug)]
pub(super) struct Sealing {
    pub(super) sealer: Sealer,
    /// The key in the folder; `None` where the caller keeps it.
    pub(super) key: Option<Key>,
    /// The folder had no key: nothing was ever kept in it.
    pub(super) is_new: bool,
}

impl Folder {
    /// Creates the folder if it is missing, makes it private and locks it.
    pub(super) fn lock(dir: PathBuf) -> Result<Self, OpenError> {
        make_private_folder(&dir)?;
        let perishable = match FileSystem::of(&dir).map_err(|error| cannot(&dir, &error))? {
            FileSystem::Network(kind) => return Err(OpenError::NetworkFileSystem { dir, kind }),
            FileSystem::Perishable(kind) => {
                tracing::warn!(
                    dir = %dir.display(),
                    "the spool lies on {kind}: what is promised there ends with the container or the machine; give it a \
                     volume on a disk"
                );
                Some(kind)
            }
            FileSystem::Fuse => {
                tracing::warn!(
                    dir = %dir.display(),
                    "the spool lies on a FUSE file system; its promises hold only if that keeps a flush"
                );
                None
            }
            FileSystem::Fit => None,
        };
        let path = dir.join(LOCK_FILE);
        let mut lock = open_private(&path).map_err(|error| cannot(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut lock);
                return Err(OpenError::Locked { dir, holder });
            }
            Err(TryLockError::Error(error)) => return Err(cannot(&path, &error)),
        }
        // Who holds the lock is only told for the other's error message, so a full disk does not
        // matter here.
        let named = lock.set_len(0).and_then(|()| write!(lock, "process {}", std::process::id()));
        if let Err(error) = named {
            tracing::warn!(%error, path = %path.display(), "cannot write the lock's holder");
        }
        let lock_id = FileId::of_open(&lock).map_err(|error| cannot(&path, &error))?;
        Ok(Self { dir, _lock: lock, lock_id, perishable })
    }

    /// Whether the lock is still the one that another process would find.
    pub(super) fn is_locked(&self) -> bool {
        FileId::of(&self.dir.join(LOCK_FILE)).is_ok_and(|found| found == self.lock_id)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE_FILE)
    }

    pub(super) fn perishable(&self) -> Option<&'static str> {
        self.perishable
    }

    /// Whether there is a database with anything in it.
    pub(super) fn has_database(&self) -> bool {
        std::fs::metadata(self.database()).is_ok_and(|found| found.len() > 0)
    }

    /// What to seal with: the sealer supplied, or the key of the folder's key file. A key is made only where there is
    /// nothing yet that another might have sealed; where its file was deleted while this process knew it, it is put
    /// back, because what is kept could never be read again without it.
    pub(super) fn sealing(&self, supplied: Option<Sealer>, known: Option<&Key>) -> Result<Sealing, OpenError> {
        if let Some(sealer) = supplied {
            return Ok(Sealing { sealer, key: None, is_new: false });
        }
        let path = self.key_file();
        let is_there = path.try_exists().map_err(|error| cannot(&path, &error))?;
        if is_there {
            private::shut_file(&path).map_err(|error| cannot(&path, &error))?;
            let key = Key::load(&path).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => OpenError::Folder { path, problem: error.to_string() },
                _ => cannot(&path, &error),
            })?;
            return Ok(Sealing { sealer: key.sealer(), key: Some(key), is_new: false });
        }
        let (key, is_new) = match (self.has_database(), known) {
            (true, Some(key)) => {
                tracing::warn!(path = %path.display(), "the spool's key was deleted and is put back");
                (key.clone(), false)
            }
            (true, None) => return Err(OpenError::WrongKey { dir: self.dir.clone() }),
            (false, _) => (Key::generate().map_err(|error| OpenError::System(error.to_string()))?, true),
        };
        durable_file::replace(&path, Access::Owner, &key.bytes()[..]).map_err(|error| cannot(&path, &error))?;
        Ok(Sealing { sealer: key.sealer(), key: Some(key), is_new })
    }

    /// Takes a key back with which nothing was sealed: one without a database is the trace of a database that is gone.
    pub(super) fn take_back_key(&self) {
        if !self.has_database()
            && let Err(error) = std::fs::remove_file(self.key_file())
        {
            tracing::warn!(%error, "a key that serves for nothing cannot be removed from the spool's folder");
        }
    }

    /// Opens the database for the writer, creating it if it is missing.
    pub(super) fn open_database(&self, sealer: &Sealer, limits: &Limits) -> Result<Connection, OpenError> {
        let path = self.database();
        // SQLite gives its own new files the mode of the database, so that one must exist first. One that exists is not
        // opened here: closing it again would take away the locks that the reader's connection has on it.
        let prepared = match path.try_exists() {
            Ok(true) => private::shut_file(&path),
            Ok(false) => open_private(&path).and_then(|_| sync_folder(&self.dir)),
            Err(error) => Err(error),
        };
        prepared.map_err(|error| cannot(&path, &error))?;
        schema::open_writer(&path, sealer, limits)
    }

    /// Parts a database that is not the one before from that one's log, which would be read into it, or deleted, and
    /// from the log's index, which may still be mapped. `before` is how the files were.
    pub(super) fn put_old_log_aside(&self, before: Option<&Watch>) {
        let is_old = |path: &Path| !self.has_database() || before.is_some_and(|before| before.is_as_it_was(path));
        let (log, index) = (self.dir.join(LOG_FILE), self.dir.join(LOG_INDEX_FILE));
        if is_old(&log) && std::fs::metadata(&log).is_ok_and(|found| found.len() > 0) {
            let kept = self.dir.join(ORPHANED_LOG_FILE);
            match std::fs::rename(&log, &kept) {
                Ok(()) => tracing::warn!(kept = %kept.display(), "the log of a database that is gone is put aside"),
                Err(error) => tracing::warn!(%error, "the log of a database that is gone cannot be put aside"),
            }
        }
        if is_old(&index)
            && let Err(error) = std::fs::remove_file(&index)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the index of a log whose database is gone cannot be removed");
        }
    }

    /// Watches everything that an open database and the next opening of it depend on.
    ///
    /// # Errors
    /// When something of it has gone already.
    pub(super) fn watch(&self, key: Option<Key>) -> Result<Watch, OpenError> {
        let files = [LOCK_FILE, DATABASE_FILE, LOG_FILE, LOG_INDEX_FILE].map(|name| {
            let path = self.dir.join(name);
            FileId::of(&path).map_err(|error| cannot(&path, &error)).map(|id| (path, id))
        });
        let files = files.into_iter().collect::<Result<_, _>>()?;
        Ok(Watch::new(files, key.map(|key| (self.key_file(), key))))
    }

    fn key_file(&self) -> PathBuf {
        self.dir.join(KEY_FILE)
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    let file = private::options().read(true).write(true).create(true).truncate(false).open(path)?;
    private::shut_file(path)?;
    Ok(file)
}

/// A folder that others can read is closed to them only while it is empty or already a spool's:
/// someone may have named a folder that holds other things as well.
fn make_private_folder(dir: &Path) -> Result<(), OpenError> {
    let prepare = || {
        private::make_folder(dir)?;
        if !private::is_open(dir)? {
            return Ok(true);
        }
        let ours = may_be_closed(dir)?;
        if ours && !private::shut_folder(dir)? {
            tracing::warn!(
                dir = %dir.display(),
                "others may be able to read the spool's folder: it holds requests and the key they are sealed with; {}",
                private::HOW_TO_SHUT
            );
        }
        Ok(ours)
    };
    match prepare() {
        Ok(true) => dir
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map_or(Ok(()), sync_folder)
            .map_err(|error| cannot(dir, &error)),
        Ok(false) => Err(shared(dir)),
        Err(error) => Err(cannot(dir, &error)),
    }
}

/// Whether a folder that others can read may be closed to them: it is a spool's already, or empty.
pub(super) fn may_be_closed(dir: &Path) -> io::Result<bool> {
    Ok(dir.join(LOCK_FILE).exists() || std::fs::read_dir(dir)?.next().is_none())
}

/// A folder that others can read, and that is not closed to them.
pub(super) fn shared(dir: &Path) -> OpenError {
    OpenError::Folder {
        path: dir.to_owned(),
        problem: format!(
            "others can read this folder and it holds other files; give the spool a folder of its own, or {}",
            private::HOW_TO_SHUT
        ),
    }
}

pub(super) fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.take(HOLDER_BYTES_MAX).read_to_string(&mut text) {
        Ok(length) if length > 0 => format!("another Spillway ({text})"),
        Ok(_) | Err(_) => "another Spillway".to_owned(),
    }
}

pub(super) fn cannot(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Folder {
        path: path.to_owned(),
        problem: format!("{error}; check that Spillway may write there and that the disk is well"),
    }
}
