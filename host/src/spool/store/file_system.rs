//! What kind of file system the folder lies on, and what that means for what is promised there.

/// What is known of a file system by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// That of a folder; nothing is known of it here.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_dir: &std::path::Path) -> std::io::Result<FileSystem> {
        Ok(FileSystem::Fit)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

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
