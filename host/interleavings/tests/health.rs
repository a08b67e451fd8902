//! Workers that report of the same module at the same time agree on whether it is quarantined.

use loom::thread;
use spillway_interleavings::bounded_model;
use spillway_interleavings::health::{Health, Quarantine};
use spillway_interleavings::runtime::sync::Arc;
use spillway_resilience::Timestamp;

const NOW: Timestamp = Timestamp::ORIGIN;
/// When a quarantine that began [`NOW`] is over.
const LATER: Timestamp = Timestamp::from_micros(30_000_000);

/// Notes faults, and says how many of them began a quarantine.
fn fault(health: &Health, times: u32) -> usize {
    (0..times).filter(|_| health.faulted("trap".into(), NOW).is_some()).count()
}

/// A module that has failed so often already.
fn failed(times: u32) -> Arc<Health> {
    let health = Arc::new(Health::default());
    assert_eq!(fault(&health, times), 0);
    health
}

#[test]
fn the_fifth_fault_begins_a_quarantine_whichever_of_two_threads_it_comes_from() {
    bounded_model(|| {
        let health = failed(0);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || fault(&health, 2)
        });
        let begun = fault(&health, 3) + other.join().expect("no panic");
        assert_eq!(begun, 1);
        assert_eq!(health.quarantine(NOW), Some(Quarantine::InARow));
        assert_eq!((health.calls(), health.faults()), (5, 5));
    });
}

#[test]
fn a_fault_that_was_under_way_when_a_quarantine_began_begins_it_anew() {
    loom::model(|| {
        let health = failed(Health::FAULTS_IN_A_ROW - 1);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || fault(&health, 1)
        });
        let begun = fault(&health, 1) + other.join().expect("no panic");
        assert_eq!(begun, 2);
        assert_eq!(health.quarantine(NOW), Some(Quarantine::InARow));
    });
}

#[test]
fn an_answer_beside_the_fifth_fault_keeps_the_module_in_service() {
    loom::model(|| {
        let health = failed(Health::FAULTS_IN_A_ROW - 1);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || fault(&health, 1)
        });
        health.answered();
        other.join().expect("no panic");
        assert_eq!(health.quarantine(NOW), None);
        assert_eq!((health.calls(), health.faults()), (6, 5));
        assert_eq!(fault(&health, 3), 0, "at most one fault counts after the answer");
    });
}

#[test]
fn an_answer_ends_a_quarantine_that_two_threads_have_begun() {
    loom::model(|| {
        let health = failed(Health::FAULTS_IN_A_ROW - 2);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || fault(&health, 1)
        });
        fault(&health, 1);
        other.join().expect("no panic");
        assert_eq!(health.quarantine(NOW), Some(Quarantine::InARow));
        health.answered();
        assert_eq!(health.quarantine(NOW), None);
        assert_eq!(fault(&health, Health::FAULTS_IN_A_ROW - 1), 0, "counting begins anew");
    });
}

/// Lets a module fail so often, each time after an answer.
fn fail_every_other_call(health: &Health, times: usize, now: Timestamp) {
    for _ in 0..times {
        health.answered();
        assert_eq!(health.faulted("trap".into(), now), None);
    }
}

#[test]
fn the_tenth_fault_among_a_hundred_calls_begins_a_quarantine_whichever_of_two_threads_it_comes_from() {
    loom::model(|| {
        let health = failed(0);
        fail_every_other_call(&health, Health::FAULTS_AMONG_CALLS - 2, NOW);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || fault(&health, 1)
        });
        let begun = fault(&health, 1) + other.join().expect("no panic");
        assert_eq!(begun, 1);
        assert_eq!(health.quarantine(NOW), Some(Quarantine::Share));
    });
}

#[test]
fn an_answer_beside_the_tenth_fault_among_a_hundred_calls_ends_no_quarantine() {
    loom::model(|| {
        let health = failed(0);
        fail_every_other_call(&health, Health::FAULTS_AMONG_CALLS - 1, NOW);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || health.answered()
        });
        assert_eq!(fault(&health, 1), 1);
        other.join().expect("no panic");
        assert!(health.may_be_quarantined());
        assert_eq!(health.quarantine(NOW), Some(Quarantine::Share));
    });
}

#[test]
fn whoever_finds_a_quarantine_over_does_not_end_the_next_one() {
    loom::model(|| {
        let health = failed(0);
        fail_every_other_call(&health, Health::FAULTS_AMONG_CALLS - 1, NOW);
        assert_eq!(fault(&health, 1), 1);
        // Nobody has looked since, so that the first is still remembered.
        fail_every_other_call(&health, Health::FAULTS_AMONG_CALLS - 1, LATER);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || health.quarantine(LATER)
        });
        assert_eq!(health.faulted("trap".into(), LATER), Some(Quarantine::Share));
        other.join().expect("no panic");
        assert!(health.may_be_quarantined());
        assert_eq!(health.quarantine(LATER), Some(Quarantine::Share));
    });
}
