//! One run: events are taken one after another until nothing is left to happen.

use spillway_resilience::{Outcome, Timestamp};

use crate::clients::{Clients, Request, Slots};
use crate::contender::Contender;
use crate::event::{Event, Events};
use crate::measure::{Meter, Run};
use crate::protection::{Answer, Order, Orders, Protection, Told};
use crate::provider::{self, Provider};
use crate::random::Random;
use crate::scenario::{Arrival, Scenario};

/// Everything there is in one run.
struct World<'a> {
    events: Events,
    clients: Clients,
    /// Requests that were recorded, in place of drawn ones.
    recorded: &'a [Arrival],
    slots: Slots,
    protection: &'a mut dyn Protection,
    orders: Orders,
    /// The orders that are being carried out; empty in between.
    obeyed: Vec<Order>,
    /// Those of a chain, or the only one.
    providers: Vec<Provider>,
    meter: Meter,
    /// The planned wake that counts; all other plans are void.
    wake: Option<Timestamp>,
    end: Timestamp,
}

/// Runs a scenario once, which is one of `seeds` runs, with callers that try again `retries` times by
/// themselves. The same arguments give the same result, on every machine with the same floating-point
/// logarithm.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64, seeds: u32, contender: Contender, retries: u32) -> Run {
    run_with(scenario, seed, seeds, contender.build(scenario).as_mut(), retries)
}

/// As [`run`], with a protection that has seen nothing yet.
#[must_use]
pub fn run_with(scenario: &Scenario, seed: u64, seeds: u32, protection: &mut dyn Protection, retries: u32) -> Run {
    let mut random = Random::new(seed);
    let length = scenario.run_length(seeds);
    let mut spans = vec![provider::spans(scenario, &scenario.faults, &mut random.fork())];
    let clients = Clients::new(scenario, retries, random.fork());
    let mut providers = vec![Provider::new(scenario.provider, spans[0].clone(), random.fork())];
    let orders = Orders::new(random.fork());
    // Further targets draw after all others, so that these see the same with or without them.
    for target in &scenario.further_targets {
        let of_target = provider::spans(scenario, &target.faults, &mut random.fork());
        providers.push(Provider::new(target.provider, of_target.clone(), random.fork()));
        spans.push(of_target);
    }
    let mut world = World {
        events: Events::default(),
        clients,
        recorded: scenario.recorded.as_ref().map_or(&[], |recorded| &recorded.arrivals),
        slots: Slots::default(),
        protection,
        providers,
        meter: Meter::new(scenario, spans, length),
        wake: None,
        end: Timestamp::ORIGIN.saturating_add(length),
        orders,
        obeyed: Vec::new(),
    };
    match &scenario.recorded {
        Some(_) => world.plan_recorded(0),
        None => (0..scenario.tenants.len()).for_each(|tenant| world.plan_arrival(tenant, Timestamp::ORIGIN)),
    }
    let mut now = Timestamp::ORIGIN;
    while let Some((at, event)) = world.events.pop() {
        debug_assert!(at >= now, "time never runs backwards");
        now = at;
        world.orders.set_now(now);
        world.happens(event, now);
        world.obey(now);
    }
    let left_over = world.slots.occupied() + world.protection.held(now);
    let circuit = world.protection.has_circuit();
    let overshoot = world.providers.iter().filter_map(Provider::overshoot).max();
    Run { left_over, ..world.meter.finish(overshoot, circuit) }
}

