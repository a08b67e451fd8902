//! The proxy's layers around one upstream, in the order in which a request passes them.
//!
//! A look at the circuits, before anything is waited for; the lanes of what has said "too much"; the admission queue,
//! which holds the limits on tokens and on calls in flight; and the circuits' admission last, after all waits. Every
//! part is the real one of `spillway-resilience` with its default settings. It decides as `spillway` does in
//! `request.rs`, `consequence.rs`, `lanes.rs` and `circuit.rs`.
//!
//! # What differs
//!
//! - What the proxy decides by a policy's verdict is decided here by the outcome alone: a failure is worth repeating
//!   unless it is a time-out, and nothing but a limit or an overload names a pause.
//! - A tenant stands for its credential. Parts are models, and models under a credential; no limit and no failure is a
//!   credential's as a whole.
//! - Whether callers try again by themselves is known here of all; the proxy knows it of official SDKs, which say so.
//! - The proxy tells those who wait for a circuit of every change, here of its closing only: nothing else lets them go.
//! - Lanes end as soon as they may, not when the proxy next tidies up.
//! - No limits of a tenant's own, no priorities, no hedges, no spool.

mod circuits;
mod consequence;
mod lanes;
mod part;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use spillway_resilience::{
    AdaptiveLimit, AdaptiveLimitSettings, AdmissionQueue, Advice, Concurrency, Demand, Entry, FairQueueSettings,
    Feedback, Leaving, Limiter, LoadTrial, Outcome, Pass, Priority, Promptness, Rejected, RetryBudget,
    RetryBudgetSettings, RetrySettings, ServedLog, Settlement, Spend, Step, Tenant, Ticket, Timestamp, TokenBucket,
    next_step,
};

use crate::protection::{Answer, Call, Order, Orders, Protection, RequestId, Told};
use crate::scenario;
use circuits::{Admission, Circuits, Refused};
use consequence::Consequence;
use lanes::{Lanes, Left};
use part::Part;

/// How long a request waits at an open circuit for a probe to show whether the upstream is back.
const CIRCUIT_PATIENCE: Duration = Duration::from_secs(1);
/// A run of failing attempts whose chance is below this ends retries; beside a caller's own retries, sooner.
const REPEAT_CHANCE_MIN: f64 = 1e-7;
const REPEAT_CHANCE_MIN_BESIDE_THE_CALLERS: f64 = 3e-5;

/// Where a request stands on its way to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Lane(Part),
    Limits,
}

/// What one call holds and must give back.
#[derive(Debug)]
struct Held {
    pass: Pass,
    admission: Admission,
    /// Whether it had to wait for the limits, and so was charged to its tenant's share.
    waited: bool,
}

/// What is known of a request from its earlier attempts.
#[derive(Debug, Default)]
struct Past {
    /// A failure of it is counted already.
    has_failed: bool,
    /// Where it has waited before, so that a call that is refused keeps its place.
    places: BTreeMap<Part, Ticket>,
    /// It has a token of the retry budget for a retry that is not sent yet.
    holds_token: bool,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another one, after this wait.
    Again(Duration),
    /// The caller hears of it, and of this wait.
    GiveUp(Option<Duration>),
}

/// The layers.
#[derive(Debug)]
pub struct Stack {
    limits: AdmissionQueue,
    lanes: Lanes,
    circuits: Circuits,
    budget: RetryBudget,
    trial: LoadTrial,
    served: ServedLog,
    promptness: Promptness,
    retry: RetrySettings,
    /// Those who wait, by where and with which ticket.
    waiting: HashMap<(Stage, Ticket), Call>,
    /// Those who wait at an open circuit, by when they ask again.
    at_circuit: BTreeMap<(Timestamp, RequestId), Call>,
    /// What calls under way hold.
    under_way: HashMap<RequestId, Held>,
    /// Requests that have been tried or have waited in a lane.
    pasts: HashMap<RequestId, Past>,
}

