//! Files that are whole at every moment: written beside the one that is there, and renamed over it.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};
use system::{draft, put};
use tempfile::{Builder, NamedTempFile};

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// What the name of a file begins with that is being written. Hidden, so that whoever watches the folder leaves it
/// alone.
const DRAFT_PREFIX: &str = ".spillway-";
/// What it ends with: neither a policy's suffix nor that of anything else that is looked for.
const DRAFT_SUFFIX: &str = ".new";
/// From this age on a draft was left behind by a process that ended while it wrote. The largest takes seconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

/// Who may read and write a file. On Windows that is for its folder's access list to say.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// Its owner alone.
    Owner,
    /// Whoever the process's umask lets.
    Umask,
    /// The same as another file.
    Like(#[cfg_attr(windows, expect(dead_code, reason = "it takes over its folder's access list"))] Permissions),
}

/// Puts what `content` holds under `path`. Others see what was there before or all of the new; when this has returned,
/// a power cut does not take it back.
///
/// # Errors
/// When `content` cannot be read or the disk does not take it. What was there before is still there then, unless the
/// very last step failed, which makes the new name outlast a power cut.
pub(crate) fn replace(path: &Path, access: Access, mut content: impl Read) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    remove_abandoned(folder);
    let mut draft = draft(Builder::new().prefix(DRAFT_PREFIX).suffix(DRAFT_SUFFIX), folder, access)?;
    io::copy(&mut content, draft.as_file_mut())?;
    draft.as_file().sync_all()?;
    put(draft, path)?;
    sync_folder(folder)
}

/// Makes the creation, renaming and removal of files in a folder outlast a power cut.
///
/// # Errors
/// When the folder cannot be opened, or the disk does not take it.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    system::sync_folder(folder)
}

#[cfg(unix)]
mod unix {
    use super::{Access, Builder, NamedTempFile, Path, Permissions, io};
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    pub(super) fn draft(builder: &mut Builder<'_, '_>, folder: &Path, access: Access) -> io::Result<NamedTempFile> {
        let mode = match &access {
            Access::Owner => 0o600,
            Access::Umask => 0o666,
            Access::Like(permissions) => permissions.mode(),
        };
        let draft = builder.permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
        if let Access::Like(permissions) = access {
            // The umask may have taken some of them away.
            draft.as_file().set_permissions(permissions)?;
        }
        Ok(draft)
    }

    pub(super) fn put(draft: NamedTempFile, path: &Path) -> io::Result<()> {
        draft.persist(path)?;
        Ok(())
    }

    pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

#[cfg(windows)]
mod windows {
    use super::{Access, Builder, NamedTempFile, Path, io};
    use std::thread::sleep;
    use std::time::Duration;

    /// How often a file is tried to be replaced that somebody has open.
    const TRIES_MAX: u32 = 40;
    /// How long is left to whoever has it open. Readers of ours take a millisecond, and virus scanners, which look at
    /// each new file, some tens.
    const BETWEEN_TRIES: Duration = Duration::from_millis(25);

    pub(super) fn draft(builder: &mut Builder<'_, '_>, folder: &Path, _access: Access) -> io::Result<NamedTempFile> {
        builder.tempfile_in(folder)
    }

    /// Windows replaces no file that somebody has open, nor renames one, so that it takes some patience.
    pub(super) fn put(mut draft: NamedTempFile, path: &Path) -> io::Result<()> {
        for _ in 1..TRIES_MAX {
            match draft.persist(path) {
                Err(refused) if refused.error.kind() == io::ErrorKind::PermissionDenied => draft = refused.file,
                done => return done.map(drop).map_err(io::Error::from),
            }
            sleep(BETWEEN_TRIES);
        }
        draft.persist(path)?;
        Ok(())
    }

