//! The Wasm toolchain: found, added by rustup, or as a last resort taken from Debian.
//!
//! Nothing else knows how code for `wasm32-unknown-unknown` is compiled.

use crate::consent::Consent;
use crate::debian;
use crate::process::{line, output, run};
use crate::workspace::Workspace;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// What policies are compiled to: no system interface at all, so that a policy can do nothing but judge.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian ships no standard library for the target in the packages of its newest Rust; with the library's source and a
/// linker, Cargo builds it.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];

/// Where the toolchain may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The first that can be had.
    Any,
    /// Debian's packages only.
    Debian,
}

/// A toolchain that compiles to Wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The one that compiles everything else.
    Active,
    /// Debian's, beside it. It builds the standard library first, which takes about a minute, once.
    Debian,
}

impl Toolchain {
    /// Finds a toolchain, or makes one possible.
    ///
    /// # Errors
    /// When there is no way, with what to do about it.
    pub(crate) fn prepare(workspace: &Workspace, source: Source, consent: Consent) -> Result<Toolchain, String> {
        let mut obstacles = Vec::new();
        if source == Source::Any {
            if has_target(workspace, TARGET) {
                return Ok(Toolchain::Active);
            }
            match run(&mut rustup(workspace)) {
                Ok(()) if has_target(workspace, TARGET) => return Ok(Toolchain::Active),
                // rustup may manage other toolchains than the one in use.
                Ok(()) => obstacles.push("rustup added the target, but to a toolchain that is not in use".to_owned()),
                Err(message) => obstacles.push(message),
            }
        }
        match debian::require(&DEBIAN_PACKAGES, consent) {
            Ok(()) => {
                println!("Policies are compiled with Debian's Rust; the first time this builds the standard library.");
                Ok(Toolchain::Debian)
            }
            Err(message) => {
                obstacles.push(message);
                Err(advice(&line(&rustup(workspace)), &obstacles))
            }
        }
    }

    /// `cargo build` for the Wasm target; the caller says what.
    pub(crate) fn cargo_build(self, workspace: &Workspace) -> Command {
        let mut cargo = match self {
            Toolchain::Active => workspace.cargo(),
            Toolchain::Debian => workspace.command("/usr/bin/cargo"),
        };
        cargo.args(["build", "--target", TARGET]);
        match self {
            Toolchain::Active => {}
            Toolchain::Debian => {
                // Building the standard library is an unstable feature, which a stable Cargo offers only so.
                cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc");
                cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld-19");
                cargo.args(["-Z", "build-std=std,panic_abort"]);
            }
        }
        cargo
    }
}

/// Whether the toolchain in use has a target's standard library. rustc names the folder of any target it knows,
/// so what counts is what lies in it.
pub(crate) fn has_target(workspace: &Workspace, target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder = output(workspace.command(rustc).args(["--print", "target-libdir", "--target", target]));
    folder.is_some_and(|folder| holds_core(Path::new(&folder)))
}

fn holds_core(folder: &Path) -> bool {
    let is_core =
        |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("libcore-") && name.ends_with(".rlib"));
    std::fs::read_dir(folder).is_ok_and(|files| files.flatten().any(|file| is_core(&file.file_name())))
}

fn rustup(workspace: &Workspace) -> Command {
    let mut rustup = workspace.command("rustup");
    rustup.args(["target", "add", TARGET]);
    rustup
}

fn advice(rustup: &str, obstacles: &[String]) -> String {
    let mut text = format!(
        "Rust cannot compile to {TARGET} here. Either of these makes it possible:\n\
         - with rustup: `{rustup}`\n\
         - on Debian 12: the packages {}\n\
         What was tried:",
        DEBIAN_PACKAGES.join(", ")
    );
    for obstacle in obstacles {
        text.push_str("\n- ");
        text.push_str(obstacle);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        Workspace { root: ".".into(), target: "target".into() }
    }

    #[test]
    fn debians_toolchain_builds_the_standard_library_with_its_own_compiler_and_linker() {
        let command = Toolchain::Debian.cargo_build(&workspace());
        assert_eq!(
            line(&command),
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-19 RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
             /usr/bin/cargo build --target wasm32-unknown-unknown -Z build-std=std,panic_abort"
        );
    }

    #[test]
    fn the_active_toolchain_needs_nothing_special() {
        let line = line(&Toolchain::Active.cargo_build(&workspace()));
        assert!(line.ends_with("build --target wasm32-unknown-unknown"), "{line}");
        assert!(!line.contains("BOOTSTRAP"), "{line}");
    }

    #[test]
    fn an_empty_library_folder_is_not_taken_for_an_installed_target() {
        let folder = std::env::temp_dir().join(format!("xtask-wasm-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let empty = holds_core(&folder);
        std::fs::write(folder.join("libcore-0123.rlib"), "").expect("a temporary file");
        let filled = holds_core(&folder);
        std::fs::remove_dir_all(&folder).expect("a temporary folder that is ours");
        assert_eq!((empty, filled, holds_core(&folder)), (false, true, false));
    }

    #[test]
    fn advice_names_both_ways_and_what_stood_in_them() {
        let text = advice("rustup target add x", &["cannot run `rustup`".to_owned()]);
        for part in ["rustup target add x", "rustc-web, cargo-web, rust-web-src, lld-19", "\n- cannot run `rustup`"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