impl Stack {
    /// All layers with their default settings; the limiter knows the provider's quota.
    #[must_use]
    pub fn new(provider: &scenario::Provider) -> Self {
        let now = Timestamp::ORIGIN;
        let tokens = provider
            .tokens_per_minute
            .map(|rate| TokenBucket::new(u64::from(provider.burst_tokens), u64::from(rate), now));
        let concurrency = Concurrency::Adaptive(AdaptiveLimit::new(AdaptiveLimitSettings::default()));
        Self {
            limits: AdmissionQueue::new(Limiter::new(None, tokens), concurrency, FairQueueSettings::default()),
            lanes: Lanes::default(),
            circuits: Circuits::new(now),
            budget: RetryBudget::new(RetryBudgetSettings::default(), now),
            trial: LoadTrial::new(now),
            served: ServedLog::default(),
            promptness: Promptness::default(),
            retry: RetrySettings::default(),
            waiting: HashMap::new(),
            at_circuit: BTreeMap::new(),
            under_way: HashMap::new(),
            pasts: HashMap::new(),
        }
    }

    /// Takes a request along its way from the beginning, as far as it comes without waiting.
    fn begin(&mut self, call: &Call, orders: &mut Orders) {
        self.go_on(call, Stage::Lane(Part::model(call)), orders);
    }

    fn go_on(&mut self, call: &Call, from: Stage, orders: &mut Orders) {
        let now = orders.now();
        // Whom a circuit would refuse in the end has nothing to wait for before it.
        if let Err(refused) = self.circuits.peek(call, now) {
            return self.wait_for_circuit(call, refused, orders);
        }
        for part in Part::widest_first(call) {
            let stage = Stage::Lane(part);
            if stage < from {
                continue;
            }
            let former = self.pasts.get(&call.request).and_then(|past| past.places.get(&part)).copied();
            match self.lanes.enter(part, call, former, now) {
                Ok(None) => {}
                Ok(Some(ticket)) => {
                    self.pasts.entry(call.request).or_default().places.insert(part, ticket);
                    self.waiting.insert((stage, ticket), *call);
                    return;
                }
                Err(away) => return self.refuse(call, away.retry_after, orders),
            }
        }
        match self.limits.enter(demand(call), call.patience_end, now) {
            Ok(Entry::Passed(pass)) => self.ask_circuits(call, pass, false, orders),
            Ok(Entry::Waiting(ticket)) => {
                orders.push(Order::Joined(call.tenant));
                self.waiting.insert((Stage::Limits, ticket), *call);
            }
            Err(away) => self.refuse(call, away.retry_after, orders),
        }
    }

    /// The circuits' admission, last. What they refuse gives its pass back, and costs nothing.
    fn ask_circuits(&mut self, call: &Call, pass: Pass, waited: bool, orders: &mut Orders) {
        match self.circuits.admit(call, orders.now()) {
            Ok(admission) => {
                self.under_way.insert(call.request, Held { pass, admission, waited });
                if let Some(past) = self.pasts.get_mut(&call.request) {
                    past.holds_token = false;
                }
                orders.send(call);
            }
            Err(refused) => {
                self.limits.settle(pass, Settlement::Refund, Feedback::Neutral, orders.now());
                self.wait_for_circuit(call, refused, orders);
            }
        }
    }

    /// A request waits for a probe's verdict, or for its own turn to probe, if it has the patience.
    fn wait_for_circuit(&mut self, call: &Call, refused: Refused, orders: &mut Orders) {
        let (now, at) = (orders.now(), refused.rejected.retry_at());
        // Who fails slowly may have too much to do, and those who wait would be a herd.
        let patience = if refused.is_slow { now } else { circuit_patience(call) };
        // While a probe is under way its verdict is worth waiting for, however far off the next one is.
        let probed = matches!(refused.rejected, Rejected::ProbesInFlight { .. });
        if now >= patience || at > patience && !probed {
            return self.refuse(call, at.saturating_since(now), orders);
        }
        self.at_circuit.insert((at.min(patience), call.request), *call);
    }

    fn refuse(&mut self, call: &Call, wait: Duration, orders: &mut Orders) {
        self.forget(call.request);
        orders.refuse(call, Told::wait(Some(wait)));
    }

