use super::*;
use crate::concurrency::AdaptiveLimitSettings;
use crate::pacer::{PacerSettings, Pause, ServedLog};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// A token a second, at most sixty saved up, and so many slots.
fn queue(slots: u32) -> AdmissionQueue {
    let limiter = Limiter::new(None, Some(TokenBucket::new(60, 60, at(0))));
    AdmissionQueue::new(limiter, Concurrency::Fixed(Bulkhead::new(slots)), FairQueueSettings::default())
}

fn demand(tenant: u64, tokens: u64) -> Demand {
    Demand { tenant: Tenant::new(tenant), priority: Priority::Normal, tokens, group: None }
}

fn passed(entry: Result<Entry, TurnedAway>) -> Pass {
    match entry {
        Ok(Entry::Passed(pass)) => pass,
        other => panic!("not let in: {other:?}"),
    }
}

fn waiting(entry: Result<Entry, TurnedAway>) -> Ticket {
    match entry {
        Ok(Entry::Waiting(ticket)) => ticket,
        other => panic!("does not wait: {other:?}"),
    }
}

fn next_passed(queue: &mut AdmissionQueue, now: Timestamp) -> (Ticket, Pass) {
    match queue.next(now) {
        Some(Leaving::Passed { ticket, pass, .. }) => (ticket, pass),
        other => panic!("nobody is let in: {other:?}"),
    }
}

#[test]
fn whoever_finds_room_passes_without_waiting() {
    let mut queue = queue(10);
    let pass = passed(queue.enter(demand(1, 50), at(0), at(0)));
    assert_eq!(pass.tokens(), 50);
    queue.settle(pass, Settlement::Used(20), Feedback::Neutral, at(0));
    assert_eq!(queue.limiter().available(Dimension::Tokens, at(0)), Some(40));
    assert_eq!(queue.concurrency().in_flight(), 0);
}

#[test]
fn whoever_cannot_be_served_in_time_is_told_at_once_and_when_to_come_again() {
    let mut queue = queue(10);
    let _all = passed(queue.enter(demand(1, 60), at(0), at(0)));
    let refused = queue.enter(demand(1, 30), at(30), at(0)).unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(30));
    assert!(matches!(refused.obstacle, Obstacle::Limit(Exceeded { dimension: Dimension::Tokens, limit: 60, .. })));
    assert_eq!(queue.waiting(), 0, "a refused call leaves nothing behind");
}

#[test]
fn a_refusal_counts_those_who_wait_already() {
    let mut queue = queue(10);
    let _all = passed(queue.enter(demand(1, 60), at(0), at(0)));
    for _ in 0..3 {
        waiting(queue.enter(demand(1, 60), at(1000), at(0)));
    }
    let refused = queue.enter(demand(2, 60), at(0), at(0)).unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(240), "three before it, and its own");
}

#[test]
fn a_freed_slot_lets_the_next_one_in() {
    let mut queue = queue(1);
    let first = passed(queue.enter(demand(1, 1), at(0), at(0)));
    let refused = queue.enter(demand(1, 1), at(0), at(0)).unwrap_err();
    assert_eq!(refused.obstacle, Obstacle::Saturated(Saturated { limit: 1 }));
    assert_eq!(refused.retry_after, AdmissionQueue::SATURATED_RETRY_AFTER);
    let ticket = waiting(queue.enter(demand(1, 1), at(10), at(0)));
    assert_eq!(queue.next(at(1)), None);
    assert_eq!(queue.wake_at(at(1)), Some((ticket, at(10))), "until somebody ends, only its patience can");
    queue.settle(first, Settlement::Refund, Feedback::Neutral, at(2));
    let (let_in, second) = next_passed(&mut queue, at(2));
    assert_eq!(let_in, ticket);
    queue.settle(second, Settlement::Refund, Feedback::Neutral, at(3));
    assert_eq!(queue.wake_at(at(3)), None);
}

#[test]
fn nobody_overtakes_those_who_wait_not_even_with_a_smaller_request() {
    let mut queue = queue(10);
    let _most = passed(queue.enter(demand(1, 50), at(0), at(0)));
    let large = waiting(queue.enter(demand(1, 40), at(100), at(0)));
    let small = waiting(queue.enter(demand(1, 5), at(100), at(0)));
    assert_eq!(queue.next(at(0)), None, "the tokens gather for the large one");
    assert_eq!(queue.wake_at(at(0)), Some((large, at(30))));
    assert_eq!(next_passed(&mut queue, at(30)).0, large);
    assert_eq!(next_passed(&mut queue, at(35)).0, small);
}

