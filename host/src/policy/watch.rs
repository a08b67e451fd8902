//! Watches the policy folder: what is dropped, overwritten, renamed or deleted there takes effect while serving.
//!
//! File events are only a doorbell. What they say of a change differs between systems and kinds of writing, and a
//! slow writer has not finished when the first of them arrives. So after each ring the folder is looked at anew,
//! and a file counts once two looks agree on it.

use super::artifact::{ArtifactError, MODULE_BYTES_MAX, Sha256Sum};
use super::provenance::{SIGNATURE_BYTES, Trust};
use super::registry::{Registry, Role};
use super::settings::SettingsFile;
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
/// Ends the name of a candidate, before `.wasm`.
pub(crate) const SHADOW_SUFFIX: &str = ".shadow";
/// Ends the name of what a promotion has replaced, before `.wasm`.
pub(crate) const PREVIOUS_SUFFIX: &str = ".previous";
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
        settings: SettingsFile,
        trust: Trust,
        registry: Arc<Registry>,
        runtime: Arc<Runtime>,
    ) -> io::Result<Watcher> {
        let (ring, rings) = channel();
        let mut loader = Loader {
            dir,
            settings,
            trust,
            registry,
            runtime,
            seen: BTreeMap::new(),
            doorbells: BTreeMap::new(),
            ring: ring.clone(),
        };
        // At start-up nothing is being written: each file is taken as it lies.
        loader.hang_doorbells();
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
    stamps: Stamps,
    since: Instant,
    handled: bool,
}

/// The policy that a file is for, and what it is there for.
type Place = (String, Role);

/// A file, and its signature's, as they stand.
type Stamps = (Stamp, Option<Stamp>);

