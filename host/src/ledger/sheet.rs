//! A file of a journal: in memory it is written by a copy, which costs no call of the system, and on a disk by the
//! system.

use crate::runtime::private;
use memmap2::MmapMut;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Bytes that one in memory has room for, all of which it takes from the beginning.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// What is written to.
#[derive(Debug)]
pub(super) enum Sheet {
    InMemory { map: MmapMut, written: usize },
    OnDisk { file: File, written: u64, is_torn: bool },
}

impl Sheet {
    /// A new file at this path, in memory or on a disk.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn begin(path: &Path, is_in_memory: bool) -> io::Result<Sheet> {
        let file = private::options().create_new(true).read(true).write(true).open(path)?;
        match is_in_memory {
            true => in_memory(&file).inspect_err(|_| drop(std::fs::remove_file(path))),
            false => Ok(Sheet::OnDisk { file, written: 0, is_torn: false }),
        }
    }

    /// Bytes that were written.
    pub(super) fn written(&self) -> usize {
        match self {
            Sheet::InMemory { written, .. } => *written,
            Sheet::OnDisk { written, .. } => usize::try_from(*written).unwrap_or(usize::MAX),
        }
    }

    /// Writes behind all that was written.
    ///
    /// # Errors
    /// When there is no room. Nothing is written then, or is written anew.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sheet::InMemory { map, written } => {
                let room = map.get_mut(*written..*written + bytes.len()).ok_or(ErrorKind::StorageFull)?;
                room.copy_from_slice(bytes);
                *written += bytes.len();
            }
            Sheet::OnDisk { file, written, is_torn } => {
                if std::mem::replace(is_torn, true) {
                    file.set_len(*written)?;
                    io::Seek::seek(file, io::SeekFrom::Start(*written))?;
                }
                file.write_all(bytes)?;
                *is_torn = false;
                *written += bytes.len() as u64;
            }
        }
        Ok(())
    }
}

fn in_memory(file: &File) -> io::Result<Sheet> {
    take_room(file)?;
    // SAFETY: nobody else writes to the file: it is new, in a folder of this user's, and the keeper only reads and
    // deletes it. Readers take no entry that is not whole.
    #[allow(unsafe_code, reason = "a file that is mapped can be changed by others, which no type rules out")]
    let map = unsafe { MmapMut::map_mut(file)? };
    Ok(Sheet::InMemory { map, written: 0 })
}

/// All of it at once: memory that is not there when it is written to ends the process.
#[cfg(target_os = "linux")]
fn take_room(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, BYTES_MAX as u64)?)
}

#[cfg(not(target_os = "linux"))]
fn take_room(_file: &File) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
