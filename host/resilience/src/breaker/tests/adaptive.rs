//! The kind that opens for a total outage alone.

use super::*;
use std::collections::VecDeque;

/// A circuit that has served so many requests.
fn after_serving(requests: u32) -> Circuit {
    let mut circuit = Circuit::new(BreakerSettings::adaptive());
    (0..requests).for_each(|_| circuit.call(Outcome::Success));
    circuit
}

/// The calls in a row that end like this after which it opens; `None` when it stays closed through a thousand.
fn calls_until_open(circuit: &mut Circuit, outcome: Outcome) -> Option<u32> {
    (1..=1_000).find(|_| {
        circuit.call(outcome);
        circuit.state() == CircuitState::Open
    })
}

fn failures_until_open(circuit: &mut Circuit) -> Option<u32> {
    calls_until_open(circuit, Outcome::Failure)
}

/// Chance by a linear congruential generator (Knuth's MMIX), good enough for failure rates.
fn chances(seed: u64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(seed), |last| {
        Some(last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    })
    .map(|bits| (bits >> 11) as f64 / (1_u64 << 53) as f64)
}

#[test]
fn when_all_was_well_ten_failures_in_a_row_are_an_outage() {
    let mut circuit = after_serving(1_000);
    assert_eq!(failures_until_open(&mut circuit), Some(10));
    assert_eq!(circuit.transitions[0].cause, Cause::NoneServed(10));
}

#[test]
fn when_nothing_is_known_it_takes_as_many_as_tell_an_outage_from_nine_tenths_failing() {
    let failures = failures_until_open(&mut Circuit::new(BreakerSettings::adaptive())).unwrap();
    assert!((100..=120).contains(&failures), "{failures}");
}

#[test]
fn no_share_of_failures_opens_it() {
    for failing in [0.1, 0.3, 0.5, 0.7, 0.9] {
        let mut circuit = Circuit::new(BreakerSettings::adaptive());
        for chance in chances(7).skip(1).take(5_000) {
            circuit.call(if chance < failing { Outcome::Failure } else { Outcome::Success });
            circuit.pass(Duration::from_millis(20));
        }
        assert_eq!(circuit.transitions, [], "{failing} failing");
    }
}

#[test]
fn a_share_that_falls_to_a_tenth_is_known_within_a_few_openings() {
    for seed in 1..=20 {
        let mut circuit = after_serving(1_000);
        for chance in chances(seed).skip(1).take(3_000) {
            circuit.pass(Duration::from_millis(20));
            let Ok(admitted) = circuit.breaker.admit(circuit.now) else { continue };
            circuit.settle(admitted.permit, if chance < 0.9 { Outcome::Failure } else { Outcome::Success });
        }
        let openings = circuit.transitions.iter().filter(|transition| transition.to == CircuitState::Open).count();
        assert!(openings <= 3, "{openings} openings in a minute, seed {seed}");
    }
}

#[test]
fn those_who_left_after_far_too_long_count_for_a_third() {
    let mut circuit = after_serving(1_000);
    assert_eq!(calls_until_open(&mut circuit, Outcome::Overdue), Some(30));
    let mut circuit = after_serving(1_000);
    for _ in 0..200 {
        (0..9).for_each(|_| circuit.call(Outcome::Overdue));
        circuit.call(Outcome::Success);
    }
    assert_eq!(circuit.transitions, [], "others are served");
}

#[test]
fn those_who_come_back_and_fail_once_more_count_for_a_third() {
    let mut circuit = after_serving(1_000);
    assert_eq!(calls_until_open(&mut circuit, Outcome::FailedOnReturn), Some(30));
    assert_eq!(circuit.transitions[0].cause, Cause::NoneServed(10));
}

