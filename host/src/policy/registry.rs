//! Which policy serves under which name, and how it fares.

use super::artifact::Sha256Sum;
use super::wasm::Module;
use crate::clock::{Clock, unix_ms};
use arc_swap::ArcSwap;
use serde::Serialize;
use spillway_resilience::Timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Faults in a row after which a policy is no longer asked.
pub(super) const FAULTS_TO_QUARANTINE: u32 = 5;
/// For how long it is not asked; then one call tries it again.
pub(super) const QUARANTINE: Duration = Duration::from_secs(30);

/// What serves under a name at the moment.
#[derive(Debug)]
pub enum Serving {
    /// The built-in policy.
    BuiltIn,
    /// A module from the policy folder.
    Module(Arc<Installed>),
}

/// A module in service.
#[derive(Debug)]
pub struct Installed {
    /// Tells this installation from every other, of any policy.
    pub generation: u64,
    /// The file it was made from.
    pub sha256: Sha256Sum,
    /// First digits of the hash, as shown in response headers.
    pub short_hash: String,
    /// The code.
    pub module: Module,
    /// How it fares.
    pub health: Health,
}

/// Calls and faults of a module, and whether it is quarantined: a circuit breaker for policies.
#[derive(Debug, Default)]
pub struct Health {
    calls: AtomicU64,
    faults: AtomicU64,
    faults_in_a_row: AtomicU32,
    quarantined_until: AtomicU64,
    last_fault: Mutex<Option<String>>,
}

impl Health {
    /// Whether the module is asked now.
    pub fn is_asked(&self, now: Timestamp) -> bool {
        self.faults_in_a_row.load(Relaxed) < FAULTS_TO_QUARANTINE
            || now.as_micros() >= self.quarantined_until.load(Relaxed)
    }

    /// Notes an answer.
    pub fn answered(&self) {
        self.calls.fetch_add(1, Relaxed);
        // Read first: a store would take the line from the other workers at every call.
        if self.faults_in_a_row.load(Relaxed) != 0 {
            self.faults_in_a_row.store(0, Relaxed);
        }
    }

    /// Notes a call without an answer. True when this fault begins a quarantine.
    pub fn faulted(&self, reason: String, now: Timestamp) -> bool {
        self.calls.fetch_add(1, Relaxed);
        self.faults.fetch_add(1, Relaxed);
        *self.last_fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        let in_a_row = self.faults_in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        if in_a_row < FAULTS_TO_QUARANTINE {
            return false;
        }
        self.quarantined_until.store(now.saturating_add(QUARANTINE).as_micros(), Relaxed);
        true
    }
}

/// A name under which a policy can serve.
#[derive(Debug)]
pub struct Slot {
    name: String,
    serving: ArcSwap<Serving>,
    rejected: Mutex<Option<Rejected>>,
    swaps: AtomicU64,
}

impl Slot {
    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What serves now. Calls in flight keep what they have loaded.
    pub fn serving(&self) -> arc_swap::Guard<Arc<Serving>> {
        self.serving.load()
    }
}

/// The last file under a name that could not be served.
#[derive(Clone, Debug, Serialize)]
pub struct Rejected {
    sha256: Option<String>,
    reason: String,
    at_unix_ms: u64,
}

/// All names.
#[derive(Debug)]
pub struct Registry {
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    generations: AtomicU64,
    clock: Clock,
}

/// A policy as the status page shows it.
#[derive(Debug, Serialize)]
pub struct PolicyStatus {
    /// Its name.
    pub name: String,
    /// `built-in` or `module`.
    pub source: &'static str,
    /// `serving` or `quarantined`.
    pub state: &'static str,
    /// Hash of the file that serves.
    pub sha256: Option<String>,
    /// Version of its crate.
    pub version: Option<String>,
    /// What it says of itself.
    pub summary: Option<String>,
    /// The hooks it wants to be asked.
    pub hooks: Vec<&'static str>,
    /// How often something else took over under this name.
    pub swaps: u64,
    /// Calls since it serves.
    pub calls: u64,
    /// Calls that gave no answer.
    pub faults: u64,
    /// The last of them.
    pub last_fault: Option<String>,
    /// The last file that could not be served.
    pub rejected: Option<Rejected>,
}

impl Registry {
    /// An empty registry.
    pub fn new(clock: Clock) -> Self {
        Registry { slots: Mutex::default(), generations: AtomicU64::new(1), clock }
    }

