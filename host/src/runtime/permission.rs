//! What this user may do with a file or folder that is there, without doing it.

use std::io;
use std::path::Path;

/// Whether files may be made in a folder. Windows tells that only when one is made.
///
/// # Errors
/// Why not.
#[cfg(unix)]
pub(crate) fn to_make_files_in(folder: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Whether a file may be read and written.
///
/// # Errors
/// Why not.
#[cfg(unix)]
pub(crate) fn to_change(file: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    Ok(access(file, Access::READ_OK | Access::WRITE_OK)?)
}

/// Whether files may be made in a folder, as far as can be told before one is made: whether it is there.
///
/// # Errors
/// Why not.
#[cfg(windows)]
pub(crate) fn to_make_files_in(folder: &Path) -> io::Result<()> {
    std::fs::metadata(folder).map(drop)
}

/// Whether a file may be read and written.
///
/// # Errors
/// Why not.
#[cfg(windows)]
pub(crate) fn to_change(file: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().read(true).write(true).open(file).map(drop)
}
