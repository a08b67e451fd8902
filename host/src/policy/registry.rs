//! Which policy serves under which name, and how it fares.

use super::artifact::Sha256Sum;
use super::health::Health;
use super::limits::Limits;
use super::shadow::Ledger;
use super::status::{PolicyStatus, Rejected, ShadowStatus};
use super::wasm::Module;
use crate::runtime::clock::{Clock, wall_unix_ms};
use crate::runtime::sync::lock;
use arc_swap::{ArcSwap, ArcSwapOption};
use spillway_resilience::Timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

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

/// What a file in the policy folder is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `NAME.wasm`: it judges.
    Active,
    /// `NAME.shadow.wasm`: it is asked beside the one that judges, and compared with it.
    Shadow,
}

/// A candidate beside the policy that serves.
#[derive(Debug)]
pub struct Shadow {
    /// The module.
    pub installed: Arc<Installed>,
    /// How its answers compare.
    pub ledger: Ledger,
}

/// A name under which a policy can serve.
#[derive(Debug)]
pub struct Slot {
    name: String,
    serving: ArcSwap<Serving>,
    shadow: ArcSwapOption<Shadow>,
    /// The last files that could not be loaded, for either role.
    rejected: Mutex<BTreeMap<Role, Rejected>>,
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

    /// The candidate that is asked beside it.
    pub fn shadow(&self) -> Option<Arc<Shadow>> {
        // Most slots have none, and then this is one load.
        let shadow = self.shadow.load();
        shadow.as_ref().map(Arc::clone)
    }
}

/// All names.
#[derive(Debug)]
pub struct Registry {
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    generations: AtomicU64,
    clock: Clock,
}

impl ShadowStatus {
    fn of(shadow: Option<Arc<Shadow>>, rejected: Option<Rejected>, now: Timestamp) -> Option<Self> {
        let Some(shadow) = shadow else {
            return rejected.map(|rejected| ShadowStatus { rejected: Some(rejected), ..ShadowStatus::default() });
        };
        let Installed { sha256, module, health, .. } = &*shadow.installed;
        let quarantine = health.quarantine(now);
        Some(ShadowStatus {
            sha256: Some(sha256.to_string()),
            version: Some(module.about().version.clone()),
            state: Some(if quarantine.is_none() { "comparing" } else { "quarantined" }.into()),
            quarantined_after: quarantine.map(|rule| rule.to_string()),
            calls: health.calls(),
            faults: health.faults(),
            last_fault: health.last_fault(),
            comparison: Some(shadow.ledger.comparison()),
            rejected,
        })
    }
}

impl Registry {
    /// An empty registry.
    pub fn new(clock: Clock) -> Self {
        Registry { slots: Mutex::default(), generations: AtomicU64::new(1), clock }
    }

