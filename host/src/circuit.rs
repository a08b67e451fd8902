//! Circuits as requests meet them: the pure breaker behind a short lock, permits that settle themselves, and the
//! scopes that a verdict can speak of.

use crate::clock::{Clock, random};
use crate::policy::{Judge, Slot};
use crate::sync::lock;
use arc_swap::ArcSwap;
use spillway_resilience::{
    Breaker, BreakerSettings, Cause, CircuitState, Mode, Outcome, Pending, Permit, Recorded, Rejected, Snapshot,
    Timestamp, Transition, TripDecision, WindowStatistics,
};
use spillway_sdk::{Class, Scope, Verdict, WindowFacts};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// Circuits of models and credentials kept per upstream. They come into being with their first failure. When all
/// are in use, a further one's failures are counted nowhere, which is what a proxy without scopes would do.
pub const SCOPED_CIRCUITS_MAX: usize = 1_024;
/// The share of calls that counts as nearly all.
const USUAL_QUANTILE: f32 = 0.95;
/// Calls of which one quantile that high can be told.
const USUAL_CALLS_MIN: u32 = 20;

/// What a circuit protects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Protects {
    /// The upstream as a whole.
    Upstream,
    /// One of its models.
    Model(String),
    /// One credential at it, by its fingerprint.
    Credential(u64),
}

impl fmt::Display for Protects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protects::Upstream => f.write_str("upstream"),
            Protects::Model(model) => write!(f, "model {model}"),
            Protects::Credential(fingerprint) => write!(f, "credential {:04x}", fingerprint & 0xffff),
        }
    }
}

/// Told of every transition, for metrics and logs.
pub trait Observer: Send + Sync + fmt::Debug {
    /// A circuit changed its state, or would have if it did more than watch ([`Transition::would`]).
    fn transition(&self, protects: &Protects, transition: &Transition);
}

/// One breaker.
#[derive(Debug)]
pub struct Circuit {
    protects: Protects,
    breaker: Mutex<Breaker>,
    clock: Clock,
    observer: Arc<dyn Observer>,
    changed: Arc<Notify>,
}

impl Circuit {
    fn lock(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }

    fn tell(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.observer.transition(&self.protects, &transition);
            // Every call passes a circuit that only watches, whatever it would do.
            if !transition.would {
                self.changed.notify_waiters();
            }
        }
    }

    fn admit(self: &Arc<Self>) -> Result<CircuitPermit, Rejected> {
        let admitted = self.lock().admit(self.clock.now());
        match admitted {
            Ok(admitted) => {
                self.tell(admitted.transition);
                Ok(CircuitPermit { circuit: Arc::clone(self), permit: Some(admitted.permit) })
            }
            Err(rejected) => {
                self.tell(rejected.transition());
                Err(rejected)
            }
        }
    }

    fn is_idle(&self) -> bool {
        let breaker = self.lock();
        let statistics = breaker.statistics(self.clock.now());
        breaker.state() == CircuitState::Closed
            && breaker.mode() == Mode::Normal
            && statistics.in_flight == 0
            && statistics.requests == 0
    }

    /// What the circuit protects, its state, and what it has seen.
    pub fn look(&self) -> CircuitLook {
        let now = self.clock.now();
        let breaker = self.lock();
        CircuitLook {
            protects: self.protects.to_string(),
            state: breaker.state(),
            mode: breaker.mode(),
            reopens_in: breaker.next_wakeup(now).map(|wakeup| wakeup.saturating_since(now)),
            cause: match breaker.peek(now) {
                Err(Rejected::Open { cause, .. }) => Some(cause.to_string()),
                Err(Rejected::ProbesInFlight { .. } | Rejected::Ramping { .. }) | Ok(()) => None,
            },
            statistics: breaker.statistics(now),
        }
    }
}

/// A circuit as the status page shows it.
#[derive(Debug)]
pub struct CircuitLook {
    /// What it protects.
    pub protects: String,
    /// Its state.
    pub state: CircuitState,
    /// Who decides about it.
    pub mode: Mode,
    /// When a probe becomes possible.
    pub reopens_in: Option<Duration>,
    /// Why it is open.
    pub cause: Option<String>,
    /// What it has seen.
    pub statistics: WindowStatistics,
}

