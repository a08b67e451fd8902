//! Whoever waits for the end of all that is counted learns of it, and never too early.

use loom::future::block_on;
use loom::thread;
use spillway_interleavings::bounded_model;
use spillway_interleavings::gauge::Gauge;
use spillway_interleavings::runtime::sync::Arc;
use spillway_interleavings::runtime::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::pin::pin;
use std::task::{Context, Waker};

#[test]
fn waiting_ends_with_the_last_of_two_and_shows_what_both_have_done() {
    loom::model(|| {
        let gauge = Arc::new(Gauge::default());
        let ends = [(); 2].map(|()| {
            let counted = gauge.begin();
            let done = Arc::new(AtomicBool::new(false));
            let done_there = Arc::clone(&done);
            let thread = thread::spawn(move || {
                done_there.store(true, Relaxed);
                drop(counted);
            });
            (done, thread)
        });
        block_on(gauge.until_none());
        assert_eq!(gauge.count(), 0);
        for (done, thread) in ends {
            assert!(done.load(Relaxed), "the wait ended early");
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn everybody_who_waits_is_woken() {
    bounded_model(|| {
        let gauge = Arc::new(Gauge::default());
        let counted = gauge.begin();
        let waiting = [(); 2].map(|()| {
            let gauge = Arc::clone(&gauge);
            thread::spawn(move || block_on(gauge.until_none()))
        });
        drop(counted);
        for thread in waiting {
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn one_that_begins_just_when_the_last_one_ends_is_neither_lost_nor_left() {
    bounded_model(|| {
        let gauge = Arc::new(Gauge::default());
        let last = gauge.begin();
        let ends = thread::spawn(move || drop(last));
        let begins = thread::spawn({
            let gauge = Arc::clone(&gauge);
            move || {
                let counted = gauge.begin();
                assert_ne!(gauge.count(), 0);
                drop(counted);
            }
        });
        block_on(gauge.until_none());
        ends.join().expect("no panic");
        begins.join().expect("no panic");
        assert_eq!(gauge.count(), 0);
    });
}

#[test]
fn whoever_gives_up_waiting_keeps_nobody_else_from_being_woken() {
    loom::model(|| {
        let gauge = Arc::new(Gauge::default());
        let counted = gauge.begin();
        assert!(pin!(gauge.until_none()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let ends = thread::spawn(move || drop(counted));
        block_on(gauge.until_none());
        ends.join().expect("no panic");
    });
}
