//! One run: events are taken one after another until nothing is left to happen.

use std::collections::HashMap;
use std::time::Duration;

use spillway_resilience::{Outcome, Ticket, Timestamp};

use crate::clients::{Clients, Slots};
use crate::event::{Event, Events};
use crate::measure::{Meter, Run};
use crate::provider::{self, Provider};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::stack::{Blocked, Entered, Left, Next, Stack};

/// Everything there is in one run.
struct World {
    events: Events,
    clients: Clients,
    slots: Slots,
    /// The slots of those who wait in the queue.
    waiting: HashMap<Ticket, usize>,
    stack: Stack,
    provider: Provider,
    meter: Meter,
    /// The planned wake that counts; all other plans are void.
    wake: Option<Timestamp>,
    end: Timestamp,
    random: Random,
}

/// Runs a scenario once, which is one of `seeds` runs. The same arguments give the same result, on
/// every machine with the same floating-point logarithm.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64, seeds: u32, protected: bool) -> Run {
    let mut random = Random::new(seed);
    let length = scenario.run_length(seeds);
    let spans = provider::spans(scenario, &mut random.fork());
    let mut world = World {
        events: Events::default(),
        clients: Clients::new(&scenario.tenants, scenario.client, protected, random.fork()),
        slots: Slots::default(),
        waiting: HashMap::new(),
        stack: if protected { Stack::new(&scenario.provider) } else { Stack::none() },
        provider: Provider::new(scenario.provider, spans.clone(), random.fork()),
        meter: Meter::new(scenario, spans, length),
        wake: None,
        end: Timestamp::ORIGIN.saturating_add(length),
        random: random.fork(),
    };
    for tenant in 0..scenario.tenants.len() {
        world.plan_arrival(tenant, Timestamp::ORIGIN);
    }
    let mut now = Timestamp::ORIGIN;
    while let Some((at, event)) = world.events.pop() {
        debug_assert!(at >= now, "time never runs backwards");
        now = at;
        match event {
            Event::Arrival(tenant) => world.arrival(tenant, now),
            Event::Try(slot) => world.enter(slot, now),
            Event::Answer(slot) => world.answered(slot, now),
            Event::Wake => {
                if world.wake == Some(now) {
                    world.let_in(now);
                }
            }
        }
    }
    let left_over = world.slots.occupied() + world.waiting.len() + world.stack.held(now);
    Run { left_over, ..world.meter.finish(world.provider.overshoot(), protected) }
}

impl World {
    fn plan_arrival(&mut self, tenant: usize, now: Timestamp) {
        let at = now.saturating_add(self.clients.gap(tenant));
        if at < self.end {
            self.events.plan(at, Event::Arrival(tenant));
        }
    }

    fn arrival(&mut self, tenant: usize, now: Timestamp) {
        self.plan_arrival(tenant, now);
        let request = self.clients.request(tenant, now);
        self.meter.arrival(request.tokens, now);
        let slot = self.slots.put(request);
        self.enter(slot, now);
    }

    /// A request comes from its client, or again from a wait in the proxy.
    fn enter(&mut self, slot: usize, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        if std::mem::take(&mut request.from_client) {
            request.entered = now;
            request.sendings += 1;
            request.attempt = 0;
            self.stack.arrived();
        }
        let (demand, patience_end) = (self.clients.demand(request), self.clients.patience_end(request));
        match self.stack.enter(demand, patience_end, now) {
            Ok(Entered::Passed(held)) => {
                request.held = Some(held);
                self.send(slot, now);
            }
            Ok(Entered::Waiting(ticket)) => {
                self.meter.waiting(request.tenant, true);
                self.waiting.insert(ticket, slot);
            }
            Err(Blocked::Limit(wait)) => self.failed(slot, Some(wait), now),
            Err(Blocked::Circuit(at)) => self.wait_for_circuit(slot, at, now),
        }
        self.let_in(now);
    }

    fn wait_for_circuit(&mut self, slot: usize, at: Timestamp, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        if at <= self.clients.patience_end(request) && at > now {
            self.events.plan(at, Event::Try(slot));
        } else {
            self.failed(slot, Some(at.saturating_since(now)), now);
        }
    }

    /// Lets go whoever has its turn, or no patience left, and plans when to look again.
    fn let_in(&mut self, now: Timestamp) {
        while let Some((ticket, left)) = self.stack.next_in_turn(now) {
            let Some(slot) = self.waiting.remove(&ticket) else { continue };
            let Some(request) = self.slots.get(slot) else { continue };
            let (tenant, estimate) = (request.tenant, request.estimate);
            match left {
                Left::Passed(held) => {
                    request.held = Some(held);
                    self.meter.granted(tenant, estimate);
                    self.send(slot, now);
                }
                Left::Circuit(at) => self.wait_for_circuit(slot, at, now),
                Left::Expired => self.failed(slot, self.stack.told_in_vain(estimate, now), now),
            }
            // Only now: whose turn it was still waited while it was served.
            self.meter.waiting(tenant, false);
        }
        let wake = self.stack.wake_at(now);
        if wake != self.wake {
            self.wake = wake;
            if let Some(at) = wake {
                self.events.plan(at, Event::Wake);
            }
        }
    }

    fn send(&mut self, slot: usize, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        self.meter.call(now);
        request.attempt += 1;
        request.sent = now;
        let mut answer = self.provider.call(request.estimate, request.tokens, now);
        let timeout = self.clients.timeout(now);
        request.timed_out = answer.at > timeout;
        if request.timed_out {
            // The provider goes on working for nobody.
            answer.at = timeout;
            answer.outcome = Outcome::Failure;
        }
        request.answer = Some(answer);
        self.events.plan(answer.at, Event::Answer(slot));
    }

    fn answered(&mut self, slot: usize, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        let (Some(held), Some(answer)) = (request.held.take(), request.answer.take()) else { return };
        let (sent, tokens) = (request.sent, request.tokens);
        let settled = self.stack.settle(held, &answer, request.timed_out, tokens, sent, self.random.next());
        if let Some(transition) = settled.transition {
            self.meter.transition(transition, sent);
        }
        self.meter.given_back(request.tenant, settled.given_back);
        if answer.outcome == Outcome::Success {
            self.meter.served(tokens, sent, now, self.stack.is_closed());
            self.slots.take(slot);
        } else {
            self.meter.wasted(sent);
            let remaining = self.clients.remaining(request, now);
            match self.stack.next(request.attempt, &answer, remaining, self.random.next()) {
                Next::Retry(wait) => self.events.plan(now.saturating_add(wait), Event::Try(slot)),
                Next::GiveUp(told) => self.failed(slot, told, now),
            }
        }
        // What was given back may be what somebody waits for.
        self.let_in(now);
    }

    /// The client learns that it failed, and what wait it was told.
    fn failed(&mut self, slot: usize, told: Option<Duration>, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        if let Some(at) = self.clients.again(request, told, now) {
            request.from_client = true;
            self.events.plan(at, Event::Try(slot));
        } else {
            self.meter.unserved();
            self.slots.take(slot);
        }
    }
}
