//! Several upstreams that may serve a request, each behind its own layers, joined as the proxy joins them.
//!
//! The order in which they are asked, whether a failure is followed by another target, and where conversations stay are
//! decided by `spillway-resilience` ([`order`], [`onward`], [`Affinity`]).
//!
//! - A target that would let a request wait is passed over without a call while others are left. If all are, the
//!   request waits at the one that says the shortest wait.
//! - The token for a further target comes from the budget of the one that is asked: it is that one's load which is
//!   bounded, by what it serves.

use std::collections::HashMap;
use std::time::Duration;

use spillway_resilience::{
    Affinity, AffinitySettings, Candidate, ChainSettings, Consequence, Hop, NoHop, Onward, Spend, Step, Timestamp,
    onward, order,
};

use crate::protection::{Answer, Call, Order, Orders, Protection, RequestId};
use crate::scenario::{Provider, Scenario};
use crate::stack::{Next, Settings, Stack};

/// One target.
#[derive(Debug)]
struct Target {
    rank: u32,
    stack: Stack,
    tokens_in_flight: u64,
}

/// How far a request has come.
#[derive(Debug)]
struct Journey {
    /// What it may cost.
    tokens: u64,
    /// The targets in the order in which they are asked.
    order: Vec<usize>,
    /// Those of them that have failed.
    failed: Vec<usize>,
    /// Where it is.
    at: usize,
    /// Calls made there.
    attempts: u32,
    /// Targets that were called before.
    hops: u32,
}

impl Journey {
    /// Those that have not failed.
    fn others(&self) -> Vec<usize> {
        self.order.iter().copied().filter(|target| !self.failed.contains(target)).collect()
    }
}

/// What came of the search for another target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    /// A call was made there.
    On,
    /// None is to be asked.
    Stays(NoHop),
    /// All would let it wait, this one for the shortest time.
    Waits(usize),
}

/// The chain.
#[derive(Debug)]
pub struct Chain {
    settings: ChainSettings,
    targets: Vec<Target>,
    affinity: Affinity,
    journeys: HashMap<RequestId, Journey>,
}

impl Chain {
    /// A chain of a scenario's targets, with default settings.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        Self::with(scenario, Settings::knowing)
    }

    /// A chain of a scenario's targets, with the settings that are chosen for each.
    #[must_use]
    pub fn with(scenario: &Scenario, settings: impl Fn(&Provider) -> Settings) -> Self {
        let further = scenario.further_targets.iter().map(|target| &target.provider);
        let target = |(provider, rank)| Target { rank, stack: Stack::new(&settings(provider)), tokens_in_flight: 0 };
        Self {
            settings: ChainSettings::default(),
            targets: std::iter::once(&scenario.provider).chain(further).zip(scenario.ranks()).map(target).collect(),
            affinity: Affinity::new(AffinitySettings::default()),
            journeys: HashMap::new(),
        }
    }

    /// The order in which the targets are asked for a call.
    fn order(&mut self, call: &Call, orders: &mut Orders) -> Vec<usize> {
        let now = orders.now();
        let pinned = call.conversation.and_then(|conversation| self.affinity.pinned(conversation, now));
        let candidate = |(number, target): (usize, &Target)| Candidate {
            rank: target.rank,
            weight: 1,
            tokens_in_flight: target.tokens_in_flight,
            conversations: self.affinity.conversations(number),
            standing: target.stack.standing(call, now),
            is_degraded: false,
        };
        let candidates: Vec<Candidate> = self.targets.iter().enumerate().map(candidate).collect();
        order(&candidates, pinned, orders.random())
    }

    /// Asks the layers of a target, and passes on what they order, but for a refusal of `hurried`, whose way may go on.
    ///
    /// # Errors
    ///
    /// The wait that is told with that refusal.
    fn ask(
        &mut self,
        at: usize,
        hurried: Option<RequestId>,
        orders: &mut Orders,
        ask: impl FnOnce(&mut Stack, &mut Orders),
    ) -> Result<(), Duration> {
        let Some(target) = self.targets.get_mut(at) else { return Ok(()) };
        let mut own = orders.fork();
        ask(&mut target.stack, &mut own);
        let mut entered = Ok(());
        for order in own.take() {
            match order {
                Order::Refuse(request, told) if Some(request) == hurried => {
                    entered = Err(told.retry_after.unwrap_or_default());
                }
                Order::Send(request) => {
                    target.tokens_in_flight += self.journeys.get(&request).map_or(0, |journey| journey.tokens);
                    orders.push(Order::SendTo(request, at));
                }
                Order::Refuse(request, _) | Order::Deliver(request, _) => {
                    self.journeys.remove(&request);
                    orders.push(order);
                }
                other => orders.push(other),
            }
        }
        entered
    }

    /// Lets a target have a request if nothing is in its way there.
    ///
    /// # Errors
    ///
    /// The wait that it says. Nothing has happened.
    fn enter(&mut self, call: &Call, at: usize, orders: &mut Orders) -> Result<(), Duration> {
        let hurried = Call { may_wait: false, ..*call };
        self.ask(at, Some(call.request), orders, |stack, orders| stack.asked(&hurried, orders))?;
        self.has_come(call.request, at);
        Ok(())
    }

    /// Lets a request wait at a target.
    fn wait_at(&mut self, call: &Call, at: usize, orders: &mut Orders) {
        self.has_come(call.request, at);
        let _ = self.ask(at, None, orders, |stack, orders| stack.again(call, orders));
    }

    /// A request is at a target from here on.
    fn has_come(&mut self, request: RequestId, at: usize) {
        let Some(journey) = self.journeys.get_mut(&request).filter(|journey| journey.at != at) else { return };
        if let Some(left) = self.targets.get_mut(journey.at) {
            left.stack.forget(request);
        }
        journey.hops += u32::from(journey.attempts > 0);
        (journey.at, journey.attempts) = (at, 0);
    }

    /// Sends a request to the first of these that lets it in now; if none does, it waits at the one that says the
    /// shortest wait.
    fn find_a_way(&mut self, call: &Call, targets: &[usize], orders: &mut Orders) {
        let mut soonest: Option<(Duration, usize)> = None;
        for at in targets.iter().copied() {
            match self.enter(call, at, orders) {
                Ok(()) => return,
                Err(wait) => soonest = soonest.filter(|(least, _)| *least <= wait).or(Some((wait, at))),
            }
        }
        if let Some((_, at)) = soonest {
            self.wait_at(call, at, orders);
        }
    }

    /// Sends a failed request to the first of the others that lets it in now and has a token for it.
    fn move_on(&mut self, call: &Call, hop: &Hop, others: &[usize], orders: &mut Orders) -> Moved {
        let mut soonest: Option<(Duration, usize)> = None;
        let mut why = NoHop::NoOthers;
        for at in others.iter().copied() {
            let Some(target) = self.targets.get_mut(at) else { continue };
            match onward(&self.settings, hop, target.stack.budget_mut(), orders.now()) {
                Onward::Here(reason) => why = reason,
                Onward::Next => match self.enter(call, at, orders) {
                    Ok(()) => return Moved::On,
                    Err(wait) => {
                        soonest = soonest.filter(|(least, _)| *least <= wait).or(Some((wait, at)));
                        if let Some(target) = self.targets.get_mut(at) {
                            target.stack.budget_mut().refund(Spend::Fallback);
                        }
                    }
                },
            }
        }
        soonest.map_or(Moved::Stays(why), |(_, at)| Moved::Waits(at))
    }

    /// What follows a call that has failed: another target if that is of use, else what would follow without one.
    fn go_on(&mut self, call: &Call, answer: &Answer, consequence: &Consequence, orders: &mut Orders) {
        let Some(journey) = self.journeys.get_mut(&call.request) else { return };
        let Some(target) = self.targets.get_mut(journey.at) else { return };
        let at = journey.at;
        if !journey.failed.contains(&at) {
            // Each target is an upstream of its own, so a failure rules out no other.
            journey.failed.push(at);
        }
        let step = target.stack.step(call, answer, consequence, orders.random());
        let others = journey.others();
        let mut hop = Hop {
            step,
            attempts: journey.attempts,
            standing: target.stack.standing(call, answer.at),
            hops: journey.hops,
            has_others: !others.is_empty(),
            since_arrival: answer.at.saturating_since(call.entered),
            took: answer.at.saturating_since(answer.sent),
        };
        let mut moved = self.move_on(call, &hop, &others, orders);
        if moved == Moved::On {
            return;
        }
        let Some(target) = self.targets.get_mut(at) else { return };
        let next = target.stack.next(call, answer, step);
        if let (Moved::Stays(NoHop::Hiccup), Next::GiveUp(hint)) = (moved, next) {
            // Its repetition here is not granted.
            hop.step = Step::NextUpstream { hint };
            moved = self.move_on(call, &hop, &others, orders);
        }
        match (moved, next) {
            (Moved::On, _) => {}
            (Moved::Waits(other), Next::GiveUp(_)) => self.wait_at(call, other, orders),
            _ => drop(self.ask(at, None, orders, |stack, orders| stack.follow(call, answer, next, orders))),
        }
    }
}

