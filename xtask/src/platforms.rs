//! `cargo xtask platforms`: the builds for other systems than this one, linted, built, and run as far as this machine
//! can. What it cannot run is said.

mod elsewhere;

use crate::consent::Consent;
use crate::cross::{cargo_with_zig, require_target};
use crate::debian;
use crate::policies::{self, GUESTS, POLICIES};
use crate::process::{run, step};
use crate::wasm::Source;
use crate::wine::Wine;
use crate::workspace::{Profile, Workspace};
use elsewhere::{FILES_LEFT_OUT, NOT_APPLICABLE, UNITS_NOT_APPLICABLE};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A Windows build, which Debian's cross-compiler links and Wine runs.
const WINDOWS: &str = "x86_64-pc-windows-gnu";
/// A build for a Mac, for which zig compiles what is C. Nothing here runs it.
const MAC: &str = "aarch64-apple-darwin";

/// The variable that names Apple's SDK. Only a program takes its frameworks, when it is linked, and only who has a Mac may
/// have them.
const FRAMEWORKS: &str = "SDKROOT";

/// The compiler of C and the linker for Windows.
const WINDOWS_LINKER: [&str; 1] = ["gcc-mingw-w64-x86-64-posix"];

/// What there is for other systems than Linux: the proxy, and everything that it is made of or that people use with it.
/// The end-to-end tests and the benches drive it from Linux.
const CRATES: [&str; 5] =
    ["spillway", "spillway-resilience", "spillway-sdk", "spillway-mock-provider", "spillway-simulate"];

/// Runs the steps.
///
/// # Errors
/// The first step's that fails, or what is missing and how it is had.
pub(crate) fn run_steps(workspace: &Workspace, consent: Consent) -> Result<(), String> {
    debian::require(&WINDOWS_LINKER, consent)?;
    require_target(workspace, WINDOWS)?;
    require_target(workspace, MAC)?;
    let wine = Wine::prepare(workspace, consent)?;
    let lint = |cargo: &mut Command, target: &str| {
        cargo.args(["clippy", "--release", "--target", target]).args(packages());
        run(cargo.args(["--lib", "--bins", "--tests", "--", "-D", "warnings"]))
    };
    step("Windows: clippy", || lint(&mut workspace.cargo(), WINDOWS))?;
    step("Mac: clippy", || lint(&mut cargo_with_zig(workspace, consent)?, MAC))?;
    step("Windows: binaries", || run(&mut build(workspace.cargo(), "build", WINDOWS, "--bins")))?;
    step("Mac: libraries", || run(&mut build(cargo_with_zig(workspace, consent)?, "zigbuild", MAC, "--lib")))?;
    let has_frameworks = env::var_os(FRAMEWORKS).is_some_and(|path| !path.is_empty());
    if has_frameworks {
        step("Mac: binaries", || run(&mut build(cargo_with_zig(workspace, consent)?, "zigbuild", MAC, "--bins")))?;
    }
    step("Windows, under Wine: unit tests", || {
        let mut cargo = workspace.cargo();
        cargo.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", wine.runner("run", None)?);
        cargo.args(["test", "--release", "--no-fail-fast", "--target", WINDOWS]).args(packages());
        cargo.args(["--lib", "--bins", "--"]);
        run(cargo.arg("--exact").args(skipped(&UNITS_NOT_APPLICABLE)))
    })?;
    step("Windows, under Wine: end to end", || {
        policies::build(workspace, Source::Any, consent, &[POLICIES, GUESTS])?;
        run(&mut workspace.build_binaries())?;
        let mut cargo = workspace.with_products(workspace.cargo(), Profile::Release);
        cargo.env("SPILLWAY_BIN", wine.runner("spillway", Some(&binary(workspace, WINDOWS)))?);
        cargo.env("SPILLWAY_UNDER_WINE", "1");
        cargo.args(["test", "--release", "--no-fail-fast", "--package", "spillway-tests"]);
        for name in end_to_end_tests(workspace)? {
            cargo.args(["--test", &name]);
        }
        run(cargo.args(["--", "--exact"]).args(skipped(&NOT_APPLICABLE)))
    })?;
    println!("\nThe Windows build was linted, built, and run under Wine; it was not run on Windows.");
    let linked = match has_frameworks {
        true => "linked",
        false => "not linked, which takes Apple's frameworks (SDKROOT names where they are)",
    };
    println!("The Mac build was linted, compiled with its parts in C, and {linked}; nothing here can run it.");
    for (why, names) in FILES_LEFT_OUT.iter().chain(&UNITS_NOT_APPLICABLE).chain(&NOT_APPLICABLE) {
        println!("Not run under Wine, since {why}: {}", names.join(", "));
    }
    Ok(())
}

fn packages() -> impl Iterator<Item = &'static str> {
    CRATES.iter().flat_map(|name| ["--package", name])
}

/// Tests that are passed over, as their harness is told.
fn skipped(tests: &'static [(&str, &[&str])]) -> impl Iterator<Item = &'static str> {
    tests.iter().flat_map(|(_, names)| *names).flat_map(|name| ["--skip", *name])
}

fn build(mut cargo: Command, command: &str, target: &str, what: &str) -> Command {
    cargo.args([command, "--release", "--target", target, what]).args(packages());
    cargo
}

/// The files of end-to-end tests that are run under Wine, by their names.
fn end_to_end_tests(workspace: &Workspace) -> Result<Vec<String>, String> {
    let folder = workspace.root.join("tests/tests");
    let files = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> = files
        .flatten()
        .filter_map(|file| file.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| !FILES_LEFT_OUT.iter().any(|(_, names)| names.contains(&&**name)))
        .collect();
    names.sort();
    Ok(names)
}

fn binary(workspace: &Workspace, target: &str) -> PathBuf {
    workspace.target.join(target).join("release/spillway.exe")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_is_left_out_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folder = root.join("tests/tests");
        let mut code = String::new();
        for file in fs::read_dir(&folder).expect("the end-to-end tests").flatten().map(|file| file.path()) {
            if file.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&fs::read_to_string(file).expect("readable"));
            }
        }
        for name in NOT_APPLICABLE.iter().flat_map(|(_, names)| *names) {
            assert!(code.contains(&format!("fn {name}()")), "no test is called {name}");
        }
        for name in FILES_LEFT_OUT.iter().flat_map(|(_, names)| *names) {
            assert!(folder.join(format!("{name}.rs")).is_file(), "no file is called {name}");
        }
        let workspace = Workspace { target: root.join("target"), root };
        let names = end_to_end_tests(&workspace).expect("the end-to-end tests");
        assert!(names.iter().any(|name| name == "proxy") && names.iter().all(|name| name != "clocks"), "{names:?}");
    }
}
