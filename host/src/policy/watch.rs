//! Watches the policy folder: what is dropped, overwritten, renamed or deleted there takes effect while serving.
//!
//! File events are only a doorbell. What they say of a change differs between systems and kinds of writing, and a
//! slow writer has not finished when the first of them arrives. So after each ring the folder is looked at anew,
//! and a file counts once two looks agree on it.

use super::artifact::{Sha256Sum, componentize};
use super::registry::Registry;
use super::wasm::Runtime;
use crate::clock::milliseconds;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Between two looks at a file that must agree.
const SETTLE: Duration = Duration::from_millis(40);
/// Between two looks at the folder when no event rings, for file systems that send none.
const POLL: Duration = Duration::from_secs(2);
/// Policies in one folder; more files are left out, with a line in the log.
const POLICIES_MAX: usize = 256;

/// Loads policies from a folder, once when made and then from a thread of its own until dropped.
#[derive(Debug)]
pub struct Watcher {
    stop: Sender<Ring>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Ring {
    Changed,
    Stop,
}

impl Watcher {
    /// Loads what the folder holds, then goes on watching it. The folder may come into being later.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        dir: PathBuf,
        settings: BTreeMap<String, String>,
        registry: Arc<Registry>,
        runtime: Arc<Runtime>,
    ) -> io::Result<Watcher> {
        let (ring, rings) = channel();
        let mut loader =
            Loader { dir, settings, registry, runtime, seen: BTreeMap::new(), doorbell: None, ring: ring.clone() };
        // At start-up nothing is being written: each file is taken as it lies.
        loader.hang_doorbell();
        loader.look(Duration::ZERO);
        loader.look(Duration::ZERO);
        let thread = std::thread::Builder::new().name("policy-loader".into()).spawn(move || loader.run(&rings))?;
        Ok(Watcher { stop: ring, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The thread is gone already if this fails.
        let _ = self.stop.send(Ring::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Changes with permissions as well: a file that could not be read is looked at again once it can.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    stamp: Stamp,
    since: Instant,
    handled: bool,
}

struct Loader {
    dir: PathBuf,
    settings: BTreeMap<String, String>,
    registry: Arc<Registry>,
    runtime: Arc<Runtime>,
    seen: BTreeMap<String, Seen>,
    /// The watcher, and the inode of the folder it watches: a folder that vanishes and returns is another one.
    doorbell: Option<(RecommendedWatcher, u64)>,
    ring: Sender<Ring>,
}

impl Loader {
    fn run(&mut self, rings: &Receiver<Ring>) {
        let mut patience = POLL;
        loop {
            match rings.recv_timeout(patience) {
                Ok(Ring::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Ring::Changed) | Err(RecvTimeoutError::Timeout) => {}
            }
            // One change rings several times.
            for ring in rings.try_iter() {
                if ring == Ring::Stop {
                    return;
                }
            }
            self.hang_doorbell();
            patience = if self.look(SETTLE) { POLL } else { SETTLE };
        }
    }

    /// Watches the folder, if it exists and is not being watched.
    fn hang_doorbell(&mut self) {
        let Ok(metadata) = fs::metadata(&self.dir) else {
            self.doorbell = None;
            return;
        };
        if self.doorbell.as_ref().is_some_and(|(_, inode)| *inode == metadata.ino()) {
            return;
        }
        let ring = self.ring.clone();
        let rang = move |event: notify::Result<notify::Event>| {
            // Reading a file rings as well; answering that would never end.
            let only_read = event.is_ok_and(|event| {
                matches!(event.kind, notify::EventKind::Access(kind) if !matches!(kind, notify::event::AccessKind::Close(notify::event::AccessMode::Write)))
            });
            if !only_read {
                let _ = ring.send(Ring::Changed);
            }
        };
        let watcher = notify::recommended_watcher(rang).and_then(|mut watcher| {
            watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => self.doorbell = Some((watcher, metadata.ino())),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "the policy folder sends no events; it is polled");
            }
        }
    }

    /// Looks at the folder. False when some file must be looked at again soon.
    fn look(&mut self, settle: Duration) -> bool {
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                tracing::error!(dir = %self.dir.display(), %error, "the policy folder cannot be read; nothing changes");
                return true;
            }
        };
        let gone: Vec<String> = self.seen.keys().filter(|name| !files.contains_key(*name)).cloned().collect();
        for name in gone {
            self.seen.remove(&name);
            self.registry.forgive(&name);
            if self.registry.hash(&name).is_some() {
                self.registry.remove(&name);
                tracing::info!(policy = name, "policy removed; the built-in policy judges in its place");
            }
        }
        let mut settled = true;
        for (name, (path, stamp)) in files {
            match self.seen.get(&name) {
                Some(seen) if seen.stamp == stamp && seen.handled => {}
                Some(seen) if seen.stamp == stamp && seen.since.elapsed() >= settle => {
                    self.load(&name, &path);
                    self.seen.insert(name, Seen { stamp, since: Instant::now(), handled: true });
                }
                Some(seen) if seen.stamp == stamp => settled = false,
                Some(_) | None => {
                    self.seen.insert(name, Seen { stamp, since: Instant::now(), handled: false });
                    settled = false;
                }
            }
        }
        settled
    }

    /// Every `NAME.wasm` in the folder. Links are followed, so that a swap of what they point to is noticed.
    ///
    /// # Errors
    /// When the folder cannot be read for another reason than that there is none. A machine that is short of file
    /// descriptors must not lose its policies.
    fn files(&self) -> io::Result<BTreeMap<String, (PathBuf, Stamp)>> {
        let mut files = BTreeMap::new();
        let mut left_out = BTreeSet::new();
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let Some(name) = policy_name(&path) else { continue };
            let metadata = match fs::metadata(&path) {
                // Gone since, or a link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if !metadata.is_file() {
                continue;
            }
            if files.len() == POLICIES_MAX {
                left_out.insert(name);
                continue;
            }
            files.insert(name, (path, Stamp::of(&metadata)));
        }
        if !left_out.is_empty() {
            tracing::warn!(left_out = left_out.len(), "more than {POLICIES_MAX} policies in the folder");
        }
        Ok(files)
    }

