//! Cargo, as the commands that build policies use it.

use super::{Failure, progress};
use serde_json::Value;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What policies are compiled to: no system interface at all, so that a policy can do nothing but judge.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// A policy's crate.
#[derive(Debug)]
pub(super) struct Crate {
    dir: PathBuf,
    manifest: PathBuf,
    /// Its package's name, and so the policy's.
    pub(super) name: String,
}

impl Crate {
    /// Finds the crate in a folder.
    pub(super) fn find(dir: &Path) -> Result<Crate, Failure> {
        let manifest = dir.join("Cargo.toml");
        let text = fs::read_to_string(&manifest).map_err(|error| {
            let hint = "name a policy's folder, or make one with `spillway policy new NAME`";
            Failure::Usage(format!("cannot read {}: {error}; {hint}", manifest.display()))
        })?;
        let wrong = |what: String| Failure::Usage(format!("{}: {what}", manifest.display()));
        let table: toml::Table = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let name = table.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
        let name = name.ok_or_else(|| wrong("it has no [package] with a name; name a policy's own folder".into()))?;
        // Cargo names files absolutely.
        let manifest = fs::canonicalize(&manifest).map_err(|error| wrong(error.to_string()))?;
        Ok(Crate { dir: dir.to_owned(), manifest, name: name.to_owned() })
    }

    fn command(&self, program: &str, variable: &str) -> Command {
        let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| program.into()));
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Runs its native tests; what Cargo says goes to standard error.
    pub(super) fn test(&self) -> Result<(), Failure> {
        progress(&format!("Testing {} natively: cargo test --release", self.name));
        let mut cargo = self.command("cargo", "CARGO");
        // In the profile of the build that follows, so that what both need is compiled once.
        cargo.args(["test", "--release"]).stdout(Stdio::from(io::stderr()));
        match cargo.status().map_err(no_cargo)?.success() {
            true => Ok(()),
            false => Err(Failure::Bad(format!("the tests of {} fail; what they say stands above", self.name))),
        }
    }

    /// Builds it to WebAssembly, and returns the file. `more` is handed to Cargo as it is.
    pub(super) fn build(&self, more: &[String]) -> Result<PathBuf, Failure> {
        // Who builds the standard library needs no ready one.
        if !more.iter().any(|argument| argument.contains("build-std")) {
            self.require_target()?;
        }
        progress(&format!("Building {}: cargo build --release --target {TARGET}", self.name));
        let mut cargo = self.command("cargo", "CARGO");
        cargo.args(["build", "--release", "--lib", "--target", TARGET, "--message-format=json-render-diagnostics"]);
        cargo.args(more).stdout(Stdio::piped());
        let mut child = cargo.spawn().map_err(no_cargo)?;
        let mut built = None;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                built = self.artifact(&line).or(built);
            }
        }
        let ended = child.wait().map_err(no_cargo)?;
        if !ended.success() {
            return Err(Failure::Bad(format!("{} does not compile; what Cargo says stands above", self.name)));
        }
        built.ok_or_else(|| {
            let manifest = self.manifest.display();
            Failure::Bad(format!("{manifest}: it makes no module; it needs [lib] crate-type = [\"cdylib\", \"rlib\"]"))
        })
    }

    /// The module, if a line of Cargo's is about ours.
    fn artifact(&self, line: &str) -> Option<PathBuf> {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours = message["reason"] == "compiler-artifact"
            && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == self.manifest);
        let files = message["filenames"].as_array().filter(|_| ours)?;
        let module = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm"));
        module.map(PathBuf::from)
    }

    /// Makes sure that the toolchain in use has the target's standard library. rustc names the folder of any target it
    /// knows, so what counts is what lies in it.
    fn require_target(&self) -> Result<(), Failure> {
        let mut rustc = self.command("rustc", "RUSTC");
        let asked = rustc.args(["--print", "target-libdir", "--target", TARGET]).output().map_err(no_cargo)?;
        let folder = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
        let is_core = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
        if fs::read_dir(folder).is_ok_and(|files| files.flatten().any(|entry| is_core(&entry))) {
            return Ok(());
        }
        Err(Failure::Bad(format!(
            "this Rust toolchain cannot compile to {TARGET} yet; this adds what it needs:\n  rustup target add {TARGET}"
        )))
    }
}

fn no_cargo(error: io::Error) -> Failure {
    Failure::Bad(format!("Cargo does not run: {error}; a Rust toolchain is needed here, from https://rustup.rs"))
}
