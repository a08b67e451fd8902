//! The upstream's own circuit, and those of its parts, which come into being with their first failure.

use std::collections::BTreeMap;
use std::time::Duration;

use spillway_resilience::{
    Admitted, Breaker, BreakerSettings, CircuitState, Consequence, Outcome, Permit, Recorded, Rejected, Standing,
    Timestamp, Transition,
};

use super::part::Part;
use crate::protection::{Answer, Call};

/// All circuits.
#[derive(Debug)]
pub(super) struct Circuits {
    whole: Breaker,
    parts: BTreeMap<Part, Breaker>,
}

/// Why a call does not pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    /// The breaker's words.
    pub(super) rejected: Rejected,
    /// Whether the upstream fails slowly, so that those who wait for its circuit would be a herd.
    pub(super) is_slow: bool,
}

impl Refused {
    fn by(breaker: &Breaker, rejected: Rejected) -> Self {
        Self { rejected, is_slow: breaker.fails_slowly() }
    }
}

/// A call's permits.
#[derive(Debug)]
pub(super) struct CircuitPermits {
    whole: Permit,
    parts: Vec<(Part, Permit)>,
}

/// What an answer did to circuits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// One opened that had been closed.
    pub(super) opened: bool,
    /// One closed.
    pub(super) closed: bool,
}

impl Changed {
    fn note(&mut self, transition: Option<Transition>) {
        let Some(Transition { from, to, .. }) = transition else { return };
        self.opened |= (from, to) == (CircuitState::Closed, CircuitState::Open);
        self.closed |= to == CircuitState::Closed;
    }
}

impl Circuits {
    /// Closed ones. With `watch_only` they let every call pass.
    pub(super) fn new(settings: BreakerSettings, watch_only: bool, now: Timestamp) -> Self {
        let mut whole = Breaker::new(settings, now);
        if watch_only {
            // A fresh breaker is closed either way, so there is nothing to tell.
            let _ = whole.watch_only(now);
        }
        Self { whole, parts: BTreeMap::new() }
    }

    fn of_parts(&self, call: &Call) -> impl Iterator<Item = &Breaker> {
        Part::narrowest_first(call).into_iter().filter_map(|part| self.parts.get(&part))
    }

    fn of(&self, call: &Call) -> impl Iterator<Item = &Breaker> {
        self.of_parts(call).chain([&self.whole])
    }

    fn all(&self) -> impl Iterator<Item = &Breaker> {
        self.parts.values().chain([&self.whole])
    }

    /// Whether a call would pass, changing nothing.
    pub(super) fn peek(&self, call: &Call, now: Timestamp) -> Result<(), Refused> {
        self.of(call).try_for_each(|breaker| breaker.peek(now).map_err(|rejected| Refused::by(breaker, rejected)))
    }

    /// Lets a call pass, or says which circuit does not.
    pub(super) fn admit(&mut self, call: &Call, now: Timestamp) -> Result<CircuitPermits, Refused> {
        let mut parts = Vec::new();
        match self.ask_each(call, &mut parts, now) {
            Ok(whole) => Ok(CircuitPermits { whole, parts }),
            Err(refused) => {
                // Those that let it pass saw nothing of it.
                for (part, permit) in parts {
                    if let Some(breaker) = self.parts.get_mut(&part) {
                        let _ = breaker.record(permit, Outcome::Ignored, Duration::ZERO, None, now, 0);
                    }
                }
                Err(refused)
            }
        }
    }

    fn ask_each(&mut self, call: &Call, parts: &mut Vec<(Part, Permit)>, now: Timestamp) -> Result<Permit, Refused> {
        for part in Part::narrowest_first(call) {
            if let Some(breaker) = self.parts.get_mut(&part) {
                parts.push((part, ask(breaker, now)?));
            }
        }
        ask(&mut self.whole, now)
    }

    /// Settles a call by the consequence of its answer: in the circuit of what that reaches, in a part's, and in the
    /// upstream's own. The others saw nothing.
    pub(super) fn settle(
        &mut self,
        call: &Call,
        admission: CircuitPermits,
        consequence: &Consequence,
        answer: &Answer,
        random: u64,
    ) -> Changed {
        let now = answer.at;
        let mut changed = Changed::default();
        let CircuitPermits { whole, parts: mut permits } = admission;
        let reached = Part::reached(call, consequence.reach);
        let is_served = consequence.counts == Outcome::Success;
        let for_whole = if reached.is_none() { consequence.counts } else { consequence.counts_for_upstream };
        changed.note(count(&mut self.whole, whole, for_whole, answer, random));
        for part in Part::widest_first(call) {
            let is_concerned =
                Some(part) == reached || consequence.part.is_some_and(|reach| Part::reached(call, reach) == Some(part));
            let outcome = if is_served || is_concerned { consequence.counts } else { Outcome::Ignored };
            let place = permits.iter().position(|(of, _)| *of == part);
            let mut permit = place.map(|place| permits.swap_remove(place).1);
            if permit.is_none() && is_concerned && consequence.makes_circuit() {
                // Its circuit did not exist when the call went out. If another call has opened it meanwhile, that
                // has been counted enough.
                let whole = &self.whole;
                let breaker = self.parts.entry(part).or_insert_with(|| whole.for_a_part(now));
                permit = breaker.admit(now).ok().map(|admitted| admitted.permit.of_a_call_sent(answer.sent));
            }
            if let (Some(permit), Some(breaker)) = (permit, self.parts.get_mut(&part)) {
                changed.note(count(breaker, permit, outcome, answer, random));
            }
        }
        changed
    }

    /// Whether whoever has left after so long has waited far longer than others do.
    pub(super) fn is_overdue(&self, took: Duration, now: Timestamp) -> bool {
        self.whole.statistics(now).overdue_after().is_some_and(|limit| took >= limit)
    }

    /// Whether repeating a call that has failed makes sense: see [`Breaker::may_repeat`].
    pub(super) fn may_repeat(&self, call: &Call, chance: f64) -> bool {
        self.of(call).all(|breaker| breaker.may_repeat(chance))
    }

    /// The share of such calls that was served of late.
    pub(super) fn served_share(&self, call: &Call) -> f64 {
        self.parts.get(&Part::model(call)).unwrap_or(&self.whole).served_share()
    }

    /// How well such calls are served.
    pub(super) fn standing(&self, call: &Call, now: Timestamp) -> Standing {
        self.parts.get(&Part::model(call)).unwrap_or(&self.whole).standing(now)
    }

    /// Whether all circuits are closed.
    pub(super) fn are_all_closed(&self) -> bool {
        self.all().all(is_closed)
    }

    /// Permits that are not settled.
    pub(super) fn in_flight(&self, now: Timestamp) -> usize {
        self.all().map(|breaker| breaker.statistics(now).in_flight as usize).sum()
    }
}

fn is_closed(breaker: &Breaker) -> bool {
    breaker.state() == CircuitState::Closed
}

fn ask(breaker: &mut Breaker, now: Timestamp) -> Result<Permit, Refused> {
    match breaker.admit(now) {
        Ok(Admitted { permit, .. }) => Ok(permit),
        Err(rejected) => Err(Refused::by(breaker, rejected)),
    }
}

/// Counts an answer in one circuit.
fn count(breaker: &mut Breaker, permit: Permit, outcome: Outcome, answer: &Answer, random: u64) -> Option<Transition> {
    let took = answer.at.saturating_since(answer.sent);
    let Recorded { transition, judgement } = breaker.record(permit, outcome, took, None, answer.at, random);
    // The random number is used by one of the two at most.
    transition.or_else(|| breaker.judge(judgement?, None, answer.at, random))
}
