//! Whether an upstream fails because of the load that retries put on it, found out by trial.

mod stratum;

use std::time::Duration;

use crate::time::Timestamp;
use stratum::{Difference, Stratum};

/// Compares what becomes of first attempts while repetitions are held back with what becomes of them otherwise.
///
/// Time is cut into slots. In a quiet slot, one of eight (of four while things have just changed, or quiet slots seem
/// better), repetitions wait for its end: ours, and those of callers that say of themselves that they have come before.
/// That costs no share and little time. An upstream that fails by chance does not care. One that suffers from load does
/// better when it is quiet, and when the difference is beyond chance, two things follow: retries earn a third of what
/// they did, and the plain errors of what fails are taken for an overload, so that calls are paced at what it bears.
///
/// A quiet slot is compared with the two beside it alone, and two slots at least must agree, so that an upstream which
/// changes for another reason meanwhile is not taken for one that suffers. The first half of each slot is left out,
/// because load has an after-effect. Nothing is held back where most attempts succeed: there retries are no load.
///
/// Models fail apart, and many may share what bears their load. So the evidence of all models that fail is added up,
/// and each is compared with itself alone: otherwise a change in how many calls are whose would look like a change in
/// how they fare. Each is suspected for itself, and acquitted for itself.
///
/// The test is a cumulative sum (Page, 1954) of each slot's stratified test of proportions (Cochran, 1954): a slot that
/// says the opposite, because a circuit opened or closed beside it, ends the sum and spoils no later one.
#[derive(Clone, Debug)]
pub struct LoadTrial {
    origin: Timestamp,
    /// One for each model that fails of late.
    strata: Vec<Stratum>,
    /// The quiet slot that is being compared.
    slot: u64,
    /// By how many deviations quiet slots have been better than was to be expected, since when that is more than none,
    /// and by how much.
    surplus: f64,
    difference: Difference,
    /// Slots that were compared since there was something to act on.
    unfound: u32,
    factor: f64,
}

impl LoadTrial {
    /// Length of a slot: as long as an upstream remembers load that counts calls per second, and no longer than a retry
    /// may be held back.
    pub const SLOT: Duration = Duration::from_secs(1);
    /// One slot of so many is quiet.
    pub const SLOTS_PER_QUIET_ONE: u64 = 8;
    /// Models that are told apart; all further ones that fail count as one.
    pub const MODELS_MAX: usize = 16;
    /// One of so many while failures have begun only so long ago, or while quiet slots seem better.
    const SLOTS_PER_QUIET_ONE_WHEN_URGENT: u64 = 4;
    const AT_FIRST: Duration = Duration::from_secs(30);
    /// First attempts in a quiet slot, and in those beside it, below which it tells nothing.
    const QUIET_MIN: u32 = 4;
    const LOUD_MIN: u32 = 8;
    /// Deviations by which a quiet slot is better by chance now and then. With these two numbers there is, by
    /// simulation, a false alarm in 180 slots where nothing is wrong, which costs fifteen seconds of pacing; and where
    /// a quiet slot is two deviations better it is found after three.
    const SLACK: f64 = 0.5;
    /// The surplus that is beyond chance, and the most that one slot adds, so that it is never one alone.
    const SURPLUS_MAX: f64 = 3.0;
    /// The surplus that is worth being followed up soon.
    const SURPLUS_TELLING: f64 = 1.0;
    /// A smaller difference is nothing to act on, unless it is large beside what is served at all: callers who try
    /// again by themselves go on doing so while we are quiet.
    const DIFFERENCE_MIN: f64 = 0.1;
    const RELATIVE_DIFFERENCE_MIN: f64 = 0.5;
    /// Slots without a finding after which retries earn more again.
    const CLEARED_AFTER: u32 = 8;
    /// What is left of the earnings of retries when they are found to do harm, and the least that is ever left.
    const DECREASE: f64 = 1.0 / 3.0;
    const FACTOR_MIN: f64 = 0.03;

