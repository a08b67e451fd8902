//! The SDK that lies beside a policy: the sources that this program carries, and a note of which they are.
//!
//! A policy is then built from what its own folder holds, on any machine and in any year, and nobody has to publish or
//! find an SDK that fits. The note says which SDK it is, so that one that is older than the program is told.

use super::Failure;
use crate::policy::Sha256Sum;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use spillway_sdk::sources::{FILES, VERSION};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of its folder.
pub(super) const FOLDER: &str = "spillway-sdk";
/// The note in it.
const NOTE: &str = "unpacked.toml";
const NOTE_HEAD: &str = "\
# What `spillway policy new` unpacked here. `spillway policy sdk --update` brings the SDK of the program that runs it.
";
/// Which versions of the crates that the SDK is built from are known to be good: a lock file, of a policy named so.
const LOCK: &str = "policy.lock";
const LOCKED_NAME: &str = "name = \"policy\"\n";

/// Which sources they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) version: Version,
    /// Of the list of files and their own sums, so of all of them.
    pub(super) sha256: String,
    /// The sum of each file, by its path below the folder, with `/` between its parts.
    files: BTreeMap<String, String>,
}

impl Note {
    /// The note of the sources that this program carries.
    pub(super) fn ours() -> Result<Note, Failure> {
        let version = Version::parse(VERSION).map_err(|error| Failure::Bad(format!("SDK {VERSION}: {error}")))?;
        Ok(Note::of(version, FILES))
    }

    fn of(version: Version, files: &[(&str, &str)]) -> Note {
        let sum = |text: &str| Sha256Sum::of(text.as_bytes()).to_string();
        let files: BTreeMap<String, String> =
            files.iter().map(|(path, text)| ((*path).to_owned(), sum(text))).collect();
        let list: String = files.iter().map(|(path, sum)| format!("{sum}  {path}\n")).collect();
        Note { version, sha256: sum(&list), files }
    }

    /// How it stands to another, which is this program's.
    fn standing(&self, ours: &Note) -> Standing {
        match self.version.cmp(&ours.version) {
            Ordering::Less => Standing::Older,
            Ordering::Greater => Standing::Newer,
            Ordering::Equal if self.sha256 == ours.sha256 => Standing::Current,
            Ordering::Equal => Standing::Different,
        }
    }
}

/// How an unpacked SDK stands to the one that this program carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    /// It is the same.
    Current,
    Older,
    Newer,
    /// Of the same version and with other sources: one of the two was built between versions.
    Different,
}

/// An SDK that was unpacked.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) folder: PathBuf,
    pub(super) note: Note,
    pub(super) standing: Standing,
    /// Files that are not what was unpacked, or not there.
    pub(super) changed: Vec<String>,
}

impl Unpacked {
    /// What was unpacked into a folder; `None` if nothing was, as in a checkout.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub(super) fn at(folder: &Path) -> Result<Option<Unpacked>, Failure> {
        let file = folder.join(NOTE);
        let wrong = |what: String| Failure::Bad(format!("{}: {what}", file.display()));
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let note: Note = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
        let is_as_noted = |path: &str, sum: &str| {
            fs::read(folder.join(path)).is_ok_and(|bytes| Sha256Sum::of(&bytes).to_string() == sum)
        };
        let changed = note.files.iter().filter(|(path, sum)| !is_as_noted(path, sum)).map(|(path, _)| path.clone());
        let (changed, standing) = (changed.collect(), note.standing(&Note::ours()?));
        Ok(Some(Unpacked { folder: folder.to_owned(), note, standing, changed }))
    }

    /// One sentence, if it is not the SDK of this program; it ends with how to get that.
    pub(super) fn remark(&self, dir: &Path) -> Option<String> {
        let Note { version, .. } = &self.note;
        let says = match self.standing {
            Standing::Current => return None,
            Standing::Older => format!("is {version}, older than this program's {VERSION}"),
            Standing::Different => format!("is another {VERSION} than this program's"),
            Standing::Newer => {
                return Some(format!(
                    "Its SDK is {version}, newer than this program's {VERSION}: it may need a newer Spillway."
                ));
            }
        };
        Some(format!("Its SDK {says}; this brings that one:\n  spillway policy sdk {} --update", dir.display()))
    }
}

