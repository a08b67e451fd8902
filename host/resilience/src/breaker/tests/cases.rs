//! The defects that other breakers had, one test each. The numbers are those of the table of
//! acceptance cases that the breaker, the limiter and the retry budget share.

use super::*;

#[test]
fn case_01_a_success_ends_a_run_of_failures() {
    let mut circuit = Circuit::new(plain());
    circuit.calls(N - 1, Outcome::Failure);
    circuit.call(Outcome::Success);
    circuit.calls(N - 1, Outcome::Overloaded);
    assert_eq!(circuit.state(), CircuitState::Closed);
    circuit.call(Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Open, "overloads weigh as much as failures");
    assert_eq!(circuit.causes(), [Cause::ConsecutiveFailures(N)]);
}

#[test]
fn case_02_a_rate_exactly_at_the_threshold_opens() {
    let mut circuit = Circuit::new(by_rate());
    circuit.calls(10, Outcome::Success);
    circuit.calls(9, Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Closed);
    circuit.call(Outcome::Failure);
    assert_eq!(circuit.causes(), [Cause::FailureRate { failures: 10, requests: 20 }]);

    let settings = BreakerSettings { failure_rate: Some(0.07), ..by_rate() };
    let mut circuit = Circuit::new(BreakerSettings { minimum_requests: 100, ..settings });
    circuit.calls(93, Outcome::Success);
    circuit.calls(7, Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Open, "7 of 100 is 0.07 in binary too");
}

#[test]
fn case_03_failures_below_the_minimum_volume_stay_closed() {
    let mut circuit = Circuit::new(by_rate());
    circuit.calls(19, Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Closed);
}

#[test]
fn case_04_old_successes_do_not_outweigh_a_window_of_failures() {
    let mut circuit = Circuit::new(by_rate());
    circuit.calls(10_000, Outcome::Success);
    circuit.pass(seconds(30));
    circuit.calls(20, Outcome::Failure);
    assert_eq!(circuit.causes(), [Cause::FailureRate { failures: 20, requests: 20 }]);
}

#[test]
fn case_05_a_failure_after_a_long_silence_stands_alone() {
    let mut circuit = Circuit::new(BreakerSettings::default());
    circuit.calls(N - 1, Outcome::Failure);
    circuit.pass(seconds(31));
    circuit.call(Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Closed);
    assert_eq!(circuit.breaker.statistics(circuit.now).consecutive_failures, 1);
}

#[test]
fn case_06_a_result_across_two_thresholds_opens_once_for_the_first_of_them() {
    let settings = BreakerSettings { minimum_requests: N, failure_rate: Some(1.0), ..plain() };
    let mut circuit = Circuit::new(settings);
    circuit.calls(N, Outcome::Failure);
    assert_eq!(circuit.causes(), [Cause::ConsecutiveFailures(N)]);
}

#[test]
fn case_07_and_08_late_results_leave_an_open_circuit_alone() {
    let mut circuit = Circuit::new(plain());
    let late: Vec<Permit> = (0..10).map(|_| circuit.admit()).collect();
    circuit.calls(N, Outcome::Failure);
    let until = circuit.breaker.peek(circuit.now).unwrap_err().retry_at();
    circuit.pass(QUICK);
    for (number, permit) in late.into_iter().enumerate() {
        let outcome = if number % 2 == 0 { Outcome::Failure } else { Outcome::Success };
        circuit.settle(permit, outcome);
    }
    assert_eq!(circuit.transitions.len(), 1);
    assert_eq!(circuit.breaker.peek(circuit.now).unwrap_err().retry_at(), until);
    assert_eq!(circuit.in_flight(), 0);
}

#[test]
fn case_09_results_from_before_the_opening_do_not_judge_the_probes() {
    for outcome in [Outcome::Success, Outcome::Failure] {
        let mut circuit = Circuit::new(plain());
        let late = circuit.admit();
        circuit.calls(N, Outcome::Failure);
        circuit.pass(seconds(1));
        let probe = circuit.admit();
        circuit.settle_asking(late, outcome, 60);
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        assert!(circuit.try_admit().is_err(), "the late result freed no slot");
        circuit.settle(probe, Outcome::Success);
        assert_eq!(circuit.state(), CircuitState::Closed);
    }
}

#[test]
fn case_10_a_probe_of_an_earlier_cycle_has_no_effect_and_frees_no_slot() {
    let (mut circuit, first) = Circuit::probing(BreakerSettings { probes: 2, ..plain() });
    let second = circuit.admit();
    circuit.settle(first, Outcome::Failure);
    circuit.pass(seconds(2));
    let (third, fourth) = (circuit.admit(), circuit.admit());
    circuit.settle(second, Outcome::Success);
    assert_eq!(circuit.state(), CircuitState::HalfOpen);
    assert!(circuit.try_admit().is_err());
    circuit.settle(third, Outcome::Success);
    circuit.settle(fourth, Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Closed);
    assert_eq!(circuit.breaker.statistics(circuit.now).requests, 0);
}

