//! Circuits as requests meet them: the pure breaker behind a short lock, permits that settle themselves, and the
//! scopes that a verdict can speak of.

use crate::policy::{Judge, Slot};
use crate::runtime::clock::{Clock, random};
use crate::runtime::sync::lock;
use crate::upstream::parts::Parts;
use crate::upstream::said::Said;
use crate::upstream::scope::{Protects, Subject};
use spillway_resilience::{
    Breaker, BreakerSettings, Cause, CircuitState, Consequence, Mode, Outcome, Pending, Permit, Reach, Recorded,
    Rejected, Snapshot, Standing, Timestamp, Transition, TripDecision, WindowStatistics,
};
use spillway_sdk::WindowFacts;
use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// Circuits of models and credentials kept per upstream. They come into being with their first failure. When all
/// are in use, a further one's failures are counted nowhere, which is what a proxy without scopes would do.
pub(crate) const SCOPED_CIRCUITS_MAX: usize = 1_024;
/// Failing requests in a row after which an upstream is in doubt: their failures are no longer taken for the requests'
/// own fault.
const DOUBT: u32 = 5;

/// Told of every transition, for metrics and logs.
pub(crate) trait Observer: Send + Sync + fmt::Debug {
    /// A circuit changed its state, or would have if it did more than watch ([`Transition::would`]).
    fn transition(&self, protects: &Protects, transition: &Transition);
}

#[derive(Debug)]
pub(crate) struct Circuit {
    protects: Protects,
    breaker: Mutex<Breaker>,
    /// What the provider last said that counts against it.
    said: Mutex<Option<Arc<Said>>>,
    /// Since when and why it is not closed. Only changes touch it, and whoever looks.
    opened: Mutex<Option<(Timestamp, Cause)>>,
    clock: Clock,
    observer: Arc<dyn Observer>,
    changed: Arc<Notify>,
}

impl Circuit {
    fn refused(&self, rejected: Rejected) -> Refused {
        let is_slow = self.lock().fails_slowly();
        Refused { protects: self.protects.clone(), rejected, is_slow, said: lock(&self.said).clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }

    fn tell(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.observer.transition(&self.protects, &transition);
            // Every call passes a circuit that only watches, whatever it would do.
            if !transition.would {
                match (transition.from, transition.to) {
                    (_, CircuitState::Closed) => *lock(&self.opened) = None,
                    (CircuitState::Closed, _) => *lock(&self.opened) = Some((transition.at, transition.cause)),
                    _ => {}
                }
                self.changed.notify_waiters();
            }
        }
    }

    fn admit(self: &Arc<Self>) -> Result<CircuitPermit, Refused> {
        let admitted = self.lock().admit(self.clock.now());
        match admitted {
            Ok(admitted) => {
                self.tell(admitted.transition);
                Ok(CircuitPermit { circuit: Arc::clone(self), permit: Some(admitted.permit), awaits_answer: false })
            }
            Err(rejected) => {
                self.tell(rejected.transition());
                Err(self.refused(rejected))
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
    pub(crate) fn look(&self) -> CircuitLook {
        let now = self.clock.now();
        let breaker = self.lock();
        CircuitLook {
            protects: self.protects.to_string(),
            state: breaker.state(),
            mode: breaker.mode(),
            reopens_in: breaker.next_wakeup(now).map(|wakeup| wakeup.saturating_since(now)),
            // What a circuit that only watches would do keeps nobody away.
            cause: breaker
                .snapshot(now)
                .cause
                .filter(|_| breaker.state() != CircuitState::Closed)
                .map(|cause| cause.to_string()),
            opened: lock(&self.opened).map(|(at, cause)| Opened { ago: now.saturating_since(at), cause }),
            said: lock(&self.said).clone(),
            statistics: breaker.statistics(now),
        }
    }
}

/// A circuit as the status page shows it.
#[derive(Debug)]
pub(crate) struct CircuitLook {
    pub protects: String,
    pub state: CircuitState,
    /// Who decides about it.
    pub mode: Mode,
    /// When a probe becomes possible.
    pub reopens_in: Option<Duration>,
    /// Why it is open, or was until a probe went out.
    pub cause: Option<String>,
    /// Since when it is not closed; `None` where it is, and where it was opened before a restart.
    pub opened: Option<Opened>,
    /// What the provider last said that counts against it.
    pub said: Option<Arc<Said>>,
    /// What it has seen.
    pub statistics: WindowStatistics,
}

/// Since when a circuit is not closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub ago: Duration,
    /// Why it was opened then, whatever has kept it open since.
    pub cause: Cause,
}

/// The right to make one call, which is settled when the call has ended, or as neutral when it is dropped.
#[derive(Debug)]
struct CircuitPermit {
    circuit: Arc<Circuit>,
    permit: Option<Permit>,
    /// Whether its call has gone out and not been answered, so that a caller who leaves may have waited too long.
    awaits_answer: bool,
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

    fn admitted(&self) -> Option<Timestamp> {
        self.permit.as_ref().map(Permit::admitted)
    }

    fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_probe)
    }

