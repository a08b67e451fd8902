//! Asks the policy that serves, and falls back to the built-in one. Each worker has a judge of its own.

use super::artifact::Sha256Sum;
use super::health::Health;
use super::registry::{Installed, Serving, Shadow, Slot};
use super::wasm::{CallError, Instance};
use crate::runtime::clock::Clock;
use spillway_sdk::{AttemptFacts, Exchange, Hooks, RetryDecision, TripDecision, Verdict, WindowFacts, builtin};
use std::rc::Rc;
use std::sync::{Arc, Weak};

/// An answer, and who gave it.
#[derive(Clone, Debug)]
pub struct Judged {
    pub verdict: Verdict,
    /// The policy that gave it.
    pub by: Arc<By>,
}

/// A policy, as explanations name it.
#[derive(Debug, PartialEq, Eq)]
pub struct By {
    /// `name@` and the first digits of the module's hash; `built-in` without any.
    pub label: String,
    /// The whole hash.
    pub sha256: Option<Sha256Sum>,
}

/// The instances of one worker. Not shared: a policy call takes no lock.
#[derive(Debug)]
pub struct Judge {
    clock: Clock,
    /// One for each module that this worker has asked: few enough to be looked through.
    instances: Vec<Ready>,
    built_in: Arc<By>,
}

/// What came of a question to a module.
enum Reply<T> {
    /// It does not want to be asked.
    Unwanted,
    /// It is quarantined, or has failed just now.
    Unanswered,
    /// It leaves the answer open.
    LeftOpen,
    Answered(T, Arc<By>),
}

impl<T> Reply<T> {
    fn is_wanted(&self) -> bool {
        !matches!(self, Reply::Unwanted)
    }

    fn answer(self) -> Option<(T, Arc<By>)> {
        match self {
            Reply::Answered(answer, by) => Some((answer, by)),
            Reply::Unwanted | Reply::Unanswered | Reply::LeftOpen => None,
        }
    }

    /// What a candidate's ledger compares, if anything: its answer, or that it leaves it open. `wanted` is whether the
    /// policy that serves wants the question.
    fn compared(self, wanted: bool, shadow: &Shadow) -> Option<Option<T>> {
        match self {
            Reply::Answered(answer, _) => Some(Some(answer)),
            Reply::LeftOpen => Some(None),
            Reply::Unwanted if !wanted => None,
            Reply::Unwanted | Reply::Unanswered => {
                shadow.ledger.unanswered();
                None
            }
        }
    }
}

#[derive(Debug)]
struct Ready {
    generation: u64,
    instance: Instance,
    /// Weak, so that it tells whether the module is still in service.
    installed: Weak<Installed>,
    by: Arc<By>,
}

impl Judge {
    /// A judge without instances; they are made when they are first needed.
    pub fn new(clock: Clock) -> Self {
        Judge { clock, instances: Vec::new(), built_in: Arc::new(By { label: "built-in".to_owned(), sha256: None }) }
    }

    /// The judgement of what is a success by its nature, so that no policy is asked.
    pub fn success(&self) -> Judged {
        Judged { verdict: Verdict::success(), by: Arc::clone(&self.built_in) }
    }

    /// What the end of an attempt means.
    pub fn classify(&mut self, slot: &Slot, facts: Rc<dyn AttemptFacts>) -> Judged {
        let ask = |facts: &Rc<dyn AttemptFacts>| {
            let lent = Rc::clone(facts);
            |instance: &mut Instance| instance.classify(lent)
        };
        let wants = |hooks: Hooks| hooks.classify;
        let asked = self.ask_serving(slot, "classify", wants, ask(&facts));
        let wanted = asked.is_wanted();
        let judged = match asked.answer() {
            Some((verdict, by)) => Judged { verdict, by },
            None => Judged { verdict: builtin::classify(&Exchange::new(&*facts)), by: Arc::clone(&self.built_in) },
        };
        if let Some(shadow) = slot.shadow() {
            let asked = self.ask(slot, &shadow.installed, "shadow classify", wants, ask(&facts));
            if let Some(verdict) = asked.compared(wanted, &shadow) {
                let verdict = verdict.unwrap_or_else(|| builtin::classify(&Exchange::new(&*facts)));
                shadow.ledger.classified(&*facts, &judged.verdict, &verdict);
            }
        }
        judged
    }

    /// What to do after an attempt that is to be tried again; `None` leaves it to the configured backoff.
    pub fn backoff(&mut self, slot: &Slot, facts: Rc<dyn AttemptFacts>, verdict: &Verdict) -> Option<RetryDecision> {
        let ask = |facts: &Rc<dyn AttemptFacts>| {
            let lent = Rc::clone(facts);
            |instance: &mut Instance| instance.backoff(lent, verdict)
        };
        let wants = |hooks: Hooks| hooks.backoff;
        let asked = self.ask_serving(slot, "backoff", wants, ask(&facts));
        let wanted = asked.is_wanted();
        let decision = asked.answer().map(|(decision, _)| decision);
        if let Some(shadow) = slot.shadow() {
            let asked = self.ask(slot, &shadow.installed, "shadow backoff", wants, ask(&facts));
            if let Some(other) = asked.compared(wanted, &shadow) {
                shadow.ledger.backed_off(&*facts, decision, other);
            }
        }
        decision
    }

