use super::*;
use proptest::prelude::*;

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn answered(millis: u64) -> Feedback {
    Feedback::Answered { first_token: Duration::from_millis(millis), input_tokens: 1000 }
}

fn limit(min_in_flight: u32, initial: u32, max_in_flight: u32) -> AdaptiveLimit {
    AdaptiveLimit::new(AdaptiveLimitSettings { min_in_flight, initial, max_in_flight, latency_tolerance: Some(2.0) })
}

/// One round trip: `calls` are sent together (as far as the limit allows) and end alike. Returns how
/// many of them were excused.
fn round(limit: &mut AdaptiveLimit, calls: u32, feedback: Feedback, clock: &mut u64) -> usize {
    *clock += 1_000_000;
    let slots: Vec<Slot> = (0..calls).map_while(|_| limit.acquire(at(*clock)).ok()).collect();
    *clock += 1_000_000;
    slots.into_iter().map(|slot| limit.release(slot, feedback, at(*clock))).filter(|excused| *excused).count()
}

/// The limit after each of so many round trips that use it fully, fresh calls taking the place of
/// those that are answered.
fn growth(limit: &mut AdaptiveLimit, rounds: usize, clock: &mut u64) -> Vec<u32> {
    let mut after = Vec::new();
    for _ in 0..rounds {
        *clock += 1_000_000;
        let mut slots: Vec<Slot> = (0..limit.limit()).map_while(|_| limit.acquire(at(*clock)).ok()).collect();
        for _ in 0..slots.len() {
            *clock += 1;
            limit.release(slots.swap_remove(0), answered(100), at(*clock));
            slots.extend(limit.acquire(at(*clock)));
        }
        after.push(limit.limit());
        for slot in slots {
            limit.release(slot, Feedback::Neutral, at(*clock));
        }
    }
    after
}

#[test]
fn a_bulkhead_holds_its_bound_and_gets_its_slots_back() {
    let mut bulkhead = Bulkhead::new(2);
    let first = bulkhead.acquire(at(0)).unwrap();
    let second = bulkhead.acquire(at(0)).unwrap();
    assert_eq!(bulkhead.acquire(at(0)), Err(Saturated { limit: 2 }));
    bulkhead.release(first);
    let third = bulkhead.acquire(at(0)).unwrap();
    bulkhead.release(second);
    bulkhead.release(third);
    assert_eq!(bulkhead.in_flight(), 0);
    assert!(Bulkhead::new(0).acquire(at(0)).is_ok(), "a bulkhead that admits nothing is an outage");
}

#[test]
fn an_overload_halves_the_limit_once_per_round_trip() {
    let (mut limit, mut clock) = (limit(1, 40, 100), 0);
    round(&mut limit, 40, Feedback::Overloaded, &mut clock);
    assert_eq!(limit.limit(), 20, "forty refusals of one round trip are one piece of news");
    round(&mut limit, 20, Feedback::Overloaded, &mut clock);
    assert_eq!(limit.limit(), 10);
}

#[test]
fn a_decrease_starts_from_what_is_in_flight() {
    let (mut limit, mut clock) = (AdaptiveLimit::new(AdaptiveLimitSettings::default()), 0);
    assert_eq!(limit.limit(), AdaptiveLimitSettings::DEFAULT_MAX_IN_FLIGHT);
    round(&mut limit, 40, Feedback::Overloaded, &mut clock);
    assert_eq!(limit.limit(), 20, "a limit that nobody pressed against bites at once");
}

#[test]
fn a_time_out_is_a_sign_of_overload() {
    let (mut limit, mut clock) = (limit(1, 100, 100), 0);
    assert_eq!(round(&mut limit, 40, Feedback::TimedOut, &mut clock), 0, "but never excused");
    assert_eq!(limit.limit(), 20);
}

#[test]
fn calls_sent_before_a_decrease_neither_cause_another_nor_take_it_back() {
    let mut limit = limit(1, 4, 100);
    let mut early: Vec<Slot> = (1..=3).map(|micros| limit.acquire(at(micros)).unwrap()).collect();
    let other = limit.acquire(at(4)).unwrap();
    limit.release(other, Feedback::Overloaded, at(5));
    assert_eq!(limit.limit(), 2);
    limit.release(early.remove(0), Feedback::Overloaded, at(9_000_000));
    limit.release(early.remove(0), answered(100), at(9_000_000));
    assert_eq!(limit.limit(), 2);
}