    /// The slot of this name; the built-in policy serves in it until a module is installed.
    pub fn slot(&self, name: &str) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        let slot = slots.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Slot {
                name: name.to_owned(),
                serving: ArcSwap::from_pointee(Serving::BuiltIn),
                shadow: ArcSwapOption::empty(),
                rejected: Mutex::default(),
                swaps: AtomicU64::new(0),
            })
        });
        Arc::clone(slot)
    }

    /// The hash of the module that is in this role under this name.
    pub fn hash(&self, name: &str, role: Role) -> Option<Sha256Sum> {
        let slot = lock(&self.slots).get(name).map(Arc::clone)?;
        match role {
            Role::Active => match &**slot.serving() {
                Serving::BuiltIn => None,
                Serving::Module(installed) => Some(installed.sha256),
            },
            Role::Shadow => slot.shadow().map(|shadow| shadow.installed.sha256),
        }
    }

    /// Whether this very file, with these settings and limits, is in this role already.
    pub fn is_loaded(&self, name: &str, role: Role, sha256: Sha256Sum, settings: &str, limits: Limits) -> bool {
        let Some(slot) = lock(&self.slots).get(name).map(Arc::clone) else { return false };
        let is = |installed: &Installed| {
            let module = &installed.module;
            installed.sha256 == sha256 && module.settings() == settings && module.limits() == limits
        };
        match role {
            Role::Active => match &**slot.serving() {
                Serving::BuiltIn => false,
                Serving::Module(installed) => is(installed),
            },
            Role::Shadow => slot.shadow().is_some_and(|shadow| is(&shadow.installed)),
        }
    }

    /// Lets a module take this role from the next call on.
    pub fn install(&self, name: &str, role: Role, sha256: Sha256Sum, module: Module) {
        let installed = Arc::new(Installed {
            generation: self.generations.fetch_add(1, Relaxed),
            sha256,
            short_hash: sha256.short(),
            module,
            health: Health::default(),
        });
        let slot = self.slot(name);
        match role {
            Role::Active => slot.serve(Serving::Module(installed)),
            Role::Shadow => slot.shadow.store(Some(Arc::new(Shadow { installed, ledger: Ledger::default() }))),
        }
        self.forgive(name, role);
    }

    /// Empties a role from the next call on; the built-in policy serves where no module does.
    pub fn remove(&self, name: &str, role: Role) {
        let slot = self.slot(name);
        match role {
            Role::Active => slot.serve(Serving::BuiltIn),
            Role::Shadow => slot.shadow.store(None),
        }
        self.forgive(name, role);
    }

    /// Notes that a file is not loaded. Whatever was there before stays.
    pub fn reject(&self, name: &str, role: Role, sha256: Option<Sha256Sum>, reason: String) {
        let rejected = Rejected { sha256: sha256.map(|hash| hash.to_string()), reason, at_unix_ms: wall_unix_ms() };
        lock(&self.slot(name).rejected).insert(role, rejected);
    }

    /// Forgets a rejection: the file that was rejected is mended or gone.
    pub fn forgive(&self, name: &str, role: Role) {
        if let Some(slot) = lock(&self.slots).get(name) {
            lock(&slot.rejected).remove(&role);
        }
    }

    /// Every policy, for the status page.
    pub fn status(&self) -> Vec<PolicyStatus> {
        let now = self.clock.now();
        let slots = lock(&self.slots);
        // A name without a file, which no upstream uses either, is nobody's policy any more.
        let shown = slots.values().filter(|slot| Arc::strong_count(slot) > 1 || slot.is_occupied());
        shown.map(|slot| slot.status(now)).collect()
    }
}

impl Slot {
    fn serve(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
        self.swaps.fetch_add(1, Relaxed);
        // What a candidate was compared with is gone, so the comparison begins anew.
        if let Some(shadow) = self.shadow() {
            let installed = Arc::clone(&shadow.installed);
            self.shadow.store(Some(Arc::new(Shadow { installed, ledger: Ledger::default() })));
        }
    }

    /// Whether a file under this name serves, stands beside, or was rejected.
    fn is_occupied(&self) -> bool {
        matches!(**self.serving(), Serving::Module(_))
            || self.shadow.load().is_some()
            || !lock(&self.rejected).is_empty()
    }

    fn status(&self, now: Timestamp) -> PolicyStatus {
        let rejected = lock(&self.rejected).clone();
        let mut status = PolicyStatus {
            name: self.name.clone(),
            source: "built-in".into(),
            state: "serving".into(),
            swaps: self.swaps.load(Relaxed),
            rejected: rejected.get(&Role::Active).cloned(),
            shadow: ShadowStatus::of(self.shadow(), rejected.get(&Role::Shadow).cloned(), now),
            ..PolicyStatus::default()
        };
        if let Serving::Module(installed) = &**self.serving() {
            let (about, health) = (installed.module.about(), &installed.health);
            let hooks =
                [("classify", about.hooks.classify), ("backoff", about.hooks.backoff), ("trip", about.hooks.trip)];
            status.source = "module".into();
            let quarantine = health.quarantine(now);
            status.state = if quarantine.is_none() { "serving" } else { "quarantined" }.into();
            status.quarantined_after = quarantine.map(|rule| rule.to_string());
            status.sha256 = Some(installed.sha256.to_string());
            status.version = Some(about.version.clone());
            status.summary = Some(about.summary.clone());
            status.hooks = hooks.into_iter().filter_map(|(name, asked)| asked.then_some(name.into())).collect();
            status.calls = health.calls();
            status.faults = health.faults();
            status.last_fault = health.last_fault();
        }
        status
    }
}