#[test]
fn case_11_of_a_thousand_arrivals_exactly_the_probes_pass() {
    let mut circuit = Circuit::opened(BreakerSettings { probes: 3, ..plain() });
    circuit.pass(seconds(1));
    let permits: Vec<_> = (0..1_000).filter_map(|_| circuit.try_admit().ok()).collect();
    assert_eq!(permits.len(), 3);
    assert_eq!(circuit.transitions.len(), 2, "opened once, half-open once");
}

#[test]
fn case_12_and_13_a_cancelled_probe_returns_its_slot_and_judges_nothing() {
    let (mut circuit, probe) = Circuit::probing(plain());
    circuit.settle(probe, Outcome::Ignored);
    assert_eq!(circuit.state(), CircuitState::HalfOpen);
    let probe = circuit.admit();
    circuit.pass(seconds(30));
    circuit.settle_with(probe, Outcome::Ignored, seconds(30), None);
    assert_eq!(circuit.state(), CircuitState::HalfOpen);
    circuit.call(Outcome::Success);
    assert_eq!(circuit.state(), CircuitState::Closed);
}

#[test]
fn case_14_a_probe_that_never_settles_loses_its_slot_and_its_vote() {
    let (mut circuit, lost) = Circuit::probing(plain());
    circuit.pass(seconds(60) - Duration::from_micros(1));
    let rejected = circuit.try_admit().unwrap_err();
    assert_eq!(rejected.retry_at().saturating_since(circuit.now), Duration::from_micros(1));
    circuit.pass(Duration::from_micros(1));
    let next = circuit.admit();
    circuit.settle_asking(lost, Outcome::Failure, 60);
    assert_eq!(circuit.state(), CircuitState::HalfOpen);
    assert!(circuit.try_admit().is_err(), "the lost probe freed no second slot");
    circuit.settle(next, Outcome::Success);
    assert_eq!(circuit.state(), CircuitState::Closed);
    assert_eq!(circuit.in_flight(), 0);
}

#[test]
fn case_14_a_late_probe_still_counts_while_nobody_took_its_slot() {
    let (mut circuit, probe) = Circuit::probing(plain());
    circuit.pass(seconds(90));
    circuit.settle(probe, Outcome::Success);
    assert_eq!(circuit.state(), CircuitState::Closed);
}

#[test]
fn case_14_a_half_open_phase_without_a_verdict_ends() {
    let (mut circuit, _lost) = Circuit::probing(plain());
    circuit.pass(seconds(120));
    let rejected = circuit.breaker.peek(circuit.now).unwrap_err();
    let (until, since) = (rejected.retry_at(), circuit.now);
    assert_eq!(until.saturating_since(since), seconds(2), "the second opening");
    assert_eq!(circuit.state(), CircuitState::HalfOpen, "a look changes nothing");
    let rejected = circuit.try_admit().unwrap_err();
    let transition = rejected.transition().unwrap();
    assert_eq!(transition.cause, Cause::HalfOpenTimedOut);
    assert_eq!((transition.from, transition.to), (CircuitState::HalfOpen, CircuitState::Open));
    assert_eq!(transition.until, Some(until));
    circuit.pass(seconds(2));
    circuit.call(Outcome::Success);
    assert_eq!(circuit.state(), CircuitState::Closed);
}

#[test]
fn case_15_ignorable_probes_are_repeated_until_the_phase_times_out() {
    let (mut circuit, probe) = Circuit::probing(plain());
    circuit.settle(probe, Outcome::Ignored);
    for _ in 0..11 {
        circuit.pass(seconds(10));
        circuit.call(Outcome::Ignored);
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
    }
    let probe = circuit.admit();
    circuit.pass(seconds(10));
    assert!(matches!(circuit.try_admit(), Err(Rejected::ProbesInFlight { .. })), "it is awaited");
    circuit.settle(probe, Outcome::Ignored);
    assert_eq!(circuit.causes().last(), Some(&Cause::HalfOpenTimedOut));
}

#[test]
fn case_16_22_and_24_a_neutral_result_leaks_nothing_and_counts_nowhere() {
    let mut circuit = Circuit::new(plain());
    circuit.calls(N - 1, Outcome::Failure);
    let before = circuit.breaker.statistics(circuit.now);
    circuit.calls(1_000, Outcome::Ignored);
    assert_eq!(circuit.breaker.statistics(circuit.now), before);
    circuit.call(Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Open, "and it does not end a run either");
}

#[test]
fn case_17_a_throttled_probe_keeps_the_circuit_open_as_long_as_asked() {
    for (asked, expected) in [(60, 60), (1, 2)] {
        let (mut circuit, probe) = Circuit::probing(plain());
        circuit.settle_asking(probe, Outcome::Throttled, asked);
        assert_eq!(circuit.cooldown(), seconds(expected), "the later of wait and cooldown");
        assert_eq!(circuit.causes().last(), Some(&Cause::ProbeFailed));
    }
}

