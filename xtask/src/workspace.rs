//! Where things are: the repository and what is built from it.

use crate::policies::{GUESTS, POLICIES};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How something is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For everything but figures.
    Release,
    /// As it is shipped, and so as it is measured.
    Dist,
}

impl Profile {
    /// Its name, which is its folder's name as well.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Dist => "dist",
        }
    }
}

/// The repository and its target folder, both absolute.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The repository that this program belongs to. `CARGO_TARGET_DIR` counts from where the user stands, as it does
    /// for Cargo.
    pub(crate) fn find() -> Result<Workspace, String> {
        // What Cargo says now goes first: a checkout may have moved since this program was compiled.
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest_dir).parent().map(Path::to_path_buf).filter(|root| root.is_dir());
        let root = root.ok_or("the repository is not where it was built; start this with `cargo xtask`")?;
        let target = env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
        let target = target.map_or_else(|| root.join("target"), PathBuf::from);
        let target = std::path::absolute(&target).map_err(|error| format!("{}: {error}", target.display()))?;
        Ok(Workspace { root, target })
    }

    /// A command that runs in the repository's root.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // `cargo run` describes this package to this program. Build scripts that watch these variables would run
        // again under `cargo xtask`, and once more under a plain `cargo build`, for ever in turns.
        let described = |name: &str| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"].iter().any(|start| name.starts_with(start))
        };
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(described) {
                command.env_remove(&name);
            }
        }
        command
    }

    /// The Cargo that runs this program.
    pub(crate) fn cargo(&self) -> Command {
        self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// A command in whose environment tests, demo and benches find the proxy and the policies.
    pub(crate) fn with_products(&self, mut command: Command, profile: Profile) -> Command {
        command
            .env("SPILLWAY_BIN", self.binary("spillway", profile))
            .env("SPILLWAY_POLICIES", self.target.join(POLICIES.place))
            .env("SPILLWAY_GUESTS", self.target.join(GUESTS.place))
            .env("SPILLWAY_MOCK_PROVIDER", self.binary("mock-provider", profile))
            .env("SPILLWAY_MOVED_CLOCK_LIBRARY", self.binary("libspillway_moved_clock.so", Profile::Release))
            .env("SPILLWAY_HANGING_DISK_LIBRARY", self.binary("libspillway_hanging_disk.so", Profile::Release))
            .env("SPILLWAY_SMITH", self.binary("spillway-smith", Profile::Release));
        command
    }

    /// A binary of the workspace, as [`Workspace::build_binaries`] leaves it.
    pub(crate) fn binary(&self, name: &str, profile: Profile) -> PathBuf {
        self.target.join(profile.name()).join(name)
    }

    /// The generator of the files that the policy loader is fed with. It is a workspace of its own: its dependencies
    /// want other features of what wasmtime uses, and together all of wasmtime would be compiled another time.
    pub(crate) fn build_smith(&self) -> Command {
        let mut cargo = self.cargo();
        cargo.args(["build", "--release", "--manifest-path", "tests/smith/Cargo.toml"]);
        cargo
    }

    /// The libraries that are loaded in front of a process: one moves its clocks, one lets its disk hang. They depend on
    /// nothing, so selecting them alone compiles nothing else.
    pub(crate) fn build_preloaded(&self) -> Command {
        let mut cargo = self.cargo();
        cargo.args(["build", "--release", "--package", "spillway-moved-clock", "--package", "spillway-hanging-disk"]);
        cargo
    }

    /// All binaries at once, also where one would do: Cargo chooses the features of dependencies by what is selected,
    /// and another selection would compile wasmtime another time.
    pub(crate) fn build_binaries(&self) -> Command {
        let mut cargo = self.cargo();
        cargo.args(["build", "--release", "--workspace", "--bins"]);
        cargo
    }
}
