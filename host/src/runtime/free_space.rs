//! How much room a disk has.

use std::path::Path;

/// Bytes that this user may still write to the disk that holds `folder`; `None` where the system does not tell.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    available(folder)
}

#[cfg(unix)]
fn available(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(windows)]
fn available(folder: &Path) -> Option<u64> {
    fs4::available_space(folder).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_a_folder_tells_its_room_and_nothing_tells_none() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(free_bytes(folder.path()).is_some_and(|bytes| bytes > 0));
        assert!(free_bytes(Path::new("")).is_some());
        assert_eq!(free_bytes(&folder.path().join("missing")), None);
    }
}
