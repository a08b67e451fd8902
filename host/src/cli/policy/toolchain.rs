//! What a machine lacks to build policies, found out before anything is written or compiled.

use super::Failure;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What policies are compiled to: no system interface at all, so that a policy can do nothing but judge.
pub(in crate::cli) const TARGET: &str = "wasm32-unknown-unknown";
/// The oldest Rust that compiles the SDK.
const RUST_MIN: &str = env!("CARGO_PKG_RUST_VERSION");

/// Something that is missing; as a text, with what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// Cargo or rustc does not run, for this reason.
    Cargo(String),
    /// Rust is of this version, which is too old.
    Rust(String),
    /// The target's standard library.
    Target,
    /// What links programs for this machine itself: tests, and macros that run while a policy is compiled.
    Linker,
}

impl Lack {
    /// Whether nothing can be built without it. The configuration of Cargo may name another linker.
    pub(super) fn is_certain(&self) -> bool {
        *self != Lack::Linker
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Cargo(error) => {
                write!(f, "Cargo does not run: {error}; a Rust toolchain is needed here, from https://rustup.rs")?;
                if cfg!(unix) {
                    f.write_str(":\n  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh")?;
                }
                Ok(())
            }
            Lack::Rust(version) => {
                write!(f, "Rust is {version} here, and {RUST_MIN} is needed; this brings it:\n  rustup update")
            }
            Lack::Target => write!(
                f,
                "this Rust toolchain cannot compile to {TARGET} yet; this adds what it needs:\n  \
                 rustup target add {TARGET}"
            ),
            Lack::Linker => {
                let mends = match std::env::consts::OS {
                    "macos" => "xcode-select --install",
                    "windows" => "winget install Microsoft.VisualStudio.2022.BuildTools",
                    _ => "apt-get install gcc        # on Debian and its like",
                };
                write!(f, "there is no C compiler `cc` here, by which Rust links programs; this brings one:\n  {mends}")
            }
        }
    }
}

impl From<io::Error> for Lack {
    fn from(error: io::Error) -> Lack {
        Lack::Cargo(error.to_string())
    }
}

impl From<Lack> for Failure {
    fn from(lack: Lack) -> Failure {
        Failure::Bad(lack.to_string())
    }
}

/// A program of the toolchain, which a variable may name, as it runs in a folder: rustup looks there for the toolchain
/// to use.
pub(super) fn command(program: &str, variable: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| program.into()));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// All that a crate in this folder lacks to be built.
pub(super) fn lacks(folder: &Path) -> Vec<Lack> {
    let cargo = command("cargo", "CARGO", folder).arg("--version").output();
    let rustc = command("rustc", "RUSTC", folder).arg("--version").output();
    let ran = cargo.and(rustc).map(|rustc| String::from_utf8_lossy(&rustc.stdout).into_owned());
    let version = match ran {
        Ok(version) => version,
        // Nothing else can be asked without.
        Err(error) => return vec![error.into()],
    };
    let mut lacks = Vec::new();
    lacks.extend(too_old(&version).map(Lack::Rust));
    lacks.extend(target(folder).err());
    if cfg!(unix) && Command::new("cc").arg("--version").stdin(Stdio::null()).output().is_err() {
        lacks.push(Lack::Linker);
    }
    lacks
}

/// The version that `rustc --version` says, if it is too old. What cannot be read is left to Cargo.
fn too_old(said: &str) -> Option<String> {
    let version = said.split_whitespace().nth(1)?;
    let numbers = |text: &str| -> Option<(u64, u64)> {
        let mut parts = text.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    (numbers(version)? < numbers(RUST_MIN)?).then(|| version.to_owned())
}

/// Makes sure that the toolchain in use has the target's standard library.
///
/// # Errors
/// That it is missing, or rustc.
pub(super) fn target(folder: &Path) -> Result<(), Lack> {
    match has_target(&mut command("rustc", "RUSTC", folder))? {
        true => Ok(()),
        false => Err(Lack::Target),
    }
}

/// Whether this `rustc` has the target's standard library. It names the folder of any target it knows, so what counts is
/// what lies in it.
///
/// # Errors
/// When it cannot be run.
pub(in crate::cli) fn has_target(rustc: &mut Command) -> io::Result<bool> {
    let asked = rustc.args(["--print", "target-libdir", "--target", TARGET]).output()?;
    let library = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    let is_core = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    Ok(fs::read_dir(library).is_ok_and(|files| files.flatten().any(|entry| is_core(&entry))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_rust_is_told_from_one_that_will_do() {
        assert_eq!(too_old("rustc 1.84.1 (e71f9a9a9 2025-01-27)").as_deref(), Some("1.84.1"));
        assert_eq!(too_old("rustc 0.9.0").as_deref(), Some("0.9.0"));
        for good in [format!("rustc {RUST_MIN}.0 (abc)"), "rustc 1.999.0-nightly".into(), "rustc 2.0.0-dev".into()] {
            assert_eq!(too_old(&good), None, "{good}");
        }
        assert_eq!(too_old("another compiler"), None, "Cargo will say what it thinks of it");
    }

    #[test]
    fn whatever_is_missing_is_told_with_what_mends_it() {
        let lacks = [Lack::Cargo("not found".into()), Lack::Rust("1.80.0".into()), Lack::Target, Lack::Linker];
        for (lack, mends) in lacks.iter().zip(["rustup.rs", "rustup update", "rustup target add", "\n  "]) {
            assert!(lack.to_string().contains(mends), "{lack}");
        }
    }
}
