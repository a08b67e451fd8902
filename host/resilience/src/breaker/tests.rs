use super::*;
use crate::window::{Outcome, WindowKind};
use proptest::prelude::*;
use std::time::Duration;

mod adaptive;
mod agreement;
mod cases;
mod model;
mod properties;
mod ramp;
mod simulation;
mod snapshot;
mod stall;
mod standing;
mod watch_only;

const N: u32 = BreakerSettings::DEFAULT_CONSECUTIVE_FAILURES;
const QUICK: Duration = Duration::from_millis(200);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Five failures in a row open it; cooldowns are exact, without jitter.
fn plain() -> BreakerSettings {
    BreakerSettings { failure_rate: None, cooldown_jitter: 0.0, ..BreakerSettings::default() }
}

/// Only the rate opens it.
fn by_rate() -> BreakerSettings {
    BreakerSettings { consecutive_failures: None, failure_rate: Some(0.5), ..plain() }
}

/// A breaker with a clock to move and a record of its transitions.
struct Circuit {
    breaker: Breaker,
    now: Timestamp,
    transitions: Vec<Transition>,
}

impl Circuit {
    fn new(settings: BreakerSettings) -> Self {
        Self::starting_at(settings, Timestamp::from_micros(7_000_000))
    }

    fn starting_at(settings: BreakerSettings, now: Timestamp) -> Self {
        assert_eq!(settings.validate(), []);
        Self { breaker: Breaker::new(settings, now), now, transitions: Vec::new() }
    }

    fn opened(settings: BreakerSettings) -> Self {
        let mut circuit = Self::new(settings);
        (0..N).for_each(|_| circuit.call(Outcome::Failure));
        assert_eq!(circuit.state(), CircuitState::Open);
        circuit
    }

    /// Half-open, with its first probe in flight.
    fn probing(settings: BreakerSettings) -> (Self, Permit) {
        let mut circuit = Self::opened(settings);
        circuit.pass(settings.cooldown);
        let probe = circuit.admit();
        assert!(probe.is_probe());
        (circuit, probe)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
    }

    fn state(&self) -> CircuitState {
        self.breaker.state()
    }

    fn in_flight(&self) -> u32 {
        self.breaker.statistics(self.now).in_flight
    }

    fn try_admit(&mut self) -> Result<Permit, Rejected> {
        match self.breaker.admit(self.now) {
            Ok(Admitted { permit, transition }) => {
                self.transitions.extend(transition);
                Ok(permit)
            }
            Err(rejected) => {
                self.transitions.extend(rejected.transition());
                Err(rejected)
            }
        }
    }

    fn admit(&mut self) -> Permit {
        self.try_admit().unwrap()
    }

    fn settle(&mut self, permit: Permit, outcome: Outcome) {
        self.settle_with(permit, outcome, QUICK, None);
    }

    /// Settles with a wait of so many seconds that the provider asked for.
    fn settle_asking(&mut self, permit: Permit, outcome: Outcome, wait: u64) {
        self.settle_with(permit, outcome, QUICK, Some(self.now.saturating_add(seconds(wait))));
    }

    fn settle_with(&mut self, permit: Permit, outcome: Outcome, took: Duration, until: Option<Timestamp>) {
        let recorded = self.breaker.record(permit, outcome, took, until, self.now, 0);
        self.transitions.extend(recorded.transition);
        if let Some(pending) = recorded.judgement {
            self.transitions.extend(self.breaker.judge(pending, None, self.now, 0));
        }
    }

    fn call(&mut self, outcome: Outcome) {
        let permit = self.admit();
        self.settle(permit, outcome);
    }

    fn calls(&mut self, count: u32, outcome: Outcome) {
        (0..count).for_each(|_| self.call(outcome));
    }

    /// The time until the open circuit lets a probe pass.
    fn cooldown(&self) -> Duration {
        assert_eq!(self.state(), CircuitState::Open);
        self.breaker.peek(self.now).unwrap_err().retry_at().saturating_since(self.now)
    }

