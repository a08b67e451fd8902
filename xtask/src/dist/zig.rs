//! Binaries that stand alone. What is C in them (SQLite, parts of ring, the allocator) is compiled by zig, which knows
//! musl and every machine, and needs nothing of the system.

use super::target::Target;
use crate::consent::Consent;
use crate::cross::{TOOLS, cargo_with_zig, require_target};
use crate::workspace::{Profile, Workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What a build leaves.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) binary: PathBuf,
    /// What it said, a line of JSON for each crate.
    pub(crate) messages: String,
    /// What musl may be passed on under.
    pub(crate) musl_licence: PathBuf,
}

/// Builds the binary as it is shipped.
///
/// # Errors
/// When something is missing, with what to do about it, or it does not compile.
pub(crate) fn build(workspace: &Workspace, target: Target, consent: Consent) -> Result<Built, String> {
    require_target(workspace, target.triple())?;
    let mut cargo = cargo_with_zig(workspace, consent)?;
    let musl_licence = musl_licence(&TOOLS.folder(workspace))?;
    cargo.args(["zigbuild", "--locked", "--profile", Profile::Dist.name()]);
    cargo.args(["--package", "spillway", "--bin", "spillway", "--target", target.triple()]);
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let failed = |what: &dyn std::fmt::Display| format!("the binary for {} is not built: {what}", target.triple());
    let child = cargo.spawn().map_err(|error| failed(&error))?;
    let said = child.wait_with_output().map_err(|error| failed(&error))?;
    if !said.status.success() {
        return Err(failed(&said.status));
    }
    let messages = String::from_utf8(said.stdout).map_err(|error| failed(&error))?;
    let binary = workspace.target.join(target.triple()).join(Profile::Dist.name()).join("spillway");
    Ok(Built { binary, messages, musl_licence })
}

/// zig brings musl along, and its licence.
fn musl_licence(tools: &Path) -> Result<PathBuf, String> {
    let pythons = fs::read_dir(tools.join("lib")).map_err(|error| format!("{}: {error}", tools.display()))?;
    let place = "site-packages/ziglang/lib/libc/musl/COPYRIGHT";
    let found = pythons.flatten().map(|python| python.path().join(place)).find(|file| file.is_file());
    found.ok_or_else(|| format!("zig in {} brings no licence of musl along", tools.display()))
}