    /// A request has ended. The token of a retry that was not sent goes back.
    fn forget(&mut self, request: RequestId) {
        if self.pasts.remove(&request).is_some_and(|past| past.holds_token) {
            self.budget.refund(Spend::Retry);
        }
    }

    /// Lets go whoever has its turn, or no patience left.
    fn let_in(&mut self, orders: &mut Orders) {
        self.let_ask_again(orders);
        self.let_in_by_lanes(orders);
        self.let_in_by_limits(orders);
        self.lanes.tidy(orders.now());
    }

    fn let_ask_again(&mut self, orders: &mut Orders) {
        while let Some(first) = self.at_circuit.first_entry()
            && first.key().0 <= orders.now()
        {
            let call = first.remove();
            self.begin(&call, orders);
        }
    }

    fn let_in_by_lanes(&mut self, orders: &mut Orders) {
        let now = orders.now();
        for part in self.lanes.parts() {
            while let Some(left) = self.lanes.next(part, now) {
                let (Left::Turn(ticket) | Left::Expired(ticket, _)) = left;
                let Some(call) = self.waiting.remove(&(Stage::Lane(part), ticket)) else { continue };
                match (left, part) {
                    (Left::Expired(_, wait), _) => self.refuse(&call, wait, orders),
                    (Left::Turn(_), Part::Model(_)) => {
                        self.go_on(&call, Stage::Lane(Part::model_of_tenant(&call)), orders);
                    }
                    (Left::Turn(_), Part::ModelOf(..)) => self.go_on(&call, Stage::Limits, orders),
                }
            }
        }
    }

    fn let_in_by_limits(&mut self, orders: &mut Orders) {
        let now = orders.now();
        while let Some(leaving) = self.limits.next(now) {
            let (ticket, pass) = match leaving {
                Leaving::Passed { ticket, pass, .. } => (ticket, Some(pass)),
                Leaving::Expired { ticket, .. } => (ticket, None),
            };
            let Some(call) = self.waiting.remove(&(Stage::Limits, ticket)) else { continue };
            match pass {
                Some(pass) => {
                    orders.push(Order::Granted(call.tenant, call.tokens_max));
                    self.ask_circuits(&call, pass, true, orders);
                }
                None => {
                    let wait = self.limits.in_vain(call.tokens_max, now).retry_after;
                    self.refuse(&call, wait, orders);
                }
            }
            // Only now: whose turn it was still waited while it was served.
            orders.push(Order::Left(call.tenant));
        }
    }

    /// What an answer leads to.
    fn judge(&self, call: &Call, answer: &Answer) -> Consequence {
        let took = answer.at.saturating_since(answer.sent);
        match answer.outcome {
            Outcome::Success => Consequence::Served,
            Outcome::Overloaded => Consequence::Overloaded { suspected: false },
            Outcome::Throttled => Consequence::Limited,
            // A caller that hangs up says nothing, unless it has waited far longer than others do.
            Outcome::Failure if hung_up(call, answer) => match self.circuits.is_overdue(took, answer.at) {
                true => Consequence::Overdue,
                false => Consequence::Nothing,
            },
            Outcome::Failure
                if !answer.timed_out
                    && took <= self.retry.quick_attempt_max
                    && self.trial.suspects_overload(model(call)) =>
            {
                Consequence::Overloaded { suspected: true }
            }
            Outcome::Failure => Consequence::Failed {
                again: self.pasts.get(&call.request).is_some_and(|past| past.has_failed),
                returned: has_come_back(call),
            },
            _ => Consequence::Nothing,
        }
    }

    /// Gives back what a call held at the limits.
    fn give_back(&mut self, call: &Call, pass: Pass, waited: bool, answer: &Answer, orders: &mut Orders) {
        let settlement = settlement(answer);
        let given_back = match settlement {
            Settlement::Used(used) if waited => pass.tokens().saturating_sub(used),
            Settlement::Refund if waited => pass.tokens(),
            Settlement::Used(_) | Settlement::Refund | Settlement::AsEstimated => 0,
        };
        let late = answer.timed_out && !hung_up(call, answer);
        let feedback = match answer.outcome {
            // How long an answer takes does not depend on the request's tokens here.
            Outcome::Success => {
                Feedback::Answered { first_token: answer.at.saturating_since(answer.sent), input_tokens: 0 }
            }
            Outcome::Failure if late && !self.promptness.hangs_alone(answer.sent, answer.at) => Feedback::TimedOut,
            // What asks for less load is paced.
            _ => Feedback::Neutral,
        };
        self.limits.settle(pass, settlement, feedback, answer.at);
        orders.push(Order::GivenBack(call.tenant, given_back));
    }