    fn causes(&self) -> Vec<Cause> {
        self.transitions.iter().map(|transition| transition.cause).collect()
    }
}

#[test]
fn a_requested_wait_opens_whatever_the_outcome_but_never_beyond_its_cap() {
    for outcome in [Outcome::Success, Outcome::Ignored, Outcome::Throttled, Outcome::Failure] {
        let mut circuit = Circuit::new(plain());
        let permit = circuit.admit();
        circuit.settle_asking(permit, outcome, 6 * 24 * 3600);
        assert_eq!(circuit.causes(), [Cause::CoolOff]);
        assert_eq!(circuit.cooldown(), seconds(24 * 3600));
    }
    let (mut circuit, probe) = Circuit::probing(plain());
    circuit.settle_asking(probe, Outcome::Success, 10);
    assert_eq!(circuit.cooldown(), seconds(10), "a probe may succeed with the last of a quota");
    let mut circuit = Circuit::new(plain());
    let permit = circuit.admit();
    circuit.settle_asking(permit, Outcome::Throttled, 0);
    assert_eq!(circuit.state(), CircuitState::Closed, "a wait that is over is none");
}

#[test]
fn throttled_calls_are_counted_but_belong_to_no_rate_and_no_run() {
    let settings = BreakerSettings { failure_rate: Some(0.5), ..plain() };
    let mut circuit = Circuit::new(settings);
    circuit.calls(100, Outcome::Throttled);
    circuit.calls(N - 1, Outcome::Failure);
    circuit.call(Outcome::Throttled);
    let statistics = circuit.breaker.statistics(circuit.now);
    assert_eq!((statistics.requests, statistics.throttles), (105, 101));
    assert_eq!(circuit.state(), CircuitState::Closed);
    circuit.call(Outcome::Failure);
    assert_eq!(circuit.causes(), [Cause::ConsecutiveFailures(N)]);
}

#[test]
fn slow_successes_open_by_the_slow_call_rate() {
    let settings =
        BreakerSettings { slow_call_rate: Some(0.5), slow_call_duration: seconds(5), minimum_requests: 4, ..plain() };
    let mut circuit = Circuit::new(settings);
    for took in [5, 5, 6, 6] {
        assert_eq!(circuit.state(), CircuitState::Closed);
        let permit = circuit.admit();
        circuit.settle_with(permit, Outcome::Success, seconds(took), None);
    }
    assert_eq!(circuit.causes(), [Cause::SlowCallRate { slow_calls: 2, requests: 4 }]);
}

#[test]
fn a_count_window_judges_exactly_the_last_calls_however_old() {
    let window = WindowKind::Count(10);
    let mut circuit = Circuit::new(BreakerSettings { window, minimum_requests: 10, ..by_rate() });
    circuit.calls(9, Outcome::Failure);
    circuit.pass(seconds(3600));
    assert_eq!(circuit.breaker.statistics(circuit.now).length, seconds(3600));
    assert_eq!(circuit.state(), CircuitState::Closed, "nine calls are too few");
    circuit.call(Outcome::Failure);
    assert_eq!(circuit.causes(), [Cause::FailureRate { failures: 10, requests: 10 }]);

    let mut circuit = Circuit::new(BreakerSettings { window, minimum_requests: 10, ..by_rate() });
    circuit.calls(10_000, Outcome::Success);
    circuit.calls(4, Outcome::Failure);
    circuit.calls(6, Outcome::Success);
    circuit.calls(4, Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Closed, "the first four failures have left");
    circuit.call(Outcome::Failure);
    assert_eq!(circuit.causes(), [Cause::FailureRate { failures: 5, requests: 10 }]);
}

