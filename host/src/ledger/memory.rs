//! Memory that outlives the process, for journals: a folder without a disk, so that no worker ever waits for one.
//!
//! On Linux `/dev/shm` is such, for a container too, where it lasts as long as the container or its pod. Other systems
//! have no memory that is like a folder; there, and where this one cannot be used, journals lie in the data folder.

use std::io;
use std::path::{Path, PathBuf};

/// The folder in memory that belongs to a ledger's folder, made if it has to be.
///
/// # Errors
/// Why there is none.
pub(super) fn folder(of: &Path) -> io::Result<PathBuf> {
    system::folder(of)
}

#[cfg(target_os = "linux")]
mod system {
    use super::{Path, PathBuf, io};
    use crate::runtime::clock::random;
    use crate::runtime::private;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    const SHARED: &str = "/dev/shm";
    /// Linux's number of a file system in memory.
    const TMPFS: u64 = 0x0102_1994;
    /// The file that tells a ledger's folder from one that is deleted and made anew.
    const IDENTITY: &str = "identity";
    const IDENTITY_DIGITS: usize = 32;

    pub(super) fn folder(of: &Path) -> io::Result<PathBuf> {
        let system = rustix::fs::statfs(SHARED)?;
        if !u64::try_from(system.f_type).is_ok_and(|number| number == TMPFS) {
            return Err(io::Error::other(format!("{SHARED} is no memory")));
        }
        // A copy of the folder has the same identity in another place, and what is written for one is not the other's.
        let (identity, inode) = (identity(of)?, fs::metadata(of)?.ino());
        let folder = Path::new(SHARED).join(format!("spillway-{identity}-{inode:x}"));
        private::make_folder(&folder)?;
        let found = fs::symlink_metadata(&folder)?;
        if found.is_dir() && private::is_ours_to_write(&found, &folder) {
            return Ok(folder);
        }
        Err(io::Error::other(format!("{} belongs to somebody else", folder.display())))
    }

    fn identity(of: &Path) -> io::Result<String> {
        let path = of.join(IDENTITY);
        let known = fs::read_to_string(&path).unwrap_or_default();
        if known.len() == IDENTITY_DIGITS && known.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(known);
        }
        let made = format!("{:016x}{:016x}", random(), random());
        fs::write(&path, &made)?;
        private::shut_file(&path)?;
        Ok(made)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Path, PathBuf, io};

    pub(super) fn folder(_of: &Path) -> io::Result<PathBuf> {
        Err(io::Error::other("this system has no memory that is like a folder"))
    }
}
