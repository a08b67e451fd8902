use super::*;
use crate::upstream::patience::enter;
use spillway_resilience::{
    AdmissionQueue, Bulkhead, Concurrency, FairQueueSettings, Limiter, Obstacle, Priority, Tenant, TokenBucket,
};
use std::time::Duration;
use tokio::time::Instant;

fn gate(calls: u32, tokens_per_minute: Option<u64>) -> (Arc<AdmissionGate>, Clock) {
    let clock = Clock::start();
    let limiter = Limiter::new(None, tokens_per_minute.map(|rate| TokenBucket::new(rate, rate, clock.now())));
    let queue = AdmissionQueue::new(limiter, Concurrency::Fixed(Bulkhead::new(calls)), FairQueueSettings::default());
    (Arc::new(AdmissionGate::new(queue, clock)), clock)
}

fn demand(tenant: u64, tokens: u64) -> Demand {
    Demand { tenant: Tenant::new(tenant), priority: Priority::Normal, tokens, group: None }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn in_an_hour() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

#[test]
fn a_caller_waits_for_a_place_and_gets_it_when_it_is_left() {
    let (gate, clock) = gate(1, None);
    runtime().block_on(async {
        let first = enter(&gate, demand(1, 1), Instant::now(), clock).await.expect("nobody is in");
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { enter(&gate, demand(2, 1), in_an_hour(), clock).await.map(drop) }
        });
        while gate.look(|queue, _| queue.waiting()) == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        waiting.await.expect("no panic").expect("it is let in");
    });
    assert_eq!(gate.look(|queue, _| queue.concurrency().in_flight()), 0);
}

#[test]
fn a_caller_waits_for_tokens_though_nobody_leaves() {
    // A thousand tokens a second; the second caller needs a tenth of a second's worth.
    let (gate, clock) = gate(10, Some(60_000));
    runtime().block_on(async {
        let mut first = enter(&gate, demand(1, 60_000), Instant::now(), clock).await.expect("the bucket is full");
        first.sent();
        let began = Instant::now();
        let second = enter(&gate, demand(1, 100), in_an_hour(), clock).await;
        second.map(drop).expect("it is let in by the clock alone");
        assert!(began.elapsed() >= Duration::from_millis(90), "{:?}", began.elapsed());
    });
}

#[test]
fn patience_ends_with_what_is_in_the_way() {
    let (gate, clock) = gate(1, None);
    runtime().block_on(async {
        let _first = enter(&gate, demand(1, 1), Instant::now(), clock).await.expect("nobody is in");
        let away = enter(&gate, demand(1, 1), Instant::now() + Duration::from_millis(20), clock).await;
        assert!(matches!(away.map(drop).expect_err("nobody left").obstacle, Obstacle::Saturated(_)));
    });
    assert_eq!(gate.look(|queue, _| queue.waiting()), 0);
}

#[test]
fn whoever_stops_waiting_leaves_the_place_to_the_next() {
    let (gate, clock) = gate(1, None);
    runtime().block_on(async {
        let first = enter(&gate, demand(1, 1), Instant::now(), clock).await.expect("nobody is in");
        let spawn = |tenant| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { enter(&gate, demand(tenant, 1), in_an_hour(), clock).await.map(drop) })
        };
        let impatient = spawn(2);
        while gate.look(|queue, _| queue.waiting()) < 1 {
            tokio::task::yield_now().await;
        }
        let patient = spawn(3);
        while gate.look(|queue, _| queue.waiting()) < 2 {
            tokio::task::yield_now().await;
        }
        impatient.abort();
        assert!(impatient.await.is_err_and(|error| error.is_cancelled()));
        drop(first);
        patient.await.expect("no panic").expect("it is let in");
    });
    assert_eq!(gate.look(|queue, _| (queue.waiting(), queue.concurrency().in_flight())), (0, 0));
}

#[test]
fn a_hundred_callers_on_four_workers_all_get_their_turn() {
    let (gate, clock) = gate(3, None);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let gate = &gate;
            scope.spawn(move || {
                runtime().block_on(async {
                    let callers: Vec<_> = (0..25)
                        .map(|number| {
                            let gate = Arc::clone(gate);
                            tokio::spawn(async move {
                                let permit = enter(&gate, demand(worker, number), in_an_hour(), clock).await;
                                tokio::task::yield_now().await;
                                permit.map(drop)
                            })
                        })
                        .collect();
                    for caller in callers {
                        caller.await.expect("no panic").expect("it is let in");
                    }
                });
            });
        }
    });
    assert_eq!(gate.look(|queue, _| (queue.waiting(), queue.concurrency().in_flight())), (0, 0));
}
