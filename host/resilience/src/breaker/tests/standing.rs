//! How well a place serves, as those see it who choose between several.

use super::*;
use crate::balance::Standing;

fn standing(circuit: &Circuit) -> Standing {
    circuit.breaker.standing(circuit.now)
}

fn after(outcomes: &[(Outcome, u32)]) -> Circuit {
    let mut circuit = Circuit::new(BreakerSettings::adaptive());
    for (outcome, times) in outcomes {
        (0..*times).for_each(|_| circuit.call(*outcome));
    }
    circuit
}

#[test]
fn nothing_is_held_against_whom_nobody_knows() {
    assert!(!standing(&after(&[])).is_doubtful());
}

#[test]
fn three_failures_in_a_memory_of_successes_make_it_doubtful_and_two_do_not() {
    assert!(!standing(&after(&[(Outcome::Success, 100), (Outcome::Failure, 2)])).is_doubtful());
    assert!(standing(&after(&[(Outcome::Success, 100), (Outcome::Failure, 3)])).is_doubtful());
}

#[test]
fn each_request_that_is_served_doubles_the_trials_and_each_failed_attempt_begins_them_anew() {
    let mut circuit = after(&[(Outcome::Failure, 3), (Outcome::Success, 4)]);
    assert_eq!(standing(&circuit).doublings, 4);
    circuit.call(Outcome::FailedAgain);
    assert_eq!(standing(&circuit).doublings, 0, "repetitions fail as well");
}

#[test]
fn while_failures_may_still_show_what_is_served_doubles_nothing() {
    let mut circuit = after(&[]);
    let hung = circuit.breaker.admit(circuit.now).unwrap().permit;
    circuit.pass(seconds(4));
    circuit.call(Outcome::Success);
    circuit.settle(hung, Outcome::Failure);
    for (passed_s, doublings) in [(0, 0), (3, 0), (1, 1), (0, 1), (3, 1), (1, 2)] {
        circuit.pass(seconds(passed_s));
        circuit.call(Outcome::Success);
        assert_eq!(standing(&circuit).doublings, doublings);
    }
    circuit.call(Outcome::Failure);
    circuit.pass(seconds(1));
    circuit.call(Outcome::Success);
    assert_eq!(standing(&circuit).doublings, 0, "a slow failure is forgotten by halves");
    circuit.pass(seconds(1));
    circuit.call(Outcome::Success);
    assert_eq!(standing(&circuit).doublings, 1);
}

#[test]
fn what_has_failed_before_an_outage_is_nothing_to_wait_for_after_it() {
    let mut circuit = after(&[]);
    let hung: Vec<_> = (0..200).map(|_| circuit.breaker.admit(circuit.now).unwrap().permit).collect();
    circuit.pass(seconds(4));
    hung.into_iter().for_each(|permit| circuit.settle(permit, Outcome::Failure));
    assert_eq!(circuit.state(), CircuitState::Open);
    circuit.pass(seconds(60));
    (0..3).for_each(|_| circuit.call(Outcome::Success));
    assert_eq!(standing(&circuit).doublings, 3);
}

#[test]
fn after_a_silent_minute_nothing_is_held_against_it() {
    let mut circuit = after(&[(Outcome::Failure, 5)]);
    circuit.pass(seconds(59));
    assert!(standing(&circuit).is_doubtful());
    circuit.pass(seconds(1));
    assert_eq!(standing(&circuit), Standing::GOOD);
}