impl World<'_> {
    fn happens(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Arrival(tenant) => {
                self.plan_arrival(tenant, now);
                let request = self.clients.request(tenant, now);
                self.arrives(request, now);
            }
            Event::Recorded(number) => {
                self.plan_recorded(number + 1);
                if let Some(arrival) = self.recorded.get(number) {
                    let request = self.clients.recorded(arrival);
                    self.arrives(request, now);
                }
            }
            Event::Sending(slot) => {
                if let Some(request) = self.slots.get(slot) {
                    request.call.caller_retry += 1;
                }
                self.client_sends(slot, now);
            }
            Event::Again(slot) => {
                if let Some(request) = self.slots.get(slot) {
                    self.protection.again(&request.call, &mut self.orders);
                }
            }
            Event::Answer(slot) => self.answered(slot),
            Event::Wake => {
                if self.wake == Some(now) {
                    self.protection.woken(&mut self.orders);
                }
            }
        }
    }

    fn arrives(&mut self, mut request: Request, now: Timestamp) {
        request.number = self.meter.arrival(request.tokens, now);
        let slot = self.slots.put(request);
        self.client_sends(slot, now);
    }

    fn plan_recorded(&mut self, number: usize) {
        if let Some(arrival) = self.recorded.get(number) {
            self.events.plan(arrival.at, Event::Recorded(number));
        }
    }

    fn plan_arrival(&mut self, tenant: usize, now: Timestamp) {
        let at = now.saturating_add(self.clients.gap(tenant));
        if at < self.end {
            self.events.plan(at, Event::Arrival(tenant));
        }
    }

    fn client_sends(&mut self, slot: usize, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        self.clients.sends(&mut request.call, now);
        self.protection.asked(&request.call, &mut self.orders);
    }

    fn answered(&mut self, slot: usize) {
        let Some(request) = self.slots.get(slot) else { return };
        let Some(answer) = request.answer else { return };
        if answer.outcome != Outcome::Success {
            self.meter.wasted(answer.sent);
        }
        self.protection.answered(&request.call, &answer, &mut self.orders);
    }

    /// Carries out what the protection has ordered, and plans when to wake it.
    fn obey(&mut self, now: Timestamp) {
        let mut orders = std::mem::take(&mut self.obeyed);
        self.orders.swap(&mut orders);
        for order in &orders {
            match *order {
                Order::Send(slot) => self.send(slot, 0, now),
                Order::SendTo(slot, target) => self.send(slot, target, now),
                Order::AskAgain(slot, at) => self.events.plan(at.max(now), Event::Again(slot)),
                Order::Deliver(slot, told) => self.deliver(slot, told, now),
                Order::Refuse(slot, told) => self.failed(slot, told, now),
                Order::Joined(tenant) => self.meter.waiting(tenant, true),
                Order::Left(tenant) => self.meter.waiting(tenant, false),
                Order::Granted(tenant, tokens) => self.meter.granted(tenant, tokens),
                Order::GivenBack(tenant, tokens) => self.meter.given_back(tenant, tokens),
                Order::Opened(sent) => self.meter.opened(sent),
            }
        }
        self.obeyed = orders;
        let wake = self.protection.wake_at(now).map(|at| at.max(now));
        if wake != self.wake {
            self.wake = wake;
            if let Some(at) = wake {
                self.events.plan(at, Event::Wake);
            }
        }
    }

    fn send(&mut self, slot: usize, target: usize, now: Timestamp) {
        let (Some(request), Some(provider)) = (self.slots.get(slot), self.providers.get_mut(target)) else { return };
        self.meter.call(target, now);
        request.call.attempt += 1;
        request.calls += 1;
        request.target = target;
        let reply = provider.call(&request.call, request.tokens, now);
        let timeout = self.clients.timeout(&request.call, now);
        let timed_out = reply.at > timeout;
        let answer = Answer {
            sent: now,
            at: reply.at.min(timeout),
            // Whoever left knows of no answer; the provider goes on working for nobody.
            outcome: if timed_out { Outcome::Failure } else { reply.outcome },
            retry_after: reply.retry_after.filter(|_| !timed_out),
            timed_out,
            tokens: request.tokens,
        };
        request.answer = Some(answer);
        self.events.plan(answer.at, Event::Answer(slot));
    }

    /// The client has the last answer to its request.
    fn deliver(&mut self, slot: usize, told: Told, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        match request.answer {
            Some(answer) if answer.outcome == Outcome::Success => {
                self.meter.served(request, answer.sent, now, self.protection.is_closed());
                self.slots.take(slot);
            }
            Some(_) | None => self.failed(slot, told, now),
        }
    }

    /// The client learns that it failed, and what it is told with it.
    fn failed(&mut self, slot: usize, told: Told, now: Timestamp) {
        let Some(request) = self.slots.get(slot) else { return };
        if let Some(at) = self.clients.again(&request.call, told, now) {
            self.events.plan(at, Event::Sending(slot));
        } else {
            self.meter.unserved(request);
            self.slots.take(slot);
        }
    }
}
