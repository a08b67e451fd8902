//! Opening what may turn out to be no file.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Opens something to be read, without waiting for anybody: a pipe that nobody writes to would keep who opens it.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn without_waiting(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0));
    }
    options.read(true).open(path)
}
