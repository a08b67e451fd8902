//! Whoever waits at a gate gets in as soon as there is room, and no place is lost or taken twice.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use loom::future::block_on;
use loom::thread;
use spillway_interleavings::bounded_model;
use spillway_interleavings::gate::{Admission, AdmissionGate, AdmissionPermit, Turn, Waiting};
use spillway_interleavings::runtime::clock::Clock;
use spillway_interleavings::runtime::sync::Arc;
use spillway_resilience::{
    AdmissionQueue, Bulkhead, Concurrency, Demand, FairQueueSettings, Limiter, Priority, Tenant, Timestamp, TurnedAway,
};
use std::future::poll_fn;
use std::task::Poll;

/// When patience ends. It comes only where a model sets its clock.
const LATER: Timestamp = Timestamp::from_micros(1_000_000);

/// A gate with room for one.
fn gate(clock: &Clock) -> Arc<AdmissionGate> {
    let one = Concurrency::Fixed(Bulkhead::new(1));
    let queue = AdmissionQueue::new(Limiter::new(None, None), one, FairQueueSettings::default());
    Arc::new(AdmissionGate::new(queue, clock.clone()))
}

fn ask(gate: &Arc<AdmissionGate>, deadline: Timestamp) -> Admission {
    let demand = Demand { tenant: Tenant::new(1), priority: Priority::Normal, tokens: 1, group: None };
    gate.ask(demand, deadline).expect("there is room, or time to wait for it")
}

fn enter_at_once(gate: &Arc<AdmissionGate>) -> AdmissionPermit {
    match ask(gate, LATER) {
        Admission::Admitted(permit) => permit,
        Admission::Waits(waiting) => panic!("there is no room: {waiting:?}"),
    }
}

fn wait_in_line(gate: &Arc<AdmissionGate>, deadline: Timestamp) -> Waiting {
    match ask(gate, deadline) {
        Admission::Admitted(permit) => panic!("there is room: {permit:?}"),
        Admission::Waits(waiting) => waiting,
    }
}

/// Sleeps until woken, as a task does whose timer never rings.
fn outcome(mut waiting: Waiting) -> Result<AdmissionPermit, TurnedAway> {
    block_on(poll_fn(|context| match waiting.turn(context.waker()) {
        Turn::Left(outcome) => Poll::Ready(outcome),
        Turn::Waits(_) => Poll::Pending,
    }))
}

fn enter(gate: &Arc<AdmissionGate>) -> AdmissionPermit {
    match ask(gate, LATER) {
        Admission::Admitted(permit) => permit,
        Admission::Waits(waiting) => outcome(waiting).expect("its turn comes before its patience ends"),
    }
}

fn assert_empty(gate: &AdmissionGate) {
    assert_eq!(gate.look(|queue, _| (queue.waiting(), queue.concurrency().in_flight())), (0, 0));
}

#[test]
fn whoever_asks_while_the_only_place_is_left_gets_in() {
    loom::model(|| {
        let gate = gate(&Clock::default());
        let first = enter_at_once(&gate);
        let leaves = thread::spawn(move || drop(first));
        drop(enter(&gate));
        leaves.join().expect("no panic");
        assert_empty(&gate);
    });
}

#[test]
fn of_two_who_ask_for_the_last_place_exactly_one_enters_at_once() {
    loom::model(|| {
        let gate = gate(&Clock::default());
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || ask(&gate, LATER)
        });
        let asked = [ask(&gate, LATER), other.join().expect("no panic")];
        assert_eq!(asked.iter().filter(|asked| matches!(asked, Admission::Admitted(_))).count(), 1);
        assert_eq!(gate.look(|queue, _| (queue.waiting(), queue.concurrency().in_flight())), (1, 1));
        drop(asked);
        assert_empty(&gate);
    });
}

#[test]
fn three_who_need_the_only_place_have_it_one_after_the_other() {
    bounded_model(|| {
        let gate = gate(&Clock::default());
        let others = [(); 2].map(|()| {
            let gate = Arc::clone(&gate);
            thread::spawn(move || drop(enter(&gate)))
        });
        drop(enter(&gate));
        for other in others {
            other.join().expect("no panic");
        }
        assert_empty(&gate);
    });
}

#[test]
fn a_place_given_to_whoever_is_leaving_the_queue_goes_to_the_next() {
    loom::model(|| {
        let gate = gate(&Clock::default());
        let first = enter_at_once(&gate);
        let impatient = wait_in_line(&gate, LATER);
        let patient = wait_in_line(&gate, LATER);
        let leaves = thread::spawn(move || drop(first));
        let gives_up = thread::spawn(move || drop(impatient));
        drop(outcome(patient).expect("its turn comes"));
        leaves.join().expect("no panic");
        gives_up.join().expect("no panic");
        assert_empty(&gate);
    });
}

#[test]
fn a_place_that_nobody_collects_is_free_again() {
    loom::model(|| {
        let gate = gate(&Clock::default());
        let first = enter_at_once(&gate);
        let waiting = wait_in_line(&gate, LATER);
        let leaves = thread::spawn(move || drop(first));
        drop(waiting);
        leaves.join().expect("no panic");
        assert_empty(&gate);
        drop(enter_at_once(&gate));
    });
}

#[test]
fn whoever_keeps_the_time_and_gives_up_hands_it_on() {
    loom::model(|| {
        let gate = gate(&Clock::default());
        let first = enter_at_once(&gate);
        let timekeeper = wait_in_line(&gate, LATER);
        let mut next = wait_in_line(&gate, LATER);
        let gives_up = thread::spawn(move || drop(timekeeper));
        let wake_at = block_on(poll_fn(|context| match next.turn(context.waker()) {
            Turn::Waits(Some(wake_at)) => Poll::Ready(wake_at),
            Turn::Waits(None) => Poll::Pending,
            Turn::Left(outcome) => panic!("nobody made room: {outcome:?}"),
        }));
        assert_eq!(wake_at, LATER);
        gives_up.join().expect("no panic");
        drop((next, first));
        assert_empty(&gate);
    });
}

#[test]
fn whoever_keeps_the_time_wakes_others_whose_patience_is_over() {
    loom::model(|| {
        let clock = Clock::default();
        let gate = gate(&clock);
        let first = enter_at_once(&gate);
        let timekeeper = wait_in_line(&gate, Timestamp::from_micros(LATER.as_micros() * 2));
        let impatient = wait_in_line(&gate, LATER);
        let other = thread::spawn(move || outcome(impatient).map(drop).expect_err("nobody made room"));
        clock.set(LATER);
        timekeeper.gate().let_in();
        other.join().expect("no panic");
        drop((timekeeper, first));
        assert_empty(&gate);
    });
}
