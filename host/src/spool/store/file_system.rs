//! What kind of file system the folder lies on, and what that means for what is promised there.

/// What is known of a file system by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(windows, allow(dead_code, reason = "there it is either fit or another machine's"))]
pub(super) enum FileSystem {
    /// Nothing speaks against it.
    Fit,
    /// SQLite relies on file locks and shared memory that it does not give.
    Network(&'static str),
    /// What lies on it ends with the container or the machine.
    Perishable(&'static str),
    /// It may be anything, a flush included.
    Fuse,
}

impl FileSystem {
    /// By the numbers of Linux's `magic.h`.
    #[cfg(target_os = "linux")]
    fn of_magic(magic: u64) -> FileSystem {
        match magic {
            0x6969 => FileSystem::Network("NFS"),
            0x517b => FileSystem::Network("SMB"),
            0xfe53_4d42 => FileSystem::Network("SMB2"),
            0xff53_4d42 => FileSystem::Network("CIFS"),
            0x0102_1997 => FileSystem::Network("9P"),
            0x0102_1994 => FileSystem::Perishable("tmpfs, which is memory"),
            0x8584_58f6 => FileSystem::Perishable("ramfs, which is memory"),
            0x794c_7630 => FileSystem::Perishable("overlayfs, a container's own layer"),
            0x6175_6673 => FileSystem::Perishable("aufs, a container's own layer"),
            // Also virtiofs and sshfs, which are not fit, but as well encrypted local disks, which are.
            0x6573_5546 => FileSystem::Fuse,
            _ => FileSystem::Fit,
        }
    }

    /// That of a folder.
    ///
    /// # Errors
    /// When it cannot be asked.
    #[cfg(target_os = "linux")]
    pub(super) fn of(dir: &std::path::Path) -> std::io::Result<FileSystem> {
        let found = rustix::fs::statfs(dir)?;
        // Signed on some targets, where the upper half would otherwise be filled with the sign.
        Ok(FileSystem::of_magic(found.f_type as u64 & 0xffff_ffff))
    }

    /// By the names that macOS gives them.
    #[cfg(any(target_os = "macos", test))]
    fn of_name(name: &str) -> FileSystem {
        match name {
            "nfs" => FileSystem::Network("NFS"),
            "smbfs" => FileSystem::Network("SMB"),
            "afpfs" => FileSystem::Network("AFP"),
            "webdav" => FileSystem::Network("WebDAV"),
            "tmpfs" => FileSystem::Perishable("tmpfs, which is memory"),
            fuse if fuse.contains("fuse") => FileSystem::Fuse,
            _ => FileSystem::Fit,
        }
    }

    /// That of a folder.
    ///
    /// # Errors
    /// When it cannot be asked.
    #[cfg(target_os = "macos")]
    pub(super) fn of(dir: &std::path::Path) -> std::io::Result<FileSystem> {
        let found = rustix::fs::statfs(dir)?;
        let name: String =
            found.f_fstypename.iter().map(|byte| char::from(byte.cast_unsigned())).take_while(|c| *c != '\0').collect();
        Ok(FileSystem::of_name(&name))
    }

    /// That of a folder: a share of another machine is known by its path, also behind a drive's letter.
    ///
    /// # Errors
    /// When it cannot be asked.
    #[cfg(windows)]
    pub(super) fn of(dir: &std::path::Path) -> std::io::Result<FileSystem> {
        use std::path::{Component, Prefix};
        let is_share = |component| match component {
            Component::Prefix(prefix) => matches!(prefix.kind(), Prefix::UNC(..) | Prefix::VerbatimUNC(..)),
            Component::RootDir | Component::CurDir | Component::ParentDir | Component::Normal(_) => false,
        };
        let is_share = dir.canonicalize()?.components().next().is_some_and(is_share);
        Ok(if is_share { FileSystem::Network("another machine's share") } else { FileSystem::Fit })
    }

    /// That of a folder; nothing is known of it here.
    #[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
    pub(super) fn of(_dir: &std::path::Path) -> std::io::Result<FileSystem> {
        Ok(FileSystem::Fit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_known_by_their_names() {
        assert_eq!(FileSystem::of_name("apfs"), FileSystem::Fit);
        assert_eq!(FileSystem::of_name("smbfs"), FileSystem::Network("SMB"));
        assert_eq!(FileSystem::of_name("macfuse"), FileSystem::Fuse);
    }

    #[test]
    fn a_folder_of_this_machine_is_no_share() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!matches!(FileSystem::of(folder.path()).unwrap(), FileSystem::Network(_)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn file_systems_are_known_by_their_numbers() {
        assert_eq!(FileSystem::of_magic(0xef53), FileSystem::Fit, "ext4");
        assert_eq!(FileSystem::of_magic(0x6969), FileSystem::Network("NFS"));
        assert!(matches!(FileSystem::of_magic(0x0102_1994), FileSystem::Perishable(kind) if kind.contains("tmpfs")));
        // Memory by definition, on every Linux.
        let shared_memory = std::path::Path::new("/dev/shm");
        if shared_memory.exists() {
            assert!(matches!(FileSystem::of(shared_memory).unwrap(), FileSystem::Perishable(_)));
        }
    }
}
