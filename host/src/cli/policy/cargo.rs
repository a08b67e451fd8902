//! Cargo, as the commands that build policies use it.

use super::toolchain::{self, Lack, TARGET};
use super::unpacked::Unpacked;
use super::{Failure, progress};
use serde_json::Value;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A policy's crate.
#[derive(Debug)]
pub(super) struct Crate {
    dir: PathBuf,
    manifest: PathBuf,
    /// Its package's name, and so the policy's.
    pub(super) name: String,
    /// The folder that its manifest takes the SDK from, if it names one.
    pub(super) sdk: Option<PathBuf>,
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
        let sdk = table.get("dependencies").and_then(|table| table.get("spillway-sdk")?.get("path")?.as_str());
        // Cargo names files absolutely.
        let manifest = fs::canonicalize(&manifest).map_err(|error| wrong(error.to_string()))?;
        Ok(Crate { dir: dir.to_owned(), manifest, name: name.to_owned(), sdk: sdk.map(|path| dir.join(path)) })
    }

    /// The crate around a file that was built from one, if it lies within.
    pub(super) fn around(file: &Path) -> Option<Crate> {
        let file = std::path::absolute(file).ok()?;
        let dir = file.ancestors().skip(1).find(|folder| folder.join("Cargo.toml").is_file())?;
        Crate::find(dir).ok()
    }

    /// A paragraph if the SDK beside it is not this program's, and else nothing. What cannot be read is no matter here:
    /// it was compiled.
    pub(super) fn sdk_remark(&self) -> String {
        let unpacked = self.sdk.as_ref().and_then(|folder| Unpacked::at(folder).ok()?);
        unpacked.and_then(|sdk| sdk.remark(&self.dir)).map_or_else(String::new, |remark| format!("\n{remark}\n"))
    }

    fn cargo(&self) -> Command {
        toolchain::command("cargo", "CARGO", &self.dir)
    }

    /// Runs its native tests; what Cargo says goes to standard error.
    pub(super) fn test(&self) -> Result<(), Failure> {
        progress(&format!("Testing {} natively: cargo test --release", self.name));
        let mut cargo = self.cargo();
        // In the profile of the build that follows, so that what both need is compiled once.
        cargo.args(["test", "--release"]).stdout(Stdio::from(io::stderr()));
        match cargo.status().map_err(Lack::from)?.success() {
            true => Ok(()),
            false => Err(self.failed(format!("the tests of {} fail; what they say stands above", self.name))),
        }
    }

    /// Makes sure, before anything is compiled, that all of it can be. `more` is what Cargo will be told besides.
    pub(super) fn require_toolchain(&self, more: &[String]) -> Result<(), Failure> {
        // Who builds the standard library needs no ready one.
        match more.iter().any(|argument| argument.contains("build-std")) {
            true => Ok(()),
            false => Ok(toolchain::target(&self.dir)?),
        }
    }

    /// Builds it to WebAssembly, and returns the file. `more` is handed to Cargo as it is.
    pub(super) fn build(&self, more: &[String]) -> Result<PathBuf, Failure> {
        self.require_toolchain(more)?;
        progress(&format!("Building {}: cargo build --release --target {TARGET}", self.name));
        let mut cargo = self.cargo();
        cargo.args(["build", "--release", "--lib", "--target", TARGET, "--message-format=json-render-diagnostics"]);
        cargo.args(more).stdout(Stdio::piped());
        let mut child = cargo.spawn().map_err(Lack::from)?;
        let mut built = None;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                built = self.artifact(&line).or(built);
            }
        }
        let ended = child.wait().map_err(Lack::from)?;
        if !ended.success() {
            return Err(self.failed(format!("{} does not compile; what Cargo says stands above", self.name)));
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

    /// Why Cargo failed: what it depends on is not on this machine, or else as is told.
    fn failed(&self, otherwise: String) -> Failure {
        let (name, manifest) = (&self.name, self.dir.join("Cargo.toml"));
        Failure::Bad(match missing_crates(&self.dir) {
            None => otherwise,
            Some(words) => format!(
                "crates that {name} depends on are not on this machine, and Cargo did not get them: {words}\n\
                 Cargo downloads them once, which needs the network; this does only that:\n  \
                 cargo fetch --manifest-path {}",
                manifest.display()
            ),
        })
    }
}

/// What Cargo says about the crates that the one in this folder depends on, if they are not all on this machine.
pub(super) fn missing_crates(dir: &Path) -> Option<String> {
    let metadata = |more: &[&str]| {
        let mut cargo = toolchain::command("cargo", "CARGO", dir);
        cargo.args(["metadata", "--offline", "--format-version=1", "--filter-platform", TARGET]).args(more);
        cargo.output().ok()
    };
    // A manifest that Cargo does not understand says nothing about crates.
    metadata(&["--no-deps"]).filter(|output| output.status.success())?;
    let output = metadata(&[]).filter(|output| !output.status.success())?;
    let words = String::from_utf8_lossy(&output.stderr);
    let error = words.lines().find_map(|line| line.strip_prefix("error: "));
    Some(error.unwrap_or("it does not say why").to_owned())
}
