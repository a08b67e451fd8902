//! `spillway policy new`: a crate to begin with, which builds wherever it lies.

use super::cargo::missing_crates;
use super::name::{check_name, type_name};
use super::sdk::Sdk;
use super::toolchain::{self, Lack};
use super::unpacked::{self, FOLDER};
use super::workspace::workspace_of;
use super::{Answer, Failure};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MANIFEST: &str = include_str!("template/Cargo.toml.txt");
const OWN_WORKSPACE: &str = include_str!("template/workspace.toml.txt");
const LIBRARY: &str = include_str!("template/lib.rs.txt");
const README: &str = include_str!("template/README.md.txt");
const IGNORED: &str = "/target\n";
/// What the README says of an SDK that this program has unpacked.
const SDK_NOTE: &str = " The SDK lies in `spillway-sdk/`, as it came with the `spillway` that made this crate; \
                        `spillway policy sdk` says whether that is still the one in use, and `--update` brings it.";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its name: that of the crate, of the file in the policy folder, and in the configuration.
    name: String,
    /// The folder in which the crate's own folder, NAME, is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// The spillway-sdk to depend on: a folder, or a version from the registry. By default the one in the checkout of
    /// Spillway in which the crate lies, or else the one that this program carries, unpacked beside the crate.
    #[arg(long, value_name = "PATH_OR_VERSION")]
    sdk: Option<String>,
    /// Make it also where this machine lacks what it is built with.
    #[arg(long)]
    anyway: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let name = &arguments.name;
    check_name(name)?;
    let parent = &arguments.path;
    let shown = parent.join(name);
    if fs::read_dir(&shown).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::Usage(format!(
            "{} exists already and is not empty; nothing was changed",
            shown.display()
        )));
    }
    let said = arguments.sdk.as_deref().map(Sdk::said).transpose()?;
    let lacks = toolchain::lacks(&existing(parent));
    if lacks.iter().any(Lack::is_certain) && !arguments.anyway {
        return Err(Failure::Bad(refusal(&lacks)));
    }

    let failed = |error: io::Error| Failure::Bad(format!("cannot make {}: {error}", shown.display()));
    fs::create_dir_all(parent).map_err(failed)?;
    let dir = fs::canonicalize(parent).map_err(failed)?.join(name);
    let workspace = workspace_of(&dir);
    let sdk = said.unwrap_or_else(|| Sdk::by_place(&dir));
    let shared = workspace.as_deref().map(|root| sdk.share(root)).transpose()?.flatten();
    let draft = Draft::beside(&dir).map_err(failed)?;
    write(&draft.path, name, &sdk, &dir, workspace.as_deref())?;
    // Of a workspace its own lock file says what there is to be had. Asked before the crate is in place, so that nobody
    // finds it half made.
    let is_here = || draft.path.join("Cargo.lock").exists() && missing_crates(&draft.path).is_none();
    let is_missing = workspace.is_none() && !is_here();
    draft.become_of(&dir).map_err(failed)?;

    let shown = shown.strip_prefix(".").unwrap_or(&shown).display();
    let mut text = format!("Made {shown}, which takes spillway-sdk {sdk}.\n");
    if workspace.is_some() {
        text.push_str("It is a member of the workspace around it.\n");
    }
    text.push_str(&format!(
        "Read src/lib.rs there; then:\n\n  \
         spillway policy test {shown}             # its tests, and what providers do to it\n  \
         spillway policy build {shown} --install  # into the policy folder\n",
    ));
    if is_missing {
        text.push_str(&format!(
            "\nThe first build downloads the crates that it depends on, once. With a network, this does it now:\n  \
             cargo fetch --manifest-path {shown}/Cargo.toml\n"
        ));
    }
    for lack in &lacks {
        text.push_str(&format!("\nMind that {lack}\n"));
    }
    if let Some(remark) = shared.and_then(|sdk| sdk.remark(Path::new(&shown.to_string()))) {
        text.push_str(&format!("\n{remark}\n"));
    }
    Ok(Answer::well(text))
}

/// Writes all of the crate into `place`, as it will be in `dir`.
fn write(place: &Path, name: &str, sdk: &Sdk, dir: &Path, workspace: Option<&Path>) -> Result<(), Failure> {
    let dependency = sdk.dependency(dir, workspace)?;
    let is_carried = *sdk == Sdk::Carried && workspace.is_none();
    let filled = |template: &str| {
        let named = template.replace("@NAME@", name).replace("@TYPE@", &type_name(name));
        named.replace("@SDK@", &dependency).replace("@SDK_NOTE@", if is_carried { SDK_NOTE } else { "" })
    };
    let manifest = filled(MANIFEST) + if workspace.is_some() { "" } else { OWN_WORKSPACE };
    let mut files = vec![
        ("Cargo.toml", manifest),
        ("src/lib.rs", filled(LIBRARY)),
        ("README.md", filled(README)),
        (".gitignore", IGNORED.to_owned()),
    ];
    let carried = is_carried.then(|| place.join(FOLDER));
    if let Some(folder) = &carried {
        unpacked::unpack(folder)?;
    }
    // With the versions that the SDK itself was tested with. A workspace has a lock file of its own.
    let known = carried.or_else(|| sdk.folder(dir, workspace)).filter(|_| workspace.is_none());
    files.extend(known.and_then(|sdk| unpacked::lock_file(&sdk, name)).map(|text| ("Cargo.lock", text)));
    for (file, text) in files {
        let file = place.join(file);
        let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&file, text));
        written.map_err(|error| Failure::Bad(format!("cannot write {}: {error}", file.display())))?;
    }
    Ok(())
}

/// The folder itself, or the nearest around it that is there.
fn existing(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new(".")).to_owned()
}

fn refusal(lacks: &[Lack]) -> String {
    let list: String = lacks.iter().map(|lack| format!("\n- {}", lack.to_string().replace('\n', "\n  "))).collect();
    format!("this machine cannot build a policy yet, so nothing was written (--anyway writes it):{list}")
}

/// A crate that is being written. It is removed unless it becomes one.
struct Draft {
    path: PathBuf,
}

impl Draft {
    /// Beside where it will be, and hidden.
    fn beside(dir: &Path) -> io::Result<Draft> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let path = dir.with_file_name(format!(".{name}.{}.new", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Draft { path })
    }

    fn become_of(&self, dir: &Path) -> io::Result<()> {
        // What is empty may be in the way.
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::rename(&self.path, dir)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It is not there any more if all went well.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_leaves_nothing_behind_unless_it_becomes_a_crate() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("mine");
        drop(Draft::beside(&dir).expect("a draft"));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        let draft = Draft::beside(&dir).expect("a draft");
        fs::write(draft.path.join("file"), "text").expect("written");
        fs::create_dir(&dir).expect("an empty folder");
        draft.become_of(&dir).expect("in its place");
        drop(draft);
        assert!(dir.join("file").exists() && fs::read_dir(folder.path()).expect("a folder").count() == 1);
    }

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let text = refusal(&[Lack::Target, Lack::Linker]);
        assert!(
            text.contains("nothing was written") && text.contains("\n- this Rust") && text.contains("\n- there"),
            "{text}"
        );
        assert!(text.contains("\n    rustup target add"), "{text}");
    }
}
