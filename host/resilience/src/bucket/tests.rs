use super::*;
use proptest::prelude::*;

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

impl TokenBucket {
    /// Takes `cost` tokens, or none.
    fn try_take(&mut self, cost: u64, now: Timestamp) -> Result<(), Wait> {
        self.check(cost, now)?;
        self.charge(cost, now);
        Ok(())
    }
}

#[test]
fn a_bucket_starts_full_and_refills_at_its_rate() {
    let mut bucket = TokenBucket::new(100, 60, at(0));
    assert_eq!(bucket.try_take(100, at(0)), Ok(()));
    assert_eq!(bucket.try_take(1, at(0)), Err(Wait(Duration::from_secs(1))));
    assert_eq!(bucket.available(at(2_500_000)), 2);
    assert_eq!(bucket.available(at(u64::MAX)), 100);
}

#[test]
fn case_36_a_cost_above_the_capacity_is_admitted_once_when_full_and_repaid() {
    let mut bucket = TokenBucket::new(100, 60, at(0));
    assert_eq!(bucket.try_take(10, at(0)), Ok(()));
    let refused = bucket.try_take(250, at(0));
    assert_eq!(refused, Err(Wait(Duration::from_secs(10))), "not full yet");
    assert_eq!(bucket.try_take(250, at(10_000_000)), Ok(()));
    assert_eq!(bucket.available(at(10_000_000)), -150);
    let next = bucket.try_take(1, at(10_000_000));
    assert_eq!(next, Err(Wait(Duration::from_secs(151))), "the debt is repaid first");
    assert_eq!(bucket.try_take(1, at(161_000_000)), Ok(()));
}

#[test]
fn debt_refuses_even_a_cost_of_zero() {
    let mut bucket = TokenBucket::new(10, 60, at(0));
    bucket.charge(15, at(0));
    assert_eq!(bucket.try_take(0, at(0)), Err(Wait(Duration::from_secs(5))));
    assert_eq!(bucket.try_take(0, at(5_000_000)), Ok(()));
}

#[test]
fn a_charge_after_a_long_silence_is_not_forgiven() {
    let mut bucket = TokenBucket::new(100, 6000, at(0));
    bucket.charge(80, at(600_000_000));
    assert_eq!(bucket.available(at(600_000_000)), 20);
}

#[test]
fn draining_keeps_debt_and_giving_back_stops_at_the_capacity() {
    let mut bucket = TokenBucket::new(100, 60, at(0));
    bucket.drain(at(0));
    assert_eq!(bucket.available(at(0)), 0);
    bucket.charge(5, at(0));
    bucket.drain(at(0));
    assert_eq!(bucket.available(at(0)), -5);
    bucket.give_back(u64::MAX, at(0));
    assert_eq!(bucket.available(at(0)), 100);
}

#[test]
fn a_clock_that_steps_back_refills_nothing_twice() {
    let mut bucket = TokenBucket::new(100, 60, at(0));
    bucket.charge(100, at(10_000_000));
    bucket.charge(0, at(1_000_000));
    assert_eq!(bucket.available(at(10_000_000)), 0);
}

#[test]
fn resizing_keeps_what_is_held_up_to_the_new_capacity_and_all_debt() {
    let mut bucket = TokenBucket::new(100, 60, at(0));
    bucket.charge(20, at(0));
    bucket.resize(50, 30, at(0));
    assert_eq!(bucket.available(at(0)), 50);
    bucket.charge(50, at(0));
    bucket.resize(200, 120, at(2_000_000));
    assert_eq!(bucket.available(at(2_000_000)), 1, "the time before was worth the old rate");
    assert_eq!(bucket.available(at(3_000_000)), 3);
    bucket.charge(500, at(3_000_000));
    bucket.resize(1, 60, at(3_000_000));
    assert_eq!(bucket.available(at(3_000_000)), -497);
}

#[test]
fn case_39_without_the_store_each_replica_has_its_share_and_nothing_is_granted_twice_on_return() {
    let mut store = TokenBucket::new(100, 60, at(0));
    store.charge(40, at(0));
    let mut replicas = [store.split(3, at(0)); 3];
    let mut admitted = 0;
    for second in 0..10 {
        for replica in &mut replicas {
            while replica.try_take(1, at(second * 1_000_000)).is_ok() {
                admitted += 1;
            }
        }
    }
    assert_eq!(admitted, 3 * (20 + 3), "sixty were left, and nine seconds bring three to each");
    // The store's bucket has refilled by itself meanwhile.
    store.charge(admitted, at(10_000_000));
    assert_eq!(store.available(at(10_000_000)), 60 + 10 - 69);
    assert!(store.try_take(2, at(10_000_000)).is_err());
    let indebted = {
        store.charge(10, at(10_000_000));
        store.split(2, at(10_000_000))
    };
    assert_eq!(indebted.available(at(10_000_000)), -5, "debt is shared too");
}

