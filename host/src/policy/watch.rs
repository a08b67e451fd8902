//! Watches the policy folder: what is dropped, overwritten, renamed or deleted there takes effect while serving.
//!
//! The configuration is looked at too, every two seconds: a log may lie beside it, whose every line would ring.
//!
//! File events are only a doorbell. What they say of a change differs between systems and kinds of writing, and a
//! slow writer has not finished when the first of them arrives. So after each ring the folder is looked at anew,
//! and a file counts once two looks agree on it.

mod doorbell;
mod file;

use super::artifact::Sha256Sum;
use super::limits::Limits;
use super::provenance::{SIGNATURE_BYTES, Trust, Untrusted};
use super::registry::{Registry, Role};
use super::settings::{Followed, PolicySettings};
use super::wasm::{LoadError, Runtime};
use crate::runtime::clock::milliseconds;
use doorbell::{Doorbells, RINGS_MAX, Ring, wait};
use file::Sighting;
pub(crate) use file::{PREVIOUS_SUFFIX, Place, ReadError, SHADOW_SUFFIX, place_of, read, signature_of};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Between two looks at a file that must agree, and between any two looks.
const SETTLE: Duration = Duration::from_millis(40);
/// Between two looks at the folder when no event rings, for file systems that send none.
const POLL: Duration = Duration::from_secs(2);
/// Policies in one folder. Of more files, those that were there first are kept, and then the first by name; the log
/// says how many are left out.
const POLICIES_MAX: usize = 256;

/// Loads what the folder holds, then goes on watching it from a thread of its own. The folder may come into being
/// later.
///
/// The thread ends with the process and nobody waits for it: it may be compiling, which cannot be interrupted and takes
/// seconds. What it leaves behind then is at most a file that was being written beside the compiled policies, and that
/// counts for nothing.
///
/// The returned bell asks for a look at once.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn watch_folder(
    dir: PathBuf,
    settings: Box<dyn PolicySettings>,
    trust: Trust,
    registry: Arc<Registry>,
    runtime: Arc<Runtime>,
) -> io::Result<Bell> {
    let (ring, rings) = sync_channel(RINGS_MAX);
    let bell = Bell(ring.clone());
    let mut loader = Loader::new(dir, settings, trust, registry, runtime);
    let mut doorbells = Doorbells::new(ring);
    // At start-up nothing is being written: each file is taken as it lies.
    doorbells.hang(&loader.dir);
    loader.look(Duration::ZERO);
    let settled = loader.look(Duration::ZERO);
    loader.is_starting = false;
    let run = move || loader.run(doorbells, &rings, settled);
    std::thread::Builder::new().name("policy-loader".into()).spawn(run)?;
    Ok(bell)
}

/// Asks for a look at the folder and the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Bell(SyncSender<Ring>);

impl Bell {
    /// Asks. When somebody has asked already, that is enough.
    pub(crate) fn ring(&self) {
        let _ = self.0.try_send(Ring);
    }
}

/// What is known of a file from earlier looks.
#[derive(Debug)]
struct Seen {
    sighting: Sighting,
    since: Instant,
    progress: Progress,
}

/// How far a file has come.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// It may still be written to.
    Settling,
    /// It was loaded, or is rejected until it changes.
    Done,
    /// It could not be read for this reason, which may pass.
    Retried(String),
}

/// What a look at a file leads to.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is as it was.
    Nothing,
    /// It has changed: it must be seen once more.
    Settle,
    /// It has changed not long ago.
    Wait,
    /// It is to be loaded.
    Load,
}

impl Step {
    fn of(seen: Option<&Seen>, sighting: &Sighting, settle: Duration) -> Step {
        match seen {
            Some(seen) if seen.sighting == *sighting => match seen.progress {
                Progress::Done => Step::Nothing,
                Progress::Retried(_) => Step::Load,
                Progress::Settling if seen.since.elapsed() >= settle => Step::Load,
                Progress::Settling => Step::Wait,
            },
            Some(_) | None => Step::Settle,
        }
    }
}

/// Why a file is not loaded.
#[derive(Debug)]
struct Rejection {
    sha256: Option<Sha256Sum>,
    reason: String,
    /// Whether the very same file may be loaded yet.
    may_pass: bool,
}

