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
fn it_counts_what_was_served_since_the_last_failure() {
    let mut circuit = after(&[(Outcome::Failure, 3), (Outcome::Success, 4)]);
    assert_eq!(standing(&circuit).served_in_a_row, 4);
    circuit.call(Outcome::FailedAgain);
    assert_eq!(standing(&circuit).served_in_a_row, 0, "repetitions fail as well");
}

#[test]
fn a_call_that_hung_while_others_were_served_takes_nothing_from_them() {
    let mut circuit = after(&[(Outcome::Failure, 3)]);
    let hung = circuit.breaker.admit(circuit.now).unwrap().permit;
    circuit.pass(seconds(1));
    circuit.call(Outcome::Success);
    circuit.settle(hung, Outcome::Failure);
    assert_eq!(standing(&circuit).served_in_a_row, 1);
}

#[test]
fn after_a_silent_minute_nothing_is_held_against_it() {
    let mut circuit = after(&[(Outcome::Failure, 5)]);
    circuit.pass(seconds(59));
    assert!(standing(&circuit).is_doubtful());
    circuit.pass(seconds(1));
    assert_eq!(standing(&circuit), Standing::GOOD);
}
