use std::time::Duration;

use spillway_resilience::Timestamp;

use super::*;
use crate::protection::{Call, Order, Orders};
use crate::random::Random;

/// One protection, and what it is told and orders.
struct Desk<P> {
    protection: P,
    orders: Orders,
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::ORIGIN.saturating_add(Duration::from_secs_f64(seconds))
}

fn call(attempt: u32) -> Call {
    Call { attempt, ..Call::plain(0, Timestamp::ORIGIN) }
}

impl<P: Protection + Default> Desk<P> {
    fn new() -> Self {
        Self { protection: P::default(), orders: Orders::new(Random::new(1)) }
    }

    /// Whether a request that comes now is sent.
    fn sends(&mut self, seconds: f64) -> bool {
        self.orders.set_now(at(seconds));
        self.protection.asked(&call(0), &mut self.orders);
        match *self.orders.take() {
            [Order::Send(_)] => true,
            [Order::Refuse(_, told)] => {
                assert!(told.should_retry && told.retry_after.is_none());
                false
            }
            ref other => panic!("{other:?}"),
        }
    }

    /// What follows this outcome of a request's call of this number: `true` if it is sent again.
    fn repeats(&mut self, attempt: u32, outcome: Outcome, timed_out: bool, seconds: f64) -> bool {
        let now = at(seconds);
        self.orders.set_now(now);
        let answer = Answer { sent: now, at: now, outcome, retry_after: None, timed_out, tokens: 0 };
        self.protection.answered(&call(attempt), &answer, &mut self.orders);
        let orders = self.orders.take();
        orders.iter().any(|order| matches!(order, Order::Send(_)))
    }

    /// A call for each letter, all at once: F fails, S succeeds. Calls that are refused are left out.
    fn outcomes(&mut self, letters: &str, seconds: f64) {
        for letter in letters.chars() {
            let outcome = if letter == 'S' { Outcome::Success } else { Outcome::Failure };
            if self.sends(seconds) {
                self.repeats(9, outcome, false, seconds);
            }
        }
    }
}

#[test]
fn without_a_proxy_all_is_sent_once() {
    let mut direct = Desk::<Direct>::new();
    assert!(direct.sends(0.0));
    assert!(!direct.repeats(1, Outcome::Failure, false, 0.0));
}

#[test]
fn haproxy_repeats_errors_three_times_at_once_and_neither_time_outs_nor_limits() {
    let mut proxy = Desk::<RetryOn>::new();
    let repeats: Vec<bool> = (1..=4).map(|attempt| proxy.repeats(attempt, Outcome::Failure, false, 0.0)).collect();
    assert_eq!(repeats, [true, true, true, false]);
    assert!(proxy.repeats(1, Outcome::Overloaded, false, 0.0));
    assert!(!proxy.repeats(1, Outcome::Failure, true, 0.0));
    assert!(!proxy.repeats(1, Outcome::Throttled, false, 0.0));
}

#[test]
fn the_throttle_refuses_what_exceeds_twice_the_accepts() {
    for (requests, accepts, expected) in [(0, 0, 0.0), (10, 0, 10.0 / 11.0), (100, 50, 0.0), (100, 40, 20.0 / 101.0)] {
        let probability = Throttle::probability(requests, accepts);
        assert!((probability - expected).abs() < 1e-9, "{requests} {accepts}: {probability}");
    }
}

#[test]
fn the_throttle_forgets_after_two_minutes_and_counts_what_it_refused() {
    let mut throttle = Desk::<Throttle>::new();
    throttle.outcomes(&"F".repeat(100), 0.0);
    assert_eq!((throttle.protection.requests, throttle.protection.accepts), (100, 0));
    assert!(!throttle.sends(119.0), "by a chance of 100 to 101");
    assert!(throttle.sends(239.0));
    assert_eq!(throttle.protection.requests, 1);
}

#[test]
fn the_retry_budget_is_a_fifth_of_ten_seconds_requests_and_ten_a_second() {
    let mut budget = RetryBudget::default();
    let granted = |budget: &mut RetryBudget, seconds| (0..1_000).filter(|_| budget.withdraw(at(seconds))).count();
    assert_eq!(granted(&mut budget, 0.0), 100);
    (0..50).for_each(|_| budget.deposit(at(1.0)));
    assert_eq!(granted(&mut budget, 1.0), 10);
    assert_eq!(granted(&mut budget, 10.0), 100, "those of the beginning have expired");
}

