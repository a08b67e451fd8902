//! A secret whose file is read again while Spillway serves.

use super::secret::{NamedSecret, Secret, SecretSource};

/// A secret, and what was last seen in its place.
#[derive(Debug)]
pub struct FollowedSecret {
    source: SecretSource,
    held: Secret,
    /// What the last look found, where it differs from what is held.
    seen: Option<Result<Secret, String>>,
    /// What was last told of it, if it could not be read since.
    told: Option<String>,
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing to tell.
    AsBefore,
    /// Another secret.
    Changed(Secret),
    /// It cannot be read, in words that hold nothing of it. The last one stays in use.
    Lost(String),
    /// It can be read again, and is what it was.
    Back,
}

impl FollowedSecret {
    /// Follows a secret; `None` for one that cannot change while the process lives.
    pub fn of(named: &NamedSecret) -> Option<FollowedSecret> {
        match named.source {
            SecretSource::Variable(_) => None,
            SecretSource::File(_) => Some(FollowedSecret {
                source: named.source.clone(),
                held: named.secret.clone()?,
                seen: None,
                told: None,
            }),
        }
    }

    /// Where it stands.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }

    /// Reads it again. All of it is read and compared: it is short, and a clock may be too coarse to tell two writes
    /// apart. What differs counts once two looks in a row agree on it, since a file may be looked at while it is written.
    pub fn look(&mut self) -> Look {
        let found = self.source.read();
        if found.as_ref() == Ok(&self.held) {
            self.seen = None;
            return if self.told.take().is_some() { Look::Back } else { Look::AsBefore };
        }
        if self.seen.as_ref() != Some(&found) {
            self.seen = Some(found);
            return Look::AsBefore;
        }
        match found {
            Ok(secret) => {
                self.held = secret.clone();
                (self.seen, self.told) = (None, None);
                Look::Changed(secret)
            }
            Err(message) if self.told.as_ref() == Some(&message) => Look::AsBefore,
            Err(message) => {
                self.told = Some(message.clone());
                Look::Lost(message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn follow(path: &Path) -> FollowedSecret {
        let source = SecretSource::File(path.to_owned());
        let secret = source.read().expect("a secret");
        FollowedSecret::of(&NamedSecret { source, secret: Some(secret) }).expect("a file can be followed")
    }

    fn secret(text: &str) -> Secret {
        Secret::parse(text).expect("a secret")
    }

    #[test]
    fn a_change_counts_once_two_looks_agree_on_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        fs::write(&path, "sk-1\n").expect("written");
        let mut followed = follow(&path);
        assert_eq!(followed.look(), Look::AsBefore);
        fs::write(&path, "sk-").expect("half of it");
        assert_eq!(followed.look(), Look::AsBefore);
        fs::write(&path, "sk-2").expect("all of it, and as long as before");
        assert_eq!(followed.look(), Look::AsBefore);
        assert_eq!(followed.look(), Look::Changed(secret("sk-2")));
        assert_eq!(followed.look(), Look::AsBefore);
    }

    #[test]
    fn a_file_that_is_replaced_whole_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("key"), "sk-1").expect("written");
        let mut renamed = follow(&at("key"));
        fs::write(at("new"), "sk-2").expect("written");
        fs::rename(at("new"), at("key")).expect("renamed");
        assert_eq!((renamed.look(), renamed.look()), (Look::AsBefore, Look::Changed(secret("sk-2"))));
    }

    /// As Kubernetes mounts secrets: a link to a file behind a link to a folder, which is what changes.
    #[cfg(unix)]
    #[test]
    fn a_file_behind_links_is_followed() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", "sk-1"), ("v2", "sk-2")] {
            fs::create_dir(at(version)).expect("a folder");
            fs::write(at(version).join("api"), text).expect("written");
        }
        symlink("v1", at("..data")).expect("a link");
        symlink("..data/api", at("api")).expect("a link");
        let mut linked = follow(&at("api"));
        symlink("v2", at("..next")).expect("a link");
        fs::rename(at("..next"), at("..data")).expect("renamed");
        assert_eq!((linked.look(), linked.look()), (Look::AsBefore, Look::Changed(secret("sk-2"))));
    }

    #[test]
    fn what_can_no_longer_be_read_is_told_once_and_so_is_that_it_can_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        fs::write(&path, "sk-1").expect("written");
        let mut followed = follow(&path);
        fs::remove_file(&path).expect("removed");
        assert_eq!(followed.look(), Look::AsBefore);
        assert!(matches!(followed.look(), Look::Lost(why) if why.contains("os error 2")));
        assert_eq!((followed.look(), followed.look()), (Look::AsBefore, Look::AsBefore));
        fs::write(&path, "").expect("written");
        assert_eq!(followed.look(), Look::AsBefore);
        assert!(matches!(followed.look(), Look::Lost(why) if why.ends_with("is empty")));
        fs::write(&path, "sk-1").expect("written");
        assert_eq!((followed.look(), followed.look()), (Look::Back, Look::AsBefore));
    }
}
