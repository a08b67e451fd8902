//! The Spillway of the demo: this executable once more, as a process of its own in a folder of its own.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;
use std::{env, fs};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// How long the start may take, on a machine that has much else to do.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of its log that wait to be read; further ones make it wait. It writes a line when something changes.
const LOG_LINES_MAX: usize = 1_024;
/// So many of the last lines are shown if it does not start.
const LAST_WORDS: usize = 8;
/// What the environment could say to Spillway, and must not: everything here stays on this machine.
const FOREIGN_VARIABLES: [&str; 9] = [
    "SPILLWAY_LOG",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// No folder can be made.
    #[error(
        "the demo needs a folder for a moment, and cannot make one: {tried}. Name a folder that you may write to: TMPDIR=/some/folder spillway demo"
    )]
    NoFolder {
        /// Where it was tried, and why it is not there.
        tried: String,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The executable is not found.
    #[error(
        "the demo starts Spillway once more, and does not find its own executable; call it by its whole path: /path/to/spillway demo"
    )]
    NoExecutable,
    /// It cannot be started.
    #[error("Spillway ({path}) cannot be started: {source}")]
    NotStarted {
        /// The executable.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not become ready.
    #[error("Spillway was started and does not become ready. Its last words:\n{last_words}")]
    NotReady {
        /// Lines of its log.
        last_words: String,
    },
    /// It has ended by itself.
    #[error("Spillway has ended in the middle of the demo, which it must not. Its last words:\n{last_words}")]
    Ended {
        /// Lines of its log.
        last_words: String,
    },
    /// The system refuses what the demo needs.
    #[error("the system refuses what the demo needs: {0}")]
    System(#[from] io::Error),
}

/// A running Spillway. It is ended, and its folder removed, when this is dropped. If the demo is killed, which cannot
/// be caught, Spillway ends in order, because its standard input does; the folder stays then.
pub(super) struct Spillway {
    /// Dropped first: it must not write into a folder that is being removed.
    _child: Owned,
    log: mpsc::Receiver<String>,
    last_words: Vec<String>,
    folder: TempDir,
    listen: SocketAddr,
    admin: SocketAddr,
}

/// A child that does not outlive us.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only for a child that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Spillway {
    /// Starts it with these tables of a configuration, and waits until it is ready.
    ///
    /// # Errors
    /// When there is no folder or no executable, or when it does not start.
    pub(super) async fn start(tables: &str) -> Result<Spillway, DemoError> {
        let folder = folder()?;
        let config = folder.path().join("spillway.toml");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n\
             [log]\nformat = \"json\"\n\n{tables}"
        );
        write(&config, text.as_bytes())?;
        let policies = folder.path().join("policies");
        fs::create_dir_all(&policies).map_err(|source| DemoError::Write { path: policies, source })?;
        let path = executable().ok_or(DemoError::NoExecutable)?;
        let mut command = Command::new(&path);
        command.args(["run", "--until-stdin-ends", "--config"]).arg(&config).current_dir(folder.path());
        FOREIGN_VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        // Where there is no /dev/null, as in some containers, there are pipes. Nobody reads standard output, and
        // standard input is held for as long as the demo lasts.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Owned(command.spawn().map_err(|source| DemoError::NotStarted { path, source })?);
        let (sender, log) = mpsc::channel(LOG_LINES_MAX);
        if let Some(stderr) = child.0.stderr.take() {
            // It ends with the process whose words it hears.
            std::thread::Builder::new().name("spillway-log".to_owned()).spawn(move || read(stderr, &sender))?;
        }
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut spillway =
            Spillway { _child: child, log, last_words: Vec::new(), folder, listen: nowhere, admin: nowhere };
        let ready = tokio::time::timeout(START_TIMEOUT, spillway.until_ready()).await.ok().flatten();
        (spillway.listen, spillway.admin) =
            ready.ok_or_else(|| DemoError::NotReady { last_words: spillway.last_words.join("\n") })?;
        Ok(spillway)
    }

    /// The addresses of callers and of operators, which the line of the log says that tells of the start.
    async fn until_ready(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        loop {
            let line = self.says().await?;
            let address = |name: &str| line[name].as_str().and_then(|text| text.parse().ok());
            if let (Some(listen), Some(admin)) = (address("listen"), address("admin")) {
                return Some((listen, admin));
            }
        }
    }

    /// The next line of its log; `None` when it has ended. What is no JSON is `null`.
    pub(super) async fn says(&mut self) -> Option<Value> {
        let line = self.log.recv().await?;
        let value = serde_json::from_str(&line).unwrap_or_default();
        self.last_words.push(line);
        if self.last_words.len() > LAST_WORDS {
            self.last_words.remove(0);
        }
        Some(value)
    }

    /// Why it has ended.
    pub(super) fn ended(&self) -> DemoError {
        DemoError::Ended { last_words: self.last_words.join("\n") }
    }

    /// Where callers reach it.
    pub(super) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where operators reach it.
    pub(super) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Puts a policy into the folder from which it serves, whole at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn drop_policy(&self, name: &str, bytes: &[u8]) -> Result<(), DemoError> {
        let beside = self.folder.path().join(format!("{name}.wasm"));
        write(&beside, bytes)?;
        let path = self.folder.path().join("policies").join(format!("{name}.wasm"));
        fs::rename(&beside, &path).map_err(|source| DemoError::Write { path, source })
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), DemoError> {
    fs::write(path, bytes).map_err(|source| DemoError::Write { path: path.to_owned(), source })
}