    /// How long its call has been under way, if that is so long that its caller's leaving is the upstream's fault.
    fn overdue(&self) -> Option<Duration> {
        let permit = self.permit.as_ref().filter(|_| self.awaits_answer)?;
        let now = self.circuit.clock.now();
        let took = now.saturating_since(permit.admitted());
        // Most who leave do so soon, and statistics cost some microseconds. A machine that has slept has kept nobody
        // waiting.
        if took < WindowStatistics::OVERDUE_MIN || self.circuit.clock.has_slept_since(permit.admitted()) {
            return None;
        }
        let limit = self.circuit.lock().statistics(now).overdue_after()?;
        (took >= limit).then_some(took)
    }
}

impl Drop for CircuitPermit {
    fn drop(&mut self) {
        let overdue = self.overdue();
        let left = Consequence::of_leaving(overdue.is_some());
        let Some(pending) = self.record(left.counts, overdue.unwrap_or_default(), None, false) else { return };
        // No policy is asked what it means: the thresholds alone decide.
        let transition = self.circuit.lock().judge(pending, None, self.circuit.clock.now(), random());
        self.circuit.tell(transition);
    }
}

/// All circuits of one upstream.
#[derive(Debug)]
pub(crate) struct Circuits {
    upstream: Arc<str>,
    settings: BreakerSettings,
    watch_only: bool,
    whole: Arc<Circuit>,
    scoped: Parts<Circuit>,
}

impl Circuits {
    /// Closed circuits for an upstream. With `watch_only` they let every call pass, and only report what they would do.
    ///
    /// `changed` is rung at every transition.
    pub(crate) fn new(
        upstream: Arc<str>,
        settings: BreakerSettings,
        watch_only: bool,
        clock: Clock,
        observer: Arc<dyn Observer>,
        changed: Arc<Notify>,
    ) -> Self {
        let breaker = Mutex::new(fresh(settings, watch_only, clock));
        let whole = Circuit {
            protects: Protects::Upstream,
            breaker,
            said: Mutex::default(),
            opened: Mutex::default(),
            clock,
            observer,
            changed,
        };
        Circuits { upstream, settings, watch_only, whole: Arc::new(whole), scoped: Parts::new(SCOPED_CIRCUITS_MAX) }
    }

    fn find_or_make(&self, protects: &Protects) -> Option<Arc<Circuit>> {
        let whole = &self.whole;
        let make = || Circuit {
            protects: protects.clone(),
            breaker: Mutex::new(whole.lock().for_a_part(whole.clock.now())),
            said: Mutex::default(),
            opened: Mutex::default(),
            clock: whole.clock,
            observer: Arc::clone(&whole.observer),
            changed: Arc::clone(&whole.changed),
        };
        self.scoped.find_or_make(protects, make, Circuit::is_idle)
    }

    /// Whether something holds for every circuit that concerns a call.
    fn all_of(&self, subject: Subject<'_>, holds: impl Fn(&Breaker) -> bool) -> bool {
        self.scoped.of(subject).iter().all(|circuit| holds(&circuit.lock())) && holds(&self.whole.lock())
    }

    /// Every circuit, the upstream's own first.
    fn all(&self) -> Vec<Arc<Circuit>> {
        std::iter::once(Arc::clone(&self.whole)).chain(self.scoped.all()).collect()
    }

    /// Opens what time alone must open: circuits whose calls stall, or whose probes bring no verdict.
    pub(crate) fn poll(&self) {
        for circuit in self.all() {
            let transition = circuit.lock().poll(circuit.clock.now());
            circuit.tell(transition);
        }
    }

    /// The machine has slept: see [`Breaker::woken`].
    pub(crate) fn woken(&self) {
        for circuit in self.all() {
            circuit.lock().woken(circuit.clock.now());
        }
    }

    /// How every circuit stands that differs from a fresh one, and what its provider last said.
    pub(crate) fn snapshots(&self) -> Vec<(Protects, Snapshot, Option<Arc<Said>>)> {
        let now = self.whole.clock.now();
        let stands = |circuit: Arc<Circuit>| {
            let snapshot = circuit.lock().snapshot(now);
            (circuit.protects.clone(), snapshot, lock(&circuit.said).clone())
        };
        let differs = |snapshot: &Snapshot| {
            snapshot.state != CircuitState::Closed || snapshot.openings > 0 || snapshot.mode != Mode::Normal
        };
        self.all().into_iter().map(stands).filter(|(_, snapshot, _)| differs(snapshot)).collect()
    }