#[test]
fn case_36_a_request_larger_than_the_bucket_is_let_in_once_when_it_is_full() {
    let mut queue = queue(10);
    let _one = passed(queue.enter(demand(1, 1), at(0), at(0)));
    let large = waiting(queue.enter(demand(1, 600), at(1000), at(0)));
    assert_eq!(queue.wake_at(at(0)), Some((large, at(1))));
    assert_eq!(next_passed(&mut queue, at(1)).0, large);
    assert_eq!(queue.limiter().available(Dimension::Tokens, at(1)), Some(-540));
}

#[test]
fn patience_ends_though_nothing_else_happens() {
    let mut queue = queue(1);
    let _one = passed(queue.enter(demand(1, 1), at(0), at(0)));
    let ticket = waiting(queue.enter(demand(1, 1), at(5), at(0)));
    assert_eq!(queue.next(at(5)), Some(Leaving::Expired { ticket, waited: Duration::from_secs(5) }));
    assert_eq!(queue.in_vain(1, None, at(5)).obstacle, Obstacle::Saturated(Saturated { limit: 1 }));
}

#[test]
fn a_drained_quota_holds_everybody_back_until_its_reset() {
    let mut queue = queue(10);
    queue.drain(Dimension::Tokens, Duration::from_secs(7), at(0));
    let ticket = waiting(queue.enter(demand(1, 1), at(10), at(0)));
    assert_eq!(queue.wake_at(at(0)), Some((ticket, at(7))));
    assert_eq!(next_passed(&mut queue, at(7)).0, ticket);
}

