//! Files and folders that are for this user alone.
//!
//! Unix has modes for that: 0600 and 0700. On Windows a file is for whom the access list says that it takes over from
//! its folder, and Spillway changes none. What lies in a user's own profile is for that user, the system and its
//! administrators, so the profile is believed, and nothing else is.

use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// What a user does so that a folder is for him alone, as part of a sentence.
pub(crate) const HOW_TO_SHUT: &str = system::HOW_TO_SHUT;

/// What a user does so that a file is for him alone, as a sentence without its end.
pub(crate) const HOW_TO_SHUT_FILE: &str = system::HOW_TO_SHUT_FILE;

/// How a file is opened that is made for this user alone, if it has to be made.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    system::prepare_options(&mut options);
    options
}

/// Makes a folder, and those that it lies in, for this user alone. One that is there stays as it is.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    system::prepare_builder(&mut builder);
    builder.recursive(true).create(folder)
}

/// Whether others may be able to read a file or folder.
///
/// # Errors
/// When it cannot be asked.
pub(crate) fn is_open(path: &Path) -> io::Result<bool> {
    system::is_open(path)
}

/// Whether every user of this machine may be able to read a file, beyond those that share a group with it.
///
/// # Errors
/// When it cannot be asked.
pub(crate) fn is_open_to_all(path: &Path) -> io::Result<bool> {
    system::is_open_to_all(path)
}

/// Shuts others out of a file, where the system has a way.
///
/// # Errors
/// When it cannot be asked, or belongs to somebody else.
pub(crate) fn shut_file(path: &Path) -> io::Result<()> {
    if is_open(path)? { system::shut(path, 0o600) } else { Ok(()) }
}

/// Shuts others out of a folder, and answers whether they are; where the system has no way, they may not be.
///
/// # Errors
/// When it cannot be asked, or belongs to somebody else.
pub(crate) fn shut_folder(path: &Path) -> io::Result<bool> {
    if is_open(path)? {
        system::shut(path, 0o700)?;
    }
    Ok(!is_open(path)?)
}

/// Whether nobody but this user can write to a file or folder that was found at `path`.
pub(crate) fn is_ours_to_write(found: &Metadata, path: &Path) -> bool {
    system::is_ours_to_write(found, path)
}

#[cfg(unix)]
mod unix {
    use super::{DirBuilder, Metadata, OpenOptions, Path, io};
    use rustix::process::geteuid;
    use std::fs::{Permissions, metadata, set_permissions};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};

    pub(super) const HOW_TO_SHUT: &str = "make this one private (chmod 700)";
    pub(super) const HOW_TO_SHUT_FILE: &str = "make it private (chmod 600)";

    pub(super) fn prepare_options(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub(super) fn prepare_builder(builder: &mut DirBuilder) {
        builder.mode(0o700);
    }

    pub(super) fn is_open(path: &Path) -> io::Result<bool> {
        Ok(metadata(path)?.mode() & 0o077 != 0)
    }

    pub(super) fn is_open_to_all(path: &Path) -> io::Result<bool> {
        Ok(metadata(path)?.mode() & 0o007 != 0)
    }

    pub(super) fn shut(path: &Path, mode: u32) -> io::Result<()> {
        set_permissions(path, Permissions::from_mode(mode))
    }

    pub(super) fn is_ours_to_write(found: &Metadata, _path: &Path) -> bool {
        found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0
    }
}

#[cfg(windows)]
mod windows {
    use super::{DirBuilder, Metadata, OpenOptions, Path, io};
    use std::env::home_dir;

    pub(super) const HOW_TO_SHUT: &str = "choose one in your own profile";
    pub(super) const HOW_TO_SHUT_FILE: &str = "move it into your own profile";

    pub(super) fn prepare_options(_options: &mut OpenOptions) {}

    pub(super) fn prepare_builder(_builder: &mut DirBuilder) {}

    pub(super) fn is_open(path: &Path) -> io::Result<bool> {
        let path = path.canonicalize()?;
        let profile = home_dir().and_then(|profile| profile.canonicalize().ok());
        Ok(!profile.is_some_and(|profile| path.starts_with(profile)))
    }

    pub(super) fn is_open_to_all(path: &Path) -> io::Result<bool> {
        is_open(path)
    }

    pub(super) fn shut(_path: &Path, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn is_ours_to_write(_found: &Metadata, path: &Path) -> bool {
        is_open(path).is_ok_and(|open| !open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_made_for_this_user_is_for_nobody_else() {
        // On Windows it lies in the profile.
        let above = tempfile::tempdir().expect("a folder");
        let folder = above.path().join("a").join("b");
        make_folder(&folder).expect("a folder");
        make_folder(&folder).expect("it is there already");
        let file = folder.join("file");
        options().write(true).create_new(true).open(&file).expect("a file");
        for path in [&folder, &file] {
            assert!(!is_open(path).expect("it is there"), "{}", path.display());
            assert!(is_ours_to_write(&fs::metadata(path).expect("it is there"), path), "{}", path.display());
        }
        assert!(shut_folder(&folder).expect("it is there"));
    }

    #[cfg(unix)]
    #[test]
    fn others_are_shut_out_of_what_they_could_read() {
        use std::os::unix::fs::PermissionsExt;
        let above = tempfile::tempdir().expect("a folder");
        let file = above.path().join("file");
        fs::write(&file, "").expect("written");
        for (path, wide, narrow) in [(above.path(), 0o755, 0o700), (&*file, 0o666, 0o600)] {
            fs::set_permissions(path, fs::Permissions::from_mode(wide)).expect("wide");
            assert!(is_open(path).expect("it is there"));
            if path.is_dir() {
                assert!(shut_folder(path).expect("shut"));
            } else {
                shut_file(path).expect("shut");
            }
            assert_eq!(fs::metadata(path).expect("it is there").permissions().mode() & 0o777, narrow);
        }
    }

    #[cfg(windows)]
    #[test]
    fn what_lies_outside_of_the_profile_may_be_anybodys() {
        let system = std::env::var_os("SystemRoot").expect("Windows has a folder");
        assert!(is_open(Path::new(&system)).expect("it is there"));
        assert!(!is_ours_to_write(&fs::metadata(&system).expect("it is there"), Path::new(&system)));
    }
}
