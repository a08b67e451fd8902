//! `cargo xtask test`: everything that a change must pass, cheapest to build first, stopping at the first failure.

use crate::clients;
use crate::consent::Consent;
use crate::deny;
use crate::dist;
use crate::fuzz;
use crate::platforms;
use crate::policies::{self, GUESTS, POLICIES};
use crate::process::{run, step, succeeds};
use crate::python;
use crate::sdk;
use crate::wasm::Source;
use crate::workspace::{Profile, Workspace};
use std::process::Command;

/// What is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Drive the proxy with the official SDKs too.
    pub(crate) sdks: bool,
    /// Run the tests that take minutes.
    pub(crate) long: bool,
    /// Whether what is missing may be installed.
    pub(crate) consent: Consent,
}

/// Runs the steps.
///
/// # Errors
/// The first step's that fails.
pub(crate) fn run_steps(workspace: &Workspace, options: Options) -> Result<(), String> {
    step("policies", || policies::build(workspace, Source::Any, options.consent, &[POLICIES, GUESTS]))?;
    step("binaries", || run(&mut workspace.build_binaries()))?;
    step("generator of hostile files", || run(&mut workspace.build_smith()))?;
    step("clocks that can be moved, and a disk that can hang", || run(&mut workspace.build_preloaded()))?;
    step("Rust tests", || {
        let mut cargo = workspace.with_products(workspace.cargo(), Profile::Release);
        cargo.args(["test", "--release", "--workspace"]);
        run(with_long(&mut cargo, options))
    })?;
    step("SDK as a package", || sdk::check(workspace))?;
    // In the profile of everything else: another one would compile all dependencies another time.
    let clippy = ["--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    step("clippy", || component(workspace, "clippy", &clippy))?;
    step("rustfmt", || component(workspace, "fmt", &["--all", "--check"]))?;
    step("dependencies", || deny::check(workspace, options.consent))?;
    if options.sdks {
        step("Python SDKs", || {
            let python = python::SDKS
                .prepare(workspace, options.consent)
                .map_err(|message| format!("{message}\n`cargo xtask test --fast` does without the SDKs."))?;
            let mut pytest = workspace.with_products(workspace.command(python), Profile::Release);
            // The sources stay as clean as they were.
            pytest.env("PYTHONDONTWRITEBYTECODE", "1");
            pytest.args(["-m", "pytest", "-p", "no:cacheprovider", "-q", "tests/sdk"]);
            run(with_long(&mut pytest, options))
        })?;
        step("clients, directly and through", || {
            let short = clients::Options { short: !options.long, rest: Vec::new(), consent: options.consent };
            clients::drive(workspace, &short)
        })?;
    }
    if options.long {
        step("fuzzing", || fuzz::run_steps(workspace, &fuzz::Options::all(options.consent)))?;
        // Each of its targets compiles the Wasm engine once more.
        step("packages", || dist::run_steps(workspace, &dist::Options::all(options.consent)))?;
        // Each of them compiles the Wasm engine once more.
        step("other systems", || platforms::run_steps(workspace, options.consent))?;
    }
    println!("\nAll of it passed.");
    Ok(())
}

fn with_long(command: &mut Command, options: Options) -> &mut Command {
    if options.long { command.env("SPILLWAY_LONG", "1") } else { command }
}

/// Runs a part of the toolchain that a minimal installation lacks. What it would find does not change how the code
/// works, so its absence is said and is no failure.
fn component(workspace: &Workspace, name: &str, arguments: &[&str]) -> Result<(), String> {
    if !succeeds(workspace.cargo().args([name, "--version"])) {
        let component = if name == "fmt" { "rustfmt" } else { name };
        println!("SKIPPED: this toolchain has no {component}; `rustup component add {component}` adds it.");
        return Ok(());
    }
    run(workspace.cargo().arg(name).args(arguments))
}