/// Serves three of four calls at once; the fourth hangs, and fails eight seconds later.
fn where_some_hang(seconds_long: u64) -> Circuit {
    let mut circuit = after_serving(100);
    let mut hanging = VecDeque::new();
    for call in 0..seconds_long * 50 {
        circuit.pass(Duration::from_millis(20));
        if hanging.front().is_some_and(|(due, _)| *due <= circuit.now) {
            let (_, permit) = hanging.pop_front().unwrap();
            circuit.settle(permit, Outcome::Failure);
        }
        let permit = circuit.breaker.admit(circuit.now).unwrap().permit;
        if call % 4 == 3 {
            hanging.push_back((circuit.now.saturating_add(seconds(8)), permit));
        } else {
            circuit.settle(permit, Outcome::Success);
        }
    }
    // And now it is silent, while what hangs goes on failing.
    for (due, permit) in hanging {
        circuit.now = circuit.now.max(due);
        circuit.settle(permit, Outcome::Failure);
    }
    circuit
}

#[test]
fn what_hung_says_nothing_against_those_that_went_out_later_and_were_served() {
    assert_eq!(where_some_hang(30).transitions, []);
}

#[test]
fn what_went_out_after_all_that_were_served_is_an_outage_however_long_it_hung() {
    let mut circuit = where_some_hang(30);
    let permits: Vec<Permit> = (0..20).map(|_| circuit.breaker.admit(circuit.now).unwrap().permit).collect();
    circuit.pass(seconds(8));
    for permit in permits {
        circuit.settle(permit, Outcome::Failure);
    }
    assert_eq!(circuit.state(), CircuitState::Open);
}

#[test]
fn a_permit_may_be_of_a_call_that_had_gone_out_before_others_were_served() {
    let mut circuit = after_serving(1_000);
    let (before, _) = (circuit.now, circuit.pass(seconds(1)));
    circuit.call(Outcome::Success);
    for _ in 0..100 {
        let permit = circuit.breaker.admit(circuit.now).unwrap().permit.of_a_call_sent(before);
        circuit.settle(permit, Outcome::Failure);
    }
    assert_eq!(circuit.transitions, []);
}

#[test]
fn an_upstream_that_says_too_much_is_there() {
    let mut circuit = after_serving(100);
    failures_until_open(&mut circuit);
    circuit.pass(seconds(1));
    let probe = circuit.breaker.admit(circuit.now).unwrap().permit;
    circuit.settle(probe, Outcome::Throttled);
    assert_eq!(circuit.state(), CircuitState::Closed);
}

#[test]
fn it_knows_whether_its_last_failure_was_a_slow_one() {
    let mut circuit = after_serving(10);
    circuit.call(Outcome::Failure);
    assert!(!circuit.breaker.fails_slowly());
    let permit = circuit.breaker.admit(circuit.now).unwrap().permit;
    let _ = circuit.breaker.record(permit, Outcome::Failure, seconds(2), None, circuit.now, 0);
    assert!(circuit.breaker.fails_slowly());
}

#[test]
fn further_failures_of_the_same_request_count_nothing() {
    let mut circuit = after_serving(1_000);
    (0..100).for_each(|_| circuit.call(Outcome::FailedAgain));
    assert_eq!(failures_until_open(&mut circuit), Some(10));
}

#[test]
fn what_fails_for_a_narrower_circuit_shows_that_the_upstream_can_be_reached() {
    let mut circuit = after_serving(1_000);
    for _ in 0..100 {
        circuit.call(Outcome::Failure);
        circuit.call(Outcome::FailedElsewhere);
    }
    assert_eq!(circuit.state(), CircuitState::Closed);
    assert_eq!(circuit.breaker.statistics(circuit.now).failures, 200, "policies see all of them");
}

#[test]
fn while_open_a_probe_goes_out_at_each_interval_whether_the_last_one_has_ended_or_not() {
    let mut circuit = after_serving(100);
    failures_until_open(&mut circuit);
    let opened = circuit.now;
    let mut probes = VecDeque::new();
    while circuit.now.saturating_since(opened) < seconds(120) {
        circuit.pass(Duration::from_millis(10));
        if let Ok(admitted) = circuit.breaker.admit(circuit.now) {
            assert!(admitted.permit.is_probe());
            probes.push_back((circuit.now.saturating_since(opened), admitted.permit));
        }
    }
    let times: Vec<Duration> = probes.iter().map(|(at, _)| *at).collect();
    // A fifth of jitter on the first.
    assert!(times[0] <= Duration::from_millis(730), "{:?}", times[0]);
    let early = times.iter().filter(|at| **at < seconds(10)).count();
    assert!((10..=12).contains(&early), "{early} in the first ten seconds");
    assert!((40..=50).contains(&times.len()), "{} in two minutes", times.len());
    for pair in times.windows(2) {
        let expected = 0.6 + 0.06 * pair[0].as_secs_f64();
        let gap = (pair[1] - pair[0]).as_secs_f64();
        assert!((expected - 0.01..expected + 0.02).contains(&gap), "{pair:?}");
    }
    // The first of them, two minutes late, closes it all the same.
    circuit.settle(probes.pop_front().unwrap().1, Outcome::Success);
    assert_eq!(circuit.state(), CircuitState::Closed);
    circuit.settle(probes.pop_front().unwrap().1, Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Closed, "the others are of a time that is over");
}