/// Unpacks the sources into a folder, over those that are there. The note is written last, so that a folder with only
/// half of them never passes for a whole one.
pub(super) fn unpack(folder: &Path) -> Result<(), Failure> {
    let ours = Note::ours()?;
    let failed = |path: &Path, error: io::Error| Failure::Bad(format!("cannot write {}: {error}", path.display()));
    let write = |path: &Path, text: &str| {
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        parent.and_then(|()| fs::write(path, text)).map_err(|error| failed(path, error))
    };
    for (path, text) in FILES {
        write(&folder.join(path), text)?;
    }
    let note = toml::to_string(&ours).map_err(|error| Failure::Bad(error.to_string()))?;
    write(&folder.join(NOTE), &format!("{NOTE_HEAD}{note}"))
}

/// Removes files that an older SDK had and this program's has not.
pub(super) fn remove_what_is_gone(unpacked: &Unpacked) -> Result<(), Failure> {
    let ours = Note::ours()?;
    for path in unpacked.note.files.keys().filter(|path| !ours.files.contains_key(*path)) {
        let file = unpacked.folder.join(path);
        match fs::remove_file(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::Bad(format!("cannot remove {}: {error}", file.display()))),
        }
    }
    Ok(())
}

/// The dependency on an SDK in this folder, which is relative to the crate's: with the version noted, so that Cargo
/// refuses one that does not fit.
pub(super) fn dependency(version: &Version, folder: &Path) -> String {
    // Cargo takes this separator everywhere.
    let path = folder.to_string_lossy().replace('\\', "/");
    format!("{{ version = \"{version}\", path = {} }}", toml::Value::from(path))
}

/// A manifest with the version of its SDK replaced, where it stands as [`dependency`] writes it; as it is, where it
/// takes the new one anyway.
///
/// # Errors
/// What is to be written there by hand.
pub(super) fn with_version(manifest: &str, old: &Version, new: &Version) -> Result<String, String> {
    let (from, to) = (format!("{{ version = \"{old}\","), format!("{{ version = \"{new}\","));
    let ours = |line: &&str| line.starts_with("spillway-sdk = ") && line.contains(&from);
    if let Some(line) = manifest.lines().find(ours) {
        return Ok(manifest.replacen(line, &line.replacen(&from, &to, 1), 1));
    }
    let table: Option<toml::Table> = toml::from_str(manifest).ok();
    let said =
        table.as_ref().and_then(|table| table.get("dependencies")?.get("spillway-sdk")?.get("version")?.as_str());
    match said.and_then(|said| VersionReq::parse(said).ok()) {
        Some(wanted) if !wanted.matches(new) => Err(format!("[dependencies] spillway-sdk: version = \"{new}\"")),
        Some(_) | None => Ok(manifest.to_owned()),
    }
}

/// The lock file of a policy of this name, from that of an SDK in this folder; `None` if it has none.
pub(super) fn lock_file(sdk: &Path, name: &str) -> Option<String> {
    fs::read_to_string(sdk.join(LOCK)).ok().map(|text| locked(&text, name))
}

