//! A file of lines that grows to a bound, and is then put aside and begun anew.

use crate::runtime::file_identity::FileId;
use crate::runtime::private;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Lines are appended through a buffer; [`RotatingFile::flush`] brings them to the file.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    bytes_max: u64,
    /// Absent while it cannot be opened.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    writer: BufWriter<File>,
    id: FileId,
    bytes: u64,
}

impl RotatingFile {
    /// Opens the file at its end, or makes it, for this user's eyes only.
    ///
    /// # Errors
    /// When that fails.
    pub(super) fn open(path: &Path, bytes_max: u64) -> io::Result<RotatingFile> {
        let mut file = RotatingFile { path: path.to_owned(), bytes_max, open: None };
        file.reopen()?;
        Ok(file)
    }

    fn reopen(&mut self) -> io::Result<&mut Open> {
        let file = private::options().append(true).create(true).open(&self.path)?;
        let (id, bytes) = (FileId::of_open(&file)?, file.metadata()?.len());
        let open = Open { writer: BufWriter::new(file), id, bytes };
        Ok(self.open.insert(open))
    }

    /// Follows the path, if somebody has moved or deleted the file.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        let there = FileId::of(&self.path).ok();
        if self.open.as_ref().is_none_or(|open| Some(open.id) != there) {
            self.reopen()?;
        }
        Ok(())
    }

    /// Adds one line. A line that would grow the file beyond its bound begins the next one.
    pub(super) fn append(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        line.push(b'\n');
        let bytes = line.len() as u64;
        if self.open.as_ref().is_some_and(|open| open.bytes > 0 && open.bytes + bytes > self.bytes_max) {
            self.flush()?;
            self.open = None;
            fs::rename(&self.path, old(&self.path))?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.reopen()?,
        };
        let written = open.writer.write_all(&line);
        open.bytes += bytes;
        self.keep(written)
    }

    /// Brings what was appended to the file.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let flushed = self.open.as_mut().map_or(Ok(()), |open| open.writer.flush());
        self.keep(flushed)
    }

    /// Lets go of a file that cannot be written to, and of what its buffer holds, so that the next line tries anew.
    fn keep(&mut self, result: io::Result<()>) -> io::Result<()> {
        if result.is_err()
            && let Some(open) = self.open.take()
        {
            drop(open.writer.into_parts());
        }
        result
    }
}

/// Where the file that was full is kept: `NAME.1`.
fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_full_file_is_put_aside_and_one_old_one_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("requests.jsonl");
        let mut file = RotatingFile::open(&path, 8).expect("opened");
        for line in ["one", "two", "three", "longer than the bound", "end"] {
            file.append(line.into()).expect("appended");
        }
        file.flush().expect("flushed");
        assert_eq!((&*read(&path), &*read(&old(&path))), ("end\n", "longer than the bound\n"));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
        assert!(!private::is_open(&path).expect("it can be asked"));
    }

    #[test]
    fn what_was_there_before_a_restart_stays_and_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("requests.jsonl");
        fs::write(&path, "before\n").expect("written");
        let mut file = RotatingFile::open(&path, 12).expect("opened");
        file.append("four".into()).expect("appended");
        file.append("x".into()).expect("appended");
        file.flush().expect("flushed");
        assert_eq!((&*read(&path), &*read(&old(&path))), ("x\n", "before\nfour\n"));
    }

    #[test]
    fn a_file_that_was_deleted_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("requests.jsonl");
        let mut file = RotatingFile::open(&path, 100).expect("opened");
        file.append("lost".into()).expect("appended");
        file.flush().expect("flushed");
        fs::remove_file(&path).expect("deleted");
        file.follow().expect("made again");
        file.append("kept".into()).expect("appended");
        file.flush().expect("flushed");
        assert_eq!(read(&path), "kept\n");
    }
}
