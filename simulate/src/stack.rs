//! The proxy's layers around one upstream, in the order in which a request passes them.
//!
//! A look at the circuits, before anything is waited for; the lanes of what has said "too much"; the admission queue,
//! which holds the limits on tokens and on calls in flight; and the circuits' admission last, after all waits. Every
//! part is the real one of `spillway-resilience`, with its default [`Settings`] or an operator's, and what an answer means
//! is said by the same table ([`Consequence`]), what follows it by the same functions ([`next_step`], [`may_retry`]).
//!
//! # What differs
//!
//! - What the proxy's policy judges is judged here by the outcome alone: a failure is worth repeating unless it is a
//!   time-out, and nothing but a limit or an overload names a pause. Every call reaches the provider, and every request may
//!   be repeated.
//! - A tenant stands for its credential. Parts are models, and models under a credential; no limit and no failure is a
//!   credential's as a whole.
//! - Whether callers try again by themselves is known here of all; the proxy knows it of official SDKs, which say so.
//! - The proxy tells those who wait for a circuit of every change, here of its closing only: nothing else lets them go.
//! - Lanes end as soon as they may, not when the proxy next tidies up.
//! - No limits of a tenant's own, no priorities, no hedges, no spool.
//! - Of a chain each target is an upstream of its own, with one credential.

mod circuits;
mod lanes;
mod part;
mod settings;
mod verdict;

pub use settings::{Quota, Settings};

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use spillway_resilience::{
    AdmissionQueue, Circumstances, Class, Consequence, Demand, Entry, FailedAttempt, Feedback, FirstContent, Leaving,
    LoadTrial, Outcome, Pass, Priority, Progress, Promptness, Retry, RetryBudget, RetrySettings, ServedLog, Settlement,
    Spend, Standing, Step, Teaches, Tenant, Ticket, Timestamp, may_retry, next_step,
};

use crate::protection::{Answer, Call, Order, Orders, Protection, RequestId, Told};
use circuits::{CircuitPermits, Circuits, Refused};
use lanes::{Lanes, Left};
use part::Part;
use verdict::verdict;

/// Where a request stands on its way to the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    Lane(Part),
    Limits,
}

/// What one call holds and must give back.
#[derive(Debug)]
struct Permits {
    pass: Pass,
    circuits: CircuitPermits,
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
pub(crate) enum Next {
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
    settings: Settings,
    /// Those who wait, by where and with which ticket.
    waiting: HashMap<(Stage, Ticket), Call>,
    /// Those who wait at an open circuit, by when they ask again.
    at_circuit: BTreeMap<(Timestamp, RequestId), Call>,
    /// What calls under way hold.
    under_way: HashMap<RequestId, Permits>,
    /// Requests that have been tried or have waited in a lane.
    pasts: HashMap<RequestId, Past>,
}

impl Stack {
    /// All layers with these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let now = Timestamp::ORIGIN;
        Self {
            limits: settings.admission_queue(now),
            lanes: Lanes::new(settings.pacing, settings.queue),
            circuits: Circuits::new(settings.breaker, settings.watch_only, now),
            budget: RetryBudget::new(settings.retry_budget, now),
            trial: LoadTrial::new(now),
            served: ServedLog::default(),
            promptness: Promptness::default(),
            settings: *settings,
            waiting: HashMap::new(),
            at_circuit: BTreeMap::new(),
            under_way: HashMap::new(),
            pasts: HashMap::new(),
        }
    }

    /// Takes a request along its way from the beginning, as far as it comes without waiting.
    fn begin(&mut self, call: &Call, orders: &mut Orders) {
        // Whom a circuit would refuse in the end has nothing to wait for before it.
        match self.circuits.peek(call, orders.now()) {
            Ok(()) => self.go_on(call, Stage::Lane(Part::model(call)), orders),
            Err(refused) => self.wait_for_circuit(call, refused, orders),
        }
    }