    /// Lets a circuit go on where it stood before a restart. Whether circuits only watch is for the configuration to
    /// say.
    pub(crate) fn restore(&self, protects: &Protects, snapshot: Snapshot, said: Option<Arc<Said>>) {
        if self.watch_only || snapshot.mode == Mode::WatchOnly {
            return;
        }
        let circuit = match protects {
            Protects::Upstream => Some(Arc::clone(&self.whole)),
            Protects::Model(_) | Protects::Credential(_) | Protects::ModelOfCredential(..) => {
                self.find_or_make(protects)
            }
        };
        let Some(circuit) = circuit else { return };
        *lock(&circuit.said) = said;
        let now = circuit.clock.now();
        let restored = Breaker::restore(self.settings, snapshot, now);
        let (to, until) = (restored.state(), restored.next_wakeup(now));
        *circuit.lock() = restored;
        if to != CircuitState::Closed {
            let cause = snapshot.cause.unwrap_or(Cause::CooldownElapsed);
            let transition = Transition { from: CircuitState::Closed, to, cause, until, at: now, would: false };
            circuit.tell(Some(transition));
            // The time before the restart is not known.
            *lock(&circuit.opened) = None;
        }
    }

    /// The time to first content below which nearly all recent calls stayed; `None` when there were too few to tell.
    pub(crate) fn usual_first_content(&self) -> Option<Duration> {
        self.whole.lock().statistics(self.whole.clock.now()).usual_latency()
    }

    /// How long a call must take to be much later than all; `None` while nobody knows what is usual.
    pub(crate) fn overdue_after(&self) -> Option<Duration> {
        self.whole.lock().statistics(self.whole.clock.now()).overdue_after()
    }

    /// Admits a call through every circuit that concerns it, or says which refuses.
    ///
    /// # Errors
    /// The refusal of the first circuit that refuses; those passed before are settled as neutral.
    pub(crate) fn admit(&self, subject: Subject<'_>) -> Result<CircuitPermits, Refused> {
        let mut permits = CircuitPermits { whole: None, parts: Vec::new() };
        for circuit in self.scoped.of(subject) {
            permits.parts.push(circuit.admit()?);
        }
        permits.whole = Some(self.whole.admit()?);
        Ok(permits)
    }

    /// Whether [`Circuits::admit`] would refuse, changing nothing: to look before waiting for something else.
    ///
    /// # Errors
    /// As [`Circuits::admit`].
    pub(crate) fn peek(&self, subject: Subject<'_>) -> Result<(), Refused> {
        let now = self.whole.clock.now();
        let look = |circuit: &Circuit| {
            let peeked = circuit.lock().peek(now);
            peeked.map_err(|rejected| circuit.refused(rejected))
        };
        self.scoped.of(subject).iter().try_for_each(|circuit| look(circuit))?;
        look(&self.whole)
    }

    /// Whether repeating a call that has failed makes sense, by how many have failed in a row: see
    /// [`Breaker::may_repeat`].
    pub(crate) fn may_repeat(&self, subject: Subject<'_>, chance: f64) -> bool {
        self.all_of(subject, |breaker| breaker.may_repeat(chance))
    }

    /// The share of such calls that was served of late.
    pub(crate) fn served_share(&self, subject: Subject<'_>) -> f64 {
        let of_model = self.scoped.find(&subject.of_model());
        of_model.as_ref().unwrap_or(&self.whole).lock().served_share()
    }

    /// How well such calls were served of late.
    pub(crate) fn standing(&self, subject: Subject<'_>) -> Standing {
        let of_model = self.scoped.find(&subject.of_model());
        let circuit = of_model.as_ref().unwrap_or(&self.whole);
        circuit.lock().standing(circuit.clock.now())
    }

    /// Whether a call's failure may be its own fault: its circuits are closed, and others were served of late.
    pub(crate) fn are_trusted(&self, subject: Subject<'_>) -> bool {
        self.all_of(subject, |breaker| {
            breaker.state() == CircuitState::Closed && breaker.failing_requests_in_a_row() < DOUBT
        })
    }

    /// The state of the upstream's own circuit.
    pub(crate) fn state(&self) -> CircuitState {
        self.whole.lock().state()
    }

    /// When a call could be admitted by the upstream's own circuit; `None` when it could be now.
    pub(crate) fn blocked_until(&self) -> Option<Timestamp> {
        let now = self.whole.clock.now();
        self.whole.lock().peek(now).err().map(|rejected| rejected.retry_at())
    }

    /// When a call could be admitted by all of its circuits; `None` when it could be now.
    pub(crate) fn call_blocked_until(&self, subject: Subject<'_>) -> Option<Timestamp> {
        self.peek(subject).err().map(|refused| refused.rejected.retry_at())
    }

