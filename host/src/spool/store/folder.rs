//! The spool's folder: private, locked for one process, on a disk that can be trusted.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::operations::Limits;
use super::schema;
use crate::spool::error::OpenError;
use crate::spool::seal::Sealer;

const LOCK_FILE: &str = "spool.lock";
const KEY_FILE: &str = "spool.key";
const DATABASE_FILE: &str = "spool.db";

/// What the lock file may say of its holder: a process id and little else.
const HOLDER_BYTES_MAX: u64 = 32;

/// A locked folder. The lock is the process's and goes with it, however it ends.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates the folder if it is missing, makes it private and locks it.
    pub(super) fn lock(dir: PathBuf) -> Result<Self, OpenError> {
        make_private_folder(&dir)?;
        refuse_network_file_system(&dir)?;
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
        Ok(Self { dir, _lock: lock })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE_FILE)
    }

    /// The sealer to use: the one supplied, or the one of the folder's key file, which is created
    /// only where there is nothing yet that another key might have sealed.
    pub(super) fn sealer(&self, supplied: Option<Sealer>) -> Result<Sealer, OpenError> {
        if let Some(sealer) = supplied {
            return Ok(sealer);
        }
        let path = self.dir.join(KEY_FILE);
        if path.exists() {
            make_private_file(&path).map_err(|error| cannot(&path, &error))?;
            return Sealer::load(&path).map_err(|problem| OpenError::Folder { path, problem });
        }
        if std::fs::metadata(self.database()).is_ok_and(|found| found.len() > 0) {
            return Err(OpenError::WrongKey { dir: self.dir.clone() });
        }
        let (sealer, key) = Sealer::generate().map_err(|error| OpenError::System(error.to_string()))?;
        create_private(&path, &key).map_err(|error| cannot(&path, &error))?;
        Ok(sealer)
    }

    /// Opens the database for the writer, creating it if it is missing.
    pub(super) fn open_database(&self, sealer: &Sealer, limits: &Limits) -> Result<Connection, OpenError> {
        let path = self.database();
        // SQLite gives its own new files the mode of the database, so that one must exist first.
        open_private(&path).and_then(|_| sync_dir(&self.dir)).map_err(|error| cannot(&path, &error))?;
        schema::open_writer(&path, sealer, limits)
    }
}

/// Creates the file at `path` with `content`, privately and at once: after a power cut it is either
/// whole or not there.
fn create_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    // The folder is locked, so a draft that is already there was left behind by a crash.
    if let Err(error) = std::fs::remove_file(&draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes the creation and removal of files in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    make_private_file(path)?;
    Ok(file)
}

fn make_private_file(path: &Path) -> io::Result<()> {
    if is_private(path)? {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

fn is_private(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o077 == 0)
}

/// A folder that others can read is closed to them only while it is empty or already a spool's:
/// someone may have named a folder that holds other things as well.
fn make_private_folder(dir: &Path) -> Result<(), OpenError> {
    let prepare = || {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        if is_private(dir)? {
            return Ok(true);
        }
        let ours = dir.join(LOCK_FILE).exists() || std::fs::read_dir(dir)?.next().is_none();
        if ours {
            std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        }
        Ok(ours)
    };
    match prepare() {
        Ok(true) => dir
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map_or(Ok(()), sync_dir)
            .map_err(|error| cannot(dir, &error)),
        Ok(false) => Err(OpenError::Folder {
            path: dir.to_owned(),
            problem: "others can read this folder and it holds other files; give the spool a folder \
                      of its own, or make this one private (chmod 700)"
                .to_owned(),
        }),
        Err(error) => Err(cannot(dir, &error)),
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.take(HOLDER_BYTES_MAX).read_to_string(&mut text) {
        Ok(length) if length > 0 => format!("another Spillway ({text})"),
        Ok(_) | Err(_) => "another Spillway".to_owned(),
    }
}

fn cannot(path: &Path, error: &io::Error) -> OpenError {
    OpenError::Folder {
        path: path.to_owned(),
        problem: format!("{error}; check that Spillway may write there and that the disk is well"),
    }
}

/// SQLite relies on file locks and shared memory that network file systems do not give.
#[cfg(target_os = "linux")]
fn refuse_network_file_system(dir: &Path) -> Result<(), OpenError> {
    /// Also virtiofs and sshfs, which are not fit, but as well encrypted local disks, which are.
    const FUSE: u64 = 0x6573_5546;
    /// The numbers of Linux's `magic.h`.
    const NETWORK: [(u64, &str); 5] =
        [(0x6969, "NFS"), (0x517b, "SMB"), (0xfe53_4d42, "SMB2"), (0xff53_4d42, "CIFS"), (0x0102_1997, "9P")];
    let found = rustix::fs::statfs(dir).map_err(|error| cannot(dir, &error.into()))?;
    // Signed on some targets, where the upper half would otherwise be filled with the sign.
    let magic = found.f_type as u64 & 0xffff_ffff;
    if let Some((_, kind)) = NETWORK.iter().find(|(number, _)| *number == magic) {
        return Err(OpenError::NetworkFileSystem { dir: dir.to_owned(), kind });
    }
    if magic == FUSE {
        tracing::warn!(
            dir = %dir.display(),
            "the spool lies on a FUSE file system; its promises hold only if that keeps a flush"
        );
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn refuse_network_file_system(_dir: &Path) -> Result<(), OpenError> {
    Ok(())
}