    /// A trial that has seen nothing.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            origin: now,
            strata: Vec::new(),
            slot: 0,
            surplus: 0.0,
            difference: Difference::NONE,
            unfound: 0,
            factor: 1.0,
        }
    }

    /// How long repetitions of a call for this model wait: to the end of the slot if it is a quiet one.
    #[must_use]
    pub fn retries_wait(&self, model: u64, now: Timestamp) -> Duration {
        let fails = self.find(model).is_some_and(|place| self.strata[place].is_tried(now));
        let (slot, into) = self.slot(now);
        if fails && self.is_quiet(slot, now) { Self::SLOT.saturating_sub(into) } else { Duration::ZERO }
    }

    /// How long a repetition is held back whose request has so much time left: as long as [repetitions
    /// wait](Self::retries_wait). Whoever has not the time for that takes no part in the trial.
    #[must_use]
    pub fn held_back(&self, model: u64, remaining: Duration, now: Timestamp) -> Duration {
        let wait = self.retries_wait(model, now);
        if wait > remaining / 2 { Duration::ZERO } else { wait }
    }

    /// What share of the usual a success earns for retries, 0 to 1.
    #[must_use]
    pub const fn factor(&self) -> f64 {
        self.factor
    }

    /// Whether plain errors of this model are to be taken for an overload.
    #[must_use]
    pub fn suspects_overload(&self, model: u64) -> bool {
        self.find(model).is_some_and(|place| self.strata[place].is_suspected())
    }

    /// Notes what became of the first attempt, at `sent`, of a request for this model that its caller has not sent
    /// before: among those that come again there are more of those that fail, and they are held back. True if by that
    /// the suspicion of the model has come to nothing: what is paced for it should be
    /// [acquitted](crate::Pacer::acquit).
    pub fn observe(&mut self, model: u64, sent: Timestamp, served: bool, now: Timestamp) -> bool {
        let Some(place) = self.find(model).or_else(|| self.begin(model, served, now)) else { return false };
        self.strata[place].note(served, now);
        if let Some(in_vain) = self.strata[place].ends_suspicion(served, now) {
            if !self.strata.iter().any(Stratum::is_suspected) {
                self.factor = 1.0;
                self.begin_anew();
            }
            return in_vain;
        }
        // As soon as its neighbours are over, and most of their answers are there.
        let (current, into) = self.slot(now);
        if current > self.slot + 2 || current == self.slot + 2 && into * 2 >= Self::SLOT {
            self.close_slot(now);
        }
        let (slot, into) = self.slot(sent);
        // A slot's quiet neighbour: itself, or the one before or behind it.
        let quiet = (slot.saturating_sub(1)..=slot + 1).find(|slot| self.is_quiet(*slot, now));
        if let (Some(quiet), true) = (quiet, into * 2 >= Self::SLOT) {
            if quiet != self.slot {
                self.close_slot(now);
                self.slot = quiet;
            }
            self.strata[place].count(quiet == slot, served);
        }
        if self.strata[place].is_idle(now) {
            self.strata.swap_remove(place);
        }
        false
    }

    /// Where the stratum of a model is: its own, or that of all for whom there was no place.
    fn find(&self, model: u64) -> Option<usize> {
        let others = || self.strata.iter().position(Stratum::is_of_others);
        self.strata.iter().position(|stratum| stratum.is_of(model)).or_else(others)
    }

    /// A model's first failure.
    fn begin(&mut self, model: u64, served: bool, now: Timestamp) -> Option<usize> {
        if served {
            return None;
        }
        let own = self.strata.len() < Self::MODELS_MAX;
        self.strata.push(Stratum::new(own.then_some(model), now));
        Some(self.strata.len() - 1)
    }

    /// Takes the slot that was being compared to the others, and concludes.
    fn close_slot(&mut self, now: Timestamp) {
        let compared: Vec<_> = self.strata.iter_mut().filter_map(|stratum| stratum.compare(now)).collect();
        let (quiet, loud) = compared.iter().fold((0, 0), |sum, one| (sum.0 + one.quiet.all, sum.1 + one.loud.all));
        if quiet < Self::QUIET_MIN || loud < Self::LOUD_MIN {
            return;
        }
        let slot = compared.iter().fold(Difference::NONE, |sum, one| sum.and(one.difference()));
        self.unfound += 1;
        self.surplus += (slot.deviations() - Self::SLACK).min(Self::SURPLUS_MAX);
        self.difference = self.difference.and(slot);
        if self.surplus <= 0.0 {
            self.begin_anew();
        }
        if self.surplus > Self::SURPLUS_MAX && self.difference.share() >= self.difference_min() {
            self.factor = (self.factor * Self::DECREASE).max(Self::FACTOR_MIN);
            self.strata.iter_mut().for_each(|stratum| stratum.suspect(now));
            self.begin_anew();
            self.unfound = 0;
        } else if self.unfound >= Self::CLEARED_AFTER {
            self.factor = (self.factor * 2.0).min(1.0);
            self.unfound = 0;
        }
    }

    fn difference_min(&self) -> f64 {
        Self::DIFFERENCE_MIN.min(Self::RELATIVE_DIFFERENCE_MIN * self.difference.loud_share())
    }

    fn begin_anew(&mut self) {
        self.surplus = 0.0;
        self.difference = Difference::NONE;
        self.strata.iter_mut().for_each(Stratum::begin_anew);
    }

    /// The slot that an instant falls into, and how far it is into it.
    fn slot(&self, at: Timestamp) -> (u64, Duration) {
        let passed = at.saturating_since(self.origin).as_micros();
        let length = Self::SLOT.as_micros();
        let into = Duration::from_micros(u64::try_from(passed % length).unwrap_or(0));
        (u64::try_from(passed / length).unwrap_or(u64::MAX), into)
    }

    fn is_quiet(&self, slot: u64, now: Timestamp) -> bool {
        let failing_since = self.strata.iter().filter_map(|stratum| stratum.tried_since(now)).max();
        failing_since.is_some_and(|since| {
            let is_urgent = now.saturating_since(since) < Self::AT_FIRST || self.surplus >= Self::SURPLUS_TELLING;
            let of = if is_urgent { Self::SLOTS_PER_QUIET_ONE_WHEN_URGENT } else { Self::SLOTS_PER_QUIET_ONE };
            slot % of == Self::SLOTS_PER_QUIET_ONE_WHEN_URGENT / 2
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: u64 = 7;

    /// An upstream that is called evenly for so many seconds, and fails by these chances in loud and in quiet slots,
    /// or by the third while the trial suspects it and calls are paced.
    fn suspected(loud: f64, quiet: f64, paced: f64, per_second: u64, seconds: u64, seed: u64) -> (LoadTrial, usize) {
        let mut trial = LoadTrial::new(Timestamp::ORIGIN);
        let (mut random, mut times) = (seed, 0);
        for call in 0..per_second * seconds {
            let now = Timestamp::from_micros(call * 1_000_000 / per_second);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = (random >> 11) as f64 / (1_u64 << 53) as f64;
            let failing = match (trial.suspects_overload(MODEL), trial.retries_wait(MODEL, now).is_zero()) {
                (true, _) => paced,
                (false, true) => loud,
                (false, false) => quiet,
            };
            let before = trial.suspects_overload(MODEL);
            trial.observe(MODEL, now, chance >= failing, now);
            times += usize::from(!before && trial.suspects_overload(MODEL));
        }
        (trial, times)
    }

    #[test]
    fn an_upstream_that_suffers_from_load_is_found_out_and_retries_earn_less() {
        let found = (0..20).filter(|seed| suspected(0.6, 0.2, 0.2, 50, 30, *seed).1 > 0).count();
        assert!(found >= 18, "{found} of 20 within half a minute");
        let (trial, _) = suspected(0.6, 0.2, 0.2, 50, 30, 1);
        assert!(trial.suspects_overload(MODEL) && trial.factor() < 1.0);
    }

    #[test]
    fn an_upstream_that_fails_by_chance_is_seldom_suspected_and_never_for_long() {
        let outcomes: Vec<_> = (0..50).map(|seed| suspected(0.5, 0.5, 0.5, 50, 120, seed)).collect();
        let false_alarms = outcomes.iter().filter(|(_, times)| *times > 0).count();
        assert!(false_alarms <= 8, "{false_alarms} of 50 runs of two minutes");
        assert!(outcomes.iter().all(|(_, times)| *times <= 1), "whoever was wrong once waits before the next time");
        let suspected = outcomes.iter().map(|(trial, _)| u32::from(trial.suspects_overload(MODEL))).sum::<u32>();
        assert!(suspected <= 2, "{suspected} of 50 at the end: a false alarm takes fifteen seconds");
    }

    #[test]
    fn a_suspicion_that_brings_nothing_ends_and_says_so_once() {
        let (mut trial, _) = suspected(0.6, 0.2, 0.2, 50, 30, 1);
        assert!(trial.suspects_overload(MODEL));
        let said = (30 * 50..50 * 50_u64).filter(|call| {
            let now = Timestamp::from_micros(call * 20_000);
            trial.observe(MODEL, now, call % 5 == 0, now)
        });
        assert_eq!(said.count(), 1);
        assert!(!trial.suspects_overload(MODEL));
    }

    #[test]
    fn a_slot_that_says_the_opposite_spoils_no_later_one() {
        let found = |odd_slot: Option<u64>| {
            let mut trial = LoadTrial::new(Timestamp::ORIGIN);
            (0..50 * 30_u64).find(|call| {
                let now = Timestamp::from_micros(call * 20_000);
                let quiet = !trial.retries_wait(MODEL, now).is_zero();
                let odd = odd_slot.is_some_and(|odd| (odd - 1..=odd + 1).contains(&(call / 50)));
                let served_of_ten = if quiet != odd { 7 } else { 2 };
                trial.observe(MODEL, now, call * 7 % 10 < served_of_ten, now);
                trial.suspects_overload(MODEL)
            })
        };
        let (seconds, odd) = (|call: u64| call / 50, found(Some(6)).map(|call| call / 50));
        let usual = found(None).map(seconds);
        assert!(usual.is_some() && odd <= usual.map(|usual| usual + 8), "{usual:?} s, and {odd:?} s");
    }

    #[test]
    fn a_suspicion_ends_when_nothing_fails_any_more() {
        let (mut trial, _) = suspected(0.6, 0.2, 0.2, 50, 30, 1);
        assert!(trial.suspects_overload(MODEL));
        for second in 30..100 {
            let now = Timestamp::from_micros(second * 1_000_000);
            assert!(!trial.observe(MODEL, now, true, now), "it was no false one");
        }
        assert!(!trial.suspects_overload(MODEL));
        assert!((trial.factor() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn who_has_not_the_time_for_a_quiet_slot_is_not_held_back() {
        let trial = suspected(0.9, 0.9, 0.9, 20, 20, 1).0;
        let quiet = (20..28).map(|second| Timestamp::from_micros(second * 1_000_000));
        let waits = quiet.map(|now| (now, trial.retries_wait(MODEL, now)));
        let (now, wait) = waits.max_by_key(|(_, wait)| *wait).expect("eight moments");
        assert!(!wait.is_zero(), "one slot in four is quiet");
        assert_eq!(trial.held_back(MODEL, 2 * wait, now), wait);
        assert_eq!(trial.held_back(MODEL, 2 * wait - Duration::from_millis(1), now), Duration::ZERO);
    }

    #[test]
    fn where_most_attempts_fail_retries_wait_for_the_end_of_one_slot_in_four_and_later_in_eight() {
        let waits = |trial: &LoadTrial, from: u32| {
            let slot = LoadTrial::SLOT;
            let at = |number| Timestamp::ORIGIN.saturating_add(slot * (from + number) + slot / 4);
            let waits: Vec<Duration> =
                (0..24).map(|number| trial.retries_wait(MODEL, at(number))).filter(|wait| !wait.is_zero()).collect();
            assert!(waits.iter().all(|wait| *wait == slot - slot / 4), "{waits:?}");
            waits.len()
        };
        let (trial, _) = suspected(0.2, 0.2, 0.2, 50, 20, 1);
        assert_eq!(waits(&trial, 20), 0, "one in five fails");
        let (trial, _) = suspected(0.6, 0.6, 0.6, 50, 4, 1);
        assert_eq!((waits(&trial, 4), waits(&trial, 100)), (6, 3));
    }

    #[test]
    fn an_upstream_that_gets_worse_for_another_reason_is_not_suspected() {
        for change in 20..28 {
            let mut trial = LoadTrial::new(Timestamp::ORIGIN);
            for call in 0..50 * 60_u64 {
                let now = Timestamp::from_micros(call * 20_000);
                let failing_of_ten = if call >= change * 50 { 7 } else { 0 };
                trial.observe(MODEL, now, (call * 7) % 10 >= failing_of_ten, now);
                assert!(!trial.suspects_overload(MODEL), "a change after {change} s");
            }
        }
    }

    /// Models are called evenly for a minute, so many times a second each. Each serves so many of ten, and so many
    /// while repetitions are held back or it is suspected, and so paced. Answers which are suspected in the end.
    fn suspected_after_a_minute(per_second: u64, models: &[(u64, u64)]) -> Vec<bool> {
        let mut trial = LoadTrial::new(Timestamp::ORIGIN);
        for call in 0..60 * per_second {
            let now = Timestamp::from_micros(call * 1_000_000 / per_second);
            for (model, (loud, quiet)) in (0..).zip(models) {
                let spared = trial.suspects_overload(model) || !trial.retries_wait(model, now).is_zero();
                let served_of_ten = if spared { quiet } else { loud };
                trial.observe(model, now, (call * 7 + model) % 10 < *served_of_ten, now);
            }
        }
        (0..).zip(models).map(|(model, _)| trial.suspects_overload(model)).collect()
    }

    #[test]
    fn of_models_that_fail_side_by_side_only_those_are_suspected_that_suffer_from_load() {
        assert_eq!(suspected_after_a_minute(24, &[(2, 9), (10, 10), (3, 3)]), [true, false, false]);
    }

    #[test]
    fn the_evidence_of_models_that_are_each_called_too_little_is_added_up() {
        assert_eq!(suspected_after_a_minute(3, &[(2, 9)]), [false]);
        assert_eq!(suspected_after_a_minute(3, &[(2, 9); 8]), [true; 8]);
    }

    #[test]
    fn a_change_in_how_many_calls_are_whose_is_no_change_in_how_they_fare() {
        let mut trial = LoadTrial::new(Timestamp::ORIGIN);
        for call in 0..50 * 120_u64 {
            let now = Timestamp::from_micros(call * 20_000);
            // While it is quiet the one that fails more is called a fifth as often.
            let quiet = !trial.retries_wait(1, now).is_zero();
            if !quiet || call % 5 == 0 {
                trial.observe(1, now, call * 7 % 10 < 1, now);
            }
            trial.observe(2, now, call * 7 % 10 < 5, now);
            assert!(!trial.suspects_overload(1) && !trial.suspects_overload(2), "{} s", call / 50);
        }
    }

    #[test]
    fn what_is_known_of_a_model_goes_when_hardly_any_fails_and_so_many_are_told_apart_at_most() {
        let (mut trial, now) = (LoadTrial::new(Timestamp::ORIGIN), Timestamp::ORIGIN);
        let models = 2 * LoadTrial::MODELS_MAX as u64;
        for (model, before) in (0..models).zip(0..) {
            trial.observe(model, now, true, now);
            assert_eq!(trial.strata.len(), before.min(LoadTrial::MODELS_MAX + 1), "nothing of it has failed");
            trial.observe(model, now, false, now);
        }
        assert_eq!(trial.strata.len(), LoadTrial::MODELS_MAX + 1);
        for _ in 0..200 {
            (0..models).for_each(|model| assert!(!trial.observe(model, now, true, now)));
        }
        assert!(trial.strata.is_empty());
    }
}
