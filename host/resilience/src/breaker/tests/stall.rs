//! Calls that start and never end.

use super::*;

const CALLS: u32 = 4;

fn by_stall() -> BreakerSettings {
    BreakerSettings { stalled_calls: Some(CALLS), stall_duration: seconds(60), ramp: Duration::ZERO, ..plain() }
}

fn start(circuit: &mut Circuit, count: u32) -> Vec<Permit> {
    (0..count).map(|_| circuit.admit()).collect()
}

#[test]
fn calls_that_never_end_open_the_circuit_for_the_next_call() {
    let mut circuit = Circuit::new(by_stall());
    let _stuck = start(&mut circuit, CALLS);
    circuit.pass(seconds(60) - Duration::from_micros(1));
    let _another = circuit.admit();
    circuit.pass(Duration::from_micros(1));
    let foreseen = circuit.breaker.peek(circuit.now).unwrap_err();
    let rejected = circuit.try_admit().unwrap_err();
    assert_eq!(rejected.retry_at(), foreseen.retry_at());
    assert_eq!(circuit.causes(), [Cause::InFlightStall { in_flight: CALLS + 1 }]);
    assert_eq!(circuit.cooldown(), seconds(1));
}

#[test]
fn a_poll_opens_a_stalled_circuit_while_no_call_comes() {
    let mut circuit = Circuit::new(by_stall());
    let _stuck = start(&mut circuit, CALLS);
    circuit.pass(seconds(59));
    assert_eq!(circuit.breaker.poll(circuit.now), None);
    circuit.pass(seconds(1));
    let transition = circuit.breaker.poll(circuit.now).unwrap();
    assert_eq!((transition.from, transition.to), (CircuitState::Closed, CircuitState::Open));
    assert_eq!(transition.until, Some(circuit.now.saturating_add(seconds(1))));
    assert_eq!(circuit.breaker.poll(circuit.now), None, "reported once");
}

#[test]
fn a_poll_ends_a_half_open_phase_without_a_verdict() {
    let (mut circuit, _lost) = Circuit::probing(plain());
    circuit.pass(seconds(119));
    assert_eq!(circuit.breaker.poll(circuit.now), None);
    circuit.pass(seconds(1));
    assert_eq!(circuit.breaker.poll(circuit.now).unwrap().cause, Cause::HalfOpenTimedOut);
}

#[test]
fn stalls_are_not_looked_for_unless_asked() {
    let mut circuit = Circuit::new(BreakerSettings::default());
    let _stuck = start(&mut circuit, 1_000);
    circuit.pass(seconds(3600));
    assert_eq!(circuit.breaker.poll(circuit.now), None);
    let _passes = circuit.admit();
}

#[test]
fn too_few_calls_are_no_stall_however_old() {
    let mut circuit = Circuit::new(by_stall());
    let _long = start(&mut circuit, CALLS - 1);
    circuit.pass(seconds(3600));
    let _fourth = circuit.admit();
    circuit.pass(seconds(59));
    assert_eq!(circuit.breaker.poll(circuit.now), None, "only one long call more than a healthy circuit has");
    circuit.pass(seconds(1));
    assert!(circuit.breaker.poll(circuit.now).is_some());
}

#[test]
fn an_answer_ends_a_stall_whatever_it_says_and_a_cancellation_does_not() {
    for (outcome, stalled) in [
        (Outcome::Success, false),
        (Outcome::Failure, false),
        (Outcome::Overloaded, false),
        (Outcome::Throttled, false),
        (Outcome::Ignored, true),
    ] {
        let mut circuit = Circuit::new(by_stall());
        let mut stuck = start(&mut circuit, CALLS + 1);
        circuit.pass(seconds(30));
        circuit.settle(stuck.remove(0), outcome);
        circuit.pass(seconds(30));
        assert_eq!(circuit.breaker.poll(circuit.now).is_some(), stalled, "{outcome:?}");
    }
}

