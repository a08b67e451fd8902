//! What outlives a restart besides the spool: how the circuits stood.
//!
//! A process that comes back must not begin by calling a provider that is known to be down, nor forget how often it
//! has been down in a row.

use crate::runtime::clock::{Clock, milliseconds};
use crate::runtime::fingerprint::FingerprintKey;
use crate::state::json_file;
use crate::upstream::Upstream;
use crate::upstream::said::Said;
use crate::upstream::scope::Protects;
use serde::{Deserialize, Serialize};
use spillway_resilience::{Cause, CircuitState, Mode, Snapshot};
use std::collections::BTreeMap;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The file's name, in the data folder.
const FILE: &str = "circuits.json";
/// The layout of the file. Another one is not read.
const VERSION: u32 = 2;
/// Largest file read: more than all circuits of a hundred upstreams need.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// How the circuits stood, and the key that their credentials' fingerprints were made with.
#[derive(Debug)]
pub(crate) struct CircuitFile {
    path: Option<PathBuf>,
    /// Kept with the circuits, so that a credential's circuit is found again.
    pub key: FingerprintKey,
    stored: Option<Stored>,
    /// What was written last, so that nothing is written twice.
    written: String,
    /// Whether the last write failed.
    failed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// By [`Clock::unix_ms`], which the wall clock does not move.
    saved_at_unix_ms: u64,
    fingerprint_key: FingerprintKey,
    circuits: Vec<StoredCircuit>,
    #[serde(default)]
    pauses: Vec<StoredPause>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredPause {
    upstream: String,
    of: StoredScope,
    remaining_ms: u64,
    said: Option<Said>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredCircuit {
    upstream: String,
    protects: StoredScope,
    state: StoredState,
    mode: StoredMode,
    cause: Option<(String, [u32; 2])>,
    remaining_ms: u64,
    openings: u32,
    #[serde(default)]
    said: Option<Said>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredScope {
    Upstream,
    Model(String),
    Credential(u64),
    ModelOfCredential(String, u64),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredState {
    Closed,
    Open,
    HalfOpen,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredMode {
    Normal,
    ForcedOpen,
    Disabled,
    WatchOnly,
}

impl CircuitFile {
    /// Reads what the last process left in `folder`. Without a folder nothing is read or written.
    ///
    /// A file that cannot be read is no reason not to start: the circuits begin closed then, and the log says why. Where
    /// it does not tell the last process's key, that is `other_key`, if it is known elsewhere.
    pub(crate) fn open(folder: Option<&Path>, other_key: Option<&FingerprintKey>) -> CircuitFile {
        let path = folder.map(|folder| folder.join(FILE));
        let stored: Option<Stored> =
            path.as_deref().and_then(|path| match json_file::read_layout(path, FILE_BYTES_MAX, VERSION) {
                Ok(stored) => stored,
                Err(error) => {
                    let path = path.display();
                    tracing::warn!(%path, %error, "how the circuits stood is not known; they begin closed");
                    None
                }
            });
        let key = stored.as_ref().map(|stored| &stored.fingerprint_key).or(other_key).cloned();
        let key = key.unwrap_or_else(FingerprintKey::generate);
        CircuitFile { path, key, stored, written: String::new(), failed: false }
    }

    /// When the last process wrote it, by [`Clock::unix_ms`]; 0 if nothing is known.
    pub(crate) fn saved_at_unix_ms(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.saved_at_unix_ms)
    }

    /// Lets the circuits go on where they stood. Time that has passed since has passed for them too.
    pub(crate) fn restore(&mut self, upstreams: &BTreeMap<String, Arc<Upstream>>, clock: Clock) {
        let Some(stored) = self.stored.take() else { return };
        let passed = Duration::from_millis(clock.unix_ms().saturating_sub(stored.saved_at_unix_ms));
        for circuit in stored.circuits {
            let Some(upstream) = upstreams.get(&circuit.upstream) else { continue };
            let (protects, snapshot, said) = circuit.into_snapshot(passed);
            upstream.circuits.restore(&protects, snapshot, said);
        }
        for StoredPause { upstream, of, remaining_ms, said } in stored.pauses {
            let left = Duration::from_millis(remaining_ms).saturating_sub(passed);
            if let (Some(upstream), false) = (upstreams.get(&upstream), left.is_zero()) {
                upstream.lanes.restore(&of.into(), left, said.map(Arc::new));
            }
        }
    }

    /// Writes how the circuits stand, if that has changed.
    pub(crate) fn save(&mut self, upstreams: &BTreeMap<String, Arc<Upstream>>, clock: Clock) {
        let Some(path) = &self.path else { return };
        let circuits: Vec<StoredCircuit> = upstreams
            .iter()
            .flat_map(|(name, upstream)| {
                let kept = move |(protects, snapshot, said)| StoredCircuit::new(name, protects, snapshot, said);
                upstream.circuits.snapshots().into_iter().map(kept)
            })
            .collect();
        let pauses: Vec<StoredPause> = upstreams
            .iter()
            .flat_map(|(name, upstream)| {
                let kept = move |(protects, left, said): (Protects, Duration, Option<Arc<Said>>)| StoredPause {
                    upstream: name.clone(),
                    of: protects.into(),
                    remaining_ms: milliseconds(left),
                    said: said.map(Arc::unwrap_or_clone),
                };
                upstream.lanes.pauses().into_iter().map(kept)
            })
            .collect();
        let now_ms = clock.unix_ms();
        let gists = circuits.iter().map(|circuit| circuit.gist(now_ms));
        let gist: String = gists.chain(pauses.iter().map(|pause| pause.gist(now_ms))).collect();
        // A file that somebody deleted is written anew.
        if gist == self.written && (gist.is_empty() || path.exists()) {
            return;
        }
        let fingerprint_key = self.key.clone();
        let stored = Stored { version: VERSION, saved_at_unix_ms: now_ms, fingerprint_key, circuits, pauses };
        match json_file::write(path, &stored) {
            Ok(()) => (self.written, self.failed) = (gist, false),
            // Said once, and tried again every time.
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                let path = path.display();
                tracing::error!(%path, %error, "how the circuits stand could not be stored; a restart would forget it");
            }
            Err(_) => {}
        }
    }
}

impl From<Protects> for StoredScope {
    fn from(protects: Protects) -> Self {
        match protects {
            Protects::Upstream => StoredScope::Upstream,
            Protects::Model(model) => StoredScope::Model(model),
            Protects::Credential(fingerprint) => StoredScope::Credential(fingerprint),
            Protects::ModelOfCredential(model, fingerprint) => StoredScope::ModelOfCredential(model, fingerprint),
        }
    }
}

impl From<StoredScope> for Protects {
    fn from(stored: StoredScope) -> Self {
        match stored {
            StoredScope::Upstream => Protects::Upstream,
            StoredScope::Model(model) => Protects::Model(model),
            StoredScope::Credential(fingerprint) => Protects::Credential(fingerprint),
            StoredScope::ModelOfCredential(model, fingerprint) => Protects::ModelOfCredential(model, fingerprint),
        }
    }
}

/// When something ends that is worth writing anew: to a few seconds, and not at all if that is soon.
fn end_gist(now_ms: u64, remaining_ms: u64) -> u64 {
    if remaining_ms > 5_000 { now_ms.saturating_add(remaining_ms) / 5_000 } else { 0 }
}

impl StoredPause {
    fn gist(&self, now_ms: u64) -> String {
        format!("{} {:?} {};", self.upstream, self.of, end_gist(now_ms, self.remaining_ms))
    }
}

impl StoredCircuit {
    fn new(upstream: &str, protects: Protects, snapshot: Snapshot, said: Option<Arc<Said>>) -> Self {
        StoredCircuit {
            upstream: upstream.to_owned(),
            protects: protects.into(),
            said: said.map(Arc::unwrap_or_clone),
            state: match snapshot.state {
                CircuitState::Closed => StoredState::Closed,
                CircuitState::Open => StoredState::Open,
                CircuitState::HalfOpen => StoredState::HalfOpen,
            },
            mode: match snapshot.mode {
                Mode::Normal => StoredMode::Normal,
                Mode::ForcedOpen => StoredMode::ForcedOpen,
                Mode::Disabled => StoredMode::Disabled,
                Mode::WatchOnly => StoredMode::WatchOnly,
            },
            cause: snapshot.cause.map(Cause::to_parts).map(|(word, counts)| (word.to_owned(), counts)),
            remaining_ms: milliseconds(snapshot.remaining),
            openings: snapshot.openings,
        }
    }

    fn into_snapshot(self, passed: Duration) -> (Protects, Snapshot, Option<Arc<Said>>) {
        let snapshot = Snapshot {
            mode: match self.mode {
                StoredMode::Normal => Mode::Normal,
                StoredMode::ForcedOpen => Mode::ForcedOpen,
                StoredMode::Disabled => Mode::Disabled,
                StoredMode::WatchOnly => Mode::WatchOnly,
            },
            state: match self.state {
                StoredState::Closed => CircuitState::Closed,
                StoredState::Open => CircuitState::Open,
                StoredState::HalfOpen => CircuitState::HalfOpen,
            },
            cause: self.cause.and_then(|(word, counts)| Cause::from_parts(&word, counts)),
            remaining: Duration::from_millis(self.remaining_ms).saturating_sub(passed),
            openings: self.openings,
        };
        (self.protects.into(), snapshot, self.said.map(Arc::new))
    }

    /// What is worth writing anew when it changes: not what remains of a cooldown, which shrinks by itself, but when it
    /// ends, to a few seconds.
    fn gist(&self, now_ms: u64) -> String {
        let ends = end_gist(now_ms, self.remaining_ms);
        format!(
            "{} {:?} {:?} {:?} {:?} {} {ends};",
            self.upstream, self.protects, self.state, self.mode, self.cause, self.openings
        )
    }
}