/// The right to make one call, which is settled when the call has ended, or as neutral when it is dropped.
#[derive(Debug)]
struct CircuitPermit {
    circuit: Arc<Circuit>,
    permit: Option<Permit>,
}

impl CircuitPermit {
    /// Records the call's result. `ask_always` wants a judgement even of a quick success.
    fn record(
        &mut self,
        outcome: Outcome,
        duration: Duration,
        open_until: Option<Timestamp>,
        ask_always: bool,
    ) -> Option<Pending> {
        let permit = self.permit.take()?;
        let now = self.circuit.clock.now();
        let (transition, judgement) = {
            let mut breaker = self.circuit.lock();
            let Recorded { transition, judgement } =
                breaker.record(permit, outcome, duration, open_until, now, random());
            let counted = ask_always && outcome != Outcome::Ignored;
            (transition, judgement.or_else(|| if counted { breaker.pending(now).map(for_policy_alone) } else { None }))
        };
        self.circuit.tell(transition);
        judgement
    }

    fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }
}

impl Drop for CircuitPermit {
    fn drop(&mut self) {
        self.record(Outcome::Ignored, Duration::ZERO, None, false);
    }
}

/// All circuits of one upstream.
#[derive(Debug)]
pub struct Circuits {
    upstream: Arc<str>,
    settings: BreakerSettings,
    watch_only: bool,
    whole: Arc<Circuit>,
    /// Read by every call without a lock; replaced as a whole by the rare failure that needs a new circuit.
    scoped: ArcSwap<HashMap<Protects, Arc<Circuit>>>,
}

impl Circuits {
    /// Closed circuits for an upstream. With `watch_only` they let every call pass, and only report what they would do.
    ///
    /// `changed` is rung at every transition.
    pub fn new(
        upstream: Arc<str>,
        settings: BreakerSettings,
        watch_only: bool,
        clock: Clock,
        observer: Arc<dyn Observer>,
        changed: Arc<Notify>,
    ) -> Self {
        let breaker = Mutex::new(fresh(settings, watch_only, clock));
        let whole = Circuit { protects: Protects::Upstream, breaker, clock, observer, changed };
        Circuits { upstream, settings, watch_only, whole: Arc::new(whole), scoped: ArcSwap::default() }
    }

    fn find(&self, protects: &Protects) -> Option<Arc<Circuit>> {
        self.scoped.load().get(protects).map(Arc::clone)
    }

    /// The circuits of a call's credential and model, where there are any.
    fn of(&self, model: Option<&str>, credential: u64) -> (Option<Arc<Circuit>>, Option<Arc<Circuit>>) {
        let scoped = self.scoped.load();
        // While nothing fails there are none, and a model's name need not be copied to look for them.
        if scoped.is_empty() {
            return (None, None);
        }
        let of_model = model.and_then(|model| scoped.get(&Protects::Model(model.to_owned())));
        (scoped.get(&Protects::Credential(credential)).map(Arc::clone), of_model.map(Arc::clone))
    }

    fn find_or_make(&self, protects: &Protects) -> Option<Arc<Circuit>> {
        if let Some(circuit) = self.find(protects) {
            return Some(circuit);
        }
        let whole = &self.whole;
        let circuit = Arc::new(Circuit {
            protects: protects.clone(),
            breaker: Mutex::new(fresh(self.settings, self.watch_only, whole.clock)),
            clock: whole.clock,
            observer: Arc::clone(&whole.observer),
            changed: Arc::clone(&whole.changed),
        });
        // May be repeated if another thread adds one meanwhile; its circuit is kept then.
        self.scoped.rcu(|scoped| {
            let mut scoped = HashMap::clone(scoped);
            if scoped.len() >= SCOPED_CIRCUITS_MAX {
                scoped.retain(|_, circuit| !circuit.is_idle());
            }
            if scoped.len() < SCOPED_CIRCUITS_MAX {
                scoped.entry(protects.clone()).or_insert_with(|| Arc::clone(&circuit));
            }
            scoped
        });
        self.find(protects)
    }

