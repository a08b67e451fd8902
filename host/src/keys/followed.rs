//! The key file, read again while Spillway serves.

use crate::keys::file::{KeyFile, KeyFileError};
use crate::keys::record::KeyRecord;
use crate::runtime::file_identity::Stamp;
use std::fs;
use std::time::Duration;

/// How often the file is looked at: what is changed is in force within a second, whatever else takes time.
pub(crate) const LOOK: Duration = Duration::from_millis(500);
/// At each so-many-th look the file is read although it seems to be what it was: a clock may be too coarse to tell two
/// writes apart.
const LOOKS_PER_READ: u32 = 10;

/// The file, and what was last seen of it.
#[derive(Debug)]
pub(crate) struct FollowedKeys {
    file: KeyFile,
    /// What was read last and is in force.
    held: Option<Vec<u8>>,
    stamp: Option<Stamp>,
    looks: u32,
    /// What the last look found that cannot be used.
    wrong: Option<KeyFileError>,
    /// Whether it was told.
    is_told: bool,
    /// Whether it was read at all.
    is_read: bool,
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeysLook {
    /// Nothing to tell.
    AsBefore,
    /// Other keys.
    Changed(Vec<KeyRecord>),
    /// It cannot be used, for this reason. The last keys stay in force.
    Lost(String),
    /// It can be used again, and is what it was.
    Back,
}

impl FollowedKeys {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn open(file: KeyFile) -> Result<(FollowedKeys, Vec<KeyRecord>), KeyFileError> {
        let stamp = stamp_of(&file);
        let held = file.bytes()?;
        let keys = held.as_ref().map_or(Ok(Vec::new()), |bytes| file.parse(bytes))?;
        Ok((FollowedKeys { held, stamp, is_read: true, ..FollowedKeys::unread(file) }, keys))
    }

    /// Leaves reading it to the first look.
    pub(crate) fn unread(file: KeyFile) -> FollowedKeys {
        FollowedKeys { file, held: None, stamp: None, looks: 0, wrong: None, is_told: false, is_read: false }
    }

    /// Where it stands.
    pub(crate) fn file(&self) -> &KeyFile {
        &self.file
    }

    /// Looks at it again. Commands replace it whole, so that what can be read is meant, and counts at once. What cannot
    /// may be somebody's who is writing it, and is told when the next look finds the same.
    pub(crate) fn look(&mut self) -> KeysLook {
        let stamp = stamp_of(&self.file);
        self.looks = (self.looks + 1) % LOOKS_PER_READ;
        if self.is_read && stamp == self.stamp && self.looks != 0 && self.wrong.is_none() {
            return KeysLook::AsBefore;
        }
        match self.read() {
            Ok(found) => {
                self.stamp = stamp;
                self.wrong = None;
                let was_told = std::mem::take(&mut self.is_told);
                let was_read = std::mem::replace(&mut self.is_read, true);
                match found {
                    None if !was_read => KeysLook::Changed(Vec::new()),
                    Some((bytes, keys)) => {
                        self.held = Some(bytes);
                        KeysLook::Changed(keys)
                    }
                    None if was_told => KeysLook::Back,
                    None => KeysLook::AsBefore,
                }
            }
            Err(error) => {
                let is_same = self.wrong.as_ref() == Some(&error);
                let was_told = std::mem::replace(&mut self.is_told, is_same) && is_same;
                let told = error.to_string();
                self.wrong = Some(error);
                if is_same && !was_told { KeysLook::Lost(told) } else { KeysLook::AsBefore }
            }
        }
    }

    /// What is in it, if that is not what was.
    fn read(&self) -> Result<Option<Changed>, KeyFileError> {
        match self.file.bytes()? {
            None if self.held.is_none() => Ok(None),
            // Nobody revokes all keys by losing the file.
            None => Err(self.file.is_gone()),
            Some(bytes) if self.held.as_ref() == Some(&bytes) => Ok(None),
            Some(bytes) => {
                let keys = self.file.parse(&bytes)?;
                Ok(Some((bytes, keys)))
            }
        }
    }
}

/// What is in a file, and the keys in that.
type Changed = (Vec<u8>, Vec<KeyRecord>);

fn stamp_of(file: &KeyFile) -> Option<Stamp> {
    fs::metadata(file.path()).ok().map(|found| Stamp::of(&found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::record::tests::record;

    fn add(file: &KeyFile, id: &str) {
        let added: Result<(), KeyFileError> = file.change(|keys| {
            keys.push(record(id, id));
            Ok(())
        });
        added.expect("added");
    }

    fn ids(look: KeysLook) -> Vec<String> {
        match look {
            KeysLook::Changed(keys) => keys.into_iter().map(|key| key.id).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_change_counts_at_the_first_look_that_finds_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = KeyFile::at(folder.path().join("keys.json"));
        let (mut followed, keys) = FollowedKeys::open(file.clone()).expect("none is there");
        assert_eq!((keys.len(), followed.look()), (0, KeysLook::AsBefore));
        for (id, all) in [("k_1", &["k_1"][..]), ("k_2", &["k_1", "k_2"])] {
            add(&file, id);
            assert_eq!(ids(followed.look()), all);
            assert_eq!(followed.look(), KeysLook::AsBefore);
        }
    }

    #[test]
    fn what_cannot_be_used_changes_nothing_and_is_told_once_and_so_is_that_it_can_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = KeyFile::at(folder.path().join("keys.json"));
        add(&file, "k_1");
        let (mut followed, keys) = FollowedKeys::open(file.clone()).expect("keys");
        assert_eq!(keys.len(), 1);
        let good = fs::read(file.path()).expect("a file");
        for damage in [&b"{\"version\": 1, \"keys\": ["[..], b""] {
            fs::write(file.path(), damage).expect("written");
            assert_eq!(followed.look(), KeysLook::AsBefore, "somebody may be writing it");
            assert!(matches!(followed.look(), KeysLook::Lost(why) if why.contains("no file of keys")));
            assert_eq!((followed.look(), followed.look()), (KeysLook::AsBefore, KeysLook::AsBefore));
        }
        fs::remove_file(file.path()).expect("removed");
        assert_eq!(followed.look(), KeysLook::AsBefore);
        assert!(matches!(followed.look(), KeysLook::Lost(why) if why.contains("is gone")));
        fs::write(file.path(), &good).expect("written");
        assert_eq!((followed.look(), followed.look()), (KeysLook::Back, KeysLook::AsBefore));
        add(&file, "k_2");
        assert_eq!(ids(followed.look()), ["k_1", "k_2"]);
    }

    #[test]
    fn a_change_that_no_stamp_shows_is_found_by_reading() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = KeyFile::at(folder.path().join("keys.json"));
        let (mut followed, _) = FollowedKeys::open(file.clone()).expect("none is there");
        add(&file, "k_1");
        followed.stamp = stamp_of(&file);
        let looks: Vec<_> = (0..LOOKS_PER_READ).map(|_| followed.look()).collect();
        assert_eq!(looks.iter().filter(|look| matches!(look, KeysLook::Changed(_))).count(), 1);
    }
}
