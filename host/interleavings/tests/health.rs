//! Workers that report of the same module at the same time agree on whether it is quarantined.

use loom::thread;
use spillway_interleavings::bounded_model;
use spillway_interleavings::health::Health;
use spillway_interleavings::sync::Arc;
use spillway_resilience::Timestamp;

const NOW: Timestamp = Timestamp::ORIGIN;

/// Notes faults, and says how many of them began a quarantine.
fn fault(health: &Health, times: u32) -> usize {
    (0..times).filter(|_| health.faulted("trap".into(), NOW)).count()
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
        assert!(!health.is_asked(NOW));
        assert_eq!((health.calls(), health.faults()), (5, 5));
    });
}

#[test]
fn a_fault_that_was_under_way_when_a_quarantine_began_begins_it_anew() {
    loom::model(|| {
        let health = failed(Health::FAULTS_TO_QUARANTINE - 1);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || fault(&health, 1)
        });
        let begun = fault(&health, 1) + other.join().expect("no panic");
        assert_eq!(begun, 2);
        assert!(!health.is_asked(NOW));
    });
}

#[test]
fn an_answer_beside_the_fifth_fault_keeps_the_module_in_service() {
    loom::model(|| {
        let health = failed(Health::FAULTS_TO_QUARANTINE - 1);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || fault(&health, 1)
        });
        health.answered();
        other.join().expect("no panic");
        assert!(health.is_asked(NOW));
        assert_eq!((health.calls(), health.faults()), (6, 5));
        assert_eq!(fault(&health, 3), 0, "at most one fault counts after the answer");
    });
}

#[test]
fn an_answer_ends_a_quarantine_that_two_threads_have_begun() {
    loom::model(|| {
        let health = failed(Health::FAULTS_TO_QUARANTINE - 2);
        let other = thread::spawn({
            let health = Arc::clone(&health);
            move || fault(&health, 1)
        });
        fault(&health, 1);
        other.join().expect("no panic");
        assert!(!health.is_asked(NOW));
        health.answered();
        assert!(health.is_asked(NOW));
        assert_eq!(fault(&health, Health::FAULTS_TO_QUARANTINE - 1), 0, "counting begins anew");
    });
}