    /// A folder cannot be flushed there: its file system keeps names in a journal of its own.
    pub(super) fn sync_folder(_folder: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Removes what processes have left behind that ended while they wrote into this folder, so that it does not pile up.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = || entry.metadata().ok()?.modified().ok();
        let is_old = |modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age >= ABANDONED_AFTER);
        if is_draft(&entry.file_name()) && modified().is_some_and(is_old) {
            // Another process may remove it as well, and the next write tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_draft(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(DRAFT_PREFIX) && name.ends_with(DRAFT_SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::Instant;

    /// How long a test waits before it fails. Only a failing one waits as long.
    const DEADLINE: Duration = Duration::from_secs(20);

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn a_file_is_replaced_whole_also_while_somebody_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kept.json");
        fs::write(&path, "a longer text that was there before").expect("written");
        let mut reader = File::open(&path).expect("a file");
        let (of_reader, folder_of_reader) = (path.clone(), folder.path().to_owned());
        let reads = std::thread::spawn(move || {
            // It reads when the other is in the way of it: has replaced the file, or, on Windows, where nobody does that
            // before the reader has ended, is about to.
            let is_replaced = || fs::metadata(&of_reader).is_ok_and(|file| file.len() == 3);
            let is_about_to_be = || cfg!(windows) && count(&folder_of_reader) == 2;
            let give_up_at = Instant::now() + DEADLINE;
            while !is_replaced() && !is_about_to_be() {
                assert!(Instant::now() < give_up_at, "nobody replaces it");
                std::thread::yield_now();
            }
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        replace(&path, Access::Owner, &b"new"[..]).expect("replaced");
        assert_eq!(fs::read(&path).expect("a file"), b"new");
        assert_eq!(reads.join().expect("it ends").expect("read"), "a longer text that was there before");
        assert_eq!(count(folder.path()), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_replaced_whole_with_the_access_that_was_asked_for_and_nothing_is_left_beside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kept.json");
        fs::write(&path, "a longer text that was there before").expect("written");
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("readable by all");
        replace(&path, Access::Owner, &b"new"[..]).expect("replaced");
        assert_eq!((fs::read(&path).expect("a file"), mode(&path)), (b"new".to_vec(), 0o600));
        // No umask lets others write.
        replace(&path, Access::Like(Permissions::from_mode(0o666)), &b"newer"[..]).expect("replaced");
        assert_eq!((fs::read(&path).expect("a file"), mode(&path)), (b"newer".to_vec(), 0o666));
        fs::write(folder.path().join("usual"), "").expect("written");
        replace(&path, Access::Umask, &b"newest"[..]).expect("replaced");
        assert_eq!(mode(&path), mode(&folder.path().join("usual")));
        assert_eq!(count(folder.path()), 2);
    }

    #[test]
    fn what_cannot_be_written_whole_leaves_what_was_there_and_nothing_beside() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the source broke"))
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kept.json");
        fs::write(&path, "before").expect("written");
        let error = replace(&path, Access::Owner, b"half".chain(Broken)).expect_err("half a file");
        assert_eq!(error.to_string(), "the source broke");
        assert_eq!((fs::read(&path).expect("a file"), count(folder.path())), (b"before".to_vec(), 1));
    }

    #[test]
    fn a_draft_that_was_left_behind_is_removed_once_nobody_can_be_writing_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, age: Duration| {
            let path = folder.path().join(name);
            let file = File::create(&path).expect("a file");
            file.set_modified(SystemTime::now() - age).expect("a time");
            path
        };
        let abandoned = file(".spillway-a1b2c3.new", 2 * ABANDONED_AFTER);
        let being_written = file(".spillway-d4e5f6.new", ABANDONED_AFTER / 2);
        let others = file(".mine.new", 2 * ABANDONED_AFTER);
        replace(&folder.path().join("kept.json"), Access::Owner, &b"new"[..]).expect("replaced");
        assert_eq!([&abandoned, &being_written, &others].map(|path| path.exists()), [false, true, true]);
    }
}