impl Protection for Chain {
    fn asked(&mut self, call: &Call, orders: &mut Orders) {
        let order = self.order(call, orders);
        let at = order.first().copied().unwrap_or_default();
        let tokens = call.tokens_max;
        let journey = Journey { tokens, order: order.clone(), failed: Vec::new(), at, attempts: 0, hops: 0 };
        self.journeys.insert(call.request, journey);
        self.find_a_way(call, &order, orders);
    }

    fn again(&mut self, call: &Call, orders: &mut Orders) {
        let Some(at) = self.journeys.get(&call.request).map(|journey| journey.at) else { return };
        let _ = self.ask(at, None, orders, |stack, orders| stack.again(call, orders));
    }

    fn answered(&mut self, call: &Call, answer: &Answer, orders: &mut Orders) {
        let Some(journey) = self.journeys.get_mut(&call.request) else { return };
        let Some(target) = self.targets.get_mut(journey.at) else { return };
        journey.attempts += 1;
        let at = journey.at;
        let call = Call { attempt: journey.attempts, ..*call };
        target.tokens_in_flight = target.tokens_in_flight.saturating_sub(call.tokens_max);
        let mut settled = None;
        let _ = self.ask(at, None, orders, |stack, orders| settled = stack.settle(&call, answer, orders));
        match settled {
            Some(consequence) => self.go_on(&call, answer, &consequence, orders),
            None => {
                if let Some(conversation) = call.conversation {
                    self.affinity.served(conversation, at, answer.at);
                }
                self.journeys.remove(&call.request);
                orders.deliver(&call, answer);
            }
        }
        // What was given back may be what somebody waits for.
        let _ = self.ask(at, None, orders, Stack::let_in);
    }

    fn woken(&mut self, orders: &mut Orders) {
        for at in 0..self.targets.len() {
            let _ = self.ask(at, None, orders, Stack::let_in);
        }
    }

    fn wake_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.targets.iter_mut().filter_map(|target| target.stack.wake_at(now)).min()
    }

    fn is_closed(&self) -> bool {
        self.targets.first().is_none_or(|first| first.stack.is_closed())
    }

    fn held(&self, now: Timestamp) -> usize {
        self.journeys.len() + self.targets.iter().map(|target| target.stack.held(now)).sum::<usize>()
    }
}