#[test]
fn a_probe_that_its_caller_gives_up_makes_room_for_another_at_once() {
    let mut circuit = after_serving(100);
    failures_until_open(&mut circuit);
    circuit.pass(seconds(1));
    let probe = circuit.breaker.admit(circuit.now).unwrap().permit;
    assert!(circuit.breaker.admit(circuit.now).is_err());
    circuit.settle(probe, Outcome::Ignored);
    assert!(circuit.breaker.admit(circuit.now).is_ok());
}

#[test]
fn after_an_outage_the_share_is_what_the_outage_has_shown() {
    let mut circuit = after_serving(1_000);
    failures_until_open(&mut circuit);
    for _ in 0..10 {
        circuit.pass(seconds(2));
        let probe = circuit.breaker.admit(circuit.now).unwrap().permit;
        circuit.settle(probe, Outcome::Failure);
    }
    circuit.pass(seconds(2));
    let probe = circuit.breaker.admit(circuit.now).unwrap().permit;
    circuit.settle(probe, Outcome::Success);
    circuit.pass(seconds(1));
    let failures = failures_until_open(&mut circuit).unwrap();
    assert!(failures > 80, "{failures}: it may well have come back to serving one in twenty");
}

#[test]
fn a_part_expects_what_the_whole_has_seen() {
    let circuit = after_serving(1_000);
    let mut part = Circuit::new(BreakerSettings::adaptive());
    part.breaker = circuit.breaker.for_a_part(circuit.now);
    assert_eq!(failures_until_open(&mut part), Some(10));
}

#[test]
fn repetitions_end_after_two_failing_attempts_when_all_was_well_and_late_where_failing_is_usual() {
    let allowed = |circuit: &mut Circuit, chance: f64| {
        circuit.call(Outcome::Failure);
        (1..200).find(|_| {
            let over = !circuit.breaker.may_repeat(chance);
            circuit.call(Outcome::FailedAgain);
            over
        })
    };
    assert_eq!(allowed(&mut Circuit::new(BreakerSettings::adaptive()), 1e-3), Some(2), "nothing is known");
    assert_eq!(allowed(&mut after_serving(1_000), 1e-3), Some(2));
    let mut failing_half = Circuit::new(BreakerSettings::adaptive());
    for _ in 0..100 {
        failing_half.call(Outcome::Failure);
        failing_half.call(Outcome::Success);
    }
    let attempts = allowed(&mut failing_half, 1e-3).unwrap();
    assert!((8..=13).contains(&attempts), "{attempts}");
}

#[test]
fn a_cool_off_and_a_policy_open_it_as_ever() {
    let mut circuit = after_serving(10);
    let permit = circuit.breaker.admit(circuit.now).unwrap().permit;
    let until = circuit.now.saturating_add(seconds(7));
    let _ = circuit.breaker.record(permit, Outcome::Throttled, QUICK, Some(until), circuit.now, 0);
    assert_eq!(circuit.breaker.admit(circuit.now).unwrap_err().retry_at(), until);
    let mut circuit = after_serving(10);
    let permit = circuit.breaker.admit(circuit.now).unwrap().permit;
    let recorded = circuit.breaker.record(permit, Outcome::Failure, QUICK, None, circuit.now, 0);
    let judged = circuit.breaker.judge(recorded.judgement.unwrap(), Some(TripDecision::Open), circuit.now, 0);
    assert_eq!(judged.map(|transition| transition.cause), Some(Cause::Policy));
}
