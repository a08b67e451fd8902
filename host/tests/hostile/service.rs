//! Policies that were loaded and then misbehave in service, each in front of a real judge.

use crate::{load, policy, runtime};
use spillway::policy::{Instance, Judge, Registry, Role, Runtime, Sha256Sum, Slot};
use spillway::runtime::clock::Clock;
use spillway_sdk::testing::{exchange, window};
use spillway_sdk::{Class, RetryDecision, TripDecision, Verdict};
use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much longer than its bound a call may take on a machine that is busy with other things.
const GENEROUS: u32 = 20;

/// Answers after each fault that keep a policy from being quarantined for the share of its faults, which would end the
/// test: a tenth of the calls is too large a share.
const ANSWERS_PER_FAULT: u32 = 11;

/// A policy in service.
struct Service {
    registry: Registry,
    slot: Arc<Slot>,
    judge: Judge,
}

impl Service {
    fn of(runtime: &Runtime, file: &[u8]) -> Service {
        let clock = Clock::start();
        let registry = Registry::new(clock);
        let slot = registry.slot("p");
        registry.install("p", Role::Active, Sha256Sum::of(file), load(runtime, file, "{}").unwrap());
        Service { registry, slot, judge: Judge::new(clock) }
    }

    fn classify(&mut self, deed: &str) -> Verdict {
        let facts = exchange().status(503).header("x-hostile", deed);
        self.judge.classify(&self.slot, Rc::new(facts)).verdict
    }

    fn backoff(&mut self, deed: &str) -> Option<RetryDecision> {
        let facts = exchange().status(503).header("x-hostile", format!("backoff: {deed}"));
        self.judge.backoff(&self.slot, Rc::new(facts), &Verdict::failure("x"))
    }

    fn trip(&mut self, deed: &str) -> Option<TripDecision> {
        self.judge.trip(&self.slot, Rc::new(window().upstream(deed)))
    }

    /// Keeps the policy in service after a fault.
    fn recover(&mut self) {
        for _ in 0..ANSWERS_PER_FAULT {
            self.classify("harmless");
        }
    }

    fn faults(&self) -> u64 {
        self.registry.status()[0].faults
    }

    fn last_fault(&self) -> String {
        self.registry.status()[0].last_fault.clone().unwrap_or_default()
    }
}

#[test]
fn a_policy_that_loses_memory_is_made_anew_before_it_fails() {
    let runtime = runtime();
    let mut service = Service::of(&runtime, &policy("hostile"));
    for _ in 0..100 {
        service.classify("leak");
    }
    assert_eq!(service.faults(), 0, "{}", service.last_fault());
}

/// A question to one of the hooks.
type Ask = fn(&mut Service);

/// Processor time of this thread.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn an_endless_loop_in_each_hook_holds_its_worker_no_longer_than_the_bound_says() {
    let runtime = runtime();
    let mut service = Service::of(&runtime, &policy("hostile-hooks"));
    let hooks: [(&str, Ask); 3] = [
        ("classify", |service| assert_eq!(service.classify("loop").reason, "status 503")),
        ("backoff", |service| assert_eq!(service.backoff("loop"), None)),
        ("trip", |service| assert_eq!(service.trip("loop"), None)),
    ];
    for (faults, (hook, ask)) in (1..).zip(hooks) {
        let (began, cpu) = (Instant::now(), cpu_time());
        ask(&mut service);
        let (wall, cpu) = (began.elapsed(), cpu_time() - cpu);
        assert_eq!((service.faults(), service.last_fault()), (faults, format!("{hook}: took longer than 5 ms")));
        // A loop may use the processor in its free time too.
        let bound = Instance::FREE_TIME + Instance::CPU_BUDGET;
        assert!(cpu < bound * 4, "{hook}: {cpu:?} of processor time");
        assert!(wall < (Instance::FREE_TIME + Instance::WALL_BUDGET) * GENEROUS, "{hook}: {wall:?}");
        service.recover();
    }
}

#[test]
fn every_way_to_end_an_instance_is_one_fault_in_each_hook() {
    let runtime = runtime();
    let mut service = Service::of(&runtime, &policy("hostile-hooks"));
    let mut faults = 0;
    for (deed, complaint) in
        [("trap", "unreachable"), ("memory", "memory"), ("stack", "trapped"), ("huge line", "too much data")]
    {
        let hooks: [fn(&mut Service, &str); 3] = [
            |service, deed| assert_eq!(service.classify(deed).reason, "status 503"),
            |service, deed| assert_eq!(service.backoff(deed), None),
            |service, deed| assert_eq!(service.trip(deed), None),
        ];
        for ask in hooks {
            ask(&mut service, deed);
            faults += 1;
            assert_eq!(service.faults(), faults, "{deed}");
            assert!(service.last_fault().contains(complaint), "{deed}: {}", service.last_fault());
            service.recover();
        }
    }
}

#[test]
fn a_reason_is_cut_at_a_characters_end_and_a_huge_one_is_a_fault() {
    let runtime = runtime();
    let mut service = Service::of(&runtime, &policy("hostile"));
    let long = service.classify("long reason").reason;
    assert_eq!(long, format!("x{}", "é".repeat((Instance::REASON_BYTES_MAX - 1) / 2)));
    let forged = service.classify("forged reason").reason;
    assert_eq!(forged, "harmless  x-forged: yes ", "a reason stays on its line");
    assert_eq!(service.faults(), 0);

    assert_eq!(service.classify("huge reason").reason, "status 503");
    assert!(service.last_fault().contains("too much data"), "{}", service.last_fault());
    assert_eq!(service.classify("broken reason").reason, "status 503");
    assert!(service.last_fault().contains("utf-8"), "{}", service.last_fault());
    assert_eq!(service.faults(), 2);
}

#[test]
fn durations_without_end_are_only_that() {
    let runtime = runtime();
    let mut service = Service::of(&runtime, &policy("hostile-hooks"));
    let for_ever = Duration::from_millis(u64::MAX);
    assert_eq!(service.classify("endless cool-off").cool_off, Some(for_ever));
    assert_eq!(service.backoff("retry after"), Some(RetryDecision::After(for_ever)));
    assert_eq!(service.backoff("spool for"), Some(RetryDecision::SpoolFor(for_ever)));
    assert_eq!(service.trip("open-for"), Some(TripDecision::OpenFor(for_ever)));
    assert_eq!(service.faults(), 0);
}

#[test]
fn a_policy_that_traps_at_random_costs_its_own_answers_and_nothing_else() {
    let runtime = runtime();
    let mut service = Service::of(&runtime, &policy("hostile"));
    let mut random = fastrand::Rng::with_seed(1);
    let mut own = 0;
    for _ in 0..1_000 {
        let roll = u64::from(random.bool());
        let facts = exchange().status(503).header("x-hostile", "sometimes").random(roll);
        let verdict = service.judge.classify(&service.slot, Rc::new(facts)).verdict;
        match verdict.class {
            Class::Ignored => own += 1,
            _ => {
                assert_eq!(verdict.reason, "status 503");
                service.recover();
            }
        }
    }
    assert_eq!(own + service.faults(), 1_000);
    assert!((400..600).contains(&service.faults()), "{} faults", service.faults());
}