    /// Every circuit, the upstream's own first.
    fn all(&self) -> Vec<Arc<Circuit>> {
        let scoped = self.scoped.load();
        std::iter::once(&self.whole).chain(scoped.values()).map(Arc::clone).collect()
    }

    /// Opens what time alone must open: circuits whose calls stall, or whose probes bring no verdict.
    pub fn poll(&self) {
        for circuit in self.all() {
            let transition = circuit.lock().poll(circuit.clock.now());
            circuit.tell(transition);
        }
    }

    /// How every circuit stands that differs from a fresh one.
    pub fn snapshots(&self) -> Vec<(Protects, Snapshot)> {
        let now = self.whole.clock.now();
        let stands = |circuit: Arc<Circuit>| (circuit.protects.clone(), circuit.lock().snapshot(now));
        let differs = |snapshot: &Snapshot| {
            snapshot.state != CircuitState::Closed || snapshot.openings > 0 || snapshot.mode != Mode::Normal
        };
        self.all().into_iter().map(stands).filter(|(_, snapshot)| differs(snapshot)).collect()
    }

    /// Lets a circuit go on where it stood before a restart. Whether circuits only watch is for the configuration to
    /// say.
    pub fn restore(&self, protects: &Protects, snapshot: Snapshot) {
        if self.watch_only || snapshot.mode == Mode::WatchOnly {
            return;
        }
        let circuit = match protects {
            Protects::Upstream => Some(Arc::clone(&self.whole)),
            Protects::Model(_) | Protects::Credential(_) => self.find_or_make(protects),
        };
        let Some(circuit) = circuit else { return };
        let now = circuit.clock.now();
        let restored = Breaker::restore(self.settings, snapshot, now);
        let (to, until) = (restored.state(), restored.next_wakeup(now));
        *circuit.lock() = restored;
        if to != CircuitState::Closed {
            let cause = snapshot.cause.unwrap_or(Cause::CooldownElapsed);
            let transition = Transition { from: CircuitState::Closed, to, cause, until, at: now, would: false };
            circuit.tell(Some(transition));
        }
    }

    /// The time to first content below which nearly all recent calls stayed; `None` when there were too few to tell.
    pub fn usual_first_content(&self) -> Option<Duration> {
        let statistics = self.whole.lock().statistics(self.whole.clock.now());
        let refused = statistics.failures + statistics.overloads + statistics.throttles;
        // Refusals are quick: where there are many, what is usual among all calls says nothing about answers.
        let telling = statistics.requests >= USUAL_CALLS_MIN && refused.saturating_mul(10) <= statistics.requests;
        if telling { statistics.latency(USUAL_QUANTILE) } else { None }
    }

    /// Admits a call through every circuit that concerns it, or says which refuses.
    ///
    /// # Errors
    /// The refusal of the first circuit that refuses; those passed before are settled as neutral.
    pub fn admit(&self, model: Option<&str>, credential: u64) -> Result<Admission, Refused> {
        let mut admission =
            Admission { whole: None, model: None, credential: None, named: (model.map(str::to_owned), credential) };
        let refused = |circuit: &Circuit, rejected: Rejected| Refused { protects: circuit.protects.clone(), rejected };
        let (of_credential, of_model) = self.of(model, credential);
        if let Some(circuit) = of_credential {
            admission.credential = Some(circuit.admit().map_err(|rejected| refused(&circuit, rejected))?);
        }
        if let Some(circuit) = of_model {
            admission.model = Some(circuit.admit().map_err(|rejected| refused(&circuit, rejected))?);
        }
        admission.whole = Some(self.whole.admit().map_err(|rejected| refused(&self.whole, rejected))?);
        Ok(admission)
    }

