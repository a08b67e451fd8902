//! The first moments after closing.

use super::*;

fn ramped() -> BreakerSettings {
    BreakerSettings { ramp: seconds(10), ..plain() }
}

/// Closed a moment ago by its probe.
fn recovered(settings: BreakerSettings) -> Circuit {
    let (mut circuit, probe) = Circuit::probing(settings);
    circuit.settle(probe, Outcome::Success);
    assert_eq!(circuit.state(), CircuitState::Closed);
    circuit
}

/// How many of so many calls pass at this moment.
fn admitted(circuit: &mut Circuit, calls: usize) -> usize {
    let permits: Vec<Permit> = (0..calls).filter_map(|_| circuit.try_admit().ok()).collect();
    let count = permits.len();
    permits.into_iter().for_each(|permit| circuit.settle(permit, Outcome::Success));
    count
}

#[test]
fn a_growing_share_of_the_calls_passes_until_the_ramp_is_over() {
    let mut circuit = recovered(ramped());
    let mut passed = Vec::new();
    for _ in 0..=10 {
        passed.push(admitted(&mut circuit, 1_000));
        circuit.pass(seconds(1));
    }
    assert_eq!(passed, [110, 190, 280, 370, 460, 550, 640, 730, 820, 910, 1_000], "ten calls are free");
}

#[test]
fn a_few_calls_never_notice_the_ramp() {
    let mut circuit = recovered(ramped());
    circuit.calls(10, Outcome::Success);
    let mut circuit = recovered(ramped());
    for _ in 0..20 {
        circuit.pass(Duration::from_millis(500));
        circuit.call(Outcome::Success);
    }
}

#[test]
fn a_call_refused_by_the_ramp_passes_when_it_returns_at_the_time_named() {
    let mut circuit = recovered(ramped());
    admitted(&mut circuit, 100);
    circuit.pass(seconds(3));
    let rejected = (0..10).find_map(|_| circuit.try_admit().err()).unwrap();
    assert_eq!(rejected, Rejected::Ramping { retry_at: circuit.now.saturating_add(seconds(10)) });
    assert_eq!(rejected.transition(), None);
    circuit.now = rejected.retry_at();
    assert_eq!(admitted(&mut circuit, 1_000), 1_000);
}

#[test]
fn a_ramp_of_no_length_is_none() {
    let mut circuit = recovered(BreakerSettings { ramp: Duration::ZERO, ..plain() });
    assert_eq!(admitted(&mut circuit, 1_000), 1_000);
}

#[test]
fn only_a_recovery_is_followed_by_a_ramp() {
    let mut circuit = Circuit::new(ramped());
    assert_eq!(admitted(&mut circuit, 1_000), 1_000, "new");
    let mut circuit = recovered(ramped());
    assert_eq!(circuit.breaker.reset(circuit.now), None);
    assert_eq!(admitted(&mut circuit, 1_000), 1_000, "an operator's reset");
}

#[test]
fn a_look_does_not_foretell_the_ramp_and_spends_nothing_of_it() {
    let mut circuit = recovered(ramped());
    admitted(&mut circuit, 100);
    let mut looked = circuit.breaker.clone();
    (0..1_000).for_each(|_| assert_eq!(looked.peek(circuit.now), Ok(())));
    assert_eq!(looked.next_wakeup(circuit.now), None);
    let answers = |breaker: &mut Breaker| (0..100).map(|_| breaker.admit(circuit.now).is_ok()).collect::<Vec<_>>();
    assert_eq!(answers(&mut looked), answers(&mut circuit.breaker.clone()));
}

#[test]
fn a_relapse_during_the_ramp_opens_at_once_with_a_grown_cooldown() {
    let mut circuit = recovered(ramped());
    circuit.calls(N, Outcome::Failure);
    assert_eq!(circuit.cooldown(), seconds(2));
}

proptest! {
    /// Against a sum over all arrivals, in floating point.
    #[test]
    fn a_call_is_refused_only_when_the_share_is_used_up(
        pauses in prop::collection::vec(0_u64..80_000, 1..600),
    ) {
        let mut circuit = recovered(ramped());
        let closed = circuit.now;
        let (mut earned, mut passed) = (10.0, 0.0);
        for pause in pauses {
            circuit.pass(Duration::from_micros(pause));
            let share = circuit.now.saturating_since(closed).as_secs_f64() / 10.0;
            if share >= 1.0 {
                prop_assert!(circuit.try_admit().is_ok());
                continue;
            }
            earned += 0.1 + 0.9 * share;
            let whole_calls = earned - passed;
            match circuit.try_admit() {
                Ok(_) => {
                    prop_assert!(whole_calls > 1.0 - 1e-2, "{}", whole_calls);
                    passed += 1.0;
                }
                Err(rejected) => {
                    prop_assert_eq!(rejected, Rejected::Ramping { retry_at: circuit.now.saturating_add(seconds(10)) });
                    prop_assert!(whole_calls < 1.0 + 1e-2, "{}", whole_calls);
                }
            }
        }
    }
}
