//! The SDK that lies beside a policy: the sources that this program carries, and a note of which they are.
//!
//! A policy is then built from what its own folder holds, on any machine and in any year, and nobody has to publish or
//! find an SDK that fits. The note says which SDK it is, so that one that is older than the program is told.

use super::Failure;
use super::confined::{is_below, read_below, require_own, text_of};
use crate::policy::{ReadError, Sha256Sum};
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

/// Most files that a note may name: several times as many as an SDK has.
const FILES_MAX: usize = 256;

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

    /// Reads one. It lies in somebody's crate, so it may say anything.
    fn read(text: &str) -> Result<Note, String> {
        let note: Note = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        if note.files.len() > FILES_MAX {
            return Err(format!("it is no note of ours: it names more than {FILES_MAX} files"));
        }
        match note.files.keys().find(|path| !is_below(path)) {
            Some(path) => Err(format!("it is no note of ours: \"{path}\" does not lie below its folder")),
            None => Ok(note),
        }
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
    /// Files that are not what was unpacked, or not there, or not to be read by [`read_below`].
    pub(super) changed: Vec<String>,
}

impl Unpacked {
    /// What was unpacked into a folder; `None` if nothing was, as in a checkout.
    ///
    /// # Errors
    /// When the note cannot be read, or names what is not below the folder.
    pub(super) fn at(folder: &Path) -> Result<Option<Unpacked>, Failure> {
        let file = folder.join(NOTE);
        let wrong = |what: String| Failure::Bad(format!("{}: {what}", file.display()));
        let bytes = match read_below(folder, NOTE) {
            Ok(bytes) => bytes,
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        let note = Note::read(&text).map_err(wrong)?;
        let is_as_noted = |path: &str, sum: &str| {
            read_below(folder, path).is_ok_and(|bytes| Sha256Sum::of(&bytes).to_string() == sum)
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
///
/// # Errors
/// When a file cannot be written; before any is, when a link is in the way.
pub(super) fn unpack(folder: &Path) -> Result<(), Failure> {
    let ours = Note::ours()?;
    require_own(folder, &written()).map_err(Failure::Bad)?;
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

/// What [`unpack`] writes.
fn written() -> Vec<&'static str> {
    FILES.iter().map(|(path, _)| *path).chain([NOTE]).collect()
}

/// Puts this program's SDK in the place of an unpacked one: nothing of it is changed where something is in the way.
pub(super) fn renew(unpacked: &Unpacked) -> Result<(), Failure> {
    let noted = unpacked.note.files.keys().map(String::as_str);
    let all: Vec<&str> = written().into_iter().chain(noted).collect();
    require_own(&unpacked.folder, &all).map_err(|why| Failure::Bad(format!("nothing was renewed: {why}")))?;
    unpack(&unpacked.folder)?;
    remove_what_is_gone(unpacked)
}

/// Removes files that an older SDK had and this program's has not.
fn remove_what_is_gone(unpacked: &Unpacked) -> Result<(), Failure> {
    let ours = Note::ours()?;
    let gone = unpacked.note.files.keys().map(String::as_str).filter(|path| !ours.files.contains_key(*path));
    let gone: Vec<&str> = gone.collect();
    require_own(&unpacked.folder, &gone).map_err(Failure::Bad)?;
    for path in gone {
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
    format!("{{ version = \"{version}\", path = {} }}", in_manifest(folder))
}

/// A path as Cargo reads it on every system, so that a crate can be moved between them.
pub(super) fn in_manifest(path: &Path) -> toml::Value {
    let said = path.to_string_lossy();
    toml::Value::from(if cfg!(windows) { said.replace('\\', "/") } else { said.into_owned() })
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
    text_of(&sdk.join(LOCK)).map(|text| locked(&text, name))
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
mod tests;