#[test]
fn calls_stuck_since_before_the_opening_do_not_open_the_circuit_again() {
    let mut circuit = Circuit::new(by_stall());
    let stuck = start(&mut circuit, CALLS);
    circuit.pass(seconds(60));
    assert!(circuit.breaker.poll(circuit.now).is_some());
    circuit.pass(seconds(1));
    circuit.call(Outcome::Success);
    circuit.pass(seconds(600));
    assert_eq!(circuit.breaker.poll(circuit.now), None);
    let _new = start(&mut circuit, CALLS - 1);
    for permit in stuck {
        circuit.settle(permit, Outcome::Failure);
    }
    circuit.pass(seconds(600));
    assert_eq!(circuit.breaker.poll(circuit.now), None, "they take no new call out of the count either");
    let _one_more = circuit.admit();
    circuit.pass(seconds(60));
    assert!(circuit.breaker.poll(circuit.now).is_some());
}

#[test]
fn what_could_not_end_because_everything_stood_still_is_no_stall() {
    let mut circuit = Circuit::new(by_stall());
    let _stuck = start(&mut circuit, CALLS);
    circuit.pass(seconds(7_200));
    circuit.breaker.woken(circuit.now);
    assert_eq!(circuit.breaker.poll(circuit.now), None);
    circuit.pass(seconds(59));
    assert_eq!(circuit.breaker.poll(circuit.now), None);
    circuit.pass(seconds(1));
    assert!(circuit.breaker.poll(circuit.now).is_some(), "what goes on standing still does stall");
}

#[test]
fn a_probe_that_could_not_end_because_everything_stood_still_is_followed_by_another() {
    let (mut circuit, _lost) = Circuit::probing(plain());
    circuit.pass(seconds(7_200));
    circuit.breaker.woken(circuit.now);
    assert_eq!(circuit.breaker.poll(circuit.now), None, "no probe has said anything");
    let probe = circuit.admit();
    circuit.settle(probe, Outcome::Success);
    assert_eq!(circuit.state(), CircuitState::Closed);
}

#[test]
fn a_stall_is_spread_by_the_microsecond_it_is_noticed_at() {
    let cooldown = |micros: u64| {
        let settings = BreakerSettings { cooldown_jitter: 1.0, ..by_stall() };
        let mut circuit = Circuit::starting_at(settings, Timestamp::from_micros(micros));
        let _stuck = start(&mut circuit, CALLS);
        circuit.pass(seconds(60));
        circuit.breaker.poll(circuit.now).unwrap().until.unwrap().saturating_since(circuit.now)
    };
    let mut cooldowns: Vec<Duration> = (0..1_000).map(cooldown).collect();
    cooldowns.sort_unstable();
    assert!(cooldowns[0] >= seconds(1) && cooldowns[999] < seconds(2));
    for (index, expected) in [(100, 1_100), (500, 1_500), (900, 1_900)] {
        let found = cooldowns[index].as_millis();
        assert!(found.abs_diff(expected) < 60, "{found} {expected}");
    }
}

proptest! {
    /// Against a list of all that happened, gone through afresh each time.
    #[test]
    fn a_stall_agrees_with_a_list_of_starts_and_ends(
        steps in prop::collection::vec(
            (0_u64..20_000, any::<bool>(), any::<prop::sample::Index>(), any::<bool>()),
            1..80,
        ),
    ) {
        let mut circuit = Circuit::new(by_stall());
        let mut permits = Vec::new();
        // When, how many were in flight before, and whether an answer came.
        let mut events: Vec<(Timestamp, usize, bool)> = Vec::new();
        for (pause, starts, which, answered) in steps {
            circuit.pass(Duration::from_millis(pause));
            let recent = |at: Timestamp| circuit.now.saturating_since(at) < seconds(60);
            let quiet = events
                .iter()
                .filter(|(at, ..)| recent(*at))
                .all(|(_, before, answered)| *before >= CALLS as usize && !answered);
            let expected = quiet && permits.len() >= CALLS as usize;
            prop_assert_eq!(circuit.breaker.poll(circuit.now).is_some(), expected);
            if expected {
                break;
            }
            let starts = starts || permits.is_empty();
            events.push((circuit.now, permits.len(), answered && !starts));
            if starts {
                permits.push(circuit.admit());
            } else {
                let permit = permits.swap_remove(which.index(permits.len()));
                circuit.settle(permit, if answered { Outcome::Success } else { Outcome::Ignored });
            }
        }
    }
}