#[test]
fn the_largest_numbers_neither_overflow_nor_wrap() {
    let mut bucket = TokenBucket::new(u64::MAX, u64::MAX, at(0));
    for _ in 0..5 {
        bucket.charge(u64::MAX, at(0));
    }
    let max = i64::try_from(TokenBucket::TOKENS_MAX).unwrap();
    assert_eq!(bucket.available(at(0)), -max);
    assert!(bucket.try_take(u64::MAX, at(0)).is_err());
    assert_eq!(bucket.available(at(u64::MAX)), max);
    let mut slow = TokenBucket::new(u64::MAX, 0, at(0));
    slow.charge(u64::MAX, at(0));
    slow.charge(u64::MAX, at(0));
    assert_eq!(slow.try_take(u64::MAX, at(0)), Err(Wait(Duration::from_micros(u64::MAX))));
}

/// The rate is chosen so that not one microsecond is worth a whole micro-token: rounding at each
/// step would show.
#[test]
fn polling_every_microsecond_loses_nothing() {
    let mut bucket = TokenBucket::new(100, 7, at(0));
    bucket.charge(100, at(0));
    for micros in 0..=60_000 {
        bucket.charge(0, at(micros));
    }
    assert_eq!(bucket.level, 7_000, "7 tokens a minute are 7 micro-tokens per 60 microseconds");
}

#[derive(Clone, Debug)]
enum Action {
    Take(u64),
    Charge(u64),
    GiveBack(u64),
    Drain,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0_u64..400).prop_map(Action::Take),
        1 => (0_u64..400).prop_map(Action::Charge),
        1 => (0_u64..400).prop_map(Action::GiveBack),
        1 => Just(Action::Drain),
    ]
}

proptest! {
    /// Against a level in sixtieths of a micro-token, which needs no division at all.
    #[test]
    fn a_bucket_agrees_with_exact_arithmetic(
        capacity in 1_u64..300,
        rate in 1_u64..100_000,
        steps in prop::collection::vec((0_u64..3_000_000, action()), 1..100),
    ) {
        const SCALE: i128 = 60_000_000;
        let full = i128::from(capacity) * SCALE;
        let mut bucket = TokenBucket::new(capacity, rate, at(0));
        let mut exact = full;
        let mut now = 0;
        for (pause, action) in steps {
            now += pause;
            exact = (exact + i128::from(pause) * i128::from(rate)).min(full);
            match action {
                Action::Take(cost) => {
                    let missing = (i128::from(cost) * SCALE).min(full) - exact;
                    let answer = bucket.try_take(cost, at(now));
                    if let Err(Wait(wait)) = answer {
                        prop_assert!(missing > 0);
                        let gain = |micros: u64| i128::from(micros) * i128::from(rate);
                        let wait = u64::try_from(wait.as_micros()).unwrap();
                        prop_assert!(gain(wait) >= missing);
                        prop_assert!(gain(wait - 1) < missing, "one microsecond less would do");
                        let mut later = bucket;
                        prop_assert_eq!(later.try_take(cost, at(now + wait)), Ok(()));
                    } else {
                        prop_assert!(missing <= 0);
                        exact -= i128::from(cost) * SCALE;
                    }
                }
                Action::Charge(amount) => {
                    bucket.charge(amount, at(now));
                    exact -= i128::from(amount) * SCALE;
                }
                Action::GiveBack(amount) => {
                    bucket.give_back(amount, at(now));
                    exact = (exact + i128::from(amount) * SCALE).min(full);
                }
                Action::Drain => {
                    bucket.drain(at(now));
                    exact = exact.min(0);
                }
            }
            let current = bucket.at(at(now));
            let level = i128::from(current.level) * 60 + i128::try_from(current.remainder).unwrap();
            prop_assert_eq!(level, exact);
            prop_assert_eq!(i128::from(bucket.available(at(now))), exact.div_euclid(SCALE));
        }
    }
}
