//! Folders as they are packed, and archives of them. The same content makes the same archive, to the byte.

use crate::process::{output, run};
use crate::workspace::Workspace;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes an empty folder in place of whatever is there.
pub(crate) fn fresh(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| at(folder, &error))?;
    }
    fs::create_dir_all(folder).map_err(|error| at(folder, &error))
}

/// Copies a file to a place of which the folders are made.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    make_parent(to)?;
    fs::copy(from, to).map(drop).map_err(|error| at(from, &error))
}

/// Copies the files of a folder, not those of folders in it.
pub(crate) fn copy_all(from: &Path, to: &Path) -> Result<(), String> {
    files(from)?.iter().try_for_each(|file| copy(file, &to.join(file.file_name().unwrap_or_default())))
}

/// Writes a file at a place of which the folders are made.
pub(crate) fn write(to: &Path, text: &str) -> Result<(), String> {
    make_parent(to)?;
    fs::write(to, text).map_err(|error| at(to, &error))
}

/// The files of a folder in the order of their names.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| at(folder, &error))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

/// Lets everybody read, and nobody but the owner write; what can be executed stays so.
pub(crate) fn open_to_readers(folder: &Path) -> Result<(), String> {
    run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(folder))
}

/// Compresses a file in its place; nothing of when and where is kept.
pub(crate) fn compress(file: &Path) -> Result<(), String> {
    run(Command::new("gzip").args(["-n", "-9", "--force"]).arg(file))
}

/// Packs what lies in `folder` under `name`, or all of it for `.`, into an archive.
pub(crate) fn archive(folder: &Path, name: &str, to: &Path, made_at_unix_s: &str) -> Result<(), String> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.args(["--mode=u=rwX,go=rX", "--use-compress-program=gzip -n -9"]).arg(format!("--mtime=@{made_at_unix_s}"));
    run(tar.arg("--file").arg(to).arg("--directory").arg(folder).arg(name))
}

/// Writes the SHA-256 of all files in a folder into one in it, as `sha256sum --check` reads it.
pub(crate) fn sum(folder: &Path, file: &str) -> Result<(), String> {
    let names = files(folder)?;
    let names = names.iter().filter_map(|path| path.file_name());
    let sums = output(Command::new("sha256sum").current_dir(folder).args(names)).ok_or("`sha256sum` fails")?;
    write(&folder.join(file), &(sums + "\n"))
}

/// The time that everything packed bears, in seconds since 1970: what `SOURCE_DATE_EPOCH` says, which is how those ask
/// who build things again to compare them; else that of the last commit.
pub(crate) fn made_at_unix_s(workspace: &Workspace) -> String {
    let said = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|said| said.parse::<u64>().is_ok());
    let committed = || output(workspace.command("git").args(["log", "-1", "--format=%ct"]));
    // Sources without a history are of no time, and of the same everywhere.
    said.or_else(committed).unwrap_or_else(|| "315532800".to_owned())
}

fn make_parent(path: &Path) -> Result<(), String> {
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| at(path, &error))
}

/// What went wrong, and where.
pub(crate) fn at(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_makes_the_same_archive_whenever_it_is_packed() {
        let scratch = std::env::temp_dir().join(format!("xtask-stage-{}", std::process::id()));
        fresh(&scratch).expect("a temporary folder");
        let sums = ["first", "second"].map(|name| {
            let content = scratch.join(name).join("content");
            // Written in another order, and at another time.
            let mut words = ["b", "a"];
            words[..].rotate_left(usize::from(name == "second"));
            for word in words {
                write(&content.join(word), word).expect("a temporary file");
            }
            let (to, touch) = (scratch.join(format!("{name}.tar.gz")), format!("@{}", name.len() * 1_000_000));
            run(Command::new("touch").arg("--date").arg(touch).arg(content.join("a"))).expect("a time");
            archive(&scratch.join(name), "content", &to, "1000000000").expect("an archive");
            fs::read(to).expect("the archive")
        });
        sum(&scratch, "SUMS").expect("sums");
        let checked = run(Command::new("sha256sum").args(["--check", "--quiet", "SUMS"]).current_dir(&scratch));
        fs::remove_dir_all(&scratch).expect("a temporary folder that is ours");
        assert!(sums[0] == sums[1]);
        assert_eq!(checked, Ok(()));
    }
}
