//! What a Spillway is started with: the binary, the policies and a configuration in a folder of its own.
#![expect(clippy::panic, reason = "a test that cannot be set up fails, and panics are how tests fail")]

use crate::certificates::Identity;
use crate::clocks::Clocks;
#[cfg(target_os = "linux")]
use crate::disk::Disk;
use crate::provider::Provider;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The Spillway to test: `SPILLWAY_BIN`, or else what `cargo build --release` has left beside the running executable.
pub fn binary() -> PathBuf {
    product("SPILLWAY_BIN", "spillway")
}

/// An executable that was built before the tests: named by this variable, or else beside the running executable.
pub fn product(variable: &str, name: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| beside_us(name), PathBuf::from)
}

/// The compiled policy of this name: from `SPILLWAY_POLICIES`, or from `SPILLWAY_GUESTS` if it is one that only tests
/// load, or else from where `cargo xtask` puts them.
///
/// # Panics
/// When it is in none of them.
pub fn policy_file(name: &str) -> PathBuf {
    let folder = |variable, otherwise| env::var_os(variable).map_or_else(|| beside_us(otherwise), PathBuf::from);
    let folders = [folder("SPILLWAY_POLICIES", "../policies"), folder("SPILLWAY_GUESTS", "../guests")];
    let mut files = folders.iter().map(|folder| folder.join(format!("{name}.wasm")));
    let file = files.find(|file| file.is_file());
    file.unwrap_or_else(|| {
        panic!("no {name}.wasm in {folders:?}; `cargo xtask test` builds policies before their tests")
    })
}

/// Writes a certificate and its key as `certificate.pem` and `key.pem` into a folder, the key for its owner alone.
///
/// # Panics
/// When they cannot be written.
pub fn write_pair(folder: &Path, identity: &Identity) {
    let written = fs::write(folder.join("certificate.pem"), &identity.pem)
        .and_then(|()| fs::write(folder.join("key.pem"), &identity.key_pem))
        .and_then(|()| fs::set_permissions(folder.join("key.pem"), fs::Permissions::from_mode(0o600)));
    written.unwrap_or_else(|error| panic!("the certificate cannot be written: {error}"));
}

/// A path relative to the folder of the profile's binaries.
fn beside_us(relative: &str) -> PathBuf {
    let executable = env::current_exe().unwrap_or_default();
    let folder = executable.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    folder.unwrap_or(Path::new(".")).join(relative)
}

/// A configuration in the making, and the folder it will lie in.
#[derive(Debug)]
pub struct Setup {
    sections: BTreeMap<String, String>,
    _memory: Memory,
    folder: TempDir,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) descriptors: Option<(u32, u32)>,
    pub(crate) clocks: Option<Clocks>,
}

/// What a Spillway that is killed leaves in memory for the next one that has its folder, which a test deletes.
#[derive(Debug)]
struct Memory(PathBuf);

impl Drop for Memory {
    fn drop(&mut self) {
        let within = fs::read_dir(&self.0).into_iter().flatten().flatten();
        for ledger in within.map(|entry| entry.path().join("ledger")) {
            let Ok(identity) = fs::read_to_string(ledger.join("identity")) else { continue };
            let found = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
            let ours = found.filter(|entry| entry.file_name().to_string_lossy().contains(&identity));
            // It is no matter to the test.
            ours.for_each(|entry| drop(fs::remove_dir_all(entry.path())));
        }
    }
}

impl Setup {
    /// OpenAI, Anthropic and Gemini at the mock provider, everything else as by default, on ports that are free.
    pub fn with(provider: &Provider) -> Self {
        let url = format!("url = \"{}\"", provider.url());
        let upstreams = ["openai", "anthropic", "gemini"];
        upstreams.iter().fold(Self::bare(), |setup, name| setup.set(&format!("upstreams.{name}"), &url))
    }

    /// No upstream repointed.
    ///
    /// # Panics
    /// When the system has no room for a folder.
    pub fn bare() -> Self {
        let folder = TempDir::with_prefix("spillway-test-");
        let folder = folder.unwrap_or_else(|error| panic!("no folder for the test: {error}"));
        let memory = Memory(folder.path().to_owned());
        Self {
            sections: BTreeMap::new(),
            _memory: memory,
            folder,
            environment: Vec::new(),
            descriptors: None,
            clocks: None,
        }
    }

    /// Adds lines to a table of the configuration.
    #[must_use]
    pub fn set(mut self, section: &str, lines: &str) -> Self {
        self.add(section, lines);
        self
    }

    pub(crate) fn add(&mut self, section: &str, lines: &str) {
        let text = self.sections.entry(section.to_owned()).or_default();
        text.push_str(lines);
        text.push('\n');
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Limits its open files: softly, which it may raise itself, and hard.
    #[must_use]
    pub fn descriptors(mut self, soft: u32, hard: u32) -> Self {
        self.descriptors = Some((soft, hard));
        self
    }

    /// Puts clocks under it that can be moved while it runs.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn with_clocks_to_move(mut self) -> Self {
        let clocks = Clocks::still(self.folder().join("clocks"));
        self.environment.extend(clocks.environment());
        self.clocks = Some(clocks);
        self
    }

    /// Puts a disk under its data folder that can be let hang while it runs.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn with_disk_to_hang(mut self) -> (Self, Disk) {
        let data = self.folder().canonicalize().unwrap_or_else(|error| panic!("the test's folder: {error}"));
        let disk = Disk::of(&data.join("data"), &data);
        self.environment.extend(disk.environment());
        self.add("spool", "dir = \"data\"");
        (self, disk)
    }

    /// Has it speak TLS with this certificate, in `certificate.pem` and `key.pem` of its folder.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn with_certificate(self, identity: &Identity) -> Self {
        write_pair(self.folder(), identity);
        self.set("server.tls", "certificate = \"certificate.pem\"\nkey = \"key.pem\"")
    }

    /// The folder in which configuration, spool and policies lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a policy into the policy folder before the start.
    #[must_use]
    pub fn policy(self, name: &str) -> Self {
        let copied = fs::create_dir_all(self.folder().join("policies")).and_then(|()| {
            let target = self.folder().join(format!("policies/{name}.wasm"));
            fs::copy(policy_file(name), target)
        });
        if let Err(error) = copied {
            panic!("the policy {name} cannot be copied: {error}");
        }
        self
    }

    pub(crate) fn write(&self, listen: SocketAddr, admin: SocketAddr) -> io::Result<PathBuf> {
        let mut sections = self.sections.clone();
        for (section, address) in [("server", listen), ("admin", admin)] {
            let lines = sections.entry(section.to_owned()).or_default();
            if !lines.contains("listen =") {
                lines.push_str(&format!("listen = \"{address}\"\n"));
            }
        }
        let log = sections.entry("log".to_owned()).or_default();
        if !log.contains("format =") {
            log.push_str("format = \"json\"\n");
        }
        let text: String = sections.iter().map(|(name, lines)| format!("[{name}]\n{lines}\n")).collect();
        let file = self.folder().join("spillway.toml");
        fs::write(&file, text)?;
        Ok(file)
    }
}
