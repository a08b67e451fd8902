//! Binaries that stand alone. What is C in them (SQLite, parts of ring, the allocator) is compiled by zig, which knows
//! musl and every machine, and needs nothing of the system.

use super::target::Target;
use crate::consent::Consent;
use crate::process::{line, run};
use crate::python::Environment;
use crate::wasm;
use crate::workspace::{Profile, Workspace};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// cargo-zigbuild and zig, as Python's package index has them.
const TOOLS: Environment = Environment { requirements: "xtask/zigbuild.txt", name: "zigbuild" };

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
    require_target(workspace, target)?;
    let python = TOOLS.prepare(workspace, consent)?;
    let folder = python.parent().ok_or("Python stands in no folder")?;
    let musl_licence = musl_licence(&TOOLS.folder(workspace))?;
    let mut cargo = workspace.cargo();
    // It finds zig by the Python that is first in the path.
    cargo.env("PATH", before_others(folder)?).arg("zigbuild").args(["--locked", "--profile", Profile::Dist.name()]);
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

/// Has rustup add the standard library, where it is not there. As with Wasm, this is no software of the system's.
fn require_target(workspace: &Workspace, target: Target) -> Result<(), String> {
    if wasm::has_target(workspace, target.triple()) {
        return Ok(());
    }
    let mut rustup: Command = workspace.command("rustup");
    rustup.args(["target", "add", target.triple()]);
    run(&mut rustup)?;
    if wasm::has_target(workspace, target.triple()) {
        return Ok(());
    }
    Err(format!("`{}` has added it to a toolchain that is not in use", line(&rustup)))
}

fn before_others(folder: &Path) -> Result<std::ffi::OsString, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(folder.to_owned()).chain(env::split_paths(&path)))
        .map_err(|error| error.to_string())
}

/// zig brings musl along, and its licence.
fn musl_licence(tools: &Path) -> Result<PathBuf, String> {
    let pythons = fs::read_dir(tools.join("lib")).map_err(|error| format!("{}: {error}", tools.display()))?;
    let place = "site-packages/ziglang/lib/libc/musl/COPYRIGHT";
    let found = pythons.flatten().map(|python| python.path().join(place)).find(|file| file.is_file());
    found.ok_or_else(|| format!("zig in {} brings no licence of musl along", tools.display()))
}
