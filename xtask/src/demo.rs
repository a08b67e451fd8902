//! `cargo xtask demo`: builds what the demos need, shows the one that is in the binary, and becomes the long one.

use crate::consent::Consent;
use crate::policies::{self, POLICIES};
use crate::process::{line, run};
use crate::wasm::Source;
use crate::workspace::{Profile, Workspace};
use std::os::unix::process::CommandExt;

/// Builds and shows both. The long one takes this process's place, so that its exit code and Ctrl-C are its own.
///
/// # Errors
/// When something does not build, the first demo fails or the second cannot be started; on success this does not return.
pub(crate) fn run_demo(workspace: &Workspace, stay: bool, consent: Consent) -> Result<(), String> {
    policies::build(workspace, Source::Any, consent, &[POLICIES])?;
    run(&mut workspace.build_binaries())?;
    run(workspace.command(workspace.binary("spillway", Profile::Release)).args(["demo", "--fast"]))?;
    let mut demo =
        workspace.with_products(workspace.command(workspace.binary("demo", Profile::Release)), Profile::Release);
    if stay {
        demo.arg("--stay");
    }
    let error = demo.exec();
    Err(format!("cannot run `{}`: {error}", line(&demo)))
}