    /// The slot of this name; the built-in policy serves in it until a module is installed.
    pub fn slot(&self, name: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Slot {
                name: name.to_owned(),
                serving: ArcSwap::from_pointee(Serving::BuiltIn),
                rejected: Mutex::default(),
                swaps: AtomicU64::new(0),
            })
        });
        Arc::clone(slot)
    }

    /// The hash of the module that serves under this name.
    pub fn hash(&self, name: &str) -> Option<Sha256Sum> {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)?;
        match &**slot.serving() {
            Serving::BuiltIn => None,
            Serving::Module(installed) => Some(installed.sha256),
        }
    }

    /// Lets a module serve from the next call on.
    pub fn install(&self, name: &str, sha256: Sha256Sum, module: Module) {
        let installed = Installed {
            generation: self.generations.fetch_add(1, Relaxed),
            sha256,
            short_hash: sha256.short(),
            module,
            health: Health::default(),
        };
        self.swap(name, Serving::Module(Arc::new(installed)));
    }

    /// Lets the built-in policy serve from the next call on.
    pub fn remove(&self, name: &str) {
        self.swap(name, Serving::BuiltIn);
    }

    fn swap(&self, name: &str, serving: Serving) {
        let slot = self.slot(name);
        slot.serving.store(Arc::new(serving));
        slot.swaps.fetch_add(1, Relaxed);
        *slot.rejected.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes that a file under this name is not served. Whatever served before goes on serving.
    pub fn reject(&self, name: &str, sha256: Option<Sha256Sum>, reason: String) {
        let rejected = Rejected { sha256: sha256.map(|hash| hash.to_string()), reason, at_unix_ms: unix_ms() };
        *self.slot(name).rejected.lock().unwrap_or_else(PoisonError::into_inner) = Some(rejected);
    }

    /// Forgets a rejection: the file that was rejected is mended or gone.
    pub fn forgive(&self, name: &str) {
        if let Some(slot) = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            *slot.rejected.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Every policy, for the status page.
    pub fn status(&self) -> Vec<PolicyStatus> {
        let now = self.clock.now();
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // A name without a file, which no upstream uses either, is nobody's policy any more.
        let shown = slots.values().filter(|slot| Arc::strong_count(slot) > 1 || slot.is_occupied());
        shown.map(|slot| slot.status(now)).collect()
    }
}

impl Slot {
    /// Whether a file under this name serves or was rejected.
    fn is_occupied(&self) -> bool {
        matches!(**self.serving(), Serving::Module(_))
            || self.rejected.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn status(&self, now: Timestamp) -> PolicyStatus {
        let mut status = PolicyStatus {
            name: self.name.clone(),
            source: "built-in",
            state: "serving",
            sha256: None,
            version: None,
            summary: None,
            hooks: Vec::new(),
            swaps: self.swaps.load(Relaxed),
            calls: 0,
            faults: 0,
            last_fault: None,
            rejected: self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        if let Serving::Module(installed) = &**self.serving() {
            let (about, health) = (installed.module.about(), &installed.health);
            let hooks =
                [("classify", about.hooks.classify), ("backoff", about.hooks.backoff), ("trip", about.hooks.trip)];
            status.source = "module";
            status.state = if health.is_asked(now) { "serving" } else { "quarantined" };
            status.sha256 = Some(installed.sha256.to_string());
            status.version = Some(about.version.clone());
            status.summary = Some(about.summary.clone());
            status.hooks = hooks.into_iter().filter_map(|(name, asked)| asked.then_some(name)).collect();
            status.calls = health.calls.load(Relaxed);
            status.faults = health.faults.load(Relaxed);
            status.last_fault = health.last_fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_policy_that_keeps_failing_is_quarantined_and_tried_again_later() {
        let health = Health::default();
        for _ in 1..FAULTS_TO_QUARANTINE {
            assert!(!health.faulted("trap".into(), at(0)));
        }
        assert!(health.is_asked(at(0)));
        assert!(health.faulted("trap".into(), at(0)));
        assert!(!health.is_asked(at(29)));
        assert!(health.is_asked(at(30)), "one call tries it again");
        assert!(health.faulted("trap".into(), at(30)), "and its fault begins the next quarantine");
        assert!(!health.is_asked(at(31)));
        health.answered();
        assert!(health.is_asked(at(31)), "an answer ends it");
    }
}
