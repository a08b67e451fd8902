//! What tells a file from every other, and one state of a file from another.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// What tells a file or folder from every other, for as long as it exists: its device and inode, or what Windows has in
/// their place, its volume and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId((u64, u64));

impl FileId {
    /// Whatever a path leads to; links are followed.
    ///
    /// # Errors
    /// When there is nothing, or it cannot be asked.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|found| Self::of_metadata(&found))
    }

    /// Whatever a path leads to; links are followed.
    ///
    /// # Errors
    /// When there is nothing, or it cannot be asked.
    #[cfg(windows)]
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        winapi_util::Handle::from_path_any(path).and_then(Self::of_handle)
    }

    /// A file that is open.
    ///
    /// # Errors
    /// When it cannot be asked.
    #[cfg(unix)]
    pub(crate) fn of_open(file: &File) -> io::Result<Self> {
        file.metadata().map(|found| Self::of_metadata(&found))
    }

    /// A file that is open.
    ///
    /// # Errors
    /// When it cannot be asked.
    #[cfg(windows)]
    pub(crate) fn of_open(file: &File) -> io::Result<Self> {
        Self::of_handle(winapi_util::HandleRef::from_file(file))
    }

    #[cfg(windows)]
    fn of_handle(handle: impl winapi_util::AsHandleRef) -> io::Result<Self> {
        let found = winapi_util::file::information(handle)?;
        Ok(FileId((found.volume_serial_number(), found.file_index())))
    }

    /// What was looked at. A link that was not followed is another than what it leads to.
    #[cfg(unix)]
    pub(crate) fn of_metadata(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        FileId((found.dev(), found.ino()))
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(State);

/// Inode, size, when its content was changed, and when anything of it was, permissions included: a file that could not
/// be read is looked at again once it can.
#[cfg(unix)]
type State = (u64, u64, (i64, i64), (i64, i64));
/// Size, when its content was changed, when it was made, and its attributes.
#[cfg(windows)]
type State = (u64, u64, u64, u32);

impl Stamp {
    /// The state that a look at a file has found.
    #[cfg(unix)]
    pub(crate) fn of(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let (modified, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
        Stamp((found.ino(), found.size(), modified, changed))
    }

    /// The state that a look at a file has found.
    #[cfg(windows)]
    pub(crate) fn of(found: &Metadata) -> Self {
        use std::os::windows::fs::MetadataExt;
        Stamp((found.file_size(), found.last_write_time(), found.creation_time(), found.file_attributes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_itself_until_another_takes_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("one"), folder.path().join("other"));
        let file = File::create(&path).expect("a file");
        let id = FileId::of_open(&file).expect("it is there");
        let stamp = Stamp::of(&fs::metadata(&path).expect("it is there"));
        fs::write(&path, "longer").expect("written");
        assert_eq!(FileId::of(&path).expect("it is there"), id);
        assert_ne!(Stamp::of(&fs::metadata(&path).expect("it is there")), stamp);
        drop(file);
        fs::write(&other, "").expect("written");
        assert_ne!(FileId::of(&other).expect("it is there"), id);
        fs::rename(&other, &path).expect("renamed");
        assert_ne!(FileId::of(&path).expect("it is there"), id);
        assert_ne!(FileId::of(folder.path()).expect("a folder has one as well"), id);
        assert!(FileId::of(&other).is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
    }
}