    fn load(&self, name: &str, path: &Path) {
        let bytes = match fs::metadata(path).and_then(|metadata| match metadata.len() {
            size if size > super::artifact::MODULE_BYTES_MAX => {
                Err(io::Error::other(super::artifact::ArtifactError::TooLarge(size).to_string()))
            }
            _ => fs::read(path),
        }) {
            Ok(bytes) => bytes,
            Err(error) => return self.reject(name, None, error.to_string()),
        };
        let sha256 = Sha256Sum::of(&bytes);
        if self.registry.hash(name) == Some(sha256) {
            self.registry.forgive(name);
            return;
        }
        let began = Instant::now();
        let component = match componentize(&bytes) {
            Ok(component) => component,
            Err(error) => return self.reject(name, Some(sha256), error.to_string()),
        };
        let settings = self.settings.get(name).map_or("{}", String::as_str);
        match self.runtime.load(&component, name, settings) {
            Ok(module) => {
                let version = module.about().version.clone();
                self.registry.install(name, sha256, module);
                let load_ms = milliseconds(began.elapsed());
                tracing::info!(policy = name, sha256 = sha256.short(), version, load_ms, "policy takes over");
            }
            Err(error) => self.reject(name, Some(sha256), error.to_string()),
        }
    }

    fn reject(&self, name: &str, sha256: Option<Sha256Sum>, reason: String) {
        let stays = match self.registry.hash(name) {
            Some(hash) => format!("{name}@{} goes on serving", hash.short()),
            None => "the built-in policy goes on serving".to_owned(),
        };
        tracing::error!(policy = name, reason, "policy file not loaded; {stays}");
        self.registry.reject(name, sha256, reason);
    }
}

/// The name that a file gives its policy. Hidden files are somebody's temporary ones.
fn policy_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(".wasm")?;
    (!name.is_empty() && !name.starts_with('.')).then(|| name.to_owned())
}
