//! Asks the policy that serves, and falls back to the built-in one. Each worker has a judge of its own.

use super::registry::{Installed, Serving, Slot};
use super::wasm::{CallError, Instance};
use crate::clock::Clock;
use spillway_sdk::{AttemptFacts, Exchange, Hooks, RetryDecision, TripDecision, Verdict, WindowFacts, builtin};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// An answer, and who gave it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// `name@hash` of the module that gave it; the built-in policy has no hash.
    pub by: Arc<str>,
}

/// The instances of one worker. Not shared: a policy call takes no lock.
#[derive(Debug)]
pub struct Judge {
    clock: Clock,
    instances: HashMap<u64, Ready>,
    built_in: Arc<str>,
}

#[derive(Debug)]
struct Ready {
    instance: Instance,
    /// Weak, so that it tells whether the module is still in service.
    installed: Weak<Installed>,
    label: Arc<str>,
}

impl Judge {
    /// A judge without instances; they are made when they are first needed.
    pub fn new(clock: Clock) -> Self {
        Judge { clock, instances: HashMap::new(), built_in: Arc::from("built-in") }
    }

    /// What the end of an attempt means.
    pub fn classify(&mut self, slot: &Slot, facts: Rc<dyn AttemptFacts>) -> Judged {
        let lent = Rc::clone(&facts);
        let asked = self.ask(slot, "classify", |hooks| hooks.classify, |instance| instance.classify(lent));
        match asked {
            Some((verdict, by)) => Judged { verdict, by },
            None => Judged { verdict: builtin::classify(&Exchange::new(&*facts)), by: Arc::clone(&self.built_in) },
        }
    }

    /// What to do after an attempt that is to be tried again; `None` leaves it to the configured backoff.
    pub fn backoff(&mut self, slot: &Slot, facts: Rc<dyn AttemptFacts>, verdict: &Verdict) -> Option<RetryDecision> {
        let asked = self.ask(slot, "backoff", |hooks| hooks.backoff, |instance| instance.backoff(facts, verdict));
        asked.map(|(decision, _)| decision)
    }

    /// Whether a circuit opens; `None` leaves it to the configured thresholds.
    pub fn trip(&mut self, slot: &Slot, facts: Rc<dyn WindowFacts>) -> Option<TripDecision> {
        self.ask(slot, "trip", |hooks| hooks.trip, |instance| instance.trip(facts)).map(|(decision, _)| decision)
    }

    /// Whether anybody wants to be asked about tripping.
    pub fn wants_trip(&self, slot: &Slot) -> bool {
        match &**slot.serving() {
            Serving::BuiltIn => false,
            Serving::Module(installed) => installed.module.about().hooks.trip,
        }
    }

    /// The module's answer. `None` when there is no module, it does not want to be asked, it is quarantined, it
    /// fails, or it leaves the answer open.
    fn ask<T>(
        &mut self,
        slot: &Slot,
        hook: &'static str,
        wants: impl Fn(Hooks) -> bool,
        call: impl FnOnce(&mut Instance) -> Result<Option<T>, CallError>,
    ) -> Option<(T, Arc<str>)> {
        let serving = slot.serving();
        let Serving::Module(installed) = &**serving else { return None };
        if !wants(installed.module.about().hooks) || !installed.health.is_asked(self.clock.now()) {
            return None;
        }
        let ready = match self.ready(slot, installed) {
            Ok(ready) => ready,
            Err(reason) => {
                self.note_fault(slot, installed, hook, reason);
                return None;
            }
        };
        match call(&mut ready.instance) {
            Ok(answer) => {
                let label = Arc::clone(&ready.label);
                installed.health.answered();
                answer.map(|answer| (answer, label))
            }
            Err(error) => {
                // A trap leaves an instance in no known state, and its store as well.
                self.instances.remove(&installed.generation);
                self.note_fault(slot, installed, hook, error.to_string());
                None
            }
        }
    }

    fn ready(&mut self, slot: &Slot, installed: &Arc<Installed>) -> Result<&mut Ready, String> {
        if !self.instances.contains_key(&installed.generation) {
            // A new generation is the moment to let go of the instances, and with them of the code, of those that
            // serve no more.
            self.instances.retain(|_, ready| ready.installed.strong_count() > 0);
            let instance = installed.module.instantiate().map_err(|error| error.to_string())?;
            let label = Arc::from(format!("{}@{}", slot.name(), installed.short_hash));
            let ready = Ready { instance, installed: Arc::downgrade(installed), label };
            self.instances.insert(installed.generation, ready);
        }
        self.instances.get_mut(&installed.generation).ok_or_else(|| "no instance".to_owned())
    }

    fn note_fault(&self, slot: &Slot, installed: &Installed, hook: &'static str, reason: String) {
        let (policy, sha256) = (slot.name(), &*installed.short_hash);
        tracing::warn!(policy, sha256, hook, reason, "the policy gave no answer; the built-in policy answers instead");
        if installed.health.faulted(format!("{hook}: {reason}"), self.clock.now()) {
            tracing::error!(
                policy,
                sha256,
                "the policy is quarantined for {} s after {} faults in a row",
                super::registry::QUARANTINE.as_secs(),
                super::registry::FAULTS_TO_QUARANTINE
            );
        }
    }
}