#[test]
fn accrual_rests_after_five_in_a_row_or_below_four_fifths() {
    for (outcomes, dead) in [("SSSFFFF", true), ("FSFS", false), ("SSSSSSSSSSSSSSSSSSSSFFFF", false), ("FFFFF", true)] {
        let mut accrual = Desk::<Accrual>::new();
        accrual.outcomes(outcomes, 0.0);
        assert_eq!(!accrual.protection.is_closed(), dead, "{outcomes}");
    }
    let mut accrual = Desk::<Accrual>::new();
    accrual.outcomes("FFFF", 0.0);
    accrual.outcomes("SSSSSSSSSSSSSSSSF", 31.0);
    assert!(accrual.protection.is_closed(), "what is older than thirty seconds does not count");
}

#[test]
fn accrual_sends_one_probe_after_a_rest_that_doubles_up_to_five_minutes() {
    let mut accrual = Desk::<Accrual>::new();
    accrual.outcomes("FFFFF", 0.0);
    let mut now = 0.0;
    for longest in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0] {
        assert!(!accrual.sends(now + longest / 2.0 - 0.001), "{longest}");
        now += longest;
        assert!(accrual.sends(now) && !accrual.sends(now), "one probe after {longest}");
        accrual.repeats(1, Outcome::Failure, false, now);
    }
    assert!(accrual.sends(now + 300.0));
    accrual.repeats(1, Outcome::Success, false, now + 300.0);
    assert!(accrual.protection.is_closed());
}

#[test]
fn accrual_repeats_errors_within_its_budget() {
    let mut accrual = Desk::<Accrual>::new();
    accrual.outcomes("SSSSSSSSSS", 0.0);
    assert!(accrual.repeats(1, Outcome::Failure, false, 0.0));
    assert!(!accrual.repeats(1, Outcome::Failure, true, 0.0));
    while accrual.protection.budget.withdraw(at(0.0)) {}
    assert!(!accrual.repeats(1, Outcome::Overloaded, false, 0.0));
}

#[test]
fn the_ratio_breaker_waits_for_a_hundred_calls_and_probes_with_ten() {
    let mut breaker = Desk::<RatioBreaker>::new();
    breaker.outcomes(&"F".repeat(99), 0.0);
    assert!(breaker.protection.is_closed());
    breaker.outcomes("F", 0.0);
    assert!(!breaker.sends(59.9));
    let probes = (0..20).filter(|_| breaker.sends(60.0)).count();
    assert_eq!(probes, 10);
    for outcome in [[Outcome::Failure; 5], [Outcome::Success; 5]].concat() {
        breaker.repeats(1, outcome, false, 60.0);
    }
    assert!(!breaker.sends(119.9), "half of them failed");
    breaker.outcomes("FFFFSSSSSS", 120.0);
    assert!(breaker.protection.is_closed(), "less than half");
}

#[test]
fn the_ratio_breaker_looks_at_the_last_hundred_calls() {
    let mut breaker = Desk::<RatioBreaker>::new();
    breaker.outcomes(&"S".repeat(1_000), 0.0);
    breaker.outcomes(&"F".repeat(49), 0.0);
    assert!(breaker.protection.is_closed());
    breaker.outcomes("F", 0.0);
    assert!(!breaker.protection.is_closed());
}

#[test]
fn five_in_a_row_rest_five_seconds_and_one_call_decides() {
    let mut cooldown = Desk::<Cooldown>::new();
    cooldown.outcomes("FFFFSFFFF", 0.0);
    assert!(cooldown.protection.is_closed());
    cooldown.outcomes("F", 0.0);
    assert!(!cooldown.sends(4.9));
    assert!(cooldown.sends(5.0) && !cooldown.sends(5.0));
    cooldown.repeats(1, Outcome::Failure, false, 5.0);
    assert!(!cooldown.sends(9.9) && cooldown.sends(10.0));
    cooldown.repeats(1, Outcome::Success, false, 10.0);
    assert!(cooldown.sends(10.0) && cooldown.sends(10.0));
}

#[test]
fn every_contender_has_a_name_of_its_own() {
    let mut names: Vec<&str> = Contender::OTHERS.iter().map(|contender| contender.name()).collect();
    names.push(Contender::Spillway.name());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Contender::OTHERS.len() + 1);
}
