//! A circuit that only says what it would do.

use super::properties::{Action, action};
use super::*;

fn watching(settings: BreakerSettings) -> Circuit {
    let mut circuit = Circuit::new(settings);
    assert_eq!(circuit.breaker.watch_only(circuit.now), None, "closed before and after");
    circuit
}

#[test]
fn everything_passes_and_what_would_have_happened_is_reported() {
    let mut circuit = watching(plain());
    circuit.calls(1_000, Outcome::Failure);
    let [transition] = circuit.transitions[..] else { panic!("{:?}", circuit.transitions) };
    assert!(transition.would);
    assert_eq!((transition.from, transition.to), (CircuitState::Closed, CircuitState::Open));
    assert_eq!(transition.cause, Cause::ConsecutiveFailures(N));
    assert_eq!(circuit.breaker.mode(), Mode::WatchOnly);
    assert_eq!((circuit.state(), circuit.breaker.would_be_state()), (CircuitState::Closed, CircuitState::Open));
    assert_eq!(circuit.breaker.peek(circuit.now), Ok(()));
    assert_eq!(circuit.breaker.next_wakeup(circuit.now), None);
    assert!(circuit.admit().would_be_refused());
}

#[test]
fn a_call_that_would_have_been_refused_counts_nowhere() {
    let mut circuit = watching(plain());
    circuit.calls(N, Outcome::Failure);
    let refused = [circuit.admit(), circuit.admit()];
    circuit.pass(seconds(1));
    let probe = circuit.admit();
    assert!(probe.is_probe() && !probe.would_be_refused());
    for (permit, outcome) in refused.into_iter().zip([Outcome::Failure, Outcome::Success]) {
        circuit.settle_asking(permit, outcome, 60);
    }
    assert_eq!(circuit.breaker.would_be_state(), CircuitState::HalfOpen);
    circuit.settle(probe, Outcome::Success);
    assert_eq!(circuit.breaker.would_be_state(), CircuitState::Closed);
    assert_eq!(circuit.breaker.statistics(circuit.now).requests, 0);
    assert_eq!(circuit.transitions.len(), 3);
    assert_eq!(circuit.in_flight(), 0);
}

#[test]
fn another_command_ends_the_watch_and_reports_only_what_callers_see() {
    let mut circuit = watching(plain());
    circuit.calls(N, Outcome::Failure);
    assert_eq!(circuit.breaker.reset(circuit.now), None, "calls passed all along");
    assert_eq!(circuit.breaker.mode(), Mode::Normal);
    circuit.calls(N, Outcome::Failure);
    let transition = circuit.breaker.watch_only(circuit.now).unwrap();
    assert_eq!((transition.from, transition.to), (CircuitState::Open, CircuitState::Closed));
    assert!(!transition.would, "calls did pass again");
    circuit.call(Outcome::Failure);
    assert_eq!(circuit.breaker.would_be_state(), CircuitState::Closed, "it watches from a clean slate");
    let forced = circuit.breaker.force_open(circuit.now).unwrap();
    assert_eq!((forced.from, forced.to, forced.would), (CircuitState::Closed, CircuitState::Open, false));
    assert!(circuit.try_admit().is_err());
}

/// A permit of a working circuit, if it gave one, and the watching circuit's for the same call.
type Pair = (Option<Permit>, Permit);

fn settle_both(real: &mut Circuit, watch: &mut Circuit, pair: Pair, outcome: Outcome, wait: Option<u64>) {
    let until = wait.map(|wait| real.now.saturating_add(seconds(wait)));
    if let Some(permit) = pair.0 {
        real.settle_with(permit, outcome, QUICK, until);
    }
    watch.settle_with(pair.1, outcome, QUICK, until);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Against a circuit that does what the other only says.
    #[test]
    fn a_watching_circuit_foretells_just_what_a_working_one_does(
        steps in prop::collection::vec(action(), 1..150),
    ) {
        let settings = BreakerSettings { stalled_calls: Some(3), ..BreakerSettings::default() };
        let (mut real, mut watch) = (Circuit::new(settings), watching(settings));
        let mut outstanding: Vec<Pair> = Vec::new();
        for step in steps {
            match step {
                Action::Admit => {
                    let permit = real.try_admit().ok();
                    let watched = watch.admit();
                    prop_assert_eq!(permit.is_none(), watched.would_be_refused());
                    outstanding.push((permit, watched));
                }
                Action::Settle(index, outcome, wait) => {
                    if !outstanding.is_empty() {
                        let pair = outstanding.swap_remove(index.index(outstanding.len()));
                        settle_both(&mut real, &mut watch, pair, outcome, wait);
                    }
                }
                Action::Pass(millis) => {
                    real.pass(Duration::from_millis(millis));
                    watch.pass(Duration::from_millis(millis));
                }
                Action::Poll => {
                    real.transitions.extend(real.breaker.poll(real.now));
                    watch.transitions.extend(watch.breaker.poll(watch.now));
                }
                Action::ForceOpen | Action::Disable | Action::Reset | Action::Restart => {}
            }
            prop_assert_eq!(watch.state(), CircuitState::Closed);
            prop_assert_eq!(watch.breaker.would_be_state(), real.state());
            prop_assert!(watch.transitions.iter().all(|transition| transition.would));
            let foretold = watch.transitions.iter().map(|transition| Transition { would: false, ..*transition });
            prop_assert_eq!(foretold.collect::<Vec<_>>(), real.transitions.clone());
            prop_assert_eq!(watch.in_flight() as usize, outstanding.len());
        }
    }
}
