//! The key file: read whole, checked whole, and changed by one command at a time.
//!
//! Commands change it whether a Spillway runs or not, and a Spillway never does. So it needs no more than that each
//! change is whole, and that two of them come one after the other.

use crate::keys::digest::{KEY_BYTES_MAX, KEY_BYTES_MIN, KeyDigest};
use crate::keys::record::KeyRecord;
use crate::runtime::durable_file::{self, Access};
use crate::runtime::private;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The layout that is written and read. A newer one may hold restrictions that nobody here would know of.
const LAYOUT: u32 = 1;
/// Most keys in the file.
pub(crate) const KEYS_MAX: usize = 100_000;
/// Largest file that is read: room for as many keys as there may be, with some hundred bytes each.
const FILE_BYTES_MAX: u64 = 128 << 20;
/// How long a command waits for another that is changing the file. A change takes milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it looks whether the other is done.
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// Why the keys cannot be read or changed, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub(crate) struct KeyFileError {
    path: String,
    why: String,
}

/// The file of keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
}

/// What is in it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    keys: Vec<KeyRecord>,
}

/// What is read of a file of whatever layout.
#[derive(Deserialize)]
struct Layout {
    version: u32,
}

impl KeyFile {
    /// At this path, where none need be yet.
    pub(crate) fn at(path: PathBuf) -> KeyFile {
        KeyFile { path }
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All keys that are in it, in the order in which they were made; none where there is no file.
    ///
    /// # Errors
    /// When it cannot be read, or holds what cannot be meant.
    pub(crate) fn read(&self) -> Result<Vec<KeyRecord>, KeyFileError> {
        match self.bytes()? {
            Some(bytes) => self.parse(&bytes),
            None => Ok(Vec::new()),
        }
    }

    /// What is in it, as bytes; `None` where there is no file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn bytes(&self) -> Result<Option<Vec<u8>>, KeyFileError> {
        let found = match fs::metadata(&self.path) {
            // Nor is there one where something else stands in its folder's place.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            found => found.map_err(|error| self.wrong(error.to_string()))?,
        };
        // A pipe could be waited for without end.
        if !found.is_file() {
            return Err(self.wrong("it is no regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
        read.map_err(|error| self.wrong(format!("it cannot be read: {error}")))?;
        match bytes.len() as u64 <= FILE_BYTES_MAX {
            true => Ok(Some(bytes)),
            false => Err(self.wrong(format!("it has more than {FILE_BYTES_MAX} bytes"))),
        }
    }

    /// The keys that these bytes are.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn parse(&self, bytes: &[u8]) -> Result<Vec<KeyRecord>, KeyFileError> {
        let unreadable = |error: serde_json::Error| {
            self.wrong(format!(
                "it is no file of keys ({error}); put back the last one that was right, or move it away and make new \
                 keys with `spillway key new`"
            ))
        };
        let Layout { version } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if version != LAYOUT {
            return Err(self.wrong(format!(
                "its layout is {version}, and this Spillway reads {LAYOUT}; use the Spillway that has written it, or a \
                 newer one"
            )));
        }
        let Stored { keys, .. } = serde_json::from_slice(bytes).map_err(unreadable)?;
        check_all(&keys).map_err(|why| self.wrong(why))?;
        Ok(keys)
    }

    /// Changes the keys, while nobody else does. Nothing is written if the change fails, or if it has changed nothing.
    ///
    /// # Errors
    /// When the file cannot be read, changed or written, or as `change` says.
    pub(crate) fn change<T, E: From<KeyFileError>>(
        &self,
        change: impl FnOnce(&mut Vec<KeyRecord>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _lock = self.lock()?;
        let before = self.read()?;
        let mut keys = before.clone();
        let done = change(&mut keys)?;
        if keys != before {
            check_all(&keys).map_err(|why| self.wrong(why))?;
            self.write(keys)?;
        }
        Ok(done)
    }

    fn write(&self, keys: Vec<KeyRecord>) -> Result<(), KeyFileError> {
        let mut text = serde_json::to_vec_pretty(&Stored { version: LAYOUT, keys })
            .map_err(|error| self.wrong(error.to_string()))?;
        text.push(b'\n');
        let written = durable_file::replace(&self.path, Access::Owner, &text[..]);
        written.map_err(|error| self.wrong(format!("it cannot be written: {error}")))
    }

    /// Waits until nobody else changes the file, and keeps others from it while what is returned lives. The lock is a
    /// file of its own, since the one of the keys is replaced.
    fn lock(&self) -> Result<File, KeyFileError> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        private::make_folder(folder).map_err(|error| self.wrong(format!("its folder cannot be made: {error}")))?;
        check_owner(folder).map_err(|why| self.wrong(why))?;
        let path = self.path.with_extension("lock");
        let opened = private::options().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|error| self.wrong(format!("{} cannot be made: {error}", path.display())))?;
        let until = Instant::now() + LOCK_TIMEOUT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_LOOK),
                Err(TryLockError::WouldBlock) => {
                    return Err(
                        self.wrong("another command has been changing it for ten seconds; try again".to_owned())
                    );
                }
                Err(TryLockError::Error(error)) => return Err(self.wrong(format!("it cannot be locked: {error}"))),
            }
        }
    }

    /// That it was there, and is no more.
    pub(super) fn is_gone(&self) -> KeyFileError {
        self.wrong("it is gone; the last keys stay in force until a restart".to_owned())
    }

    fn wrong(&self, why: String) -> KeyFileError {
        KeyFileError { path: self.path.display().to_string(), why }
    }
}