    fn go_on(&mut self, call: &Call, from: Stage, orders: &mut Orders) {
        let now = orders.now();
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
        match self.limits.enter(demand(call), patience_end(call), now) {
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
            Ok(circuits) => {
                self.under_way.insert(call.request, Permits { pass, circuits, waited });
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
        let now = orders.now();
        self.lanes.release(call.request, now);
        let patience = self.circuit_patience(call).saturating_since(now);
        match refused.rejected.worth_waiting(refused.is_slow, patience, now) {
            Some(wait) => {
                self.at_circuit.insert((now.saturating_add(wait), call.request), *call);
            }
            None => self.refuse(call, refused.rejected.retry_at().saturating_since(now), orders),
        }
    }

    /// Until when a request waits at an open circuit.
    fn circuit_patience(&self, call: &Call) -> Timestamp {
        match call.may_wait {
            true => call.deadline.min(call.entered.saturating_add(self.settings.circuit_patience)),
            false => Timestamp::ORIGIN,
        }
    }

    fn refuse(&mut self, call: &Call, wait: Duration, orders: &mut Orders) {
        self.lanes.release(call.request, orders.now());
        self.forget(call.request);
        orders.refuse(call, Told::wait(Some(wait)));
    }

    /// How well such requests are served.
    pub(crate) fn standing(&self, call: &Call, now: Timestamp) -> Standing {
        self.circuits.standing(call, now)
    }

    /// The tokens that repeated work costs here.
    pub(crate) const fn budget_mut(&mut self) -> &mut RetryBudget {
        &mut self.budget
    }

    /// A request has ended. The token of a retry that was not sent goes back.
    pub(crate) fn forget(&mut self, request: RequestId) {
        if self.pasts.remove(&request).is_some_and(|past| past.holds_token) {
            self.budget.refund(Spend::Retry);
        }
    }

    /// Lets go whoever has its turn, or no patience left.
    pub(crate) fn let_in(&mut self, orders: &mut Orders) {
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
                let (Left::Turn(ticket, _) | Left::Expired(ticket, _)) = left;
                let Some(call) = self.waiting.remove(&(Stage::Lane(part), ticket)) else { continue };
                match left {
                    Left::Expired(_, wait) => self.refuse(&call, wait, orders),
                    Left::Turn(_, turn) => {
                        self.lanes.hold(part, &call, turn);
                        let from = match part {
                            Part::Model(_) => Stage::Lane(Part::model_of_tenant(&call)),
                            Part::ModelOf(..) => Stage::Limits,
                        };
                        self.go_on(&call, from, orders);
                    }
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
                    let wait = self.limits.in_vain(call.tokens_max, None, now).retry_after;
                    self.refuse(&call, wait, orders);
                }
            }
            // Only now: whose turn it was still waited while it was served.
            orders.push(Order::Left(call.tenant));
        }
    }

    /// What an answer leads to.
    fn consequence(&self, call: &Call, answer: &Answer) -> Consequence {
        let took = answer.at.saturating_since(answer.sent);
        if hung_up(call, answer) {
            return Consequence::of_leaving(self.circuits.is_overdue(took, answer.at));
        }
        let served = answer.outcome == Outcome::Success;
        let circumstances = Circumstances {
            breaker: self.settings.kind,
            named: answer.retry_after,
            named_pause_max: self.settings.pacing.named_pause_max,
            progress: if answer.timed_out { Progress::Unanswered } else { Progress::Answered },
            took,
            quick_attempt_max: self.settings.retry.quick_attempt_max,
            first_content: match (served, answer.timed_out) {
                (true, _) => FirstContent::After(took),
                (false, true) => {
                    FirstContent::Late { hangs_alone: self.promptness.hangs_alone(answer.sent, answer.at) }
                }
                (false, false) => FirstContent::Missing,
            },
            // How long an answer takes does not depend on the request's tokens here.
            input_tokens: 0,
            used_tokens: served.then_some(answer.tokens),
            has_failed_before: self.pasts.get(&call.request).is_some_and(|past| past.has_failed),
            has_come_back: has_come_back(call),
            was_slept_through: false,
            suspects_overload: self.trial.suspects_overload(model(call)),
        };
        Consequence::of(verdict(answer), &circumstances)
    }

    /// What an answer teaches beside what it counts in circuits.
    fn learn(&mut self, call: &Call, answer: &Answer) {
        let now = answer.at;
        let teaches = match hung_up(call, answer) {
            true => Teaches::Nothing,
            false => verdict(answer).class.teaches(false),
        };
        let served = teaches == Teaches::Served;
        if served {
            self.budget.earn(self.trial.factor());
            self.served.served(Part::key(call), now);
            self.promptness.answered(now.saturating_since(answer.sent), now);
            self.lanes.served(call, now);
        }
        let is_first = call.attempt == 1 && !has_come_back(call);
        if is_first && teaches != Teaches::Nothing && self.trial.observe(model(call), answer.sent, served, now) {
            self.lanes.acquit(call, now);
        }
    }

    /// Gives back what a call held at the limits.
    fn give_back(
        &mut self,
        call: &Call,
        pass: Pass,
        waited: bool,
        consequence: &Consequence,
        now: Timestamp,
        orders: &mut Orders,
    ) {
        let given_back = match consequence.settlement {
            Settlement::Used(used) if waited => pass.tokens().saturating_sub(used),
            Settlement::Refund if waited => pass.tokens(),
            Settlement::Used(_) | Settlement::Refund | Settlement::AsEstimated => 0,
        };
        self.limits.settle(pass, consequence.settlement, consequence.feedback, now);
        orders.push(Order::GivenBack(call.tenant, given_back));
    }

    /// Counts an answer in the circuits, and lets those go who have waited for one that closes.
    fn count(
        &mut self,
        call: &Call,
        permits: CircuitPermits,
        consequence: &Consequence,
        answer: &Answer,
        orders: &mut Orders,
    ) {
        let changed = self.circuits.settle(call, permits, consequence, answer, orders.random());
        if changed.opened {
            orders.push(Order::Opened(answer.sent));
        }
        if changed.closed {
            let waiting = std::mem::take(&mut self.at_circuit);
            self.at_circuit = waiting.into_values().map(|call| ((answer.at, call.request), call)).collect();
        }
    }

