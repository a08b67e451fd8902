use super::*;
use proptest::prelude::*;

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn seconds(seconds: u64) -> Timestamp {
    at(seconds * 1_000_000)
}

fn limiter(requests: u64, tokens: u64) -> Limiter {
    let bucket = |per_minute| Some(TokenBucket::new(per_minute, per_minute, at(0)));
    Limiter::new(bucket(requests), bucket(tokens))
}

fn levels(limiter: &Limiter, now: u64) -> [Option<i64>; 2] {
    [Dimension::Requests, Dimension::Tokens].map(|dimension| limiter.available(dimension, at(now)))
}

fn reported(limit: u64, remaining: u64, reset_in: u64) -> Reported {
    Reported { limit, remaining, reset_in: Duration::from_secs(reset_in) }
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
fn what_a_call_uses_while_it_goes_on_is_taken_at_once_and_may_become_a_debt() {
    let mut limiter = limiter(10, 1000);
    let reservation = limiter.reserve(0, at(0)).unwrap();
    limiter.charge(600, at(0));
    assert_eq!(levels(&limiter, 0), [Some(9), Some(400)]);
    limiter.charge(600, at(0));
    assert_eq!(levels(&limiter, 0), [Some(9), Some(-200)]);
    limiter.settle(reservation, Settlement::AsEstimated, at(0));
    assert_eq!(levels(&limiter, 0), [Some(9), Some(-200)], "nothing is taken twice");
    let mut unlimited = Limiter::new(None, None);
    unlimited.charge(u64::MAX, at(0));
    assert_eq!(levels(&unlimited, 0), [None, None]);
}

#[test]
fn case_37_a_lost_reservation_is_refilled_by_time() {
    let mut limiter = limiter(10, 1000);
    drop(limiter.reserve(1000, at(0)).unwrap());
    assert!(limiter.reserve(1000, at(59_999_999)).is_err());
    assert!(limiter.reserve(1000, at(60_000_000)).is_ok());
}

#[test]
fn case_37_a_settlement_after_the_reservation_expired_has_no_effect() {
    let mut limiter = limiter(10, 1000);
    let [kept, late] = [(); 2].map(|()| limiter.reserve(400, at(0)).unwrap());
    assert_ne!(kept.id(), late.id());
    assert_eq!(limiter.outstanding(), 2);
    let expiry = Limiter::RESERVATION_LIFETIME;
    let before = at(0).saturating_add(expiry - Duration::from_secs(1));
    assert!(limiter.settle(kept, Settlement::Used(100), before));
    let after = at(0).saturating_add(expiry);
    drop(limiter.reserve(1000, after).unwrap());
    assert_eq!(limiter.outstanding(), 1, "the expired one is gone");
    assert!(!limiter.settle(late, Settlement::Refund, after), "an hour later it would be a second grant");
    assert_eq!(limiter.available(Dimension::Tokens, after), Some(0));
}

#[test]
fn case_37_reservations_lost_by_the_thousand_stay_bounded() {
    let mut limiter = Limiter::default();
    let first = limiter.reserve(1, at(0)).unwrap();
    let second = limiter.reserve(1, at(0)).unwrap();
    for _ in 1..Limiter::OUTSTANDING_MAX {
        drop(limiter.reserve(1, at(0)).unwrap());
    }
    assert_eq!(limiter.outstanding(), Limiter::OUTSTANDING_MAX);
    assert!(!limiter.settle(first, Settlement::Refund, at(0)), "the oldest made room");
    assert!(limiter.settle(second, Settlement::Refund, at(0)));
}

#[test]
fn case_38_reservations_across_limiters_are_all_or_nothing() {
    let (mut tenant, mut target) = (limiter(10, 100), limiter(10, 50));
    let before = (levels(&tenant, 0), levels(&target, 0));
    let both = reserve_all([&mut tenant, &mut target], 40, at(0)).unwrap();
    let refused = reserve_all([&mut tenant, &mut target], 40, at(0)).unwrap_err();
    assert_eq!((refused.limiter, refused.exceeded.dimension, refused.exceeded.limit), (1, Dimension::Tokens, 50));
    assert_eq!((levels(&tenant, 0)[1], levels(&target, 0)[1]), (Some(60), Some(10)), "the tenant paid once");
    let [first, second] = both;
    tenant.settle(first, Settlement::Refund, at(0));
    target.settle(second, Settlement::Refund, at(0));
    assert_eq!((levels(&tenant, 0), levels(&target, 0)), before);
}

#[test]
fn a_provider_that_sees_less_left_is_believed() {
    let mut limiter = limiter(1000, 1000);
    limiter.resync(Dimension::Tokens, reported(1000, 100, 60), Ceiling::Configured, seconds(0));
    assert!(limiter.reserve(101, seconds(0)).is_err());
    drop(limiter.reserve(100, seconds(0)).unwrap());
    let refused = limiter.reserve(30, seconds(0)).unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(2), "900 come back within the minute, 15 a second");
    assert!(limiter.reserve(30, seconds(2)).is_ok());
}