#[test]
fn a_call_alone_cannot_have_been_one_too_many() {
    let (mut limit, mut clock) = (limit(2, 50, 100), 0);
    assert_eq!(round(&mut limit, 1, Feedback::Overloaded, &mut clock), 0);
    assert_eq!(round(&mut limit, 2, Feedback::TimedOut, &mut clock), 0);
    assert_eq!(limit.limit(), 50);
}

#[test]
fn overloads_are_excused_until_three_decreases_have_not_helped() {
    let (mut limit, mut clock) = (limit(1, 80, 100), 0);
    let excused: Vec<usize> = (0..4).map(|_| round(&mut limit, 80, Feedback::Overloaded, &mut clock)).collect();
    assert_eq!(excused, [80, 40, 20, 0]);
    round(&mut limit, 80, answered(100), &mut clock);
    let room = limit.limit() as usize;
    assert!(room > 5, "an answer to a call that was sent since lets it grow");
    // What comes back last finds itself alone; it is old news all the same.
    assert_eq!(round(&mut limit, 80, Feedback::Overloaded, &mut clock), room);
}

#[test]
fn a_good_third_of_the_way_back_is_taken_per_round_trip() {
    let (mut limit, mut clock) = (limit(1, 100, 1000), 0);
    round(&mut limit, 100, Feedback::Overloaded, &mut clock);
    let mut gap = 50.0;
    for after in growth(&mut limit, 4, &mut clock) {
        let left = f64::from(100 - after);
        assert!((0.6..0.68).contains(&(left / gap)), "{left} of {gap} is left");
        gap = left;
    }
}

#[test]
fn after_a_short_outage_the_limit_is_back_within_a_few_round_trips() {
    let (mut limit, mut clock) = (limit(1, 1000, 1000), 0);
    for _ in 0..10 {
        round(&mut limit, 500, Feedback::Overloaded, &mut clock);
    }
    assert_eq!(limit.limit(), 1);
    let after = growth(&mut limit, 12, &mut clock);
    assert!(after.windows(2).all(|pair| pair[1] <= 3 * pair[0]), "it does not leap: {after:?}");
    assert!((400..=520).contains(&after[11]), "{after:?}");
}

#[test]
fn the_minimum_is_respected() {
    let (mut limit, mut clock) = (limit(3, 10, 100), 0);
    for _ in 0..50 {
        round(&mut limit, 100, Feedback::Overloaded, &mut clock);
    }
    assert_eq!(limit.limit(), 3);
    round(&mut limit, 3, answered(100), &mut clock);
    round(&mut limit, 3, answered(100), &mut clock);
    assert!(limit.limit() > 3, "and it grows again from there");
}

#[test]
fn beyond_the_known_the_limit_grows_by_its_square_root_per_round_trip_while_it_is_used() {
    let (mut limit, mut clock) = (limit(1, 100, 1000), 0);
    let mut before = 100;
    for after in growth(&mut limit, 20, &mut clock) {
        let step = f64::from(before).sqrt();
        assert!((step - 2.0..=step + 2.0).contains(&f64::from(after - before)), "{before} became {after}");
        before = after;
    }
}

#[test]
fn an_unused_limit_is_frozen() {
    let (mut limit, mut clock) = (limit(1, 20, 100), 0);
    for _ in 0..100 {
        round(&mut limit, 9, answered(100), &mut clock);
    }
    for _ in 0..100 {
        round(&mut limit, 9, answered(10_000), &mut clock);
    }
    assert_eq!(limit.limit(), 20);
}

#[test]
fn late_first_tokens_shrink_a_used_limit() {
    let (mut limit, mut clock) = (limit(1, 20, 100), 0);
    round(&mut limit, 20, answered(100), &mut clock);
    let before = limit.limit();
    for _ in 0..10 {
        round(&mut limit, 100, answered(1_000), &mut clock);
    }
    assert!(limit.limit() < before * 3 / 4, "{before} became {}", limit.limit());
}

#[test]
fn long_prompts_are_not_late() {
    let (mut limit, mut clock) = (limit(1, 20, 100), 0);
    round(&mut limit, 20, answered(100), &mut clock);
    let before = limit.limit();
    let long = Feedback::Answered { first_token: Duration::from_secs(5), input_tokens: 100_000 };
    for _ in 0..10 {
        round(&mut limit, 100, long, &mut clock);
    }
    assert!(limit.limit() > before);
}

/// An upstream with room for ten whose first token takes longer in proportion to the queue behind.
#[test]
fn a_permanent_overload_neither_inflates_the_baseline_nor_lets_the_limit_drift_up() {
    let (mut limit, mut clock) = (limit(1, 5, 1000), 0);
    let mut highest = 0;
    for _ in 0..5_000 {
        let calls = limit.limit();
        round(&mut limit, calls, answered(100 * u64::from(calls.max(10)) / 10), &mut clock);
        highest = highest.max(limit.limit());
    }
    assert!(highest <= 25, "twice the room is tolerated, and little more: {highest}");
    assert!(limit.limit() >= 10);
}