impl Rejection {
    fn of_read(what: &str, error: ReadError, too_long: impl FnOnce(u64) -> String) -> Self {
        let (reason, may_pass) = match error {
            ReadError::Io(error) => (format!("{what} cannot be read, which is tried again: {error}"), true),
            ReadError::NotAFile => (format!("{what} is no regular file"), false),
            ReadError::TooLong(size) => (too_long(size), false),
        };
        Rejection { sha256: None, reason, may_pass }
    }
}

struct Loader {
    dir: PathBuf,
    settings: Box<dyn PolicySettings>,
    trust: Trust,
    registry: Arc<Registry>,
    runtime: Arc<Runtime>,
    seen: BTreeMap<Place, Seen>,
    /// Why the folder could not be read at the last look. Said once: a log that lies in the folder would ring.
    unreadable: Option<String>,
    /// The files that the last look left out.
    left_out: usize,
    /// Whether Spillway waits for us before it serves.
    is_starting: bool,
}

impl Loader {
    fn new(
        dir: PathBuf,
        settings: Box<dyn PolicySettings>,
        trust: Trust,
        registry: Arc<Registry>,
        runtime: Arc<Runtime>,
    ) -> Self {
        let (seen, unreadable, left_out, is_starting) = (BTreeMap::new(), None, 0, true);
        Loader { dir, settings, trust, registry, runtime, seen, unreadable, left_out, is_starting }
    }

    fn run(&mut self, mut doorbells: Doorbells, rings: &Receiver<Ring>, settled: bool) {
        let (mut patience, mut not_before) = (if settled { POLL } else { SETTLE }, Instant::now());
        loop {
            wait(rings, patience, not_before);
            doorbells.hang(&self.dir);
            let settings_settled = self.reload_settings();
            let files_settled = self.look(SETTLE);
            patience = if settings_settled && files_settled { POLL } else { SETTLE };
            not_before = Instant::now() + SETTLE;
        }
    }

    /// Loads those policies anew whose settings have changed. False when the configuration must be looked at again
    /// soon.
    fn reload_settings(&mut self) -> bool {
        let changed = match self.settings.follow(SETTLE) {
            Followed::AsBefore => return true,
            Followed::Settling => return false,
            Followed::Changed(names) => names,
        };
        for name in changed {
            tracing::info!(policy = name, "settings changed");
            for (place, seen) in &mut self.seen {
                if place.0 == name && seen.progress == Progress::Done {
                    seen.progress = Progress::Settling;
                }
            }
        }
        true
    }

    /// Looks at the folder. False when some file must be looked at again soon.
    fn look(&mut self, settle: Duration) -> bool {
        let files = match self.files() {
            Ok(files) => files,
            Err(error) => {
                let reason = Some(error.to_string());
                if self.unreadable != reason {
                    tracing::error!(dir = %self.dir.display(), %error, "the policy folder cannot be read; nothing changes");
                    self.unreadable = reason;
                }
                return true;
            }
        };
        self.unreadable = None;
        let gone: Vec<Place> = self.seen.keys().filter(|place| !files.contains_key(*place)).cloned().collect();
        for place in gone {
            self.remove(&place);
        }
        let mut settled = true;
        for (place, (path, sighting)) in files {
            let progress = match Step::of(self.seen.get(&place), &sighting, settle) {
                Step::Nothing => continue,
                Step::Wait => {
                    settled = false;
                    continue;
                }
                Step::Settle => Progress::Settling,
                Step::Load => self.try_load(&place, &path, &sighting),
            };
            settled &= progress != Progress::Settling;
            self.seen.insert(place, Seen { sighting, since: Instant::now(), progress });
        }
        settled
    }

    fn remove(&mut self, place: &Place) {
        self.seen.remove(place);
        let (name, role) = place;
        self.registry.forgive(name, *role);
        if self.registry.hash(name, *role).is_some() {
            self.registry.remove(name, *role);
            match role {
                Role::Active => {
                    tracing::info!(policy = name, "policy removed; the built-in policy judges in its place");
                }
                Role::Shadow => tracing::info!(policy = name, "shadow removed; nothing is compared any more"),
            }
        }
    }

