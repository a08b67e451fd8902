use super::*;
use spillway_resilience::{Priority, Tenant};

fn stack() -> Stack {
    Stack::new(&scenario::Provider { tokens_per_minute: Some(60), burst_tokens: 100, ..Default::default() })
}

fn answer(outcome: Outcome, now: Timestamp) -> Answer {
    Answer { at: now, outcome, retry_after: None }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn demand(tokens: u64) -> Demand {
    Demand { tenant: Tenant::new(0), priority: Priority::Normal, tokens }
}

/// A call that will not wait.
fn admit(stack: &mut Stack, tokens: u64, now: Timestamp) -> Result<Held, Blocked> {
    match stack.enter(demand(tokens), now, now)? {
        Entered::Passed(held) => Ok(held),
        Entered::Waiting(ticket) => panic!("{ticket:?} waits, though it has no patience"),
    }
}

/// A call that waits for `seconds`.
fn wait(stack: &mut Stack, tokens: u64, now: Timestamp, seconds: u64) -> Ticket {
    match stack.enter(demand(tokens), now.saturating_add(Duration::from_secs(seconds)), now) {
        Ok(Entered::Waiting(ticket)) => ticket,
        other => panic!("{other:?}"),
    }
}

fn settle(stack: &mut Stack, held: Held, outcome: Outcome, tokens: u64, now: Timestamp) -> Settled {
    stack.settle(held, &answer(outcome, now), false, tokens, now, 0)
}

fn open_circuit(stack: &mut Stack, now: Timestamp) {
    for _ in 0..BreakerSettings::DEFAULT_CONSECUTIVE_FAILURES {
        let held = admit(stack, 0, now).unwrap();
        settle(stack, held, Outcome::Failure, 0, now);
    }
    assert!(!stack.is_closed());
}

#[test]
fn a_call_that_the_circuit_refuses_costs_no_tokens() {
    let (mut stack, now) = (stack(), at(0));
    open_circuit(&mut stack, now);
    assert!(matches!(admit(&mut stack, 100, now), Err(Blocked::Circuit(_))));
    let probe = admit(&mut stack, 100, at(1)).unwrap();
    assert!(probe.taken.is_some_and(|(_, permit)| permit.is_probe()));
}

#[test]
fn nobody_joins_the_queue_in_front_of_an_open_circuit() {
    let (mut stack, now) = (stack(), at(0));
    let all = admit(&mut stack, 100, now).unwrap();
    open_circuit(&mut stack, now);
    let blocked = stack.enter(demand(100), at(200), now).unwrap_err();
    assert!(matches!(blocked, Blocked::Circuit(_)), "{blocked:?}");
    assert_eq!(stack.wake_at(now), None);
    settle(&mut stack, all, Outcome::Overloaded, 0, now);
    assert_eq!(stack.held(now), 0);
}

#[test]
fn a_circuit_that_opens_meanwhile_refuses_those_whose_turn_comes_and_they_hold_nothing() {
    let (mut stack, now) = (stack(), at(0));
    let all = admit(&mut stack, 100, now).unwrap();
    let waiters = [wait(&mut stack, 100, now, 200), wait(&mut stack, 100, now, 200)];
    // The waiters stand in front of everybody, so the failures come from calls let in before.
    let Some(layers) = &mut stack.protected else { panic!("there are layers") };
    for _ in 0..BreakerSettings::DEFAULT_CONSECUTIVE_FAILURES {
        let Admitted { permit, .. } = layers.breaker.admit(now).unwrap();
        let _ = layers.breaker.record(permit, Outcome::Failure, Duration::ZERO, None, now, 0);
    }
    assert!(stack.next_in_turn(now).is_none(), "there are no tokens yet");
    settle(&mut stack, all, Outcome::Overloaded, 0, now);
    for waiter in waiters {
        let (ticket, left) = stack.next_in_turn(now).unwrap();
        assert!(ticket == waiter && matches!(left, Left::Circuit(_)), "{ticket:?} {left:?}");
    }
    assert!(stack.next_in_turn(now).is_none());
    assert_eq!(stack.held(now), 0);
}

#[test]
fn a_success_gives_back_what_it_did_not_use() {
    let (mut stack, now) = (stack(), at(0));
    let held = admit(&mut stack, 100, now).unwrap();
    assert_eq!(admit(&mut stack, 30, now).unwrap_err(), Blocked::Limit(Duration::from_secs(30)));
    assert_eq!(settle(&mut stack, held, Outcome::Success, 70, now), Settled::default());
    assert!(admit(&mut stack, 30, now).is_ok());
}

#[test]
fn a_waiter_is_let_in_by_tokens_that_come_back_and_its_share_gets_back_what_it_leaves() {
    let (mut stack, now) = (stack(), at(0));
    let held = admit(&mut stack, 100, now).unwrap();
    let waiter = wait(&mut stack, 30, now, 60);
    assert_eq!(stack.wake_at(now), Some(at(30)));
    settle(&mut stack, held, Outcome::Success, 70, now);
    let Some((ticket, Left::Passed(held))) = stack.next_in_turn(now) else { panic!("its tokens are there") };
    assert_eq!(ticket, waiter);
    assert_eq!(settle(&mut stack, held, Outcome::Success, 10, now).given_back, 20);
}

#[test]
fn whoever_waits_in_vain_leaves_when_its_patience_ends_and_is_told_a_wait() {
    let (mut stack, now) = (stack(), at(0));
    let held = admit(&mut stack, 100, now).unwrap();
    let first = wait(&mut stack, 20, now, 30);
    let second = wait(&mut stack, 20, now, 30);
    let Some((ticket, Left::Passed(_))) = stack.next_in_turn(at(20)) else { panic!("its tokens are there") };
    assert_eq!(ticket, first);
    assert_eq!(stack.wake_at(at(20)), Some(at(30)));
    let Some((ticket, Left::Expired)) = stack.next_in_turn(at(30)) else { panic!("its patience is over") };
    assert_eq!(ticket, second);
    assert_eq!(stack.told_in_vain(20, at(30)), Some(Duration::from_secs(10)));
    settle(&mut stack, held, Outcome::Ignored, 0, at(30));
}

#[test]
fn a_failure_may_have_been_billed_and_a_refusal_was_not() {
    let settled = |outcome| {
        let mut stack = stack();
        let held = admit(&mut stack, 100, at(0)).unwrap();
        settle(&mut stack, held, outcome, 0, at(0));
        admit(&mut stack, 100, at(0)).is_ok()
    };
    assert!(settled(Outcome::Throttled) && settled(Outcome::Overloaded));
    assert!(!settled(Outcome::Failure));
}

#[test]
fn retries_end_with_the_budget() {
    let mut stack = stack();
    let failed = answer(Outcome::Failure, Timestamp::ORIGIN);
    let granted = (0..100).filter(|_| stack.next(1, &failed, Duration::from_secs(9), 0) != Next::GiveUp(None));
    assert_eq!(granted.count(), RetryBudgetSettings::DEFAULT_RESERVE as usize);
}

/// Calls sent at once, which all end the same way a second later.
fn round(stack: &mut Stack, calls: usize, outcome: Outcome, timed_out: bool, now: Timestamp) -> usize {
    let held: Vec<Held> = (0..calls).map_while(|_| admit(stack, 0, now).ok()).collect();
    let (sent, end) = (held.len(), now.saturating_add(Duration::from_secs(1)));
    for held in held {
        let _ = stack.settle(held, &answer(outcome, end), timed_out, 0, now, 0);
    }
    sent
}

/// What a caller is told who finds all places in flight taken.
const SATURATED: Blocked = Blocked::Limit(AdmissionQueue::SATURATED_RETRY_AFTER);

#[test]
fn an_overload_saturates_the_limit_and_leaves_the_circuit_closed_until_nothing_helps() {
    let mut stack = stack();
    assert_eq!(round(&mut stack, 80, Outcome::Overloaded, false, at(0)), 80);
    assert!(stack.is_closed());
    let held: Vec<Held> = (0..40).map(|_| admit(&mut stack, 0, at(2)).unwrap()).collect();
    assert_eq!(admit(&mut stack, 0, at(2)).unwrap_err(), SATURATED);
    for held in held {
        let _ = stack.settle(held, &answer(Outcome::Ignored, at(3)), false, 0, at(2), 0);
    }
    let sent: Vec<usize> =
        (2..5).map(|number| round(&mut stack, 80, Outcome::Overloaded, false, at(2 * number))).collect();
    assert_eq!(sent, [40, 20, 10]);
    assert!(!stack.is_closed(), "the fourth decrease in a row was one too many");
}

#[test]
fn time_outs_shrink_the_limit_and_open_the_circuit_as_ever() {
    let mut stack = stack();
    let held: Vec<Held> = (0..80).map(|_| admit(&mut stack, 0, at(0)).unwrap()).collect();
    for held in held.into_iter().take(4) {
        let _ = stack.settle(held, &answer(Outcome::Failure, at(1)), true, 0, at(0), 0);
    }
    assert_eq!(admit(&mut stack, 0, at(1)).unwrap_err(), SATURATED);
    let mut stack = self::stack();
    round(&mut stack, 80, Outcome::Failure, true, at(0));
    assert!(!stack.is_closed());
    let mut stack = self::stack();
    assert_eq!(round(&mut stack, 4, Outcome::Failure, false, at(0)), 4);
    assert_eq!(round(&mut stack, 80, Outcome::Success, false, at(2)), 80, "other failures ask for no less");
}