#[test]
fn an_upstream_that_has_become_slower_for_good_is_understood() {
    let (mut limit, mut clock) = (limit(1, 20, 20), 0);
    for _ in 0..10 {
        round(&mut limit, 20, answered(100), &mut clock);
    }
    for _ in 0..2_000 {
        round(&mut limit, 20, answered(1_000), &mut clock);
    }
    assert_eq!(limit.limit(), 20);
}

#[test]
fn case_40_a_million_cancellations_leak_no_slot() {
    let mut limit = limit(2, 50, 100);
    let mut held = Vec::new();
    let mut state = 1_u64;
    for step in 0..1_000_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if state >> 63 == 0 || held.is_empty() {
            held.extend(limit.acquire(at(step)).ok());
        } else {
            let index = usize::try_from(state >> 33).unwrap() % held.len();
            limit.release(held.swap_remove(index), Feedback::Neutral, at(step));
        }
    }
    for slot in held {
        limit.release(slot, Feedback::Neutral, at(2_000_000));
    }
    assert_eq!((limit.in_flight(), limit.limit()), (0, 50));
}

#[test]
fn every_mistake_is_listed() {
    let broken = AdaptiveLimitSettings { min_in_flight: 0, max_in_flight: 0, initial: 7, latency_tolerance: Some(1.0) };
    let fields: Vec<_> = broken.validate().into_iter().map(|m| m.field).collect();
    assert_eq!(fields, ["min_in_flight", "initial", "latency_tolerance"]);
    assert_eq!(AdaptiveLimit::new(broken).limit(), 1);
    assert_eq!(AdaptiveLimitSettings::default().validate(), []);
}

proptest! {
    #[test]
    fn the_limit_stays_in_its_range_and_in_flight_is_exact(
        steps in prop::collection::vec((0_u8..4, 0_u64..u64::MAX, any::<prop::sample::Index>()), 1..300),
    ) {
        let mut limit = limit(2, 6, 12);
        let mut held: Vec<Slot> = Vec::new();
        for (clock, (action, number, index)) in steps.into_iter().enumerate() {
            let now = at(u64::try_from(clock).unwrap());
            if action < 2 || held.is_empty() {
                let room = u32::try_from(held.len()).unwrap() < limit.limit();
                let slot = limit.acquire(now);
                prop_assert_eq!(slot.is_ok(), room);
                held.extend(slot.ok());
            } else {
                let slot = held.swap_remove(index.index(held.len()));
                let feedback = match number % 3 {
                    0 => Feedback::Overloaded,
                    1 => Feedback::Neutral,
                    _ => Feedback::Answered { first_token: Duration::from_micros(number), input_tokens: number },
                };
                limit.release(slot, feedback, now);
            }
            prop_assert!((2..=12).contains(&limit.limit()));
            prop_assert_eq!(usize::try_from(limit.in_flight()).unwrap(), held.len());
        }
    }
}

#[test]
fn what_lasts_and_rests_leaves_the_limit_to_those_who_work() {
    let settings = AdaptiveLimitSettings { max_in_flight: 40, initial: 40, ..AdaptiveLimitSettings::default() };
    let mut limit = AdaptiveLimit::new(settings);
    let now = Timestamp::from_micros(1_000_000);
    let mut lasting: Vec<Slot> = (0..20).map(|_| limit.acquire(now).expect("a slot")).collect();
    lasting.iter_mut().for_each(|slot| limit.lasts(slot));
    assert_eq!((limit.in_flight(), limit.working()), (20, 0));
    let working: Vec<Slot> = (0..4).map(|_| limit.acquire(now).expect("a slot")).collect();
    for slot in working {
        limit.release(slot, Feedback::TimedOut, now);
    }
    assert!(limit.limit() < 20, "{}", limit.limit());
    let slot = limit.acquire(now).expect("those who rest are not in the way");
    limit.release(slot, Feedback::Neutral, now);
    let all: Vec<_> = (0..40).map_while(|_| limit.acquire(now).ok()).collect();
    assert!(limit.in_flight() <= 40 && limit.acquire(now).is_err());
    all.into_iter().chain(lasting).for_each(|slot| {
        limit.release(slot, Feedback::Neutral, now);
    });
    assert_eq!((limit.in_flight(), limit.working()), (0, 0));
}
