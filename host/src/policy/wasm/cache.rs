//! Compiled policies on disk, so that a start does not compile them again.

use super::super::artifact::Sha256Sum;
use super::super::limits::Limits;
use crate::runtime::durable_file::{self, Access};
use crate::runtime::private;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Compiled policies kept. Beyond it the one that was used longest ago is deleted.
const FILES_MAX: usize = 64;
/// Bytes that they may have together; beyond it, likewise. What carries an interpreter is compiled to some 50 MB.
const BYTES_MAX: u64 = 1 << 30;
/// Bytes of the checksum that each file begins with.
const SUM_BYTES: usize = 32;
/// Hexadecimal digits of an engine's hash.
const ENGINE_DIGITS: usize = 16;

/// A folder of compiled policies, which nobody else can write to.
pub(super) struct Cache {
    dir: PathBuf,
    /// Tells compatible engines apart, and versions of Spillway: what one has checked, another must check anew.
    engine: u64,
}

impl Cache {
    /// Uses `dir`, and makes it if need be.
    ///
    /// # Errors
    /// When it cannot be used, or when others could put code there: what lies in it is run as it is.
    pub(super) fn open(dir: &Path, engine: &Engine) -> io::Result<Cache> {
        private::make_folder(dir)?;
        if !private::is_ours_to_write(&fs::metadata(dir)?, dir) {
            return Err(io::Error::other(format!("others can write to it; {}", private::HOW_TO_SHUT)));
        }
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        Ok(Cache { dir: dir.to_owned(), engine: hasher.finish() })
    }

    /// What was compiled of the file with this hash, once it had passed for a policy within these limits.
    pub(super) fn get(&self, engine: &Engine, sha256: Sha256Sum, limits: Limits) -> Option<Component> {
        let path = self.path(sha256, limits);
        let mut file = File::open(&path).ok()?;
        if !private::is_ours_to_write(&file.metadata().ok()?, &path) {
            return None;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let (sum, code) = bytes.split_at_checked(SUM_BYTES)?;
        if *sum != Sha256Sum::of(code).bytes() {
            tracing::warn!(path = %path.display(), "a compiled policy is damaged; it is compiled again");
            return None;
        }
        #[allow(unsafe_code, reason = "compiled code cannot be checked, only its origin can")]
        // SAFETY: the file and its folder can be written by this user alone, who runs this very process; the code was
        // serialised by a compatible engine, which is part of its name; and its checksum is that of what was written.
        let component = unsafe { Component::deserialize(engine, code) };
        // A file that was used is not the one to delete.
        let _ = file.set_modified(SystemTime::now());
        component.ok()
    }

    /// Keeps what was compiled. A cache that cannot be written to costs time, not answers.
    pub(super) fn put(&self, sha256: Sha256Sum, limits: Limits, component: &Component) {
        let path = self.path(sha256, limits);
        let kept = component.serialize().map_err(io::Error::other).and_then(|code| {
            durable_file::replace(&path, Access::Owner, Sha256Sum::of(&code).bytes()[..].chain(&code[..]))
        });
        if let Err(error) = kept {
            tracing::warn!(dir = %self.dir.display(), %error, "a compiled policy could not be kept");
        } else if let Err(error) = self.prune() {
            tracing::warn!(dir = %self.dir.display(), %error, "old compiled policies could not be deleted");
        }
    }

    /// Keeps what was used last, of what a cache has written here: so many files, and so many bytes. The folder is the
    /// operator's choice, and whatever else lies in it stays.
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !is_ours(&entry.path()) {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => files.push((metadata.modified()?, metadata.len(), entry.path())),
                Ok(_) => {}
                // Another Spillway prunes as well.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        files.sort();
        let mut bytes = 0_u64;
        for (newer, (_, len, path)) in files.into_iter().rev().enumerate() {
            bytes = bytes.saturating_add(len);
            // What was used last stays, however large it is.
            if newer == 0 || newer < FILES_MAX && bytes <= BYTES_MAX {
                continue;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The limits are part of the name: a file that has passed within wider ones has not passed within others.
    fn path(&self, sha256: Sha256Sum, limits: Limits) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (self.engine, limits).hash(&mut hasher);
        self.dir.join(format!("{sha256}-{:0ENGINE_DIGITS$x}.cwasm", hasher.finish()))
    }
}

/// Whether a file has a name as a cache gives it: the policy's hash, the engine's, and `.cwasm`.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).and_then(|name| name.strip_suffix(".cwasm"));
    let hexadecimal = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.and_then(|name| name.split_once('-'))
        .is_some_and(|(policy, engine)| hexadecimal(policy, 2 * SUM_BYTES) && hexadecimal(engine, ENGINE_DIGITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_what_the_cache_has_written_is_deleted_and_the_oldest_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { dir: folder.path().to_owned(), engine: 7 };
        let write_at = |path: &Path, second: u64| {
            let file = File::create(path).expect("a file");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).expect("a time");
        };
        let path_of = |number: usize| cache.path(Sha256Sum::of(&number.to_le_bytes()), Limits::STANDARD);
        let compiled: Vec<PathBuf> = (0..=FILES_MAX).map(path_of).collect();
        for (path, second) in compiled.iter().zip(1_000..) {
            write_at(path, second);
        }
        let others = ["notes.txt", "mine.cwasm", "spool.new"].map(|name| folder.path().join(name));
        for path in &others {
            write_at(path, 0);
        }
        let inner = cache.path(Sha256Sum::of(b"a folder"), Limits::STANDARD);
        fs::create_dir(&inner).expect("a folder");
        cache.prune().expect("pruned");
        assert!(!compiled[0].exists(), "the oldest is gone");
        assert!(compiled[1..].iter().all(|path| path.exists()));
        assert!(others.iter().all(|path| path.exists()) && inner.exists(), "what others keep there stays");
    }

    #[test]
    fn what_takes_too_much_room_is_deleted_but_never_what_was_used_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { dir: folder.path().to_owned(), engine: 7 };
        let path_of = |name: &str| cache.path(Sha256Sum::of(name.as_bytes()), Limits::INTERPRETED);
        for (name, second, bytes) in [("old", 1, 10), ("large", 2, BYTES_MAX), ("new", 3, 10)] {
            let file = File::create(path_of(name)).expect("a file");
            // A hole takes no room.
            file.set_len(bytes).expect("a length");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).expect("a time");
        }
        cache.prune().expect("pruned");
        assert_eq!(["old", "large", "new"].map(|name| path_of(name).exists()), [false, false, true]);
        File::options().write(true).open(path_of("new")).expect("a file").set_len(BYTES_MAX + 1).expect("a length");
        cache.prune().expect("pruned");
        assert!(path_of("new").exists());
    }

    #[test]
    fn what_has_passed_within_wide_limits_is_not_taken_for_what_has_passed_within_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { dir: folder.path().to_owned(), engine: 7 };
        let sha256 = Sha256Sum::of(b"a policy");
        File::create(cache.path(sha256, Limits::INTERPRETED)).expect("a file");
        assert!(!cache.path(sha256, Limits::STANDARD).exists());
    }
}
