//! One run: events are taken one after another until nothing is left to happen.

use std::time::Duration;

use spillway_resilience::{Outcome, Timestamp};

use crate::clients::{Clients, Slots};
use crate::event::{Event, Events};
use crate::measure::{Meter, Run};
use crate::provider::{self, Provider};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::stack::{Blocked, Next, Stack, WaitingRoom};

/// Everything there is in one run.
struct World {
    events: Events,
    clients: Clients,
    slots: Slots,
    room: WaitingRoom,
    stack: Stack,
    provider: Provider,
    meter: Meter,
    /// The planned wake that counts; earlier plans are void.
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
        room: WaitingRoom::default(),
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
                    world.wake = None;
                    world.serve_waiting(now);
                }
            }
        }
    }
    let left_over = world.slots.occupied() + world.stack.in_flight(now) as usize;
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
        // Nobody overtakes those who wait already.
        if self.room.is_empty() { self.offer(slot, now) } else { self.wait_in_line(slot, now, None) }
    }

    fn offer(&mut self, slot: usize, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        match self.stack.admit(request.estimate, now) {
            Ok(held) => {
                request.held = Some(held);
                self.send(slot, now);
            }
            Err(Blocked::Limit(at)) => self.wait_in_line(slot, now, Some(at)),
            Err(Blocked::Saturated) => self.wait_in_line(slot, now, None),
            Err(Blocked::Circuit(at)) => self.wait_for_circuit(slot, at, now),
        }
    }

    fn wait_in_line(&mut self, slot: usize, now: Timestamp, wake: Option<Timestamp>) {
        let Some(request) = self.slots.get(slot) else { return };
        let tenant = request.tenant;
        let patience_end = self.clients.patience_end(request);
        let (patient, is_head) = (patience_end > now, self.room.is_empty());
        if !patient || !self.room.push(slot) {
            let told = wake.map(|at| at.saturating_since(now));
            return self.failed(slot, told, now);
        }
        self.meter.waiting(tenant, true);
        // Who stands further back is looked at when its turn comes.
        if is_head {
            self.plan_wake(wake.map_or(patience_end, |at| at.min(patience_end)));
        }
    }

    fn wait_for_circuit(&mut self, slot: usize, at: Timestamp, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        if at <= self.clients.patience_end(request) && at > now {
            self.events.plan(at, Event::Try(slot));
        } else {
            self.failed(slot, Some(at.saturating_since(now)), now);
        }
    }

    fn plan_wake(&mut self, at: Timestamp) {
        if self.wake.is_none_or(|planned| at < planned) {
            self.wake = Some(at);
            self.events.plan(at, Event::Wake);
        }
    }

    /// Serves those who wait, in their order, as far as tokens and slots reach.
    fn serve_waiting(&mut self, now: Timestamp) {
        while let Some(slot) = self.room.head() {
            let Some(request) = self.slots.get(slot) else { return };
            let tenant = request.tenant;
            let patience_end = self.clients.patience_end(request);
            let admitted = if now >= patience_end { None } else { Some(self.stack.admit(request.estimate, now)) };
            match admitted {
                Some(Err(Blocked::Limit(at))) => return self.plan_wake(at.min(patience_end)),
                // Whoever gives back a slot looks here.
                Some(Err(Blocked::Saturated)) => return self.plan_wake(patience_end),
                Some(Ok(_) | Err(Blocked::Circuit(_))) | None => {}
            }
            self.room.pop();
            match admitted {
                Some(Ok(held)) => {
                    request.held = Some(held);
                    self.send(slot, now);
                }
                Some(Err(Blocked::Circuit(at))) => self.wait_for_circuit(slot, at, now),
                Some(Err(Blocked::Limit(_) | Blocked::Saturated)) | None => self.failed(slot, None, now),
            }
            // Only now: whose turn it was still waited while it was served.
            self.meter.waiting(tenant, false);
        }
    }

    fn send(&mut self, slot: usize, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        self.meter.call(now);
        self.meter.granted(request.tenant, request.estimate, 0);
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
        let transition = self.stack.settle(held, &answer, request.timed_out, tokens, sent, self.random.next());
        if let Some(transition) = transition {
            self.meter.transition(transition, sent);
        }
        let served = answer.outcome == Outcome::Success;
        let given_back = if served { request.estimate.saturating_sub(tokens) } else { request.estimate };
        self.meter.granted(request.tenant, 0, given_back);
        if served {
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
        self.serve_waiting(now);
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
