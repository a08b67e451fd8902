use super::*;
use crate::upstream::patience::enter;
use spillway_resilience::{
    AdmissionQueue, Bulkhead, Concurrency, FairQueueSettings, Limiter, Obstacle, Priority, Tenant, TokenBucket,
};
use std::time::Duration;
use tokio::time::Instant;

fn door(calls: u32, tokens_per_minute: Option<u64>) -> (Arc<Door>, Clock) {
    let clock = Clock::start();
    let limiter = Limiter::new(None, tokens_per_minute.map(|rate| TokenBucket::new(rate, rate, clock.now())));
    let queue = AdmissionQueue::new(limiter, Concurrency::Fixed(Bulkhead::new(calls)), FairQueueSettings::default());
    (Arc::new(Door::new(queue, clock)), clock)
}

fn demand(tenant: u64, tokens: u64) -> Demand {
    Demand { tenant: Tenant::new(tenant), priority: Priority::Normal, tokens }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn in_an_hour() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

#[test]
fn a_caller_waits_for_a_place_and_gets_it_when_it_is_left() {
    let (door, clock) = door(1, None);
    runtime().block_on(async {
        let first = enter(&door, demand(1, 1), Instant::now(), clock).await.expect("nobody is in");
        let waiting = tokio::spawn({
            let door = Arc::clone(&door);
            async move { enter(&door, demand(2, 1), in_an_hour(), clock).await.map(drop) }
        });
        while door.look(|queue, _| queue.waiting()) == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        waiting.await.expect("no panic").expect("it is let in");
    });
    assert_eq!(door.look(|queue, _| queue.concurrency().in_flight()), 0);
}

#[test]
fn a_caller_waits_for_tokens_though_nobody_leaves() {
    // A thousand tokens a second; the second caller needs a tenth of a second's worth.
    let (door, clock) = door(10, Some(60_000));
    runtime().block_on(async {
        let mut first = enter(&door, demand(1, 60_000), Instant::now(), clock).await.expect("the bucket is full");
        first.sent();
        let began = Instant::now();
        let second = enter(&door, demand(1, 100), in_an_hour(), clock).await;
        second.map(drop).expect("it is let in by the clock alone");
        assert!(began.elapsed() >= Duration::from_millis(90), "{:?}", began.elapsed());
    });
}

#[test]
fn patience_ends_with_what_is_in_the_way() {
    let (door, clock) = door(1, None);
    runtime().block_on(async {
        let _first = enter(&door, demand(1, 1), Instant::now(), clock).await.expect("nobody is in");
        let away = enter(&door, demand(1, 1), Instant::now() + Duration::from_millis(20), clock).await;
        assert!(matches!(away.map(drop).expect_err("nobody left").obstacle, Obstacle::Saturated(_)));
    });
    assert_eq!(door.look(|queue, _| queue.waiting()), 0);
}

#[test]
fn whoever_stops_waiting_leaves_the_place_to_the_next() {
    let (door, clock) = door(1, None);
    runtime().block_on(async {
        let first = enter(&door, demand(1, 1), Instant::now(), clock).await.expect("nobody is in");
        let spawn = |tenant| {
            let door = Arc::clone(&door);
            tokio::spawn(async move { enter(&door, demand(tenant, 1), in_an_hour(), clock).await.map(drop) })
        };
        let impatient = spawn(2);
        while door.look(|queue, _| queue.waiting()) < 1 {
            tokio::task::yield_now().await;
        }
        let patient = spawn(3);
        while door.look(|queue, _| queue.waiting()) < 2 {
            tokio::task::yield_now().await;
        }
        impatient.abort();
        assert!(impatient.await.is_err_and(|error| error.is_cancelled()));
        drop(first);
        patient.await.expect("no panic").expect("it is let in");
    });
    assert_eq!(door.look(|queue, _| (queue.waiting(), queue.concurrency().in_flight())), (0, 0));
}

#[test]
fn a_hundred_callers_on_four_workers_all_get_their_turn() {
    let (door, clock) = door(3, None);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let door = &door;
            scope.spawn(move || {
                runtime().block_on(async {
                    let callers: Vec<_> = (0..25)
                        .map(|number| {
                            let door = Arc::clone(door);
                            tokio::spawn(async move {
                                let entered = enter(&door, demand(worker, number), in_an_hour(), clock).await;
                                tokio::task::yield_now().await;
                                entered.map(drop)
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
    assert_eq!(door.look(|queue, _| (queue.waiting(), queue.concurrency().in_flight())), (0, 0));
}