    /// Whether a circuit opens; `None` leaves it to the configured thresholds.
    pub fn trip(&mut self, slot: &Slot, facts: Rc<dyn WindowFacts>) -> Option<TripDecision> {
        let ask = |facts: &Rc<dyn WindowFacts>| {
            let lent = Rc::clone(facts);
            |instance: &mut Instance| instance.trip(lent)
        };
        let wants = |hooks: Hooks| hooks.trip;
        let asked = self.ask_serving(slot, "trip", wants, ask(&facts));
        let wanted = asked.is_wanted();
        let decision = asked.answer().map(|(decision, _)| decision);
        if let Some(shadow) = slot.shadow() {
            let asked = self.ask(slot, &shadow.installed, "shadow trip", wants, ask(&facts));
            if let Some(other) = asked.compared(wanted, &shadow) {
                shadow.ledger.tripped(decision, other);
            }
        }
        decision
    }

    /// Whether somebody wants to be asked about tripping: the policy that serves, or a candidate beside it.
    pub fn wants_trip(&self, slot: &Slot) -> bool {
        self.serving_wants_trip(slot) || slot.shadow().is_some_and(|shadow| wants_trip(&shadow.installed))
    }

    /// Whether the policy that serves wants to be asked about tripping, also after a quick success. A candidate alone
    /// is asked only where the thresholds decide anyway, because what it says must change nothing.
    pub fn serving_wants_trip(&self, slot: &Slot) -> bool {
        match &**slot.serving() {
            Serving::BuiltIn => false,
            Serving::Module(installed) => wants_trip(installed),
        }
    }

    /// As [`Judge::ask`], of whatever serves.
    fn ask_serving<T>(
        &mut self,
        slot: &Slot,
        hook: &'static str,
        wants: impl Fn(Hooks) -> bool,
        call: impl FnOnce(&mut Instance) -> Result<Option<T>, CallError>,
    ) -> Reply<T> {
        match &**slot.serving() {
            Serving::BuiltIn => Reply::Unwanted,
            Serving::Module(installed) => self.ask(slot, installed, hook, wants, call),
        }
    }

    /// Asks a module, unless it does not want to be asked or is quarantined.
    fn ask<T>(
        &mut self,
        slot: &Slot,
        installed: &Arc<Installed>,
        hook: &'static str,
        wants: impl Fn(Hooks) -> bool,
        call: impl FnOnce(&mut Instance) -> Result<Option<T>, CallError>,
    ) -> Reply<T> {
        if !wants(installed.module.about().hooks) {
            return Reply::Unwanted;
        }
        // Reading the clock costs a tenth of a call, and most modules are in good health.
        if installed.health.may_be_quarantined() && installed.health.quarantine(self.clock.now()).is_some() {
            return Reply::Unanswered;
        }
        let ready = match self.ready(slot, installed) {
            Ok(ready) => ready,
            Err(reason) => {
                self.note_fault(slot, installed, hook, reason);
                return Reply::Unanswered;
            }
        };
        match call(&mut ready.instance) {
            Ok(answer) => {
                let by = Arc::clone(&ready.by);
                if ready.instance.is_worn() {
                    self.drop_instance_of(installed);
                }
                installed.health.answered();
                answer.map_or(Reply::LeftOpen, |answer| Reply::Answered(answer, by))
            }
            Err(error) => {
                // A trap leaves an instance in no known state, and its store as well.
                self.drop_instance_of(installed);
                self.note_fault(slot, installed, hook, error.to_string());
                Reply::Unanswered
            }
        }
    }

    fn drop_instance_of(&mut self, installed: &Installed) {
        self.instances.retain(|ready| ready.generation != installed.generation);
    }

    fn ready(&mut self, slot: &Slot, installed: &Arc<Installed>) -> Result<&mut Ready, String> {
        let found = self.instances.iter().position(|ready| ready.generation == installed.generation);
        let index = match found {
            Some(index) => index,
            None => {
                // A new generation is the moment to let go of the instances, and with them of the code, of those that
                // serve no more.
                self.instances.retain(|ready| ready.installed.strong_count() > 0);
                let instance = installed.module.instantiate().map_err(|error| error.to_string())?;
                let label = format!("{}@{}", slot.name(), installed.short_hash);
                let by = Arc::new(By { label, sha256: Some(installed.sha256) });
                let generation = installed.generation;
                self.instances.push(Ready { generation, instance, installed: Arc::downgrade(installed), by });
                self.instances.len() - 1
            }
        };
        self.instances.get_mut(index).ok_or_else(|| "no instance".to_owned())
    }

    fn note_fault(&self, slot: &Slot, installed: &Installed, hook: &'static str, reason: String) {
        let (policy, sha256) = (slot.name(), &*installed.short_hash);
        tracing::warn!(policy, sha256, hook, reason, "the policy gave no answer; the built-in policy answers instead");
        if let Some(after) = installed.health.faulted(format!("{hook}: {reason}"), self.clock.now()) {
            let seconds = Health::QUARANTINE.as_secs();
            tracing::error!(
                policy,
                sha256,
                "the policy is quarantined for {seconds} s after {after}; the built-in policy judges meanwhile"
            );
        }
    }
}

fn wants_trip(installed: &Installed) -> bool {
    installed.module.about().hooks.trip
}
