//! Where journals lie: written in memory by workers, and copied into the data folder by the keeper, from where they are
//! taken over. Where there is no such memory they are written in the data folder, and nothing is copied.

use super::entry::Entries;
use super::error::LedgerError;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The name of each journal's file begins so.
pub(super) const FILE_PREFIX: &str = "journal-";
/// How much is copied at once: longer than any entry.
const PIECE_BYTES: u64 = 64 << 10;

/// The journals of a ledger.
#[derive(Debug)]
pub(super) struct Journals {
    /// In the data folder.
    folder: PathBuf,
    /// Where they are written, if that is somewhere else.
    memory: Option<PathBuf>,
    /// How far those in memory are copied: bytes that are whole entries.
    copied: HashMap<String, u64>,
}

impl Journals {
    pub(super) fn new(folder: PathBuf, memory: Option<PathBuf>) -> Journals {
        Journals { folder, memory, copied: HashMap::new() }
    }

    /// Copies what was written since, and answers which journals there are in the data folder, those of a worker in the
    /// order in which it has written them. `freed` is told how many bytes of memory are free again.
    pub(super) fn gather(&mut self, mut freed: impl FnMut(u64)) -> Result<Vec<String>, LedgerError> {
        if let Some(memory) = self.memory.clone() {
            // Nothing more is written to a file once there is a later one, which is looked for first.
            let files = files(&memory)?;
            for (index, file) in files.iter().enumerate() {
                self.copy(&memory, file)?;
                if files.get(index + 1).is_some_and(|next| stem(next) == stem(file)) {
                    self.copied.remove(file);
                    freed(delete(&memory.join(file))?);
                }
            }
        }
        files(&self.folder)
    }

    /// Leaves nothing in memory, once all is copied and nobody writes any more.
    pub(super) fn leave_memory(&mut self) -> Result<(), LedgerError> {
        let Some(memory) = self.memory.clone() else { return Ok(()) };
        for file in files(&memory)? {
            self.copy(&memory, &file)?;
            delete(&memory.join(file))?;
        }
        // It stays where there is something else in it.
        let _ = fs::remove_dir(memory);
        Ok(())
    }

    /// Reads a journal from this byte on.
    pub(super) fn read(&self, file: &str, from: u64) -> Result<Vec<u8>, LedgerError> {
        let path = self.folder.join(file);
        read_from(&path, from, u64::MAX).map_err(|source| LedgerError::File { path, source })
    }

    /// Deletes a journal. What lies in memory goes first, or it would be copied once more.
    pub(super) fn delete(&mut self, file: &str, mut freed: impl FnMut(u64)) -> Result<(), LedgerError> {
        if let Some(memory) = &self.memory {
            freed(delete(&memory.join(file))?);
            self.copied.remove(file);
        }
        delete(&self.folder.join(file)).map(drop)
    }

    fn copy(&mut self, memory: &Path, file: &str) -> Result<(), LedgerError> {
        let path = self.folder.join(file);
        let has = fs::metadata(&path).map_or(0, |found| found.len());
        let copied = match self.copied.get(file) {
            Some(copied) if *copied <= has => *copied,
            // It is another process's, or somebody has taken the copy away.
            _ => whole(&path).map_err(|source| LedgerError::File { path: path.clone(), source })?,
        };
        let written = memory.join(file);
        let mut copied = copied;
        loop {
            let bytes = read_from(&written, copied, PIECE_BYTES)
                .map_err(|source| LedgerError::File { path: written.clone(), source })?;
            // Behind what was written there is nothing but zeros, and what is being written is not whole.
            let bytes = &bytes[..Entries::whole(&bytes)];
            if bytes.is_empty() {
                break;
            }
            append(&path, copied, bytes).map_err(|source| LedgerError::File { path: path.clone(), source })?;
            copied += bytes.len() as u64;
            self.copied.insert(file.to_owned(), copied);
        }
        Ok(())
    }
}

/// A file's name without its last number: all files of a worker have the same.
pub(super) fn stem(file: &str) -> &str {
    file.rsplit_once('-').map_or(file, |(stem, _)| stem)
}

fn files(folder: &Path) -> Result<Vec<String>, LedgerError> {
    let wrong = |source| LedgerError::File { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let name = entry.map_err(wrong)?.file_name().to_string_lossy().into_owned();
        if name.starts_with(FILE_PREFIX) {
            files.push(name);
        }
    }
    files.sort();
    Ok(files)
}

/// Bytes of a file that are whole entries; none of one that is not there.
fn whole(path: &Path) -> io::Result<u64> {
    match fs::read(path) {
        Ok(bytes) => Ok(Entries::whole(&bytes) as u64),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Writes behind so many bytes of a file, in the place of what stands there.
fn append(path: &Path, behind: u64, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.set_len(behind)?;
    file.seek(SeekFrom::Start(behind))?;
    file.write_all(bytes)
}

fn read_from(path: &Path, offset: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Deletes a file that may be gone already, and answers how many bytes it had.
fn delete(path: &Path) -> Result<u64, LedgerError> {
    let deleted = fs::metadata(path).and_then(|found| fs::remove_file(path).map(|()| found.len()));
    match deleted {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        deleted => deleted.map_err(|source| LedgerError::File { path: path.to_owned(), source }),
    }
}
