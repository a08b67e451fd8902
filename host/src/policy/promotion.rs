//! Putting a candidate into service, and going back: nothing but files changing their names, so that a restart, or a
//! Spillway that does not run at the moment, changes nothing about it.

use super::watch::{PREVIOUS_SUFFIX, SHADOW_SUFFIX, signature_of};
use crate::runtime::durable_file::{self, Access};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromotionError {
    /// There is no candidate.
    #[error("there is no {0}; drop the candidate there first, and look at what it would change")]
    NoCandidate(PathBuf),
    /// Nothing was promoted before.
    #[error("there is no {0}, so nothing was promoted that could be taken back")]
    NoPrevious(PathBuf),
    /// Going back would overwrite another candidate.
    #[error("there is a candidate, {0}, which going back would overwrite; remove or promote it first")]
    CandidateInTheWay(PathBuf),
    /// A file could not be moved.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Lets the candidate `NAME.shadow.wasm` serve as `NAME.wasm`. What served before is kept as `NAME.previous.wasm`.
///
/// # Errors
/// See [`PromotionError`]. Whatever served before goes on serving then.
pub(crate) fn promote(dir: &Path, name: &str) -> Result<(), PromotionError> {
    let (active, shadow, previous) =
        (file(dir, name, ""), file(dir, name, SHADOW_SUFFIX), file(dir, name, PREVIOUS_SUFFIX));
    if !shadow.exists() {
        return Err(PromotionError::NoCandidate(shadow));
    }
    // Copied, not moved: at no moment is there no file that serves.
    keep(&active, &previous)?;
    replace(&shadow, &active)
}

/// Lets what served before the last promotion serve again. What was promoted becomes the candidate again, so there
/// must be none.
///
/// # Errors
/// See [`PromotionError`]. Whatever serves goes on serving then.
pub(crate) fn roll_back(dir: &Path, name: &str) -> Result<(), PromotionError> {
    let (active, shadow, previous) =
        (file(dir, name, ""), file(dir, name, SHADOW_SUFFIX), file(dir, name, PREVIOUS_SUFFIX));
    if !previous.exists() {
        return Err(PromotionError::NoPrevious(previous));
    }
    if shadow.exists() {
        return Err(PromotionError::CandidateInTheWay(shadow));
    }
    keep(&active, &shadow)?;
    replace(&previous, &active)
}

fn file(dir: &Path, name: &str, suffix: &str) -> PathBuf {
    dir.join(format!("{name}{suffix}.wasm"))
}

/// Copies a file and its signature, so that the copy is whole from the moment it has its name. Where there is no file,
/// there is no copy either afterwards.
fn keep(from: &Path, to: &Path) -> Result<(), PromotionError> {
    if !from.exists() {
        // The built-in policy served: going back to it is deleting the file. What an earlier promotion has replaced
        // must not come back in its place; the file goes first, because a signature alone is nothing.
        remove(to)?;
        return remove(&signature_of(to));
    }
    for (from, to) in [(signature_of(from), signature_of(to)), (from.to_owned(), to.to_owned())] {
        if from.exists() {
            copy(&from, &to).map_err(|source| PromotionError::Io { path: from, source })?;
        } else {
            remove(&to)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    durable_file::replace(to, Access::Like(from.metadata()?.permissions()), from)
}

/// Moves a file and its signature to where another one is. The signature goes first: a file without its own is refused
/// where signatures are required, and one that is refused changes nothing.
fn replace(from: &Path, to: &Path) -> Result<(), PromotionError> {
    for (from, to) in [(signature_of(from), signature_of(to)), (from.to_owned(), to.to_owned())] {
        if from.exists() {
            fs::rename(&from, &to).map_err(|source| PromotionError::Io { path: from, source })?;
        } else {
            remove(&to)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), PromotionError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(PromotionError::Io { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &Path, file: &str) -> Option<String> {
        fs::read_to_string(dir.join(file)).ok()
    }

    #[test]
    fn a_candidate_is_promoted_and_taken_back_with_its_signature() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        for (file, text) in
            [("p.wasm", "old"), ("p.wasm.sig", "old's"), ("p.shadow.wasm", "new"), ("p.shadow.wasm.sig", "new's")]
        {
            fs::write(dir.join(file), text).expect("written");
        }
        promote(dir, "p").expect("promoted");
        assert_eq!((read(dir, "p.wasm").as_deref(), read(dir, "p.wasm.sig").as_deref()), (Some("new"), Some("new's")));
        assert_eq!(read(dir, "p.previous.wasm").as_deref(), Some("old"));
        assert_eq!(read(dir, "p.shadow.wasm"), None);
        roll_back(dir, "p").expect("taken back");
        assert_eq!((read(dir, "p.wasm").as_deref(), read(dir, "p.wasm.sig").as_deref()), (Some("old"), Some("old's")));
        assert_eq!((read(dir, "p.shadow.wasm").as_deref(), read(dir, "p.previous.wasm")), (Some("new"), None));
        assert!(fs::read_dir(dir).expect("a folder").count() == 4, "nothing else is left behind");
    }

    #[test]
    fn without_a_candidate_or_a_predecessor_nothing_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("p.wasm"), "old").expect("written");
        assert!(matches!(promote(folder.path(), "p"), Err(PromotionError::NoCandidate(_))));
        assert!(matches!(roll_back(folder.path(), "p"), Err(PromotionError::NoPrevious(_))));
        assert_eq!(read(folder.path(), "p.wasm").as_deref(), Some("old"));
    }

    #[test]
    fn a_promotion_over_the_built_in_policy_has_no_predecessor() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("p.shadow.wasm"), "new").expect("written");
        promote(folder.path(), "p").expect("promoted");
        assert_eq!(read(folder.path(), "p.wasm").as_deref(), Some("new"));
        assert!(matches!(roll_back(folder.path(), "p"), Err(PromotionError::NoPrevious(_))));
    }
    #[test]
    fn after_a_promotion_over_the_built_in_policy_nothing_older_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        for (file, text) in [("p.previous.wasm", "stale"), ("p.previous.wasm.sig", "stale's"), ("p.shadow.wasm", "new")]
        {
            fs::write(dir.join(file), text).expect("written");
        }
        promote(dir, "p").expect("promoted");
        assert!(matches!(roll_back(dir, "p"), Err(PromotionError::NoPrevious(_))));
        assert_eq!(read(dir, "p.wasm").as_deref(), Some("new"));
        assert_eq!(read(dir, "p.previous.wasm.sig"), None);
    }

    #[test]
    fn going_back_overwrites_no_other_candidate() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        for (file, text) in [("p.wasm", "promoted"), ("p.previous.wasm", "old"), ("p.shadow.wasm", "newer")] {
            fs::write(dir.join(file), text).expect("written");
        }
        let refused = roll_back(dir, "p").expect_err("a candidate is in the way");
        assert!(refused.to_string().contains("remove or promote it first"), "{refused}");
        assert_eq!(read(dir, "p.wasm").as_deref(), Some("promoted"));
        assert_eq!(read(dir, "p.shadow.wasm").as_deref(), Some("newer"));
        assert_eq!(read(dir, "p.previous.wasm").as_deref(), Some("old"));
    }
}