#[test]
fn a_provider_that_sees_more_left_than_we_do_grants_nothing() {
    let mut limiter = limiter(1000, 1000);
    drop(limiter.reserve(900, seconds(0)).unwrap());
    limiter.resync(Dimension::Tokens, reported(1000, 1000, 0), Ceiling::Configured, seconds(0));
    assert_eq!(limiter.available(Dimension::Tokens, seconds(0)), Some(100));
    assert!(limiter.reserve(101, seconds(0)).is_err());
}

#[test]
fn a_providers_lower_limit_always_holds_and_a_higher_one_only_when_asked_for() {
    let largest = |limit, ceiling| {
        let mut limiter = limiter(1000, 1000);
        limiter.resync(Dimension::Tokens, reported(limit, limit, 1), ceiling, seconds(0));
        limiter.available(Dimension::Tokens, seconds(3600)).unwrap()
    };
    assert_eq!(largest(400, Ceiling::Configured), 400);
    assert_eq!(largest(400, Ceiling::Provider), 400);
    assert_eq!(largest(5000, Ceiling::Configured), 1000);
    assert_eq!(largest(5000, Ceiling::Provider), 5000);

    let mut lowered = limiter(1000, 1000);
    for limit in [400, 900] {
        lowered.resync(Dimension::Tokens, reported(limit, limit, 1), Ceiling::Configured, seconds(0));
    }
    assert_eq!(lowered.available(Dimension::Tokens, seconds(3600)), Some(900), "and it may recover");
}

#[test]
fn a_limit_that_was_not_configured_is_learned_from_the_provider() {
    let mut limiter = Limiter::default();
    limiter.resync(Dimension::Requests, reported(50, 2, 60), Ceiling::Configured, seconds(0));
    drop((limiter.reserve(7, seconds(0)).unwrap(), limiter.reserve(7, seconds(0)).unwrap()));
    let refused = limiter.reserve(7, seconds(0)).unwrap_err();
    assert_eq!((refused.dimension, refused.limit), (Dimension::Requests, 50));
}

#[test]
fn what_was_reserved_before_a_report_is_not_given_back_to_it() {
    let mut limiter = limiter(1000, 1000);
    let before = limiter.reserve(400, seconds(0)).unwrap();
    limiter.resync(Dimension::Tokens, reported(1000, 50, 60), Ceiling::Configured, seconds(0));
    let after = limiter.reserve(50, seconds(0)).unwrap();
    limiter.settle(before, Settlement::Refund, seconds(0));
    assert_eq!(limiter.available(Dimension::Tokens, seconds(0)), Some(0), "the report knew of it");
    limiter.settle(after, Settlement::Used(10), seconds(0));
    assert_eq!(limiter.available(Dimension::Tokens, seconds(0)), Some(40));
}

