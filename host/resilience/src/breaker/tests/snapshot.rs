//! Restarts.

use super::*;

impl Circuit {
    /// Ends the process and starts another, whose clock begins elsewhere.
    pub(super) fn restart(&mut self) {
        let snapshot = self.breaker.snapshot(self.now);
        self.now = Timestamp::from_micros(self.now.as_micros() % 1_000_003);
        self.breaker = Breaker::restore(self.breaker.settings, snapshot, self.now);
    }
}

#[test]
fn an_open_circuit_resumes_with_its_remaining_cooldown_and_its_growth() {
    let (mut circuit, probe) = Circuit::probing(plain());
    circuit.settle(probe, Outcome::Failure);
    circuit.pass(Duration::from_millis(700));
    let snapshot = circuit.breaker.snapshot(circuit.now);
    let expected = Snapshot {
        mode: Mode::Normal,
        state: CircuitState::Open,
        cause: Some(Cause::ProbeFailed),
        remaining: Duration::from_millis(1_300),
        openings: 2,
    };
    assert_eq!(snapshot, expected);
    circuit.restart();
    assert_eq!(circuit.cooldown(), Duration::from_millis(1_300));
    let rejected = circuit.try_admit().unwrap_err();
    assert!(matches!(rejected, Rejected::Open { cause: Cause::ProbeFailed, transition: None, .. }));
    circuit.pass(circuit.cooldown());
    circuit.call(Outcome::Failure);
    assert_eq!(circuit.cooldown(), seconds(4), "the third opening");
}

#[test]
fn a_half_open_circuit_resumes_by_probing_at_once() {
    let (mut circuit, _probe) = Circuit::probing(plain());
    let snapshot = circuit.breaker.snapshot(circuit.now);
    assert_eq!((snapshot.state, snapshot.remaining), (CircuitState::HalfOpen, Duration::ZERO));
    assert_eq!(snapshot.cause, Some(Cause::ConsecutiveFailures(N)));
    circuit.restart();
    assert_eq!(circuit.state(), CircuitState::Open);
    let probe = circuit.admit();
    assert!(probe.is_probe());
    assert!(circuit.try_admit().is_err(), "one probe as ever");
    circuit.settle(probe, Outcome::Failure);
    assert_eq!(circuit.cooldown(), seconds(2), "the growth is kept");
}

#[test]
fn a_closed_circuit_resumes_closed_and_forgets_its_growth_after_the_sustained_time() {
    let (mut circuit, probe) = Circuit::probing(plain());
    circuit.settle(probe, Outcome::Success);
    circuit.restart();
    assert_eq!(circuit.state(), CircuitState::Closed);
    circuit.pass(seconds(29));
    assert_eq!(circuit.breaker.statistics(circuit.now).consecutive_openings, 1);
    circuit.pass(seconds(1));
    circuit.restart();
    assert_eq!(circuit.breaker.snapshot(circuit.now).openings, 0);
    circuit.calls(N, Outcome::Failure);
    assert_eq!(circuit.cooldown(), seconds(1));
}

#[test]
fn an_operators_command_outlives_the_restart() {
    let mut circuit = Circuit::new(plain());
    let _ = circuit.breaker.force_open(circuit.now);
    circuit.restart();
    assert_eq!(circuit.breaker.mode(), Mode::ForcedOpen);
    assert!(circuit.try_admit().is_err());
    let _ = circuit.breaker.disable(circuit.now);
    circuit.restart();
    assert_eq!(circuit.breaker.mode(), Mode::Disabled);
    circuit.calls(100, Outcome::Failure);
    let _ = circuit.breaker.watch_only(circuit.now);
    circuit.calls(N, Outcome::Failure);
    circuit.restart();
    assert_eq!(circuit.breaker.mode(), Mode::WatchOnly);
    assert_eq!((circuit.state(), circuit.breaker.would_be_state()), (CircuitState::Closed, CircuitState::Open));
}

#[test]
fn a_snapshot_of_other_settings_or_of_nonsense_is_bounded() {
    let snapshot = Snapshot {
        mode: Mode::Normal,
        state: CircuitState::Open,
        cause: None,
        remaining: Duration::MAX,
        openings: u32::MAX,
    };
    let mut breaker = Breaker::restore(plain(), snapshot, Timestamp::ORIGIN);
    let day = Timestamp::ORIGIN.saturating_add(seconds(24 * 3600));
    assert_eq!(breaker.peek(Timestamp::ORIGIN).unwrap_err().retry_at(), day);
    let probe = breaker.admit(day).unwrap().permit;
    let recorded = breaker.record(probe, Outcome::Failure, QUICK, None, day, 0);
    assert_eq!(recorded.transition.unwrap().until, Some(day.saturating_add(seconds(4))));
    for state in [CircuitState::Closed, CircuitState::HalfOpen] {
        let breaker = Breaker::restore(plain(), Snapshot { state, ..snapshot }, Timestamp::ORIGIN);
        assert_eq!(breaker.peek(Timestamp::ORIGIN), Ok(()), "only an open circuit has time remaining");
    }
}