    /// Counts an answer in the circuits, and lets those go who have waited for one that closes.
    fn count(
        &mut self,
        call: &Call,
        admission: Admission,
        consequence: Consequence,
        answer: &Answer,
        orders: &mut Orders,
    ) {
        let changed = self.circuits.settle(call, admission, consequence, answer, orders.random());
        if changed.opened {
            orders.push(Order::Opened(answer.sent));
        }
        if changed.closed {
            let waiting = std::mem::take(&mut self.at_circuit);
            self.at_circuit = waiting.into_values().map(|call| ((answer.at, call.request), call)).collect();
        }
    }

    /// What follows a failed attempt.
    fn next(&mut self, call: &Call, answer: &Answer, consequence: Consequence, random: u64) -> Next {
        let now = answer.at;
        if hung_up(call, answer) {
            return Next::GiveUp(None);
        }
        // As soon as its lane lets it out; the lane keeps a pause that is named. Where nobody is served
        // and nobody else waits, turns are attempts like others.
        if let Some((part, _)) = consequence.too_much(call, answer) {
            let is_of_use = call.attempt < self.retry.max_attempts || self.lanes.is_of_use(part, call.entered);
            return if is_of_use { Next::Again(Duration::ZERO) } else { Next::GiveUp(answer.retry_after) };
        }
        let (remaining, took) = (call.deadline.saturating_since(now), now.saturating_since(answer.sent));
        // Whoever has kept a call for so long is not asked the same again, and here is no other upstream.
        let advice = if answer.timed_out { Advice::NextUpstream } else { Advice::Retry };
        let step = next_step(&self.retry, call.attempt, took, answer.retry_after, Some(remaining), advice, random);
        let Step::RetryAfter(wait) = step else { return Next::GiveUp(answer.retry_after) };
        // Waiting for a circuit that will still be open is waiting for nothing.
        if let Err(Refused { rejected, .. }) = self.circuits.peek(call, now) {
            let at = rejected.retry_at();
            if at > now.saturating_add(wait) && at > circuit_patience(call) {
                return Next::GiveUp(Some(at.saturating_since(now)));
            }
        }
        let chance_min = if call.caller_retries { REPEAT_CHANCE_MIN_BESIDE_THE_CALLERS } else { REPEAT_CHANCE_MIN };
        let allowed = self.circuits.may_repeat(call, chance_min)
            && (has_come_back(call) || self.retry.allows(call.attempt, self.circuits.served_share(call)))
            && self.budget.try_spend(Spend::Retry, now);
        if !allowed {
            return Next::GiveUp(None);
        }
        self.pasts.entry(call.request).or_default().holds_token = true;
        Next::Again(wait.max(self.held_back(call, now)))
    }

    /// How long a repetition is held back. Whoever has not the time for the trial takes no part in it.
    fn held_back(&self, call: &Call, now: Timestamp) -> Duration {
        let wait = self.trial.retries_wait(model(call), now);
        if wait > call.deadline.saturating_since(now) / 2 { Duration::ZERO } else { wait }
    }
}

/// The number by which what is known of models is remembered.
const fn model(call: &Call) -> u64 {
    call.model as u64
}

/// Whether its caller has sent it before.
const fn has_come_back(call: &Call) -> bool {
    call.caller_retry > 0
}

/// Until when a request waits at an open circuit.
fn circuit_patience(call: &Call) -> Timestamp {
    call.deadline.min(call.entered.saturating_add(CIRCUIT_PATIENCE))
}