#[test]
fn a_policy_overrules_the_thresholds_both_ways() {
    let judged = |decision, failures: u32| {
        let mut circuit = Circuit::new(plain());
        circuit.calls(failures - 1, Outcome::Failure);
        let permit = circuit.admit();
        let recorded = circuit.breaker.record(permit, Outcome::Failure, QUICK, None, circuit.now, 0);
        let pending = recorded.judgement.unwrap();
        let transition = circuit.breaker.judge(pending, decision, circuit.now, 0);
        transition.map(|t| (t.cause, t.until.unwrap().saturating_since(circuit.now)))
    };
    let day = seconds(24 * 3600);
    assert_eq!(judged(None, 1), None);
    assert_eq!(judged(None, N), Some((Cause::ConsecutiveFailures(N), seconds(1))));
    assert_eq!(judged(Some(TripDecision::Stay), N), None);
    assert_eq!(judged(Some(TripDecision::Open), 1), Some((Cause::Policy, seconds(1))));
    assert_eq!(judged(Some(TripDecision::OpenFor(seconds(7))), 1), Some((Cause::Policy, seconds(7))));
    assert_eq!(judged(Some(TripDecision::OpenFor(Duration::MAX)), 1), Some((Cause::Policy, day)));
}

#[test]
fn a_judgement_that_comes_after_a_change_of_state_has_no_effect() {
    let mut circuit = Circuit::new(plain());
    let permit = circuit.admit();
    let recorded = circuit.breaker.record(permit, Outcome::Failure, QUICK, None, circuit.now, 0);
    let pending = recorded.judgement.unwrap();
    assert_eq!(pending.statistics.failures, 1);
    circuit.calls(N - 1, Outcome::Failure);
    let decision = Some(TripDecision::OpenFor(seconds(3600)));
    assert_eq!(circuit.breaker.judge(pending, decision, circuit.now, 0), None);
    assert_eq!(circuit.cooldown(), seconds(1));
}

#[test]
fn an_operator_overrules_everything_until_the_reset() {
    let mut circuit = Circuit::new(plain());
    let forced = circuit.breaker.force_open(circuit.now).unwrap();
    assert_eq!((forced.to, forced.cause, forced.until), (CircuitState::Open, Cause::Operator, None));
    assert_eq!(circuit.breaker.force_open(circuit.now), None);
    circuit.pass(seconds(10 * 24 * 3600));
    assert!(matches!(circuit.try_admit(), Err(Rejected::Open { cause: Cause::Operator, .. })));
    assert_eq!(circuit.breaker.next_wakeup(circuit.now), None);

    assert!(circuit.breaker.disable(circuit.now).is_some());
    assert_eq!(circuit.breaker.mode(), Mode::Disabled);
    circuit.calls(100, Outcome::Failure);
    let permit = circuit.admit();
    circuit.settle_asking(permit, Outcome::Throttled, 60);
    assert_eq!(circuit.transitions, []);
    let crossed = circuit.breaker.statistics(circuit.now).thresholds_crossed;
    assert_eq!(crossed, Some(Cause::ConsecutiveFailures(100)), "what would have opened it");

    let before_the_reset = circuit.admit();
    assert_eq!(circuit.breaker.reset(circuit.now), None, "closed all along");
    assert_eq!(circuit.breaker.mode(), Mode::Normal);
    circuit.settle(before_the_reset, Outcome::Failure);
    let statistics = circuit.breaker.statistics(circuit.now);
    assert_eq!((statistics.requests, statistics.in_flight), (0, 0));
    circuit.calls(N, Outcome::Failure);
    assert_eq!(circuit.state(), CircuitState::Open);
    assert!(circuit.breaker.reset(circuit.now).is_some());
    circuit.call(Outcome::Success);
}

