//! Under which licences the parts of a binary are passed on: the notice that each of them asks for.

use super::others::Other;
use super::packages::Package;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// How the names of such files begin, in small letters.
const NAMES: [&str; 6] = ["licen", "copying", "copyright", "notice", "unlicense", "patents"];
/// How the names of files end that are called so and are code.
const CODE: [&str; 4] = ["rs", "c", "h", "py"];
/// Where the texts are of crates that bring none, and are of no project that does: a folder for each.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/licences");
/// Folders within folders that are looked into: C code lies some below its crate.
const DEPTH_MAX: usize = 6;

/// One text with the licences of all others' parts.
///
/// # Errors
/// When there is a part whose licence has no text, or a text cannot be read.
pub(crate) fn notice(packages: &[Package], others: &[Other]) -> Result<String, String> {
    let mut list = String::new();
    // Each text once, with those who use it, in the order in which they come.
    let mut texts: Vec<(String, Vec<String>)> = Vec::new();
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut add = |name: &str, file: &Path| -> Result<(), String> {
        let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let text = String::from_utf8_lossy(&bytes).replace('\r', "").trim().to_owned();
        let index = *known.entry(text.clone()).or_insert_with(|| {
            texts.push((text, Vec::new()));
            texts.len() - 1
        });
        let users = &mut texts[index].1;
        if users.last().is_none_or(|last| last != name) {
            users.push(name.to_owned());
        }
        Ok(())
    };
    for package in packages.iter().filter(|package| package.checksum.is_some()) {
        let _ = writeln!(list, "{}: {} ({})", package.name(), package.licence, package.repository);
        let files = files_of(package, packages)?;
        files.iter().try_for_each(|file| add(&package.name(), file))?;
    }
    for Other { name, version, licence, text, .. } in others {
        let version = version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let _ = writeln!(list, "{name}{version}: {licence}");
        text.iter().try_for_each(|file| add(name, file))?;
    }
    let mut notice = format!(
        "Spillway's binary contains the following works of others, under the licences that are named.\n\
         Their texts stand below, each once, under the names of the works that come with it.\n\n{list}"
    );
    for (text, users) in texts {
        let _ = write!(notice, "\n{}\n{}\n\n{text}\n", "=".repeat(80), users.join(", "));
    }
    Ok(notice)
}

/// The texts of a crate, or where it brings none, as crates of a large project do, those of another one of its project,
/// or else those that are kept here.
fn files_of(package: &Package, packages: &[Package]) -> Result<Vec<PathBuf>, String> {
    let own = licence_files(&package.folder)?;
    if !own.is_empty() {
        return Ok(own);
    }
    let is_sibling = |other: &&Package| is_of_project(other, package);
    for sibling in packages.iter().filter(is_sibling) {
        let theirs = licence_files(&sibling.folder)?;
        if !theirs.is_empty() {
            return Ok(theirs);
        }
    }
    let kept = Path::new(KEPT).join(&package.id.0);
    let texts = if kept.is_dir() { licence_files(&kept)? } else { Vec::new() };
    if !texts.is_empty() {
        return Ok(texts);
    }
    Err(format!(
        "{} brings no text of its licence, {}, and no crate of its project does: put the one of its repository below \
         {}",
        package.name(),
        package.licence,
        kept.display()
    ))
}

/// Whether a crate is of another's project, and under the same licence: it has the same home, or where that other names
/// none, needs it.
fn is_of_project(sibling: &Package, package: &Package) -> bool {
    let home_of_package = home(&package.repository);
    let is_close = if home_of_package.is_empty() {
        sibling.needs.contains(&package.id)
    } else {
        home(&sibling.repository) == home_of_package
    };
    is_close && sibling.licence == package.licence
}

/// A repository without what only names a folder in it.
fn home(repository: &str) -> &str {
    let url = repository.split("/tree/").next().unwrap_or_default();
    url.trim_end_matches('/').trim_end_matches(".git")
}

/// All files in a folder that are named as licences are, in the order of their names.
fn licence_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    collect(folder, DEPTH_MAX, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            if depth > 0 && !path.is_symlink() {
                collect(&path, depth - 1, files)?;
            }
        } else if is_licence(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_licence(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let is_code = file.extension().is_some_and(|extension| CODE.iter().any(|code| extension == *code));
    !is_code && NAMES.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A crate of this project with these files.
    fn package(scratch: &Path, name: &str, files: &[(&str, &str)]) -> Package {
        let folder = scratch.join(name);
        for (file, text) in files {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a temporary folder");
            fs::write(file, text).expect("a temporary file");
        }
        fs::create_dir_all(&folder).expect("a temporary folder");
        Package {
            id: (name.to_owned(), "1.0.0".to_owned()),
            licence: "MIT".to_owned(),
            repository: "https://example.test/project.git".to_owned(),
            needs: BTreeSet::new(),
            folder,
            checksum: Some(String::new()),
        }
    }

    #[test]
    fn each_text_stands_once_and_a_crate_without_one_has_its_projects() {
        let scratch = env_folder("notice");
        let main = package(&scratch, "main", &[("LICENSE", "the text\r\n"), ("src/c/COPYING", "the C text")]);
        let twin = package(&scratch, "twin", &[("license.md", "the text"), ("src/licence.rs", "code")]);
        let mut bare = package(&scratch, "bare", &[]);
        bare.repository = "https://example.test/project/tree/main/bare".to_owned();
        let others = [Other { name: "SQLite", version: None, licence: "blessing", cpe: None, text: None }];
        let notice = notice(&[main, twin, bare.clone()], &others).expect("a notice");
        let mut foreign = bare;
        foreign.repository = "https://example.test/other".to_owned();
        let alone = super::notice(&[foreign.clone()], &[]);
        foreign.repository = String::new();
        let mut user = package(&scratch, "user", &[("LICENSE", "the text")]);
        let unrelated = super::notice(&[foreign.clone(), user.clone()], &[]);
        user.needs.insert(foreign.id.clone());
        let needed = super::notice(&[foreign, user], &[]);
        let mut tokeniser = package(&scratch, "tiktoken-rs", &[]);
        tokeniser.repository = String::new();
        let kept = super::notice(&[tokeniser], &[]).expect("its texts are kept here");
        fs::remove_dir_all(&scratch).expect("a temporary folder that is ours");

        for once in ["the text", "the C text", "SQLite: blessing", "bare 1.0.0: MIT"] {
            assert_eq!(notice.matches(once).count(), 1, "{once} in\n{notice}");
        }
        assert!(notice.contains("main 1.0.0, twin 1.0.0, bare 1.0.0\n\nthe text\n"), "{notice}");
        assert!(!notice.contains("code"), "{notice}");
        for refused in [alone, unrelated] {
            assert!(refused.is_err_and(|why| why.contains("bare 1.0.0")));
        }
        assert!(kept.contains("Roger Zurawicki") && kept.contains("OpenAI, Shantanu Jain"), "{kept}");
        assert!(needed.is_ok_and(|notice| notice.contains("bare 1.0.0, user 1.0.0\n\nthe text\n")));
    }

    fn env_folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()))
    }
}