    /// Every `NAME.wasm` and `NAME.shadow.wasm` in the folder.
    ///
    /// # Errors
    /// When the folder cannot be read for another reason than that there is none. A machine that is short of file
    /// descriptors must not lose its policies.
    fn files(&mut self) -> io::Result<BTreeMap<Place, (PathBuf, Sighting)>> {
        let mut files = BTreeMap::new();
        let mut newcomers = BTreeMap::new();
        let mut left_out = 0;
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let Some(place) = place_of(&path) else { continue };
            let Some(sighting) = Sighting::of(&path) else { continue };
            if self.seen.contains_key(&place) {
                files.insert(place, (path, sighting));
                continue;
            }
            newcomers.insert(place, (path, sighting));
            if newcomers.len() > POLICIES_MAX {
                newcomers.pop_last();
                left_out += 1;
            }
        }
        // What is there already stays, however many come.
        let free = POLICIES_MAX.saturating_sub(files.len());
        left_out += newcomers.len().saturating_sub(free);
        files.extend(newcomers.into_iter().take(free));
        if left_out != self.left_out {
            self.left_out = left_out;
            if left_out > 0 {
                tracing::warn!(
                    left_out,
                    "more than {POLICIES_MAX} policies in the folder; those beyond are not loaded"
                );
            }
        }
        Ok(files)
    }

    /// Loads a file, or notes why not.
    fn try_load(&self, place: &Place, path: &Path, sighting: &Sighting) -> Progress {
        let loaded = match sighting {
            Sighting::File(..) => self.load(place, path),
            // Seen again as soon as that changes.
            Sighting::Unusable(reason) => Err(Rejection { sha256: None, reason: reason.clone(), may_pass: false }),
        };
        let rejection = match loaded {
            Ok(progress) => return progress,
            Err(rejection) => rejection,
        };
        let said = self.seen.get(place).is_some_and(|seen| match &seen.progress {
            Progress::Retried(reason) => *reason == rejection.reason,
            Progress::Settling | Progress::Done => false,
        });
        let progress = if rejection.may_pass { Progress::Retried(rejection.reason.clone()) } else { Progress::Done };
        if !said {
            self.reject(place, rejection);
        }
        progress
    }

    fn load(&self, place: &Place, path: &Path) -> Result<Progress, Rejection> {
        let (name, role) = place;
        let (settings, limits) = (self.settings.of(name), self.settings.limits_of(name));
        let too_large = |bytes| LoadError::too_large(bytes, name, limits).to_string();
        let bytes = read(path, limits.file_bytes).map_err(|error| Rejection::of_read("the file", error, too_large))?;
        let sha256 = Sha256Sum::of(&bytes);
        if self.registry.is_loaded(name, *role, sha256, settings, limits) {
            self.registry.forgive(name, *role);
            return Ok(Progress::Done);
        }
        let final_reason = |reason: String| Rejection { sha256: Some(sha256), reason, may_pass: false };
        let signature = self.signature(path).map_err(|rejection| Rejection { sha256: Some(sha256), ..rejection })?;
        self.trust
            .check(&file_name(path), &bytes, signature.as_deref())
            .map_err(|error| final_reason(error.to_string()))?;
        let began = Instant::now();
        let loaded = match self.runtime.load_kept(sha256, name, settings, limits) {
            Some(loaded) => loaded,
            // Nobody is served before the start is over. The thread compiles it, and the built-in policy judges until
            // then.
            None if limits == Limits::INTERPRETED && self.is_starting => return Ok(Progress::Settling),
            None => {
                if limits == Limits::INTERPRETED {
                    let policy = name;
                    tracing::info!(
                        policy,
                        "compiling a policy that carries an interpreter, which takes up to a minute"
                    );
                }
                self.runtime.load_new(&bytes, sha256, name, settings, limits)
            }
        };
        let module = loaded.map_err(|error| final_reason(error.to_string()))?;
        let version = module.about().version.clone();
        self.registry.install(name, *role, sha256, module);
        let (load_ms, sha256) = (milliseconds(began.elapsed()), sha256.to_string());
        match role {
            Role::Active => tracing::info!(policy = name, sha256, version, load_ms, "policy takes over"),
            Role::Shadow => tracing::info!(policy = name, sha256, version, load_ms, "shadow is compared"),
        }
        Ok(Progress::Done)
    }

    /// The signature beside a file; `None` when there is none, or none is asked for.
    fn signature(&self, path: &Path) -> Result<Option<Vec<u8>>, Rejection> {
        if self.trust.signers.is_empty() {
            return Ok(None);
        }
        match read(&signature_of(path), SIGNATURE_BYTES as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let file = file_name(path);
                let what = format!("its signature {}", file_name(&signature_of(path)));
                Err(Rejection::of_read(&what, error, |bytes| Untrusted::Malformed { file, bytes }.to_string()))
            }
        }
    }

    fn reject(&self, place: &Place, rejection: Rejection) {
        let (name, role) = place;
        let Rejection { sha256, reason, .. } = rejection;
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

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
