//! `cargo xtask demo`: builds what the demo needs, and becomes the demo.

use crate::consent::Consent;
use crate::policies::{self, POLICIES};
use crate::process::{line, run};
use crate::wasm::Source;
use crate::workspace::{Profile, Workspace};
use std::os::unix::process::CommandExt;

/// Builds and starts the demo. It takes this process's place, so that its exit code and Ctrl-C are its own.
///
/// # Errors
/// When something does not build or the demo cannot be started; on success this does not return.
pub(crate) fn run_demo(workspace: &Workspace, stay: bool, consent: Consent) -> Result<(), String> {
    policies::build(workspace, Source::Any, consent, &[POLICIES])?;
    run(&mut workspace.build_binaries())?;
    let mut demo =
        workspace.with_products(workspace.command(workspace.binary("demo", Profile::Release)), Profile::Release);
    if stay {
        demo.arg("--stay");
    }
    let error = demo.exec();
    Err(format!("cannot run `{}`: {error}", line(&demo)))
}
