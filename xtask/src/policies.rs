//! Builds policies to Wasm and puts each under its own name where the proxy looks for it.

use crate::consent::Consent;
use crate::process::run;
use crate::wasm::{Source, TARGET, Toolchain};
use crate::workspace::Workspace;
use std::fs;
use std::path::Path;

/// Crates that are built to Wasm together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// Where their sources are, below the repository's root.
    sources: &'static str,
    /// Where the modules go, below the target folder.
    pub(crate) place: &'static str,
}

/// What users get.
pub(crate) const POLICIES: Set = Set { sources: "policies", place: "policies" };
/// What only tests load: policies that misbehave on purpose. They are kept apart from what anybody may copy.
pub(crate) const GUESTS: Set = Set { sources: "tests/guests", place: "guests" };

/// Builds whole sets in one go, so that what they share is compiled once, and collects them.
///
/// # Errors
/// When there is no toolchain, a policy does not compile, or a file cannot be written.
pub(crate) fn build(workspace: &Workspace, source: Source, consent: Consent, sets: &[Set]) -> Result<(), String> {
    let mut cargo = Toolchain::prepare(workspace, source, consent)?.cargo_build(workspace);
    cargo.args(["--profile", "policy"]);
    let mut collected = Vec::new();
    for set in sets {
        let names = names(&workspace.root.join(set.sources))?;
        for name in &names {
            cargo.args(["--package", name]);
        }
        collected.push((set, names));
    }
    run(&mut cargo)?;
    let built = workspace.target.join(TARGET).join("policy");
    collected.iter().try_for_each(|(set, names)| collect(names, &built, &workspace.target.join(set.place)))
}

/// The policies' names. A policy's folder, its crate and its file have one name, for which Cargo and the proxy ask.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("cannot list {}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    if names.is_empty() { Err(format!("{} holds no policy", folder.display())) } else { Ok(names) }
}

/// Copies what Cargo built, and removes what is no policy any more: a proxy that serves the folder would go on using it.
fn collect(names: &[String], built: &Path, folder: &Path) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for name in names {
        // Cargo names a library's file as the code names the crate.
        let source = built.join(format!("{}.wasm", name.replace('-', "_")));
        // Beside, then renamed: a proxy that watches the folder never sees half a file.
        let beside = folder.join(format!("{name}.wasm.new"));
        let size = fs::copy(&source, &beside).map_err(|error| failed(&source, error))?;
        let place = folder.join(format!("{name}.wasm"));
        fs::rename(&beside, &place).map_err(|error| failed(&place, error))?;
        println!("{} ({} KiB)", place.display(), size.div_ceil(1024));
    }
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, error))?.flatten() {
        let path = entry.path();
        let is_policy = path.extension().is_some_and(|extension| extension == "wasm");
        let is_known = path.file_stem().is_some_and(|stem| names.iter().any(|name| stem == name.as_str()));
        if is_policy && !is_known {
            fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_collected_under_their_own_names_and_old_ones_removed() {
        let scratch = std::env::temp_dir().join(format!("xtask-policies-{}", std::process::id()));
        let (crates, built, folder) = (scratch.join("crates"), scratch.join("built"), scratch.join("folder"));
        for dir in [&crates.join("error-in-success"), &crates.join("notes"), &built, &folder] {
            fs::create_dir_all(dir).expect("a temporary folder");
        }
        fs::write(crates.join("error-in-success/Cargo.toml"), "").expect("a temporary file");
        fs::write(built.join("error_in_success.wasm"), "new").expect("a temporary file");
        fs::write(folder.join("error-in-success.wasm"), "old").expect("a temporary file");
        fs::write(folder.join("abandoned.wasm"), "old").expect("a temporary file");

        let names = names(&crates).expect("one policy");
        let collected = collect(&names, &built, &folder);
        let left: Vec<String> = fs::read_dir(&folder)
            .expect("the folder")
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let content = fs::read_to_string(folder.join("error-in-success.wasm"));
        fs::remove_dir_all(&scratch).expect("a temporary folder that is ours");

        assert_eq!(names, ["error-in-success"]);
        assert_eq!(collected, Ok(()));
        assert_eq!(left, ["error-in-success.wasm"]);
        assert_eq!(content.ok().as_deref(), Some("new"));
    }
}
