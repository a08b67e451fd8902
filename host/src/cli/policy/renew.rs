//! `spillway policy sdk`: which SDK lies beside a policy, and that of this program in its place.

use super::cargo::Crate;
use super::unpacked::{self, Note, Standing, Unpacked};
use super::{Answer, Failure};
use semver::Version;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The policy's crate.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Put this program's SDK in its place.
    #[arg(long)]
    update: bool,
    /// With --update: also over files that were changed by hand, and over a newer SDK.
    #[arg(long, requires = "update")]
    force: bool,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

/// What is known of the SDK beside a policy.
#[derive(Debug, Serialize)]
struct Report<'a> {
    folder: &'a Path,
    version: &'a Version,
    sha256: &'a str,
    standing: Standing,
    changed: &'a [String],
    /// Of the SDK that this program carries.
    own_version: &'a Version,
    own_sha256: &'a str,
}

pub(super) fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let policy = Crate::find(&arguments.dir)?;
    let found = policy.sdk.as_deref().map(Unpacked::at).transpose()?.flatten();
    let Some(found) = found else {
        return Err(Failure::Usage(format!(
            "{} takes spillway-sdk from elsewhere than `spillway policy new` unpacks it to; Cargo.toml says from where",
            policy.name
        )));
    };
    let found = match arguments.update {
        false => found,
        true => {
            renew(&policy, &found, &arguments.dir, arguments.force)?;
            Unpacked::at(&found.folder)?.unwrap_or(found)
        }
    };
    let is_well = found.standing == Standing::Current && found.changed.is_empty();
    let own = Note::ours()?;
    match arguments.json {
        true => Answer::json(&report(&found, &own), is_well),
        false => Ok(Answer { text: in_words(&policy.name, &found, &arguments.dir), is_well }),
    }
}

fn report<'a>(found: &'a Unpacked, own: &'a Note) -> Report<'a> {
    Report {
        folder: &found.folder,
        version: &found.note.version,
        sha256: &found.note.sha256,
        standing: found.standing,
        changed: &found.changed,
        own_version: &own.version,
        own_sha256: &own.sha256,
    }
}

fn in_words(name: &str, found: &Unpacked, dir: &Path) -> String {
    let Note { version, sha256, .. } = &found.note;
    let short: String = sha256.chars().take(8).collect();
    let mut text = format!("{name} has spillway-sdk {version}@{short} in {}.\n", found.folder.display());
    text.push_str(&match found.remark(dir) {
        None => "That is the one of this program.\n".to_owned(),
        Some(remark) => format!("{remark}\n"),
    });
    if !found.changed.is_empty() {
        text.push_str(&format!(
            "Changed since it was unpacked, which `--update --force` takes back: {}\n",
            found.changed.join(", ")
        ));
    }
    text
}

