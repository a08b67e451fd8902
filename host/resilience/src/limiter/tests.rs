use super::*;
use proptest::prelude::*;

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn limiter(requests: u64, tokens: u64) -> Limiter {
    Limiter {
        requests: Some(TokenBucket::new(requests, requests, at(0))),
        tokens: Some(TokenBucket::new(tokens, tokens, at(0))),
    }
}

fn levels(limiter: &Limiter, now: u64) -> [Option<i64>; 2] {
    [limiter.requests, limiter.tokens].map(|bucket| bucket.map(|b| b.available(at(now))))
}

#[test]
fn case_35_concurrent_calls_never_reserve_more_than_the_limit() {
    let costs = [58, 87, 116, 145, 175];
    for first in 0..costs.len() {
        let mut limiter = limiter(1000, 100);
        let admitted: Vec<u64> = (0..costs.len())
            .map(|offset| costs[(first + offset) % costs.len()])
            .filter(|cost| limiter.reserve(*cost, at(0)).is_ok())
            .collect();
        // A call above the whole limit can only be served alone, out of a full bucket.
        assert_eq!(admitted, [costs[first]]);
    }
}

#[test]
fn case_35_calls_that_fit_together_are_admitted_together() {
    let mut limiter = limiter(1000, 100);
    let admitted = (0..5).filter(|_| limiter.reserve(40, at(0)).is_ok()).count();
    assert_eq!(admitted, 2);
    assert_eq!(levels(&limiter, 0), [Some(998), Some(20)]);
}

#[test]
fn case_36_a_call_above_the_limit_is_admitted_when_full_and_blocks_until_repaid() {
    let mut limiter = limiter(1000, 100);
    let reservation = limiter.reserve(250, at(0)).unwrap();
    assert_eq!(reservation.tokens(), 250);
    assert_eq!(levels(&limiter, 0)[1], Some(-150));
    let refused = limiter.reserve(1, at(0)).unwrap_err();
    assert_eq!(refused.dimension, Dimension::Tokens);
    assert_eq!(refused.limit, 100);
    let after = u64::try_from(refused.retry_after.as_micros()).unwrap();
    assert!(limiter.reserve(1, at(after - 1)).is_err());
    assert!(limiter.reserve(1, at(after)).is_ok());
}

#[test]
fn case_37_failure_cancel_and_overrun_settle_to_what_was_used() {
    let settled = |settlement| {
        let mut limiter = limiter(10, 1000);
        let reservation = limiter.reserve(400, at(0)).unwrap();
        limiter.settle(reservation, settlement, at(0));
        levels(&limiter, 0)
    };
    assert_eq!(settled(Settlement::Used(100)), [Some(9), Some(900)]);
    assert_eq!(settled(Settlement::Used(1_700)), [Some(9), Some(-700)], "overrun is debt");
    assert_eq!(settled(Settlement::Refund), [Some(10), Some(1000)]);
    assert_eq!(settled(Settlement::AsEstimated), [Some(9), Some(600)]);
}

#[test]
fn case_37_a_lost_reservation_is_refilled_by_time() {
    let mut limiter = limiter(10, 1000);
    drop(limiter.reserve(1000, at(0)).unwrap());
    assert!(limiter.reserve(1000, at(59_999_999)).is_err());
    assert!(limiter.reserve(1000, at(60_000_000)).is_ok());
}

#[test]
fn case_38_a_refused_reservation_takes_nothing_from_either_limit() {
    let mut limiter = limiter(10, 100);
    drop(limiter.reserve(90, at(0)).unwrap());
    let before = levels(&limiter, 0);
    for _ in 0..100 {
        assert!(limiter.reserve(11, at(0)).is_err());
    }
    assert_eq!(levels(&limiter, 0), before);
    assert!(limiter.reserve(10, at(0)).is_ok());
}

#[test]
fn the_longer_wait_is_named_when_both_limits_refuse() {
    let mut limiter = limiter(1, 60);
    drop(limiter.reserve(60, at(0)).unwrap());
    let refused = limiter.reserve(30, at(0)).unwrap_err();
    assert_eq!(refused.dimension, Dimension::Requests);
    assert_eq!(refused.retry_after, Duration::from_secs(60));
}

#[test]
fn without_limits_everything_is_admitted() {
    let mut limiter = Limiter::default();
    let reservation = limiter.reserve(u64::MAX, at(0)).unwrap();
    limiter.settle(reservation, Settlement::Used(0), at(0));
    assert_eq!(levels(&limiter, 0), [None, None]);
}

#[derive(Clone, Debug)]
enum Action {
    Reserve(u64),
    Settle(prop::sample::Index, Settlement),
    Wait(u64),
}

fn action() -> impl Strategy<Value = Action> {
    let settlement =
        prop_oneof![(0_u64..300).prop_map(Settlement::Used), Just(Settlement::Refund), Just(Settlement::AsEstimated),];
    prop_oneof![
        3 => (0_u64..150).prop_map(Action::Reserve),
        2 => (any::<prop::sample::Index>(), settlement).prop_map(|(i, s)| Action::Settle(i, s)),
        1 => (0_u64..5).prop_map(Action::Wait),
    ]
}

proptest! {
    /// Against two plain integers: with 60 per minute, a whole second is worth exactly one.
    #[test]
    fn a_limiter_agrees_with_two_counters(steps in prop::collection::vec(action(), 1..200)) {
        const LIMIT: u64 = 60;
        const FULL: i64 = 60;
        let mut limiter = limiter(LIMIT, LIMIT);
        let (mut requests, mut tokens) = (FULL, FULL);
        let mut outstanding = Vec::new();
        let mut second = 0;
        for step in steps {
            let now = at(second * 1_000_000);
            match step {
                Action::Wait(seconds) => {
                    second += seconds;
                    requests = (requests + i64::try_from(seconds).unwrap()).min(FULL);
                    tokens = (tokens + i64::try_from(seconds).unwrap()).min(FULL);
                }
                Action::Reserve(cost) => {
                    let signed = i64::try_from(cost).unwrap();
                    let fits = requests >= 1 && tokens >= signed.min(FULL);
                    let answer = limiter.reserve(cost, now);
                    prop_assert_eq!(answer.is_ok(), fits);
                    if let Ok(reservation) = answer {
                        requests -= 1;
                        tokens -= signed;
                        outstanding.push(reservation);
                    }
                }
                Action::Settle(index, settlement) => {
                    if outstanding.is_empty() {
                        continue;
                    }
                    let reservation = outstanding.remove(index.index(outstanding.len()));
                    let reserved = i64::try_from(reservation.tokens()).unwrap();
                    match settlement {
                        Settlement::Used(used) => {
                            tokens = (tokens + reserved - i64::try_from(used).unwrap()).min(FULL);
                        }
                        Settlement::Refund => {
                            requests = (requests + 1).min(FULL);
                            tokens = (tokens + reserved).min(FULL);
                        }
                        Settlement::AsEstimated => {}
                    }
                    limiter.settle(reservation, settlement, now);
                }
            }
            let now = second * 1_000_000;
            prop_assert_eq!(levels(&limiter, now), [Some(requests), Some(tokens)]);
        }
    }
}
