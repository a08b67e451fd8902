//! Pythons of our own, kept in the target folder until what they should hold changes.

use crate::consent::Consent;
use crate::debian;
use crate::process::{output, run, succeeds};
use crate::workspace::Workspace;
use std::fs;
use std::path::{Path, PathBuf};

/// Oldest Python that the pinned SDKs support.
const OLDEST: (u32, u32) = (3, 10);

/// The official SDKs, which drive the proxy.
pub(crate) const SDKS: Environment = Environment { requirements: "tests/sdk/requirements.txt", name: "python-sdks" };

/// A virtual environment with packages of Python's index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Environment {
    /// What it holds: a file of pip's, below the repository's root.
    pub(crate) requirements: &'static str,
    /// Its folder's name, below the target folder.
    pub(crate) name: &'static str,
}

impl Environment {
    /// Prepares the environment and returns its interpreter.
    ///
    /// # Errors
    /// When Python is missing or too old, or the packages cannot be had; with what to do about it.
    pub(crate) fn prepare(self, workspace: &Workspace, consent: Consent) -> Result<PathBuf, String> {
        let requirements = workspace.root.join(self.requirements);
        let wanted =
            fs::read_to_string(&requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
        let folder = self.folder(workspace);
        let (python, stamp) = (folder.join("bin/python"), folder.join("installed.txt"));
        if !succeeds(workspace.command(&python).args(["-m", "pip", "--version"])) {
            create(workspace, &folder, consent)?;
        }
        if fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
            let mut pip = workspace.command(&python);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
            run(pip.arg(&requirements))
                .map_err(|message| format!("{message}\nIt comes from Python's package index."))?;
            fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
        }
        Ok(python)
    }

    /// Where it is, or would be.
    pub(crate) fn folder(self, workspace: &Workspace) -> PathBuf {
        workspace.target.join(self.name)
    }
}

/// Makes a fresh environment in place of whatever is there, such as one whose interpreter has been upgraded away.
fn create(workspace: &Workspace, folder: &Path, consent: Consent) -> Result<(), String> {
    let version = output(workspace.command("python3").arg("--version")).unwrap_or_default();
    if parse(&version).is_none_or(|version| version < OLDEST) {
        let found = if version.is_empty() { "no python3" } else { &version };
        let (major, minor) = OLDEST;
        return Err(format!("there is {found} here; install Python {major}.{minor} or newer"));
    }
    // Debian's Python comes without these two.
    if !succeeds(workspace.command("python3").args(["-c", "import venv, ensurepip"])) {
        debian::require(&["python3-venv"], consent).map_err(|message| {
            format!("python3 lacks the modules venv and ensurepip, with which environments are made: {message}")
        })?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    run(workspace.command("python3").args(["-m", "venv"]).arg(folder))
}

/// Reads "Python 3.11.7".
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("Python ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse("Python 3.11.7"), Some((3, 11)));
        assert!(parse("Python 3.9.2").is_some_and(|version| version < OLDEST));
        assert!(parse("Python 3.14.0rc1").is_some_and(|version| version > OLDEST));
        assert_eq!(parse(""), None);
    }
}