#[test]
fn case_18_probes_spaced_beyond_the_window_still_close() {
    let settings = BreakerSettings { probe_successes: 3, half_open_max_wait: seconds(1_000), ..plain() };
    let (mut circuit, probe) = Circuit::probing(settings);
    circuit.settle(probe, Outcome::Success);
    circuit.pass(seconds(100));
    circuit.call(Outcome::Success);
    circuit.pass(seconds(100));
    assert_eq!(circuit.state(), CircuitState::HalfOpen);
    circuit.call(Outcome::Success);
    assert_eq!(circuit.state(), CircuitState::Closed);
}

#[test]
fn case_19_cooldowns_double_to_the_cap_and_start_again_after_a_sustained_recovery() {
    let mut circuit = Circuit::opened(plain());
    let mut cooldowns = vec![circuit.cooldown().as_secs()];
    for _ in 0..4 {
        circuit.pass(circuit.cooldown());
        circuit.call(Outcome::Failure);
        cooldowns.push(circuit.cooldown().as_secs());
    }
    assert_eq!(cooldowns, [1, 2, 4, 4, 4]);
    assert_eq!(circuit.breaker.statistics(circuit.now).consecutive_openings, 5);

    circuit.pass(circuit.cooldown());
    circuit.call(Outcome::Success);
    circuit.pass(seconds(29));
    assert_eq!(circuit.breaker.statistics(circuit.now).consecutive_openings, 5);
    circuit.calls(N, Outcome::Failure);
    assert_eq!(circuit.cooldown(), seconds(4), "a relapse is no recovery");

    circuit.pass(circuit.cooldown());
    circuit.call(Outcome::Success);
    circuit.pass(seconds(30));
    assert_eq!(circuit.breaker.statistics(circuit.now).consecutive_openings, 0);
    circuit.calls(N, Outcome::Failure);
    assert_eq!(circuit.cooldown(), seconds(1));
}

proptest! {
    #[test]
    fn case_20_jitter_lengthens_a_cooldown_by_its_share_at_most(
        openings in 0_u32..100,
        random: u64,
    ) {
        let mut breaker = Breaker::new(BreakerSettings::default(), Timestamp::ORIGIN);
        breaker.openings = openings;
        let nominal = Duration::from_secs(1 << openings.min(2));
        let end = breaker.cooldown_end(Timestamp::ORIGIN, random);
        let cooldown = end.saturating_since(Timestamp::ORIGIN);
        prop_assert!((nominal..nominal * 6 / 5).contains(&cooldown), "{cooldown:?}");
    }
}

#[test]
fn case_21_only_differences_of_time_matter() {
    let run = |start: u64| {
        let start = Timestamp::from_micros(start);
        let mut circuit = Circuit::starting_at(BreakerSettings::default(), start);
        for step in 0..400_u64 {
            circuit.pass(Duration::from_millis(step * 37 % 500));
            if let Ok(permit) = circuit.try_admit() {
                circuit.settle(permit, if step % 100 < 40 { Outcome::Failure } else { Outcome::Success });
            }
        }
        let since = |at: Timestamp| at.saturating_since(start);
        let moments: Vec<_> = circuit.transitions.iter().map(|t| (t.cause, since(t.at), t.until.map(since))).collect();
        moments
    };
    let expected = run(0);
    assert!(expected.len() > 6, "{expected:?}");
    for start in [3_600_000_000, 7_777_777_777_777] {
        assert_eq!(run(start), expected);
    }
}

#[test]
fn case_22_a_call_that_outlives_the_window_is_counted_once_when_it_ends() {
    let mut circuit = Circuit::new(plain());
    let long = circuit.admit();
    circuit.pass(seconds(100));
    assert_eq!(circuit.breaker.statistics(circuit.now).oldest_in_flight, seconds(99));
    circuit.settle_with(long, Outcome::Failure, seconds(100), None);
    let statistics = circuit.breaker.statistics(circuit.now);
    assert_eq!((statistics.requests, statistics.failures, statistics.in_flight), (1, 1, 0));
    assert!(statistics.latency(0.5).is_some_and(|latency| latency >= seconds(100)));
}

#[test]
fn case_23_refusals_are_not_failures() {
    let mut circuit = Circuit::opened(plain());
    let before = circuit.breaker.statistics(circuit.now);
    for _ in 0..1_000 {
        assert!(circuit.try_admit().is_err());
    }
    assert_eq!(circuit.breaker.statistics(circuit.now), before);
}

#[test]
fn case_27_of_two_requested_waits_the_later_deadline_wins() {
    for waits in [[1, 60], [60, 1]] {
        let mut circuit = Circuit::new(plain());
        let permits = [circuit.admit(), circuit.admit()];
        for (permit, wait) in permits.into_iter().zip(waits) {
            circuit.settle_asking(permit, Outcome::Throttled, wait);
        }
        assert_eq!(circuit.cooldown(), seconds(60));
        assert_eq!(circuit.causes(), [Cause::CoolOff], "one transition");
    }
}