/// Puts this program's SDK over the one that is there; with it go the version in the manifest, and the lock file if it
/// is the one that the old SDK came with.
fn renew(policy: &Crate, found: &Unpacked, dir: &Path, is_forced: bool) -> Result<(), Failure> {
    let own = Note::ours()?;
    if !is_forced && !found.changed.is_empty() {
        return Err(Failure::Bad(format!(
            "nothing was renewed: {} changed since the SDK was unpacked ({}); --force overwrites that",
            if found.changed.len() == 1 { "a file was" } else { "files were" },
            found.changed.join(", ")
        )));
    }
    if !is_forced && found.standing == Standing::Newer {
        return Err(Failure::Bad(format!(
            "nothing was renewed: the SDK there is {}, and this program's is {}; --force puts that in its place",
            found.note.version, own.version
        )));
    }
    let failed = |file: &Path, error: std::io::Error| Failure::Bad(format!("{}: {error}", file.display()));
    let (manifest, lock) = (dir.join("Cargo.toml"), dir.join("Cargo.lock"));
    let text = fs::read_to_string(&manifest).map_err(|error| failed(&manifest, error))?;
    let renewed = unpacked::with_version(&text, &found.note.version, &own.version).map_err(|wanted| {
        Failure::Usage(format!("nothing was renewed: write first into {}: {wanted}", manifest.display()))
    })?;
    let is_as_it_came = fs::read_to_string(&lock).ok() == unpacked::lock_file(&found.folder, &policy.name);
    unpacked::renew(found)?;
    if renewed != text {
        fs::write(&manifest, renewed).map_err(|error| failed(&manifest, error))?;
    }
    // Otherwise Cargo adds to it what is new.
    if let Some(text) = unpacked::lock_file(&found.folder, &policy.name).filter(|_| is_as_it_came && lock.exists()) {
        fs::write(&lock, text).map_err(|error| failed(&lock, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};

    /// A crate with an SDK that was unpacked by a program of version 0.0.1, and with a lock file as that brought it.
    fn crate_of_before() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let sdk = folder.path().join("spillway-sdk");
        unpacked::unpack(&sdk).expect("unpacked");
        let note = sdk.join("unpacked.toml");
        let own = Note::ours().expect("our own");
        let text = fs::read_to_string(&note).expect("a note").replacen(&format!("\"{}\"", own.version), "\"0.0.1\"", 1);
        fs::write(note, text).expect("written");
        let manifest = "[package]\nname = \"mine\"\n[dependencies]\n\
                        spillway-sdk = { version = \"0.0.1\", path = \"spillway-sdk\" }\n";
        fs::write(folder.path().join("Cargo.toml"), manifest).expect("written");
        let lock = unpacked::lock_file(&sdk, "mine").expect("a lock file");
        fs::write(folder.path().join("Cargo.lock"), lock).expect("written");
        folder
    }

    fn ask(folder: &Path, options: &[&str]) -> Result<Answer, Failure> {
        let command = Arguments::augment_args(clap::Command::new("sdk"));
        let dir = folder.to_string_lossy().into_owned();
        let words = ["sdk", &dir].into_iter().chain(options.iter().copied());
        let matches = command.try_get_matches_from(words).expect("arguments");
        run(&Arguments::from_arg_matches(&matches).expect("arguments"))
    }

    #[test]
    fn an_older_sdk_is_told_and_renewed_with_the_version_in_the_manifest() {
        let folder = crate_of_before();
        let told = ask(folder.path(), &[]).expect("an answer");
        assert!(
            !told.is_well && told.text.contains("is 0.0.1, older") && told.text.contains("--update"),
            "{}",
            told.text
        );
        let told = ask(folder.path(), &["--update"]).expect("renewed");
        assert!(told.is_well && told.text.contains("the one of this program"), "{}", told.text);
        let manifest = fs::read_to_string(folder.path().join("Cargo.toml")).expect("a manifest");
        assert!(manifest.contains(&format!("version = \"{}\"", spillway_sdk::sources::VERSION)), "{manifest}");
    }

    #[test]
    fn what_was_changed_by_hand_is_overwritten_only_by_force() {
        let folder = crate_of_before();
        let changed = folder.path().join("spillway-sdk/src/wait.rs");
        fs::write(&changed, "mine").expect("written");
        let refused = ask(folder.path(), &["--update"]).expect_err("changed").to_string();
        assert!(refused.contains("src/wait.rs") && refused.contains("--force"), "{refused}");
        assert_eq!(fs::read_to_string(&changed).expect("a file"), "mine");
        assert!(ask(folder.path(), &["--update", "--force"]).expect("renewed").is_well);
        assert_ne!(fs::read_to_string(&changed).expect("a file"), "mine");
    }

    #[test]
    fn an_sdk_from_elsewhere_is_nobodys_to_renew() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = "[package]\nname = \"mine\"\n[dependencies]\nspillway-sdk = \"0.1.0\"\n";
        fs::write(folder.path().join("Cargo.toml"), manifest).expect("written");
        assert!(ask(folder.path(), &["--update"]).is_err_and(|failure| failure.to_string().contains("from elsewhere")));
    }
}