#[test]
fn a_circuit_disabled_again_still_counts_the_calls_in_flight() {
    let mut circuit = Circuit::new(plain());
    assert_eq!(circuit.breaker.disable(circuit.now), None, "closed to its callers before and after");
    let permit = circuit.admit();
    assert_eq!(circuit.breaker.disable(circuit.now), None);
    circuit.settle(permit, Outcome::Failure);
    assert_eq!(circuit.breaker.statistics(circuit.now).failures, 1);
}

#[test]
fn an_operators_command_brings_back_no_openings_that_a_sustained_recovery_made_forgotten() {
    for command in [Breaker::force_open, Breaker::disable] {
        for (closed_for, kept) in [(seconds(29), 1), (seconds(30), 0)] {
            let (mut circuit, probe) = Circuit::probing(plain());
            circuit.settle(probe, Outcome::Success);
            circuit.pass(closed_for);
            assert_eq!(circuit.breaker.statistics(circuit.now).consecutive_openings, kept);
            let _ = command(&mut circuit.breaker, circuit.now);
            circuit.pass(seconds(3600));
            assert_eq!(circuit.breaker.statistics(circuit.now).consecutive_openings, kept);
            assert_eq!(circuit.breaker.snapshot(circuit.now).openings, kept);
        }
    }
}

#[test]
fn the_next_wakeup_is_when_a_refused_call_may_try_again() {
    let mut circuit = Circuit::new(plain());
    assert_eq!(circuit.breaker.next_wakeup(circuit.now), None);
    circuit.calls(N, Outcome::Failure);
    let wakeup = circuit.breaker.next_wakeup(circuit.now).unwrap();
    assert_eq!(wakeup.saturating_since(circuit.now), seconds(1));
    circuit.now = wakeup;
    assert_eq!(circuit.breaker.next_wakeup(circuit.now), None);
    let _probe = circuit.admit();
    let again = circuit.breaker.next_wakeup(circuit.now).unwrap();
    assert_eq!(again.saturating_since(circuit.now), seconds(1), "sooner than the lease's end");
}

#[test]
fn causes_read_as_plain_words() {
    let rate = Cause::FailureRate { failures: 12, requests: 20 };
    assert_eq!(rate.to_string(), "12 of the last 20 calls failed");
    assert_eq!(Cause::ConsecutiveFailures(5).to_string(), "5 calls in a row failed");
    let stall = Cause::InFlightStall { in_flight: 8 };
    assert_eq!(stall.to_string(), "8 calls were in flight and none ended");
    assert_eq!(CircuitState::HalfOpen.to_string(), "half-open");
}

#[test]
fn a_policy_can_judge_a_closed_circuit_at_any_time_and_no_other() {
    let mut circuit = Circuit::new(BreakerSettings::default());
    let pending = circuit.breaker.pending(circuit.now).unwrap();
    let transition = circuit.breaker.judge(pending, Some(TripDecision::Open), circuit.now, 0).unwrap();
    assert_eq!((transition.to, transition.cause), (CircuitState::Open, Cause::Policy));
    assert_eq!(circuit.breaker.pending(circuit.now), None);
}

#[test]
fn what_is_learned_without_a_permit_can_only_lengthen_an_opening() {
    let mut circuit = Circuit::new(plain());
    circuit.breaker.extend(circuit.now.saturating_add(seconds(60)), circuit.now);
    assert_eq!(circuit.state(), CircuitState::Closed);
    let mut circuit = Circuit::opened(plain());
    let wait =
        |circuit: &Circuit| circuit.breaker.peek(circuit.now).unwrap_err().retry_at().saturating_since(circuit.now);
    circuit.breaker.extend(circuit.now, circuit.now);
    assert_eq!(wait(&circuit), seconds(1), "the later deadline wins");
    circuit.breaker.extend(circuit.now.saturating_add(seconds(600)), circuit.now);
    assert_eq!(wait(&circuit), seconds(600));
    circuit.breaker.extend(circuit.now.saturating_add(Duration::MAX), circuit.now);
    assert_eq!(wait(&circuit), plain().open_for_cap);
}