/// Whether keys can stand beside each other.
fn check_all(keys: &[KeyRecord]) -> Result<(), String> {
    if keys.len() > KEYS_MAX {
        return Err(format!("it has {} keys, and may have {KEYS_MAX}", keys.len()));
    }
    let (mut ids, mut secrets) = (HashSet::new(), HashSet::new());
    for key in keys {
        key.check().map_err(|why| format!("the key {}: {why}", key.label()))?;
        if !ids.insert(&*key.id) {
            return Err(format!("two keys have the id {}", key.id));
        }
        let all = [key.sha256].into_iter().chain(key.former.iter().map(|former| former.sha256));
        if !all.map(String::from).all(|secret| secrets.insert(secret)) {
            return Err(format!("the key {} has a secret that stands there already", key.label()));
        }
    }
    Ok(())
}

/// The key whose secret is this, if it is one of these, whatever it counts for.
pub(crate) fn whose(keys: &[KeyRecord], secret: &KeyDigest) -> Option<usize> {
    let has = |key: &KeyRecord| key.sha256 == *secret || key.former.iter().any(|former| former.sha256 == *secret);
    keys.iter().position(has)
}

/// Whether a text can be somebody's key: one word of a length that cannot be guessed.
///
/// # Errors
/// Why it cannot, in words that hold nothing of it.
pub(crate) fn check_secret(text: &str) -> Result<(), String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it holds other characters than ASCII's visible ones".to_owned());
    }
    match text.len() {
        KEY_BYTES_MIN..=KEY_BYTES_MAX => Ok(()),
        length => Err(format!("it has {length} characters, and a key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX}")),
    }
}

/// A file that root writes for another user's Spillway could not be read by that one.
#[cfg(unix)]
fn check_owner(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let (ours, owner) =
        (rustix::process::geteuid().as_raw(), fs::metadata(folder).map_err(|error| error.to_string())?.uid());
    match ours == owner {
        true => Ok(()),
        false => Err(format!(
            "its folder belongs to another user, whose Spillway could not read what you write; do it as that one: \
             sudo -u '#{owner}' spillway key …"
        )),
    }
}

/// Elsewhere the folder's access list decides who can read it.
#[cfg(not(unix))]
fn check_owner(_folder: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests;