struct Loader {
    dir: PathBuf,
    settings: SettingsFile,
    trust: Trust,
    registry: Arc<Registry>,
    runtime: Arc<Runtime>,
    seen: BTreeMap<Place, Seen>,
    /// The watchers by folder, and the inode of the folder each watches: one that vanishes and returns is another.
    doorbells: BTreeMap<PathBuf, (RecommendedWatcher, u64)>,
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
            self.hang_doorbells();
            self.reload_settings();
            patience = if self.look(SETTLE) { POLL } else { SETTLE };
        }
    }

    /// Watches the policies' folder, and that of the configuration, if they exist and are not being watched.
    fn hang_doorbells(&mut self) {
        let folders = [Some(self.dir.clone()), self.settings.folder()];
        for folder in folders.into_iter().flatten() {
            self.hang_doorbell(folder);
        }
    }

    fn hang_doorbell(&mut self, folder: PathBuf) {
        let Ok(metadata) = fs::metadata(&folder) else {
            self.doorbells.remove(&folder);
            return;
        };
        if self.doorbells.get(&folder).is_some_and(|(_, inode)| *inode == metadata.ino()) {
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
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => {
                self.doorbells.insert(folder, (watcher, metadata.ino()));
            }
            Err(error) => {
                tracing::warn!(dir = %folder.display(), %error, "the folder sends no events; it is polled");
            }
        }
    }

    /// Loads those policies anew whose settings have changed.
    fn reload_settings(&mut self) {
        for name in self.settings.changed() {
            tracing::info!(policy = name, "settings changed");
            for (place, seen) in &mut self.seen {
                seen.handled &= place.0 != name;
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
        let gone: Vec<Place> = self.seen.keys().filter(|place| !files.contains_key(*place)).cloned().collect();
        for place in gone {
            self.seen.remove(&place);
            let (name, role) = place;
            self.registry.forgive(&name, role);
            if self.registry.hash(&name, role).is_some() {
                self.registry.remove(&name, role);
                match role {
                    Role::Active => {
                        tracing::info!(policy = name, "policy removed; the built-in policy judges in its place");
                    }
                    Role::Shadow => tracing::info!(policy = name, "shadow removed; nothing is compared any more"),
                }
            }
        }
        let mut settled = true;
        for (place, (path, stamps)) in files {
            match self.seen.get(&place) {
                Some(seen) if seen.stamps == stamps && seen.handled => {}
                Some(seen) if seen.stamps == stamps && seen.since.elapsed() >= settle => {
                    self.load(&place, &path);
                    self.seen.insert(place, Seen { stamps, since: Instant::now(), handled: true });
                }
                Some(seen) if seen.stamps == stamps => settled = false,
                Some(_) | None => {
                    self.seen.insert(place, Seen { stamps, since: Instant::now(), handled: false });
                    settled = false;
                }
            }
        }
        settled
    }

    /// Every `NAME.wasm` and `NAME.shadow.wasm` in the folder, with the stamp of a signature beside it. Links are followed, so that a swap of what they point to is noticed.
    ///
    /// # Errors
    /// When the folder cannot be read for another reason than that there is none. A machine that is short of file
    /// descriptors must not lose its policies.
    fn files(&self) -> io::Result<BTreeMap<Place, (PathBuf, Stamps)>> {
        let mut files = BTreeMap::new();
        let mut left_out = BTreeSet::new();
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let Some(place) = place_of(&path) else { continue };
            let metadata = match fs::metadata(&path) {
                // Gone since, or a link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if !metadata.is_file() {
                continue;
            }
            if files.len() == POLICIES_MAX {
                left_out.insert(place);
                continue;
            }
            let signature = fs::metadata(signature_of(&path)).ok().map(|metadata| Stamp::of(&metadata));
            files.insert(place, (path, (Stamp::of(&metadata), signature)));
        }
        if !left_out.is_empty() {
            tracing::warn!(left_out = left_out.len(), "more than {POLICIES_MAX} policies in the folder");
        }
        Ok(files)
    }

    fn load(&self, place: &Place, path: &Path) {
        let (name, role) = place;
        let bytes = match read(path, MODULE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => return self.reject(place, None, error.to_string()),
        };
        let sha256 = Sha256Sum::of(&bytes);
        let settings = self.settings.of(name);
        if self.registry.is_loaded(name, *role, sha256, settings) {
            self.registry.forgive(name, *role);
            return;
        }
        let signature = read(&signature_of(path), SIGNATURE_BYTES as u64).ok();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if let Err(error) = self.trust.check(&file, &bytes, signature.as_deref()) {
            return self.reject(place, Some(sha256), error.to_string());
        }
        let began = Instant::now();
        match self.runtime.load(&bytes, sha256, name, settings) {
            Ok(module) => {
                let version = module.about().version.clone();
                self.registry.install(name, *role, sha256, module);
                let (load_ms, sha256) = (milliseconds(began.elapsed()), sha256.to_string());
                match role {
                    Role::Active => tracing::info!(policy = name, sha256, version, load_ms, "policy takes over"),
                    Role::Shadow => tracing::info!(policy = name, sha256, version, load_ms, "shadow is compared"),
                }
            }
            Err(error) => self.reject(place, Some(sha256), error.to_string()),
        }
    }

    fn reject(&self, place: &Place, sha256: Option<Sha256Sum>, reason: String) {
        let (name, role) = place;
        let stays = match (self.registry.hash(name, *role), role) {
            (Some(hash), Role::Active) => format!("{name}@{} goes on serving", hash.short()),
            (None, Role::Active) => "the built-in policy goes on serving".to_owned(),
            (Some(hash), Role::Shadow) => format!("{name}@{} goes on being compared", hash.short()),
            (None, Role::Shadow) => "nothing is compared".to_owned(),
        };
        tracing::error!(policy = name, reason, "policy file not loaded; {stays}");
        self.registry.reject(name, *role, sha256, reason);
    }
}

/// Reads a file of at most `bytes_max` bytes.
fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    match fs::metadata(path)?.len() {
        size if size > bytes_max => Err(io::Error::other(ArtifactError::TooLarge(size).to_string())),
        _ => fs::read(path),
    }
}

/// Where the signature of a file lies.
fn signature_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

/// What a file is there for: `NAME.wasm` or `NAME.shadow.wasm`. Hidden files are somebody's temporary ones, and
/// `NAME.previous.wasm` is what a promotion keeps to be able to go back.
fn place_of(path: &Path) -> Option<Place> {
    let name = path.file_name()?.to_str()?.strip_suffix(".wasm")?;
    if name.is_empty() || name.starts_with('.') || name.ends_with(PREVIOUS_SUFFIX) {
        return None;
    }
    match name.strip_suffix(SHADOW_SUFFIX) {
        Some("") => None,
        Some(name) => Some((name.to_owned(), Role::Shadow)),
        None => Some((name.to_owned(), Role::Active)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_says_what_it_is_there_for() {
        let place = |name: &str| place_of(Path::new("policies").join(name).as_path());
        assert_eq!(place("mine.wasm"), Some(("mine".to_owned(), Role::Active)));
        assert_eq!(place("mine.shadow.wasm"), Some(("mine".to_owned(), Role::Shadow)));
        assert_eq!(place("mine.v2.wasm"), Some(("mine.v2".to_owned(), Role::Active)));
        for nothing in ["mine.previous.wasm", ".mine.wasm", ".wasm", ".shadow.wasm", "mine.wasm.sig", "mine.toml"] {
            assert_eq!(place(nothing), None, "{nothing}");
        }
    }
}