    /// Whether [`Circuits::admit`] would refuse, changing nothing: to look before waiting for something else.
    ///
    /// # Errors
    /// As [`Circuits::admit`].
    pub fn peek(&self, model: Option<&str>, credential: u64) -> Result<(), Refused> {
        let now = self.whole.clock.now();
        let look = |circuit: &Circuit| {
            let refused = |rejected| Refused { protects: circuit.protects.clone(), rejected };
            circuit.lock().peek(now).map_err(refused)
        };
        let (of_credential, of_model) = self.of(model, credential);
        for circuit in [of_credential, of_model].into_iter().flatten() {
            look(&circuit)?;
        }
        look(&self.whole)
    }

    /// The state of the upstream's own circuit.
    pub fn state(&self) -> CircuitState {
        self.whole.lock().state()
    }

    /// When a call could be admitted by the upstream's own circuit; `None` when it could be now.
    pub fn blocked_until(&self) -> Option<Timestamp> {
        let now = self.whole.clock.now();
        self.whole.lock().peek(now).err().map(|rejected| rejected.retry_at())
    }

    /// Waits until some circuit changes its state.
    pub async fn changed(&self) {
        self.whole.changed.notified().await;
    }

    /// Settles a call by its verdict in the circuit that the verdict speaks of; the others saw nothing.
    ///
    /// `outcome` is what the verdict's class means ([`outcome_of`]), unless something else deals with the failure.
    /// `duration` is the time to first content: how long an answer is says nothing about health.
    pub fn settle(
        &self,
        mut admission: Admission,
        verdict: &Verdict,
        outcome: Outcome,
        duration: Duration,
        judge: &mut Judge,
        slot: &Slot,
    ) {
        let asks = judge.serving_wants_trip(slot);
        let now = self.whole.clock.now();
        let open_until = verdict.cool_off.map(|cool_off| now.saturating_add(cool_off));
        if outcome == Outcome::Success {
            for mut permit in
                [admission.whole.take(), admission.model.take(), admission.credential.take()].into_iter().flatten()
            {
                let pending = permit.record(outcome, duration, None, asks);
                self.judge(&permit.circuit, pending, judge, slot);
            }
            return;
        }
        let (existing, named) = match verdict.scope {
            Scope::Upstream => (admission.whole.take(), None),
            Scope::Model => (admission.model.take(), admission.named.0.take().map(Protects::Model)),
            Scope::Credential => (admission.credential.take(), Some(Protects::Credential(admission.named.1))),
        };
        let permit = match (existing, named) {
            (Some(permit), _) => Some(permit),
            (None, Some(protects)) => self.late_permit(protects, verdict, outcome),
            // A request that names no model speaks of whatever the upstream serves then.
            (None, None) => admission.whole.take(),
        };
        // What is left in the admission is dropped, and so settled as neutral.
        let Some(mut permit) = permit else { return };
        let pending = permit.record(outcome, duration, open_until, asks);
        self.judge(&permit.circuit, pending, judge, slot);
    }

    /// A permit of a scope's circuit that did not exist when the call was admitted.
    fn late_permit(&self, protects: Protects, verdict: &Verdict, outcome: Outcome) -> Option<CircuitPermit> {
        // A circuit that would count nothing need not exist.
        if outcome == Outcome::Ignored && verdict.cool_off.is_none() {
            return None;
        }
        let circuit = self.find_or_make(&protects)?;
        match circuit.admit() {
            Ok(permit) => Some(permit),
            Err(_) => {
                // Another call has opened it meanwhile; what this one asks for may be longer.
                let now = circuit.clock.now();
                if let Some(cool_off) = verdict.cool_off {
                    circuit.lock().extend(now.saturating_add(cool_off), now);
                }
                None
            }
        }
    }

    /// Lets the policy, or the thresholds, decide whether a result opens the circuit. The policy is asked outside of
    /// the lock.
    fn judge(&self, circuit: &Circuit, pending: Option<Pending>, judge: &mut Judge, slot: &Slot) {
        let Some(pending) = pending else { return };
        let decision = if judge.wants_trip(slot) {
            let facts = Seen { upstream: Arc::clone(&self.upstream), statistics: pending.statistics };
            judge.trip(slot, Rc::new(facts)).map(|decision| match decision {
                spillway_sdk::TripDecision::Stay => TripDecision::Stay,
                spillway_sdk::TripDecision::Open => TripDecision::Open,
                spillway_sdk::TripDecision::OpenFor(duration) => TripDecision::OpenFor(duration),
            })
        } else {
            None
        };
        let now = circuit.clock.now();
        let transition = circuit.lock().judge(pending, decision, now, random());
        circuit.tell(transition);
    }