#[test]
fn a_drained_dimension_admits_nothing_until_its_reset_and_the_other_goes_on() {
    let mut limiter = limiter(100, 6000);
    limiter.drain(Dimension::Tokens, Duration::from_secs(30), seconds(0));
    limiter.drain(Dimension::Tokens, Duration::from_secs(5), seconds(0));
    assert_eq!(levels(&limiter, 0), [Some(100), Some(0)]);
    let refused = limiter.reserve(1, seconds(10)).unwrap_err();
    assert_eq!(refused.dimension, Dimension::Tokens);
    assert_eq!(refused.retry_after, Duration::from_secs(20), "the later reset wins");
    assert!(limiter.reserve(1, at(29_999_999)).is_err());
    assert!(limiter.reserve(1, seconds(30)).is_ok());
}

#[test]
fn a_drain_of_days_ends_within_a_day() {
    let mut limiter = Limiter::default();
    limiter.drain(Dimension::Requests, Duration::from_secs(6 * 86_400), seconds(0));
    let refused = limiter.reserve(1, seconds(0)).unwrap_err();
    assert_eq!(refused.retry_after, Limiter::RESET_MAX);
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

#[test]
fn a_limits_standing_says_what_is_left_and_when_all_of_it_is_there_again() {
    let mut limiter = Limiter::new(None, Some(TokenBucket::new(600, 600, at(0))));
    let standing = |limiter: &Limiter, now| limiter.standing(Dimension::Tokens, at(now)).unwrap();
    let after = |secs, remaining| LimitStanding { limit: 600, remaining, reset_in: Duration::from_secs(secs) };
    assert_eq!(limiter.standing(Dimension::Requests, at(0)), None);
    assert_eq!(standing(&limiter, 0), after(0, 600));
    let reservation = limiter.reserve(100, at(0)).unwrap();
    assert_eq!(standing(&limiter, 0), after(10, 500));
    assert_eq!(standing(&limiter, 4_000_000), after(6, 540));
    // What was used beyond all that was there must be refilled as well.
    limiter.settle(reservation, Settlement::Used(700), at(4_000_000));
    assert_eq!(standing(&limiter, 4_000_000), after(66, 0));
}

proptest! {
    /// Whatever the provider reports, what is granted fits its view and the own bucket, and the
    /// wait of a refusal is honest.
    #[test]
    fn never_more_is_granted_than_both_views_agree_on(
        steps in prop::collection::vec((0_u64..8, 0_u64..20_000_000, 1_u64..400, 0_u64..500, 0_u64..90), 1..150),
    ) {
        const CAPACITY: u64 = 300;
        let mut limiter = Limiter::new(None, Some(TokenBucket::new(CAPACITY, CAPACITY, at(0))));
        let mut view: Option<(u64, Reported, u64)> = None;
        let (mut now, mut granted) = (0, 0_u64);
        for (action, pause, cost, remaining, reset) in steps {
            now += pause;
            if action == 0 {
                let report = reported(cost, remaining.min(cost), reset);
                limiter.resync(Dimension::Tokens, report, Ceiling::Configured, at(now));
                view = Some((now, report, 0));
                continue;
            }
            let cost = cost / 4;
            match limiter.reserve(cost, at(now)) {
                Ok(reservation) => {
                    granted += cost;
                    drop(reservation);
                    if let Some((since, report, charged)) = &mut view {
                        let reset = u64::try_from(report.reset_in.as_micros()).unwrap();
                        let passed = now - *since;
                        if passed < reset {
                            let gained = (report.limit - report.remaining) * passed / reset;
                            let left = (report.remaining + gained).saturating_sub(*charged);
                            prop_assert!(cost.min(report.limit) <= left, "{} of {}", cost, left);
                        }
                        *charged += cost;
                    }
                    // A cost above a lowered limit goes into debt at most once at a time.
                    prop_assert!(granted <= CAPACITY + CAPACITY * now / 60_000_000 + 100);
                }
                Err(refused) => {
                    let wait = u64::try_from(refused.retry_after.as_micros()).unwrap();
                    prop_assert!(wait > 0);
                    prop_assert!(limiter.reserve(cost, at(now + wait - 1)).is_err(), "too long a wait");
                    let mut later = limiter.clone();
                    prop_assert!(later.reserve(cost, at(now + wait)).is_ok(), "too short a wait");
                }
            }
        }
    }
}
