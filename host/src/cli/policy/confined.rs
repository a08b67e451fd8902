//! Files below a folder that somebody else may have filled: a policy's crate comes from anywhere, and what its notes
//! and links say must not lead out of it.

use crate::policy::{ReadError, read};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Most that one file may have: several times the largest of an SDK. What is larger counts as unreadable.
pub(super) const FILE_BYTES_MAX: u64 = 512 << 10;

/// Whether a path stays below the folder that it is joined to, as far as its own words go.
pub(super) fn is_below(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Reads a file below a folder.
///
/// # Errors
/// When it is not there, is no regular file or is reached by a link below the folder, and when it has more than
/// [`FILE_BYTES_MAX`].
pub(super) fn read_below(folder: &Path, path: &str) -> Result<Vec<u8>, ReadError> {
    match leads_elsewhere(folder, path)? {
        true => Err(ReadError::NotAFile),
        false => read(&folder.join(path), FILE_BYTES_MAX),
    }
}

/// The text of a file that may be reached by links, such as a manifest of somebody's checkout; `None` if it is not to be
/// had, or has more than [`FILE_BYTES_MAX`].
pub(super) fn text_of(path: &Path) -> Option<String> {
    String::from_utf8(read(path, FILE_BYTES_MAX).ok()?).ok()
}

/// Makes sure that what is written to or removed from these paths below a folder is there and nowhere else: neither the
/// folder nor anything below it on the way is a link, and what is there is a regular file.
///
/// # Errors
/// Which of them is in the way, and what to do about it.
pub(super) fn require_own(folder: &Path, paths: &[&str]) -> Result<(), String> {
    // With a slash behind its name a link would be looked through.
    let folder: PathBuf = folder.components().collect();
    let unseen = |path: &Path, error: io::Error| format!("cannot look at {}: {error}", path.display());
    let links = |path: &Path| {
        let shown = path.display();
        format!("{shown} is a link, and nothing is written or removed through one; put in its place what it leads to")
    };
    if is_link(&folder).map_err(|error| unseen(&folder, error))? {
        return Err(links(&folder));
    }
    for path in paths {
        if !is_below(path) {
            return Err(format!("{path} does not lie below {}", folder.display()));
        }
        for place in ways(&folder, path) {
            if is_link(&place).map_err(|error| unseen(&place, error))? {
                return Err(links(&place));
            }
        }
        let file = folder.join(path);
        if fs::metadata(&file).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(format!("{} is no regular file; remove it first", file.display()));
        }
    }
    Ok(())
}

fn leads_elsewhere(folder: &Path, path: &str) -> io::Result<bool> {
    if !is_below(path) {
        return Ok(true);
    }
    for place in ways(folder, path) {
        if is_link(&place)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Each step from a folder, which is left out, to what is below it.
fn ways(folder: &Path, path: &str) -> impl Iterator<Item = PathBuf> {
    Path::new(path).components().scan(folder.to_owned(), |place, part| {
        place.push(part);
        Some(place.clone())
    })
}

/// What is not there is no link.
fn is_link(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_symlink()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_its_folder_or_is_refused() {
        for (path, is_fine) in [
            ("src/lib.rs", true),
            ("Cargo.toml", true),
            ("src/..hidden", true),
            ("", false),
            (".", false),
            ("..", false),
            ("../other", false),
            ("src/../../other", false),
            ("./src/lib.rs", false),
            ("/etc/passwd", false),
        ] {
            assert_eq!(is_below(path), is_fine, "{path}");
            let folder = tempfile::tempdir().expect("a folder");
            assert_eq!(require_own(folder.path(), &[path]).is_ok(), is_fine, "{path}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        for (bytes, is_fine) in [(FILE_BYTES_MAX, true), (FILE_BYTES_MAX + 1, false)] {
            let file = fs::File::create(folder.path().join("file")).expect("a file");
            file.set_len(bytes).expect("as long as that");
            assert_eq!(read_below(folder.path(), "file").is_ok(), is_fine, "{bytes} bytes");
        }
    }

    #[cfg(unix)]
    #[test]
    fn no_pipe_no_device_and_no_link_is_read_or_written() {
        use std::os::unix::fs::symlink;
        let around = tempfile::tempdir().expect("a folder");
        let folder = around.path().join("sdk");
        fs::create_dir_all(folder.join("src")).expect("folders");
        fs::create_dir(around.path().join("elsewhere")).expect("a folder");
        fs::write(around.path().join("elsewhere/lib.rs"), "theirs").expect("written");
        fs::write(folder.join("src/lib.rs"), "ours").expect("written");
        let piped = std::process::Command::new("mkfifo").arg(folder.join("pipe")).status();
        assert!(piped.expect("mkfifo").success());
        symlink("/dev/zero", folder.join("device")).expect("a link");
        symlink("../elsewhere", folder.join("linked")).expect("a link");
        symlink("src/lib.rs", folder.join("link")).expect("a link");
        symlink("nowhere", folder.join("dangling")).expect("a link");
        for path in ["pipe", "device", "linked/lib.rs", "linked/new.rs", "link", "dangling", "src"] {
            assert!(read_below(&folder, path).is_err(), "{path} is read");
            let refused = require_own(&folder, &["src/lib.rs", path]).expect_err(path);
            assert!(refused.contains("is a link") || refused.contains("no regular file"), "{refused}");
        }
        assert_eq!(read_below(&folder, "src/lib.rs").expect("a file"), b"ours");
        assert_eq!(require_own(&folder, &["src/lib.rs", "src/new.rs", "new/one.rs"]), Ok(()));
        symlink("sdk", around.path().join("linked")).expect("a link");
        assert!(require_own(&around.path().join("linked/"), &["new.rs"]).is_err_and(|why| why.contains("is a link")));
    }
}