fn read(stderr: ChildStderr, sender: &mpsc::Sender<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if sender.blocking_send(line).is_err() {
            return;
        }
    }
}

/// A folder of our own: where the system has such, or where we are, or where the executable lies.
fn folder() -> Result<TempDir, DemoError> {
    let beside = || executable()?.parent().map(Path::to_owned);
    folder_in([Some(env::temp_dir()), env::current_dir().ok(), beside()].into_iter().flatten())
}

/// A folder in the first of these places in which one can be made.
fn folder_in(places: impl Iterator<Item = PathBuf>) -> Result<TempDir, DemoError> {
    let mut tried = Vec::new();
    for place in places {
        match TempDir::with_prefix_in("spillway-demo-", &place) {
            Ok(folder) => return Ok(folder),
            Err(error) => tried.push(format!("{} ({})", place.display(), error.kind())),
        }
    }
    Err(DemoError::NoFolder { tried: tried.join(", ") })
}

/// This executable. Without `/proc`, as in some containers, the system cannot tell, and the name by which it was called
/// is looked for as a shell does.
fn executable() -> Option<PathBuf> {
    env::current_exe().ok().or_else(|| {
        let (called, path) = (env::args_os().next()?, env::var_os("PATH").unwrap_or_default());
        named(&called, &env::current_dir().ok()?, &path).into_iter().find(|file| file.is_file())
    })
}

/// Where a shell in this folder looks for what is called by this name.
fn named(called: &OsStr, here: &Path, path: &OsStr) -> Vec<PathBuf> {
    if Path::new(called).components().count() > 1 {
        return vec![here.join(called)];
    }
    env::split_paths(path).map(|folder| here.join(folder).join(called)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_in_the_first_place_that_takes_one_and_otherwise_all_are_named() {
        let place = TempDir::with_prefix("spillway-test-").expect("a folder");
        let missing = place.path().join("missing");
        let made = folder_in([missing.clone(), place.path().to_owned()].into_iter()).expect("a folder");
        assert_eq!(made.path().parent(), Some(place.path()));
        let error = folder_in([missing.clone()].into_iter()).expect_err("no folder").to_string();
        assert!(error.contains(&missing.display().to_string()) && error.contains("TMPDIR="), "{error}");
    }

    #[test]
    fn an_executable_is_looked_for_as_a_shell_does() {
        for (called, expected) in [
            ("/opt/spillway", vec!["/opt/spillway"]),
            ("./spillway", vec!["/here/./spillway"]),
            ("bin/spillway", vec!["/here/bin/spillway"]),
            ("spillway", vec!["/usr/bin/spillway", "/here/bin/spillway"]),
        ] {
            let path = env::join_paths(["/usr/bin", "bin"]).expect("folders");
            let found = named(OsStr::new(called), Path::new("/here"), &path);
            assert_eq!(found, expected.into_iter().map(PathBuf::from).collect::<Vec<_>>(), "{called}");
        }
    }
}
