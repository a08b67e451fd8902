//! Compiling for other systems than this one: the standard library by rustup, and zig for what is C, from Python's
//! package index.

use crate::consent::Consent;
use crate::process::{line, run};
use crate::python::Environment;
use crate::wasm::has_target;
use crate::workspace::Workspace;
use std::env;
use std::iter::once;
use std::process::Command;

/// cargo-zigbuild and zig, as Python's package index has them.
pub(crate) const TOOLS: Environment = Environment { requirements: "xtask/zigbuild.txt", name: "zigbuild" };

/// Has rustup add a target's standard library, where it is not there. As with Wasm, this is no software of the system's.
///
/// # Errors
/// When it cannot be had.
pub(crate) fn require_target(workspace: &Workspace, target: &str) -> Result<(), String> {
    if has_target(workspace, target) {
        return Ok(());
    }
    let mut rustup = workspace.command("rustup");
    run(rustup.args(["target", "add", target]))?;
    if has_target(workspace, target) {
        return Ok(());
    }
    Err(format!("`{}` has added it to a toolchain that is not in use", line(&rustup)))
}

/// A Cargo with zig as the compiler of C and as the linker: `cargo-zigbuild`, whose first argument is the command.
///
/// # Errors
/// When the tools cannot be had; with what to do about it.
pub(crate) fn cargo_with_zig(workspace: &Workspace, consent: Consent) -> Result<Command, String> {
    let python = TOOLS.prepare(workspace, consent)?;
    let folder = python.parent().ok_or("Python stands in no folder")?;
    let mut cargo = workspace.command(folder.join("cargo-zigbuild"));
    // It finds zig by the Python that is first in the path.
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(once(folder.to_owned()).chain(env::split_paths(&path)));
    cargo.env("PATH", path.map_err(|error| error.to_string())?);
    Ok(cargo)
}
