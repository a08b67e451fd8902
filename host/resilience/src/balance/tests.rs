use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::affinity::{Affinity, AffinitySettings};
use crate::time::Timestamp;
use proptest::prelude::*;

const EQUAL: Candidate = Candidate {
    rank: 0,
    weight: 1,
    tokens_in_flight: 0,
    conversations: 0,
    standing: Standing::GOOD,
    is_degraded: false,
};

const fn serves(served_share: f64) -> Standing {
    Standing { served_share, ..Standing::GOOD }
}

/// A random number with which no doubtful candidate is tried in its turn.
const NO_TRIAL: u64 = u64::MAX / 2;
const TRIAL: u64 = 0;

fn ranks(shares: &[f64]) -> Vec<Candidate> {
    (0..).zip(shares).map(|(rank, share)| Candidate { rank, standing: serves(*share), ..EQUAL }).collect()
}

/// Random numbers that follow from nothing but where they begin (SplitMix64).
fn randoms(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// How often each of these comes first.
fn firsts(candidates: &[Candidate], pinned: Option<usize>, draws: u32) -> Vec<f64> {
    let mut random = randoms(1);
    let mut counts = vec![0_u32; candidates.len()];
    for _ in 0..draws {
        counts[order(candidates, pinned, random())[0]] += 1;
    }
    counts.into_iter().map(|count| f64::from(count) / f64::from(draws)).collect()
}

#[test]
fn lower_ranks_come_first_whatever_their_load() {
    let busy = Candidate { tokens_in_flight: 1_000_000, conversations: 1_000, ..EQUAL };
    let candidates = [Candidate { rank: 2, ..EQUAL }, Candidate { rank: 0, ..busy }, Candidate { rank: 1, ..EQUAL }];
    assert_eq!(order(&candidates, Some(0), NO_TRIAL), [1, 2, 0], "a pin says nothing across ranks");
}

#[test]
fn the_pinned_one_comes_first_of_its_equals_whatever_its_load() {
    let mut candidates = [EQUAL; 4];
    candidates[2].tokens_in_flight = 1_000_000;
    assert_eq!(firsts(&candidates, Some(2), 1_000), [0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn a_pin_to_a_candidate_that_is_gone_is_none() {
    assert_eq!(order(&[EQUAL], Some(7), NO_TRIAL), [0]);
    assert_eq!(order(&[], Some(0), NO_TRIAL), [] as [usize; 0]);
}

#[test]
fn the_most_loaded_of_equals_is_never_first_and_of_two_it_is_the_other() {
    let loads = [300, 100, 200].map(|tokens_in_flight| Candidate { tokens_in_flight, ..EQUAL });
    let shares = firsts(&loads, None, 30_000);
    assert_eq!(shares[0], 0.0);
    assert!((shares[1] - 2.0 / 3.0).abs() < 0.02, "{shares:?}: it is drawn two times out of three");
    assert_eq!(firsts(&loads[..2], None, 1_000), [0.0, 1.0]);
}

#[test]
fn the_others_follow_by_load() {
    let loads = [50, 10, 30, 20, 40].map(|tokens_in_flight| Candidate { tokens_in_flight, ..EQUAL });
    let order = order(&loads, Some(0), NO_TRIAL);
    assert_eq!(order[0], 0);
    let rest: Vec<_> = order[2..].iter().map(|index| loads[*index].tokens_in_flight).collect();
    assert!(rest.is_sorted(), "{rest:?}");
}

#[test]
fn load_is_measured_by_weight() {
    let twice = Candidate { weight: 2, tokens_in_flight: 150, ..EQUAL };
    let once = Candidate { tokens_in_flight: 100, ..EQUAL };
    assert_eq!(firsts(&[twice, once], None, 1_000), [1.0, 0.0]);
}

#[test]
fn fewer_conversations_decide_between_those_that_are_idle() {
    let many = Candidate { conversations: 9, ..EQUAL };
    let few = Candidate { conversations: 8, ..EQUAL };
    assert_eq!(firsts(&[many, few], None, 1_000), [0.0, 1.0]);
}

#[test]
fn where_nothing_tells_them_apart_weight_decides() {
    let weights = [1, 2, 5].map(|weight| Candidate { weight, ..EQUAL });
    let shares = firsts(&weights, None, 40_000);
    for (share, expected) in shares.iter().zip([0.125, 0.25, 0.625]) {
        assert!((share - expected).abs() < 0.02, "{shares:?}");
    }
}

#[test]
fn a_doubtful_one_steps_behind_whoever_is_clearly_better() {
    for (shares, expected) in [
        (&[0.5, 1.0][..], &[1, 0][..]),
        (&[0.5, 0.52, 1.0], &[2, 0, 1]),
        (&[0.5, 0.8, 1.0], &[2, 1, 0]),
        (&[0.5, 0.3, 1.0], &[2, 0, 1]),
        (&[0.5, 1.0, 0.3], &[1, 0, 2]),
        (&[0.91, 1.0], &[0, 1]),
        (&[0.86, 0.9], &[0, 1]),
        (&[1.0, 0.5, 0.9], &[0, 2, 1]),
        (&[f64::NAN, 1.0], &[0, 1]),
    ] {
        assert_eq!(order(&ranks(shares), None, NO_TRIAL), expected, "{shares:?}");
    }
}

#[test]
fn nobody_is_taken_to_what_only_stands_in() {
    let mut candidates = ranks(&[0.5, 1.0, 1.0]);
    candidates[1].is_degraded = true;
    candidates[2].is_degraded = true;
    assert_eq!(order(&candidates, None, NO_TRIAL), [0, 1, 2]);
    candidates[1].standing = serves(0.5);
    assert_eq!(order(&candidates, None, NO_TRIAL), [0, 2, 1], "but one that stands in for another");
}

#[test]
fn who_is_pinned_to_a_doubtful_one_goes_elsewhere() {
    let mut candidates = [EQUAL; 3];
    candidates[1].standing = serves(0.5);
    assert_ne!(order(&candidates, Some(1), NO_TRIAL)[0], 1);
    assert_eq!(order(&candidates, Some(1), NO_TRIAL)[2], 1);
}

#[test]
fn one_request_in_twenty_asks_a_doubtful_one_in_its_turn() {
    let candidates = ranks(&[0.5, 1.0]);
    let shares = firsts(&candidates, None, 40_000);
    assert!((shares[0] - 0.05).abs() < 0.005, "{shares:?}");
    assert_eq!(order(&candidates, None, TRIAL), [0, 1]);
}

#[test]
fn trials_are_doubled_until_all_requests_are_its_own_again() {
    let mut candidates = ranks(&[0.5, 1.0]);
    for (doublings, expected) in [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (64, 1.0), (u32::MAX, 1.0)] {
        candidates[0].standing.doublings = doublings;
        let share = firsts(&candidates, None, 20_000)[0];
        assert!((share - expected).abs() < 0.01, "{share} after {doublings}");
    }
}

/// Conversations in turn over candidates that serve each request at once, but for those that do not.
struct Traffic {
    affinity: Affinity,
    candidates: Vec<Candidate>,
    random: Box<dyn FnMut() -> u64>,
    now: Timestamp,
    /// Turns by who served them.
    served: Vec<u32>,
    /// Turns that were served elsewhere than the one before.
    moved: u32,
}

impl Traffic {
    const CONVERSATIONS: u64 = 200;

    fn over(candidates: usize) -> Self {
        Self {
            affinity: Affinity::new(AffinitySettings::default()),
            candidates: vec![EQUAL; candidates],
            random: Box::new(randoms(7)),
            now: Timestamp::ORIGIN,
            served: vec![0; candidates],
            moved: 0,
        }
    }

    /// A turn of each conversation, of which those that are first asked at one that fails go to the next.
    fn turn(&mut self, fails: impl Fn(usize) -> bool) {
        for conversation in 0..Self::CONVERSATIONS {
            self.now = self.now.saturating_add(Duration::from_millis(50));
            let pinned = self.affinity.pinned(conversation, self.now);
            for (index, candidate) in self.candidates.iter_mut().enumerate() {
                candidate.conversations = self.affinity.conversations(index);
            }
            let order = order(&self.candidates, pinned, (self.random)());
            let serves = *order.iter().find(|index| !fails(**index)).expect("one serves");
            self.moved += u32::from(pinned.is_some_and(|pinned| pinned != serves));
            self.affinity.served(conversation, serves, self.now);
            self.served[serves] += 1;
        }
    }

    fn is_balanced_within(&self, share: f64, others: &[usize]) -> bool {
        let total: u32 = others.iter().map(|index| self.served[*index]).sum();
        let mean = f64::from(total) / others.len() as f64;
        others.iter().all(|index| (f64::from(self.served[*index]) / mean - 1.0).abs() <= share)
    }
}

#[test]
fn two_hundred_conversations_stay_where_they_are_and_are_spread_evenly() {
    let mut traffic = Traffic::over(3);
    (0..50).for_each(|_| traffic.turn(|_| false));
    assert_eq!(traffic.moved, 0);
    assert!(traffic.is_balanced_within(0.2, &[0, 1, 2]), "{:?}", traffic.served);
}

#[test]
fn they_are_pinned_elsewhere_within_one_request_when_theirs_fails() {
    let mut traffic = Traffic::over(3);
    (0..5).for_each(|_| traffic.turn(|_| false));
    let of_the_first = u32::try_from(traffic.affinity.conversations(0)).expect("few");
    traffic.turn(|index| index == 0);
    assert_eq!(traffic.moved, of_the_first, "each moves once, and nobody else does");
    traffic.served.fill(0);
    (0..5).for_each(|_| traffic.turn(|index| index == 0));
    assert_eq!(traffic.moved, of_the_first, "and then stays");
    assert!(traffic.is_balanced_within(0.2, &[1, 2]), "{:?}", traffic.served);
}

#[test]
fn they_stay_where_they_went_when_theirs_serves_again() {
    let mut traffic = Traffic::over(3);
    traffic.turn(|_| false);
    traffic.turn(|index| index == 0);
    let moved = traffic.moved;
    (0..5).for_each(|_| traffic.turn(|_| false));
    assert_eq!(traffic.moved, moved, "their caches are where they went");
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    (0_u32..4, 0_u32..3, 0_u64..4, 0_u64..4, 0_u32..=20, any::<bool>()).prop_map(
        |(rank, weight, tokens_in_flight, conversations, twentieths, is_degraded)| {
            let standing = serves(f64::from(twentieths) / 20.0);
            Candidate { rank, weight, tokens_in_flight, conversations, standing, is_degraded }
        },
    )
}

proptest! {
    #[test]
    fn each_candidate_is_asked_once(
        candidates in prop::collection::vec(any_candidate(), 0..12),
        pinned in prop::option::of(0_usize..14),
        random: u64,
    ) {
        let order = order(&candidates, pinned, random);
        let all: BTreeSet<usize> = order.iter().copied().collect();
        prop_assert_eq!(order.len(), candidates.len());
        prop_assert_eq!(all, (0..candidates.len()).collect::<BTreeSet<_>>());
    }

    #[test]
    fn who_is_not_doubtful_keeps_rank_and_pin(
        candidates in prop::collection::vec(any_candidate(), 0..12),
        pinned in prop::option::of(0_usize..14),
        random: u64,
    ) {
        let trusted = |index: &usize| !candidates[*index].standing.is_doubtful();
        let order: Vec<usize> = order(&candidates, pinned, random).into_iter().filter(trusted).collect();
        prop_assert!(order.is_sorted_by_key(|index| candidates[*index].rank));
        if let Some(place) = order.iter().position(|index| Some(*index) == pinned) {
            let equals = |index: &usize| candidates[*index].rank == candidates[order[place]].rank;
            prop_assert!(!order[..place].iter().any(equals), "it is the first of its equals");
        }
    }

    #[test]
    fn a_doubtful_one_is_before_a_better_one_only_for_a_trial_or_a_stand_in(
        candidates in prop::collection::vec(any_candidate(), 0..12),
        random in u64::MAX / 20 + 2..,
    ) {
        let order = order(&candidates, None, random);
        for (place, index) in order.iter().enumerate() {
            for later in &order[place + 1..] {
                let (one, other) = (&candidates[*index], &candidates[*later]);
                prop_assert!(!one.yields_to(other), "{one:?} before {other:?}");
            }
        }
    }
}
