//! What would become of a folder if a spool were opened in it. Nothing is changed by looking.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::ballast::{free_bytes_near, no_room_to_admit};
use super::file_system::FileSystem;
use super::folder::{DATABASE_FILE, KEY_FILE, LOCK_FILE, cannot, holder, may_be_closed, shared};
use crate::runtime::{permission, private};
use crate::spool::error::OpenError;

/// What is found of a folder.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Whether it is there. Otherwise it would be made.
    pub exists: bool,
    /// What keeps a spool from being opened in it, or from taking anything.
    pub obstacle: Option<OpenError>,
    /// Who holds it now, as far as its lock file says.
    pub holder: Option<String>,
    /// What lies there ends with the container or the machine: the file system's name.
    pub perishable: Option<&'static str>,
    /// It lies on a FUSE file system, which may be anything.
    pub is_fuse: bool,
    /// What is free there, in bytes; `None` where nobody says so.
    pub free_bytes: Option<u64>,
}

/// Looks at a folder for a spool of at most `max_size` bytes.
pub(crate) fn survey(dir: &Path, max_size: u64) -> Survey {
    let nearest = nearest(dir);
    let file_system = FileSystem::of(&nearest);
    let perishable = match file_system {
        Ok(FileSystem::Perishable(kind)) => Some(kind),
        _ => None,
    };
    Survey {
        exists: dir.exists(),
        obstacle: obstacle(dir, &nearest, max_size).err(),
        holder: held_by(dir),
        perishable,
        is_fuse: matches!(file_system, Ok(FileSystem::Fuse)),
        free_bytes: free_bytes_near(dir),
    }
}

/// The folder itself, or where it would be made.
fn nearest(dir: &Path) -> PathBuf {
    let here = |dir: &Path| if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() };
    dir.ancestors().map(here).find(|dir| dir.exists()).unwrap_or_else(|| PathBuf::from("/"))
}

/// In the order in which an opening would meet them.
fn obstacle(dir: &Path, nearest: &Path, max_size: u64) -> Result<(), OpenError> {
    let in_the_way = |error: io::Error| cannot(nearest, &error);
    if !nearest.metadata().map_err(in_the_way)?.is_dir() {
        return Err(in_the_way(io::ErrorKind::NotADirectory.into()));
    }
    permission::to_make_files_in(nearest).map_err(in_the_way)?;
    if let FileSystem::Network(kind) = FileSystem::of(nearest).map_err(in_the_way)? {
        return Err(OpenError::NetworkFileSystem { dir: dir.to_owned(), kind });
    }
    if dir.exists() {
        if private::is_open(dir).map_err(in_the_way)? && !may_be_closed(dir).map_err(in_the_way)? {
            return Err(shared(dir));
        }
        for name in [LOCK_FILE, DATABASE_FILE, KEY_FILE] {
            let path = dir.join(name);
            if path.exists() {
                permission::to_change(&path).map_err(|error| cannot(&path, &error))?;
            }
        }
        let has_database = dir.join(DATABASE_FILE).metadata().is_ok_and(|found| found.len() > 0);
        if has_database && !dir.join(KEY_FILE).exists() {
            return Err(OpenError::WrongKey { dir: dir.to_owned() });
        }
    }
    no_room_to_admit(dir, max_size).map_or(Ok(()), |no_room| Err(no_room.into()))
}

/// Who has locked it. The lock is tried in common with others who look, and given back at once; a Spillway that starts
/// in that very moment tries again.
fn held_by(dir: &Path) -> Option<String> {
    let mut lock = File::open(dir.join(LOCK_FILE)).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(holder(&mut lock)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::super::folder::Folder;
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    /// A quota without a ballast, which any disk has room for.
    const SMALL: u64 = 1 << 20;

    #[test]
    fn a_folder_that_is_not_there_is_looked_at_where_it_would_be_made_and_is_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("deep/data");
        let found = survey(&dir, SMALL);
        assert!(!found.exists && found.obstacle.is_none() && found.free_bytes.is_some(), "{found:?}");
        assert!(!folder.path().join("deep").exists());
        fs::write(folder.path().join("deep"), "a file").expect("written");
        let found = survey(&dir, SMALL);
        assert!(found.obstacle.is_some_and(|obstacle| obstacle.to_string().contains("deep")));
    }

    #[test]
    fn what_an_opening_would_meet_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("data");
        fs::create_dir(&dir).expect("made");
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("open to others");
        let told = |dir: &Path, max_size| survey(dir, max_size).obstacle.map(|obstacle| obstacle.to_string());
        assert_eq!(told(&dir, SMALL), None, "it is empty, and would be closed");
        fs::write(dir.join("letters.txt"), "mine").expect("written");
        assert!(told(&dir, SMALL).is_some_and(|told| told.contains("holds other files")));
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).expect("closed");
        assert_eq!(told(&dir, SMALL), None);
        fs::write(dir.join(DATABASE_FILE), "something").expect("written");
        assert!(told(&dir, SMALL).is_some_and(|told| told.contains("spool.key")));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told() {
        // Whoever may write everywhere has no such folder.
        if rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o500)).expect("closed");
        for dir in [folder.path().to_owned(), folder.path().join("data")] {
            let told = survey(&dir, SMALL).obstacle.map(|obstacle| obstacle.to_string());
            assert!(told.is_some_and(|told| told.contains("may write there")));
        }
    }

    #[test]
    fn who_holds_it_is_told_and_keeps_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("data");
        let held = Folder::lock(dir.clone()).expect("locked");
        let holder = survey(&dir, SMALL).holder;
        assert_eq!(holder, Some(format!("another Spillway (process {})", std::process::id())));
        assert!(held.is_locked());
        drop(held);
        assert_eq!(survey(&dir, SMALL).holder, None);
    }
}