/// Whether the caller left before an answer came.
fn hung_up(call: &Call, answer: &Answer) -> bool {
    answer.timed_out && answer.at >= call.deadline
}

fn demand(call: &Call) -> Demand {
    let tenant = Tenant { id: call.tenant as u64, weight: call.weight };
    Demand { tenant, priority: Priority::Normal, tokens: call.tokens_max }
}

/// A lane counts turns: what a call costs is for the limits.
fn demand_of_a_turn(call: &Call) -> Demand {
    Demand { tokens: 0, ..demand(call) }
}

/// What a call cost. A provider that refuses does not count it; one that fails may have.
fn settlement(answer: &Answer) -> Settlement {
    match answer.outcome {
        Outcome::Success => Settlement::Used(answer.tokens),
        Outcome::Overloaded | Outcome::Throttled => Settlement::Refund,
        _ => Settlement::AsEstimated,
    }
}

impl Protection for Stack {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        // What a caller repeats is a retry like ours.
        let now = orders.now();
        let wait = if has_come_back(call) { self.held_back(call, now) } else { Duration::ZERO };
        if !wait.is_zero() {
            return orders.push(Order::AskAgain(call.request, now.saturating_add(wait)));
        }
        self.again(call, orders);
    }

    fn again(&mut self, call: &Call, orders: &mut Orders) {
        self.begin(call, orders);
        self.let_in(orders);
    }

    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) {
        let Some(Held { pass, admission, waited }) = self.under_way.remove(&call.request) else { return };
        let served = answer.outcome == Outcome::Success;
        let is_new = call.attempt == 1 && !has_come_back(call);
        let is_telling = served || answer.outcome == Outcome::Failure && !hung_up(call, answer);
        if is_new && is_telling && self.trial.observe(model(call), answer.sent, served, answer.at) {
            self.lanes.acquit(call, answer.at);
        }
        self.give_back(call, pass, waited, answer, orders);
        let consequence = self.judge(call, answer);
        if let Some((part, pause)) = consequence.too_much(call, answer) {
            self.lanes.told(part, pause, answer, &self.served, orders.random());
        }
        self.count(call, admission, consequence, answer, orders);
        if served {
            self.budget.earn(self.trial.factor());
            self.served.served(Part::key(call), answer.at);
            self.promptness.answered(answer.at.saturating_since(answer.sent), answer.at);
            self.lanes.served(call, answer.at);
            self.forget(call.request);
            orders.deliver(call, answer);
        } else {
            if matches!(consequence, Consequence::Failed { .. } | Consequence::Overloaded { .. }) {
                self.pasts.entry(call.request).or_default().has_failed = true;
            }
            match self.next(call, answer, consequence, orders.random()) {
                Next::Again(Duration::ZERO) => self.begin(call, orders),
                Next::Again(wait) => orders.push(Order::AskAgain(call.request, answer.at.saturating_add(wait))),
                Next::GiveUp(wait) => {
                    self.forget(call.request);
                    // What a caller is told is never less than what it would wait here.
                    let told = wait.or(answer.retry_after).max(self.lanes.wait(call, answer.at));
                    orders.push(Order::Deliver(call.request, Told::wait(told)));
                }
            }
        }
        // What was given back may be what somebody waits for.
        self.let_in(orders);
    }

    fn woken(&mut self, orders: &mut Orders) {
        self.let_in(orders);
    }

    fn wake_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        let in_turn = self.limits.wake_at(now).map(|(_, at)| at);
        let at_circuit = self.at_circuit.first_key_value().map(|((at, _), _)| *at);
        [in_turn, self.lanes.wake_at(now), at_circuit].into_iter().flatten().min()
    }

    fn is_closed(&self) -> bool {
        self.circuits.are_all_closed()
    }

    fn held(&self, now: Timestamp) -> usize {
        let limits = self.limits.waiting()
            + self.limits.concurrency().in_flight() as usize
            + self.limits.limiter().outstanding();
        let requests = self.waiting.len() + self.at_circuit.len() + self.under_way.len() + self.pasts.len();
        limits + self.lanes.held() + self.circuits.in_flight(now) + requests
    }
}

#[cfg(test)]
mod tests;