    /// Every circuit, the upstream's own first.
    pub fn look(&self) -> Vec<CircuitLook> {
        self.all().iter().map(|circuit| circuit.look()).collect()
    }
}

/// Which circuit refused a call, and until when.
#[derive(Debug)]
pub struct Refused {
    /// What it protects.
    pub protects: Protects,
    /// The breaker's words.
    pub rejected: Rejected,
}

/// A call's permits. Dropped without being settled, it counts nowhere and gives every slot back.
#[derive(Debug)]
pub struct Admission {
    whole: Option<CircuitPermit>,
    model: Option<CircuitPermit>,
    credential: Option<CircuitPermit>,
    named: (Option<String>, u64),
}

impl Admission {
    /// Whether some circuit let this call through as a probe, and so waits for its result.
    pub fn is_probe(&self) -> bool {
        [&self.whole, &self.model, &self.credential].into_iter().flatten().any(CircuitPermit::is_probe)
    }
}

fn fresh(settings: BreakerSettings, watch_only: bool, clock: Clock) -> Breaker {
    let now = clock.now();
    let mut breaker = Breaker::new(settings, now);
    if watch_only {
        // A fresh breaker is closed either way, so there is nothing to tell.
        let _ = breaker.watch_only(now);
    }
    breaker
}

/// Figures of which the thresholds make nothing: a quick success opens a circuit only if a policy says so.
fn for_policy_alone(mut pending: Pending) -> Pending {
    pending.statistics.thresholds_crossed = None;
    pending
}

/// What a verdict's class means to a breaker.
pub fn outcome_of(class: Class) -> Outcome {
    match class {
        Class::Success => Outcome::Success,
        Class::Failure => Outcome::Failure,
        Class::Overloaded => Outcome::Overloaded,
        Class::Throttled | Class::Exhausted => Outcome::Throttled,
        // The caller's and the credential's faults say nothing about health.
        Class::Ignored | Class::Rejected | Class::Unauthorized => Outcome::Ignored,
    }
}

/// A circuit's statistics as a policy sees them.
struct Seen {
    upstream: Arc<str>,
    statistics: WindowStatistics,
}

impl WindowFacts for Seen {
    fn upstream(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.upstream)
    }
    fn state(&self) -> spillway_sdk::CircuitState {
        match self.statistics.state {
            CircuitState::Closed => spillway_sdk::CircuitState::Closed,
            CircuitState::Open => spillway_sdk::CircuitState::Open,
            CircuitState::HalfOpen => spillway_sdk::CircuitState::HalfOpen,
        }
    }
    fn length(&self) -> Duration {
        self.statistics.length
    }
    fn requests(&self) -> u32 {
        self.statistics.requests
    }
    fn failures(&self) -> u32 {
        self.statistics.failures.saturating_add(self.statistics.overloads)
    }
    fn overloads(&self) -> u32 {
        self.statistics.overloads
    }
    fn throttles(&self) -> u32 {
        self.statistics.throttles
    }
    fn slow_calls(&self) -> u32 {
        self.statistics.slow_calls
    }
    fn consecutive_failures(&self) -> u32 {
        self.statistics.consecutive_failures
    }
    fn in_flight(&self) -> u32 {
        self.statistics.in_flight
    }
    fn oldest_in_flight(&self) -> Duration {
        self.statistics.oldest_in_flight
    }
    fn latency(&self, quantile: f32) -> Option<Duration> {
        self.statistics.latency(quantile)
    }
    fn consecutive_openings(&self) -> u32 {
        self.statistics.consecutive_openings
    }
    fn thresholds_crossed(&self) -> bool {
        self.statistics.thresholds_crossed.is_some()
    }
    fn random(&self) -> u64 {
        random()
    }
}

#[cfg(test)]
mod tests;