    /// Waits until some circuit changes its state.
    pub(crate) async fn changed(&self) {
        self.whole.changed.notified().await;
    }

    /// Settles a call by the consequence of its verdict: in the circuit of what that reaches, and in the upstream's
    /// own. The others saw nothing.
    ///
    /// `duration` is the time to first content: how long an answer is says nothing about health. `said` is what those
    /// hear who are refused for it. The policy in the slot is asked whether a circuit opens.
    pub(crate) fn settle(
        &self,
        mut permits: CircuitPermits,
        subject: Subject<'_>,
        consequence: &Consequence,
        said: Option<Arc<Said>>,
        duration: Duration,
        (judge, slot): (&mut Judge, &Slot),
    ) {
        let asks = judge.serving_wants_trip(slot);
        let now = self.whole.clock.now();
        if consequence.counts == Outcome::Success {
            for mut permit in permits.whole.take().into_iter().chain(permits.parts.drain(..)) {
                let pending = permit.record(Outcome::Success, duration, None, asks);
                self.judge(&permit.circuit, pending, judge, slot);
            }
            return;
        }
        let &Consequence { reach, part, counts, counts_for_upstream, opens_for, .. } = consequence;
        let sent = permits.whole.as_ref().and_then(CircuitPermit::admitted).unwrap_or(now);
        let open_until = opens_for.map(|wait| now.saturating_add(wait));
        let of_upstream = reach == Reach::Upstream;
        if let Some(mut whole) = permits.whole.take_if(|_| !of_upstream) {
            let pending = whole.record(counts_for_upstream, duration, None, asks);
            self.judge(&whole.circuit, pending, judge, slot);
        }
        for (reach, open_until) in [(Some(reach), open_until), (part, None)] {
            let Some(reach) = reach else { continue };
            let protects = subject.reached(reach);
            let permit = match permits.parts.iter().position(|permit| permit.circuit.protects == protects) {
                Some(place) => Some(permits.parts.swap_remove(place)),
                None if of_upstream => permits.whole.take(),
                None if consequence.makes_circuit() => self.late_permit(&protects, sent, open_until),
                None => None,
            };
            // What is left of the permits is dropped, and so settled as neutral.
            let Some(mut permit) = permit else { continue };
            if said.is_some() && counts != Outcome::Ignored {
                lock(&permit.circuit.said).clone_from(&said);
            }
            let pending = permit.record(counts, duration, open_until, asks);
            self.judge(&permit.circuit, pending, judge, slot);
        }
    }

    /// A permit of a part's circuit that did not exist when the call was sent.
    fn late_permit(
        &self,
        protects: &Protects,
        sent: Timestamp,
        open_until: Option<Timestamp>,
    ) -> Option<CircuitPermit> {
        let circuit = self.find_or_make(protects)?;
        match circuit.admit() {
            Ok(mut permit) => {
                permit.permit = permit.permit.take().map(|permit| permit.of_a_call_sent(sent));
                Some(permit)
            }
            Err(_) => {
                // Another call has opened it meanwhile; what this one asks for may be longer.
                if let Some(open_until) = open_until {
                    circuit.lock().extend(open_until, circuit.clock.now());
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
    pub(crate) fn look(&self) -> Vec<CircuitLook> {
        self.all().iter().map(|circuit| circuit.look()).collect()
    }
}

/// Which circuit refused a call, and until when.
#[derive(Debug)]
pub(crate) struct Refused {
    pub protects: Protects,
    /// The breaker's words.
    pub rejected: Rejected,
    /// Whether the upstream fails slowly, so that nobody should wait for its circuit: see [`Breaker::fails_slowly`].
    pub is_slow: bool,
    /// What the provider last said that counted.
    pub said: Option<Arc<Said>>,
}

/// A call's permits. Dropped without being settled, it counts nowhere and gives every slot back.
#[derive(Debug)]
pub(crate) struct CircuitPermits {
    whole: Option<CircuitPermit>,
    /// Empty, and so without an allocation, while nothing fails.
    parts: Vec<CircuitPermit>,
}

impl CircuitPermits {
    /// Its call goes out. A caller who leaves after waiting far longer than others do is then a hint that the upstream
    /// serves nobody.
    pub(crate) fn sent(&mut self) {
        self.awaits_answer(true);
    }

    /// Its call is being answered: whoever leaves now has other reasons.
    pub(crate) fn answered(&mut self) {
        self.awaits_answer(false);
    }

    fn awaits_answer(&mut self, awaits: bool) {
        if let Some(whole) = &mut self.whole {
            whole.awaits_answer = awaits;
        }
    }

    /// Whether some circuit let this call through as a probe, and so waits for its result.
    pub(crate) fn is_probe(&self) -> bool {
        self.whole.iter().chain(&self.parts).any(CircuitPermit::is_probe)
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