#[test]
fn an_overload_shrinks_the_room_for_the_next_calls() {
    let settings = AdaptiveLimitSettings { min_in_flight: 1, max_in_flight: 8, initial: 8, latency_tolerance: None };
    let concurrency = Concurrency::Adaptive(AdaptiveLimit::new(settings));
    let mut queue = AdmissionQueue::new(Limiter::default(), concurrency, FairQueueSettings::default());
    let mut passes: Vec<Pass> = (0..8).map(|_| passed(queue.enter(demand(1, 1), at(0), at(0)))).collect();
    queue.settle(passes.pop().unwrap(), Settlement::Refund, Feedback::Overloaded, at(1));
    assert_eq!(queue.concurrency().limit(), 4);
    assert!(matches!(
        queue.enter(demand(1, 1), at(1), at(1)),
        Err(TurnedAway { obstacle: Obstacle::Saturated(_), .. })
    ));
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Enter { tenant: u64, priority: Priority, tokens: u64, patience_s: u64 },
    Settle { which: usize, used: Option<u64> },
    Cancel(usize),
    Wait(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let priority = prop::sample::select(Priority::ALL.to_vec());
    prop_oneof![
        4 => (0..4_u64, priority, 0..90_u64, 0..40_u64)
            .prop_map(|(tenant, priority, tokens, patience_s)| Action::Enter { tenant, priority, tokens, patience_s }),
        3 => (0..50_usize, prop::option::of(0..120_u64)).prop_map(|(which, used)| Action::Settle { which, used }),
        1 => (0..50_usize).prop_map(Action::Cancel),
        3 => (0..20_u64).prop_map(Action::Wait),
    ]
}

proptest! {
    /// Everybody who is let wait leaves exactly once, at its deadline at the latest; nobody waits
    /// while there is room; and when all is settled, every slot is back.
    #[test]
    fn nobody_is_lost_and_nobody_waits_beside_an_open_door(actions in prop::collection::vec(action(), 1..120)) {
        let mut queue = queue(3);
        let mut now = at(0);
        let mut waiters: BTreeMap<Ticket, Timestamp> = BTreeMap::new();
        let mut passes: Vec<Pass> = Vec::new();
        for action in actions {
            match action {
                Action::Enter { tenant, priority, tokens, patience_s } => {
                    let deadline = now.saturating_add(Duration::from_secs(patience_s));
                    let demand = Demand { tenant: Tenant::new(tenant), priority, tokens, group: None };
                    match queue.enter(demand, deadline, now) {
                        Ok(Entry::Passed(pass)) => {
                            prop_assert!(waiters.is_empty(), "it has overtaken {waiters:?}");
                            passes.push(pass);
                        }
                        Ok(Entry::Waiting(ticket)) => {
                            waiters.insert(ticket, deadline);
                        }
                        Err(refused) => prop_assert!(!refused.retry_after.is_zero()),
                    }
                }
                Action::Settle { which, used } if !passes.is_empty() => {
                    let pass = passes.swap_remove(which % passes.len());
                    let settlement = used.map_or(Settlement::Refund, Settlement::Used);
                    queue.settle(pass, settlement, Feedback::Neutral, now);
                }
                Action::Cancel(which) if !waiters.is_empty() => {
                    let ticket = *waiters.keys().nth(which % waiters.len()).unwrap();
                    waiters.remove(&ticket);
                    prop_assert!(queue.cancel(ticket));
                }
                Action::Settle { .. } | Action::Cancel(_) => {}
                Action::Wait(seconds) => {
                    // Time passes from one wake to the next, as it does for whoever keeps the time.
                    let end = now.saturating_add(Duration::from_secs(seconds));
                    while let Some((_, wake)) = queue.wake_at(now).filter(|(_, wake)| *wake <= end) {
                        prop_assert!(wake > now, "a wake that has come is not planned again");
                        now = wake;
                        leave(&mut queue, now, &mut waiters, &mut passes)?;
                    }
                    now = end;
                }
            }
            leave(&mut queue, now, &mut waiters, &mut passes)?;
            prop_assert_eq!(queue.waiting(), waiters.len());
            prop_assert!(queue.concurrency().in_flight() <= 3);
            prop_assert_eq!(queue.concurrency().in_flight() as usize, passes.len());
            prop_assert!(waiters.values().all(|deadline| *deadline > now), "somebody waits past its deadline");
        }
        for pass in passes {
            queue.settle(pass, Settlement::Refund, Feedback::Neutral, now);
        }
        prop_assert_eq!(queue.concurrency().in_flight(), 0);
        prop_assert_eq!(queue.limiter().outstanding(), 0);
    }
}

fn leave(
    queue: &mut AdmissionQueue,
    now: Timestamp,
    waiters: &mut BTreeMap<Ticket, Timestamp>,
    passes: &mut Vec<Pass>,
) -> Result<(), TestCaseError> {
    while let Some(leaving) = queue.next(now) {
        let (ticket, pass) = match leaving {
            Leaving::Passed { ticket, pass, .. } => (ticket, Some(pass)),
            Leaving::Expired { ticket, .. } => (ticket, None),
        };
        let deadline = waiters.remove(&ticket);
        prop_assert!(deadline.is_some(), "it has left before");
        prop_assert_eq!(pass.is_none(), deadline <= Some(now));
        passes.extend(pass);
    }
    Ok(())
}

/// A lane that has just been told to slow down, of which no rate is known.
fn told_lane() -> AdmissionQueue {
    let mut pacer = Pacer::new(PacerSettings::default(), ServedLog::default());
    pacer.told(Pause::Unnamed, at(0), at(0), 0);
    AdmissionQueue::paced(pacer, FairQueueSettings::default())
}

#[test]
fn who_calls_one_after_the_other_goes_at_its_own_pace() {
    let mut lane = told_lane();
    let mut now = at(1);
    for _ in 0..5 {
        let turn = passed(lane.enter(demand(1, 0), at(60), now));
        now = now.saturating_add(Duration::from_millis(20));
        lane.pacer_mut().expect("it is paced").served(now);
        lane.settle(turn, Settlement::Refund, Feedback::Neutral, now);
    }
}

#[test]
fn who_calls_beside_another_waits_for_its_turn_until_that_is_over() {
    let mut lane = told_lane();
    let first = passed(lane.enter(demand(1, 0), at(60), at(1)));
    let second = waiting(lane.enter(demand(1, 0), at(60), at(1)));
    assert_eq!(lane.next(at(1)), None);
    let wake_at = lane.wake_at(at(1)).expect("it waits").1;
    assert!(wake_at > at(1));
    lane.pacer_mut().expect("it is paced").served(at(1));
    lane.settle(first, Settlement::Refund, Feedback::Neutral, at(1));
    assert_eq!(next_passed(&mut lane, at(1)).0, second);
}

mod shares;
