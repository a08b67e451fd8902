//! Files as the watcher meets them: names, states, and contents of a bounded size that are read without ever waiting.

use crate::policy::registry::Role;
use crate::runtime::file_identity::Stamp;
use crate::runtime::open;
use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Ends the name of a candidate, before `.wasm`.
pub(crate) const SHADOW_SUFFIX: &str = ".shadow";
/// Ends the name of what a promotion has replaced, before `.wasm`.
pub(crate) const PREVIOUS_SUFFIX: &str = ".previous";
/// What a file's detached signature is called, behind the file's own name.
const SIGNATURE_SUFFIX: &str = ".sig";

/// The policy that a file is for, and what it is there for.
pub(crate) type Place = (String, Role);

/// What a file is there for: `NAME.wasm` or `NAME.shadow.wasm`. Hidden files are somebody's temporary ones, and
/// `NAME.previous.wasm` is what a promotion keeps to be able to go back.
pub(crate) fn place_of(path: &Path) -> Option<Place> {
    let name = path.file_name()?.to_str()?.strip_suffix(".wasm")?;
    if name.is_empty() || name.starts_with('.') || name.ends_with(PREVIOUS_SUFFIX) {
        return None;
    }
    match name.strip_suffix(SHADOW_SUFFIX) {
        Some("") => None,
        Some(name) => Some((name.to_owned(), Role::Shadow)),
        None => Some((name.to_owned(), Role::Active)),
    }
}

/// Where the signature of a file lies.
pub(crate) fn signature_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SIGNATURE_SUFFIX);
    PathBuf::from(name)
}

/// A file of the policies' folder at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// It, and its signature's, as they stand.
    File(Stamp, Option<Stamp>),
    /// It cannot be a policy, or cannot even be looked at.
    Unusable(String),
}

impl Sighting {
    /// Looks at a file. Links are followed, so that a swap of what they point to is noticed. `None` when there is
    /// nothing, as where a link leads nowhere.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Some(match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                let signature = fs::metadata(signature_of(path)).ok();
                Sighting::File(Stamp::of(&metadata), signature.as_ref().map(Stamp::of))
            }
            Ok(_) => Sighting::Unusable("it is no regular file".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Sighting::Unusable(format!("it cannot be reached: {error}")),
        })
    }
}

/// Why a file has not been read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The system failed, which may pass.
    Io(io::Error),
    /// A folder, a pipe, a socket or a device.
    NotAFile,
    /// It has this many bytes, which is more than are wanted.
    TooLong(u64),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => error.fmt(f),
            ReadError::NotAFile => f.write_str("it is no regular file"),
            ReadError::TooLong(bytes) => write!(f, "it has {bytes} bytes, which is too much"),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Io(error)
    }
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// See [`ReadError`].
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    // Looked at before it is opened, because opening a device may do something; opened without waiting and looked at
    // again, because it may have become a pipe meanwhile, and nobody need ever write to that.
    let is_file = |metadata: Metadata| if metadata.is_file() { Ok(metadata.len()) } else { Err(ReadError::NotAFile) };
    is_file(fs::metadata(path)?)?;
    let file = open::without_waiting(path)?;
    let size = is_file(file.metadata()?)?;
    let mut bytes = Vec::new();
    // It may be growing at this moment.
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        read if read > bytes_max => Err(ReadError::TooLong(size.max(read))),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_says_what_it_is_there_for() {
        let place = |name: &str| place_of(Path::new("policies").join(name).as_path());
        assert_eq!(place("mine.wasm"), Some(("mine".to_owned(), Role::Active)));
        assert_eq!(place("mine.shadow.wasm"), Some(("mine".to_owned(), Role::Shadow)));
        assert_eq!(place("mine.v2.wasm"), Some(("mine.v2".to_owned(), Role::Active)));
        for nothing in ["mine.previous.wasm", ".mine.wasm", ".wasm", ".shadow.wasm", "mine.wasm.sig", "mine.toml"] {
            assert_eq!(place(nothing), None, "{nothing}");
        }
    }

    fn is_no_file(path: &Path) {
        assert!(matches!(read(path, 64), Err(ReadError::NotAFile)), "{}", path.display());
        assert!(matches!(Sighting::of(path), Some(Sighting::Unusable(_))), "{}", path.display());
    }

    #[test]
    fn a_folder_is_no_file() {
        is_no_file(tempfile::tempdir().expect("a folder").path());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_no_file_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe.wasm");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        is_no_file(&pipe);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_nothing_and_one_that_leads_to_itself_is_unusable() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let (nowhere, circle) = (folder.path().join("nowhere.wasm"), folder.path().join("circle.wasm"));
        symlink("missing", &nowhere).expect("a link");
        symlink(&circle, &circle).expect("a link");
        assert_eq!(Sighting::of(&nowhere), None);
        assert!(matches!(Sighting::of(&circle), Some(Sighting::Unusable(_))));
    }

    #[test]
    fn no_more_is_read_than_is_wanted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, [0; 65]).expect("written");
        assert!(matches!(read(&path, 64), Err(ReadError::TooLong(65))));
        assert_eq!(read(&path, 65).expect("as long as allowed").len(), 65);
    }
}