/// The lock file with the policy's own entry under another name, where Cargo would put it: in the order of names.
fn locked(text: &str, name: &str) -> String {
    const BETWEEN: &str = "[[package]]\n";
    let mut entries = text.split(BETWEEN);
    let head = entries.next().unwrap_or_default();
    let (policy, mut others): (Vec<&str>, Vec<&str>) =
        entries.map(str::trim_end).partition(|e| e.starts_with(LOCKED_NAME));
    let policy = policy.first().map(|entry| entry.replacen(LOCKED_NAME, &format!("name = \"{name}\"\n"), 1));
    let name_of = |entry: &str| entry.split('"').nth(1).unwrap_or_default().to_owned();
    let place = others.iter().position(|entry| name_of(entry).as_str() > name).unwrap_or(others.len());
    others.splice(place..place, policy.as_deref());
    format!("{head}{BETWEEN}{}\n", others.join(&format!("\n\n{BETWEEN}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).expect("a version")
    }

    fn unpacked(folder: &Path) -> Unpacked {
        Unpacked::at(folder).expect("a note").expect("an SDK")
    }

    #[test]
    fn what_is_unpacked_is_whole_and_known_again() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Unpacked::at(folder.path()).expect("nothing to read").is_none());
        unpack(folder.path()).expect("unpacked");
        let (found, ours) = (unpacked(folder.path()), Note::ours().expect("our own"));
        assert_eq!((&found.note, found.standing, found.changed.len()), (&ours, Standing::Current, 0));
        assert_eq!(found.remark(Path::new("mine")), None);

        fs::write(folder.path().join("src/lib.rs"), "mine").expect("written");
        fs::remove_file(folder.path().join("LICENSE-MIT")).expect("removed");
        assert_eq!(unpacked(folder.path()).changed, ["LICENSE-MIT", "src/lib.rs"]);
        unpack(folder.path()).expect("unpacked over it");
        assert!(unpacked(folder.path()).changed.is_empty());
    }

    #[test]
    fn an_older_sdk_a_newer_and_another_are_told_apart() {
        let ours = Note::of(version("0.3.0"), &[("a", "1")]);
        for (note, standing) in [
            (Note::of(version("0.3.0"), &[("a", "1")]), Standing::Current),
            (Note::of(version("0.3.0"), &[("a", "2")]), Standing::Different),
            (Note::of(version("0.3.0"), &[("b", "1")]), Standing::Different),
            (Note::of(version("0.2.9"), &[("a", "1")]), Standing::Older),
            (Note::of(version("0.10.0"), &[("a", "1")]), Standing::Newer),
        ] {
            assert_eq!(note.standing(&ours), standing, "{note:?}");
        }
    }

    #[test]
    fn an_sdk_that_is_not_this_programs_is_remarked_on_with_what_can_be_done() {
        let folder = tempfile::tempdir().expect("a folder");
        unpack(folder.path()).expect("unpacked");
        let remark = |standing| Unpacked { standing, ..unpacked(folder.path()) }.remark(Path::new("mine"));
        assert_eq!(remark(Standing::Current), None);
        for (standing, says) in [(Standing::Older, "older than"), (Standing::Different, "another")] {
            let remark = remark(standing).expect("a remark");
            assert!(remark.contains(says) && remark.ends_with("spillway policy sdk mine --update"), "{remark}");
        }
        let newer = remark(Standing::Newer).expect("a remark");
        assert!(newer.contains("may need a newer Spillway") && !newer.contains("--update"), "{newer}");
    }

    #[test]
    fn what_an_older_sdk_had_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        unpack(folder.path()).expect("unpacked");
        for name in ["old.rs", "notes"] {
            fs::write(folder.path().join(name), "text").expect("written");
        }
        let mut older = unpacked(folder.path());
        older.note.files.insert("old.rs".into(), String::new());
        older.note.files.insert("gone before.rs".into(), String::new());
        remove_what_is_gone(&older).expect("removed");
        assert!(!folder.path().join("old.rs").exists() && folder.path().join("notes").exists());
    }

    #[test]
    fn the_version_is_replaced_where_it_stands_as_it_was_written() {
        let (old, new) = (version("0.1.0"), version("0.2.0"));
        let written = format!("[dependencies]\nspillway-sdk = {}\n", dependency(&old, Path::new("../spillway-sdk")));
        let renewed = with_version(&written, &old, &new).expect("it stands as written");
        assert_eq!(renewed, written.replace("0.1.0", "0.2.0"));
        let loose = "[dependencies]\nspillway-sdk = { path = \"spillway-sdk\" }\n";
        assert_eq!(with_version(loose, &old, &new).as_deref(), Ok(loose));
        let strict = "[dependencies]\nspillway-sdk = { path = \"spillway-sdk\", version = \"0.1\" }\n";
        assert!(with_version(strict, &old, &new).is_err_and(|advice| advice.contains("version = \"0.2.0\"")));
    }

    #[test]
    fn a_lock_file_names_the_policy_where_cargo_would() {
        let entry = |name: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"0.1.0\"\n");
        let text = ["# head\nversion = 4\n".to_owned(), entry("memchr"), entry("policy"), entry("serde")].join("\n");
        let names = |text: &str| -> Vec<String> {
            text.lines().filter_map(|line| line.strip_prefix("name = ")).map(str::to_owned).collect()
        };
        assert_eq!(locked(&text, "policy"), text);
        assert_eq!(names(&locked(&text, "a")), ["\"a\"", "\"memchr\"", "\"serde\""]);
        assert_eq!(names(&locked(&text, "my-provider")), ["\"memchr\"", "\"my-provider\"", "\"serde\""]);
        assert_eq!(names(&locked(&text, "z")), ["\"memchr\"", "\"serde\"", "\"z\""]);
    }
}
