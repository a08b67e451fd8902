//! A breaker behind a lock, as the host keeps it, lets only so many calls probe as it should.
#![allow(clippy::expect_used, reason = "a test fails by panicking, also in its helpers")]

use loom::thread;
use spillway_interleavings::runtime::sync::{Arc, Mutex, lock};
use spillway_resilience::{Breaker, BreakerSettings, CircuitState, Outcome, Permit, Rejected, Timestamp, Transition};
use std::time::Duration;

const OPENED: Timestamp = Timestamp::ORIGIN;
/// When the cooldown of a circuit that was `open` is over.
const COOLED_DOWN: Timestamp = Timestamp::from_micros(1_000_000);

type Answer = Result<(Permit, Option<Transition>), Rejected>;

/// A circuit that was opened until [`COOLED_DOWN`].
fn open() -> Arc<Mutex<Breaker>> {
    let mut breaker = Breaker::new(BreakerSettings::default(), OPENED);
    let permit = breaker.admit(OPENED).expect("it is closed").permit;
    let recorded = breaker.record(permit, Outcome::Throttled, Duration::ZERO, Some(COOLED_DOWN), OPENED, 0);
    assert_eq!(recorded.transition.map(|transition| transition.until), Some(Some(COOLED_DOWN)));
    Arc::new(Mutex::new(breaker))
}

fn ask(breaker: &Mutex<Breaker>) -> Answer {
    lock(breaker).admit(COOLED_DOWN).map(|admitted| (admitted.permit, admitted.transition))
}

fn settle(breaker: &Mutex<Breaker>, permit: Permit, outcome: Outcome) {
    let _ = lock(breaker).record(permit, outcome, Duration::ZERO, None, COOLED_DOWN, 0);
}

#[test]
fn of_two_calls_at_the_end_of_a_cooldown_exactly_one_probes() {
    loom::model(|| {
        let breaker = open();
        let other = thread::spawn({
            let breaker = Arc::clone(&breaker);
            move || ask(&breaker)
        });
        let answers = [ask(&breaker), other.join().expect("no panic")];
        let (probes, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert!(matches!(refused[..], [Err(Rejected::ProbesInFlight { .. })]), "{refused:?}");
        for (permit, transition) in probes.into_iter().flatten() {
            assert!(permit.is_probe());
            assert!(transition.is_some(), "it is told that the circuit is half-open");
            settle(&breaker, permit, Outcome::Success);
        }
        assert_eq!(lock(&breaker).state(), CircuitState::Closed);
    });
}

#[test]
fn a_probe_that_is_cancelled_beside_another_call_leaves_its_place() {
    loom::model(|| {
        let breaker = open();
        let (probe, _) = ask(&breaker).expect("the cooldown is over");
        let cancels = thread::spawn({
            let breaker = Arc::clone(&breaker);
            move || settle(&breaker, probe, Outcome::Ignored)
        });
        let beside = ask(&breaker);
        cancels.join().expect("no panic");
        let (probe, _) = beside.or_else(|_| ask(&breaker)).expect("the place was left");
        assert!(probe.is_probe());
        settle(&breaker, probe, Outcome::Success);
        assert_eq!(lock(&breaker).state(), CircuitState::Closed);
        assert_eq!(lock(&breaker).statistics(COOLED_DOWN).in_flight, 0);
    });
}