    /// What would follow a failed attempt if there were no other upstream.
    pub(crate) fn step(&self, call: &Call, answer: &Answer, consequence: &Consequence, random: u64) -> Step {
        let now = answer.at;
        let failed = FailedAttempt {
            number: call.attempt,
            took: now.saturating_since(answer.sent),
            requested_wait: answer.retry_after,
            remaining: Some(call.deadline.saturating_since(now)),
            advice: verdict(answer).advice,
            may_repeat: !hung_up(call, answer),
            pacing: consequence.pacing,
            is_turn_of_use: consequence.pacing.is_some() && self.lanes.is_of_use(call, call.entered),
            is_repeated_by_its_caller: call.caller_retries,
            has_come_back: has_come_back(call),
            is_no_evidence: verdict(answer).class == Class::Ignored,
        };
        next_step(&self.settings.retry, &failed, None, random)
    }

    /// What follows it here.
    pub(crate) fn next(&mut self, call: &Call, answer: &Answer, step: Step) -> Next {
        let now = answer.at;
        let wait = match step {
            Step::Paced => return Next::Again(Duration::ZERO),
            Step::RetryAfter(wait) => wait,
            Step::NextUpstream { hint } | Step::GiveUp { hint, .. } => return Next::GiveUp(hint),
        };
        let retry = Retry {
            attempts: call.attempt,
            wait,
            blocked_for: self.circuits.peek(call, now).err().map(|at| at.rejected.retry_at().saturating_since(now)),
            circuit_patience: self.circuit_patience(call).saturating_since(now),
            may_be_chance: self.circuits.may_repeat(call, RetrySettings::repeat_chance_min(call.caller_retries)),
            served_share: self.circuits.served_share(call),
            has_come_back: has_come_back(call),
        };
        if let Err(no_retry) = may_retry(&self.settings.retry, &retry, &mut self.budget, now) {
            return Next::GiveUp(no_retry.wait());
        }
        self.pasts.entry(call.request).or_default().holds_token = true;
        let remaining = call.deadline.saturating_since(now);
        Next::Again(wait.max(self.trial.held_back(model(call), remaining, now)))
    }

    /// Does what follows.
    pub(crate) fn follow(&mut self, call: &Call, answer: &Answer, next: Next, orders: &mut Orders) {
        match next {
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

    /// Learns from an answer, counts it, and gives back what its call held. What a failed one leads to; `None` if the
    /// request was served.
    pub(crate) fn settle(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) -> Option<Consequence> {
        let Permits { pass, circuits, waited } = self.under_way.remove(&call.request)?;
        self.learn(call, answer);
        let mut consequence = self.consequence(call, answer);
        self.give_back(call, pass, waited, &consequence, answer.at, orders);
        if let (Some(pause), Some(part)) = (consequence.pause, Part::reached(call, consequence.reach)) {
            let was_alone = self.limits.concurrency().in_flight() == 0;
            let is_fruitless = self.lanes.told(part, (pause, was_alone), answer, &self.served, orders.random());
            consequence = consequence.heard_by_lane(Some(is_fruitless));
        }
        // Only when its lanes have heard of it: until then it is under way.
        self.lanes.release(call.request, answer.at);
        self.count(call, circuits, &consequence, answer, orders);
        if answer.outcome == Outcome::Success {
            self.forget(call.request);
            return None;
        }
        self.pasts.entry(call.request).or_default().has_failed |= consequence.request_has_failed;
        Some(consequence)
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

/// Until when a request waits in lanes and for limits.
fn patience_end(call: &Call) -> Timestamp {
    if call.may_wait { call.patience_end } else { Timestamp::ORIGIN }
}

/// Whether the caller left before an answer came.
fn hung_up(call: &Call, answer: &Answer) -> bool {
    answer.timed_out && answer.at >= call.deadline
}

fn demand(call: &Call) -> Demand {
    let tenant = Tenant { id: call.tenant as u64, weight: call.weight };
    Demand { tenant, priority: Priority::Normal, tokens: call.tokens_max, group: None }
}

/// A lane counts turns: what a call costs is for the limits.
fn demand_of_a_turn(call: &Call) -> Demand {
    Demand { tokens: 0, ..demand(call) }
}

impl Protection for Stack {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        // What a caller repeats is a retry like ours.
        let now = orders.now();
        let remaining = call.deadline.saturating_since(now);
        let wait = match has_come_back(call) {
            true => self.trial.held_back(model(call), remaining, now),
            false => Duration::ZERO,
        };
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
        match self.settle(call, answer, orders) {
            None => orders.deliver(call, answer),
            Some(consequence) => {
                let step = self.step(call, answer, &consequence, orders.random());
                let next = self.next(call, answer, step);
                self.follow(call, answer, next, orders);
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
