//! Whether the files that are open are still those that lie in the folder.
//!
//! A file that was deleted can be written and even synced for as long as it is open, and is gone with the process. What
//! is promised on the strength of such a sync is promised in vain, so it is looked before and after.

use std::io;
use std::path::{Path, PathBuf};

use crate::runtime::file_identity::FileId;
use crate::spool::seal::Key;

/// The files that must stay where they are.
#[derive(Debug)]
pub(super) struct Watch {
    files: Vec<(PathBuf, FileId)>,
    /// The key's file, which nobody holds open: its content is compared.
    key: Option<(PathBuf, Key)>,
}

impl Watch {
    /// Watches these files, and the key's if it lies in one.
    pub(super) fn new(files: Vec<(PathBuf, FileId)>, key: Option<(PathBuf, Key)>) -> Self {
        Self { files, key }
    }

    /// Whether this file is one of those, and lies where it lay.
    pub(super) fn is_as_it_was(&self, file: &Path) -> bool {
        let watched = self.files.iter().find(|(path, _)| path == file);
        watched.is_some_and(|(path, id)| FileId::of(path).is_ok_and(|found| found == *id))
    }

    /// What has happened to the first file that is not what it was. Takes some five microseconds, a small part of a
    /// sync.
    pub(super) fn changed(&self) -> Option<String> {
        let changed = self.files.iter().find_map(|(path, id)| match FileId::of(path) {
            Ok(found) if found == *id => None,
            Ok(_) => Some(format!("{} was replaced while it was in use", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("{} was deleted while it was in use", path.display()))
            }
            Err(error) => Some(format!("{} is out of reach: {error}", path.display())),
        });
        changed.or_else(|| {
            let (path, key) = self.key.as_ref()?;
            match Key::load(path) {
                Ok(found) if found == *key => None,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Some(format!("{} was deleted while it was in use", path.display()))
                }
                // What keeps it from being read for a moment, such as a want of descriptors, has not changed it.
                Err(error) if error.kind() != io::ErrorKind::InvalidData => None,
                Ok(_) | Err(_) => Some(format!("{} was replaced while it was in use", path.display())),
            }
        })
    }
}
