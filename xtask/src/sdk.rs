//! The SDK as it is handed on: the lock file for the policies that it is unpacked beside, and its package.

use crate::process::run;
use crate::workspace::Workspace;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the lock file lies that `spillway policy new` hands on, below the repository's root.
const LOCK: &str = "sdk/policy.lock";
/// What `spillway policy new` makes a manifest of.
const MANIFEST: &str = "host/src/cli/policy/template/Cargo.toml.txt";

/// Checks that new policies are built from the very crates that the SDK is tested with, and that the SDK is a package
/// that stands alone.
///
/// # Errors
/// What does not hold, and how to mend it.
pub(crate) fn check(workspace: &Workspace) -> Result<(), String> {
    let said = fs::read_to_string(workspace.root.join(LOCK)).map_err(|error| format!("{LOCK}: {error}"))?;
    if said != lock(workspace)? {
        return Err(format!("{LOCK} is not what Cargo.lock says; `cargo xtask sdk` writes it anew"));
    }
    let mut cargo = workspace.cargo();
    // Also with what is not committed yet: that a commit is whole is another's affair.
    cargo.args(["package", "--package", "spillway-sdk", "--features", "sources", "--allow-dirty", "--quiet"]);
    run(&mut cargo)
}

/// Writes the lock file anew, after Cargo.lock has changed.
///
/// # Errors
/// When Cargo or the disk refuses.
pub(crate) fn write_lock(workspace: &Workspace) -> Result<(), String> {
    let file = workspace.root.join(LOCK);
    fs::write(&file, lock(workspace)?).map_err(|error| format!("{}: {error}", file.display()))
}

/// What the repository's lock file says of all that a policy is built from. Cargo itself takes the rest away.
fn lock(workspace: &Workspace) -> Result<String, String> {
    let scratch = workspace.target.join("policy-lock");
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let read = |path: PathBuf| fs::read_to_string(&path).map_err(|error| failed(&path, error));
    let write = |path: PathBuf, text: &str| fs::write(&path, text).map_err(|error| failed(&path, error));
    fs::create_dir_all(scratch.join("src")).map_err(|error| failed(&scratch, error))?;
    let manifest = manifest(&read(workspace.root.join(MANIFEST))?, &workspace.root.join("sdk"));
    write(scratch.join("Cargo.toml"), &manifest)?;
    write(scratch.join("src/lib.rs"), "")?;
    write(scratch.join("Cargo.lock"), &read(workspace.root.join("Cargo.lock"))?)?;
    let mut cargo = workspace.cargo();
    cargo.current_dir(&scratch).args(["update", "--workspace", "--offline", "--quiet"]);
    run(&mut cargo)?;
    read(scratch.join("Cargo.lock"))
}

/// The manifest of a policy with the SDK in this folder.
fn manifest(template: &str, sdk: &Path) -> String {
    let dependency = format!("{{ path = '{}' }}", sdk.display());
    template.replace("@NAME@", "policy").replace("@SDK@", &dependency) + "\n[workspace]\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policys_manifest_is_the_one_that_users_get() {
        let template = include_str!("../../host/src/cli/policy/template/Cargo.toml.txt");
        let manifest = manifest(template, Path::new("/a/sdk"));
        assert!(manifest.contains("name = \"policy\"") && manifest.contains("spillway-sdk = { path = '/a/sdk' }"));
        assert!(!manifest.contains('@'), "{manifest}");
    }
}
