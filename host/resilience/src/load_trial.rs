//! Whether an upstream fails because of the load that retries put on it, found out by trial.

use std::time::Duration;

use crate::time::Timestamp;

/// Served first attempts, and all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    served: u32,
    all: u32,
}

impl Tally {
    fn count(&mut self, served: bool) {
        self.served += u32::from(served);
        self.all += 1;
    }

    fn add(&mut self, other: Self) {
        self.served += other.served;
        self.all += other.all;
    }

    fn share(self) -> f64 {
        f64::from(self.served) / f64::from(self.all.max(1))
    }
}

/// A suspicion that plain errors are an overload which the upstream does not name.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Timestamp,
    last_failure: Timestamp,
    /// The share served before.
    before: f64,
    since_then: Tally,
}

/// Compares what becomes of first attempts while repetitions are held back with what becomes of them otherwise.
///
/// Time is cut into slots. In a quiet slot, one of eight (of four while things have just changed), repetitions wait for
/// its end: ours, and those of callers that say of themselves that they have come before. That costs no share and little
/// time. An upstream that fails by chance does not care. One that suffers from load does better when it is quiet, and when
/// the difference is beyond chance, two things follow: retries earn a third of what they did, and the upstream's plain
/// errors are taken for an overload, so that calls are paced at what it bears.
///
/// A quiet slot is compared with the two beside it alone, and two slots at least must agree, so that an upstream which
/// changes for another reason meanwhile is not taken for one that suffers. The first half of each slot is left out, because
/// load has an after-effect. Nothing is held back where most attempts succeed: there retries are no load.
///
/// The test is a cumulative sum (Page, 1954) of each slot's two-sample z-test of proportions: a slot that says the
/// opposite, because a circuit opened or closed beside it, ends the sum and spoils no later one.
#[derive(Clone, Copy, Debug)]
pub struct LoadTrial {
    origin: Timestamp,
    /// The share of first attempts that failed of late.
    failing: f64,
    /// Since when that has been enough to try at all.
    failing_since: Option<Timestamp>,
    /// The quiet slot that is being compared, and what is known of it and of its neighbours.
    slot: u64,
    quiet: Tally,
    loud: Tally,
    /// By how many deviations quiet slots have been better than was to be expected, since when that is more than none,
    /// and the sums of those slots.
    surplus: f64,
    all_quiet: Tally,
    all_loud: Tally,
    /// Slots that were compared since there was something to act on.
    unfound: u32,
    factor: f64,
    suspicion: Option<Suspicion>,
    /// No suspicion before this moment: the last one came to nothing.
    trust_until: Timestamp,
}

impl LoadTrial {
    /// Length of a slot: as long as an upstream remembers load that counts calls per second, and no longer than a retry
    /// may be held back.
    pub const SLOT: Duration = Duration::from_secs(1);
    /// One slot of so many is quiet.
    pub const SLOTS_PER_QUIET_ONE: u64 = 8;
    /// One of so many while failures have begun only so long ago.
    const SLOTS_PER_QUIET_ONE_AT_FIRST: u64 = 4;
    const AT_FIRST: Duration = Duration::from_secs(30);
    /// The share of first attempts that fail below which nothing is tried, and the weight of one in it.
    const FAILING_MIN: f64 = 0.4;
    const FAILING_WEIGHT: f64 = 1.0 / 32.0;
    /// First attempts in a quiet slot, and in those beside it, below which it tells nothing.
    const QUIET_MIN: u32 = 4;
    const LOUD_MIN: u32 = 8;
    /// Deviations by which a quiet slot is better by chance now and then. With these two numbers there is, by simulation, a
    /// false alarm in 180 slots where nothing is wrong, which costs fifteen seconds of pacing; and where a quiet slot is two
    /// deviations better it is found after three.
    const SLACK: f64 = 0.5;
    /// The surplus that is beyond chance, and the most that one slot adds, so that it is never one alone.
    const SURPLUS_MAX: f64 = 3.0;
    /// The most that is kept while it may not be acted on, so that it is gone when its reason is.
    const SURPLUS_KEPT: f64 = 2.0 * Self::SURPLUS_MAX;
    /// A smaller difference is nothing to act on, unless it is large beside what is served at all: callers who try again
    /// by themselves go on doing so while we are quiet.
    const DIFFERENCE_MIN: f64 = 0.1;
    const RELATIVE_DIFFERENCE_MIN: f64 = 0.5;
    /// Slots without a finding after which retries earn more again.
    const CLEARED_AFTER: u32 = 8;
    /// What is left of the earnings of retries when they are found to do harm, and the least that is ever left.
    const DECREASE: f64 = 1.0 / 3.0;
    const FACTOR_MIN: f64 = 0.03;
    /// First attempts after which a suspicion must have brought something, and how much.
    const PROOF: u32 = 200;
    const IMPROVEMENT_MIN: f64 = 0.05;
    /// And after fewer, once so much time has passed: an upstream that is paced although it fails by chance is asked less
    /// and less, and one that suffered from load is well by then.
    const PROOF_SOON: u32 = 20;
    const SOON: Duration = Duration::from_secs(15);
    const IMPROVEMENT_SOON: f64 = 0.2;
    /// A suspicion ends when nothing has failed for so long.
    const FORGET_AFTER: Duration = Duration::from_secs(60);
    /// After a suspicion that came to nothing there is no other for so long.
    const TRUST: Duration = Duration::from_secs(300);

    /// A trial that has seen nothing.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            origin: now,
            failing: 0.0,
            failing_since: None,
            slot: 0,
            quiet: Tally::default(),
            loud: Tally::default(),
            all_quiet: Tally::default(),
            all_loud: Tally::default(),
            surplus: 0.0,
            unfound: 0,
            factor: 1.0,
            suspicion: None,
            trust_until: now,
        }
    }

    /// How long repetitions wait: to the end of the slot if it is a quiet one.
    #[must_use]
    pub fn retries_wait(&self, now: Timestamp) -> Duration {
        let (slot, into) = self.slot(now);
        if self.is_quiet(slot, now) { Self::SLOT.saturating_sub(into) } else { Duration::ZERO }
    }

    /// What share of the usual a success earns for retries, 0 to 1.
    #[must_use]
    pub const fn factor(&self) -> f64 {
        self.factor
    }

    /// Whether plain errors are to be taken for an overload.
    #[must_use]
    pub const fn suspects_overload(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Notes what became of a request's first attempt that went out at `sent`. True if by that a suspicion has come to
    /// nothing: what is paced for it should be [acquitted](crate::Pacer::acquit).
    pub fn observe(&mut self, sent: Timestamp, served: bool, now: Timestamp) -> bool {
        self.failing += (f64::from(u8::from(!served)) - self.failing) * Self::FAILING_WEIGHT;
        if self.failing < Self::FAILING_MIN / 2.0 {
            self.failing_since = None;
        } else if self.failing >= Self::FAILING_MIN {
            self.failing_since.get_or_insert(now);
        }
        if self.suspicion_is_over(served, now) {
            self.suspicion = None;
            self.factor = 1.0;
            self.begin_anew();
            // Only who was suspected in vain is trusted.
            return now < self.trust_until;
        }
        // As soon as its neighbours are over, and most of their answers are there.
        let (current, into) = self.slot(now);
        let is_over = current > self.slot + 2 || current == self.slot + 2 && into * 2 >= Self::SLOT;
        if is_over && self.quiet.all > 0 {
            self.close_slot(now);
        }
        let (slot, into) = self.slot(sent);
        if into * 2 < Self::SLOT {
            return false;
        }
        // A slot's quiet neighbour: itself, or the one before or behind it.
        let Some(quiet) = (slot.saturating_sub(1)..=slot + 1).find(|slot| self.is_quiet(*slot, now)) else {
            return false;
        };
        if quiet != self.slot {
            self.close_slot(now);
            self.slot = quiet;
        }
        if quiet == slot {
            self.quiet.count(served);
        } else {
            self.loud.count(served);
        }
        false
    }

    /// Takes the slot that was being compared to the others, and concludes.
    fn close_slot(&mut self, now: Timestamp) {
        let (quiet, loud) = (std::mem::take(&mut self.quiet), std::mem::take(&mut self.loud));
        if quiet.all < Self::QUIET_MIN || loud.all < Self::LOUD_MIN {
            return;
        }
        self.unfound += 1;
        self.surplus += (deviations(quiet, loud) - Self::SLACK).min(Self::SURPLUS_MAX);
        self.surplus = self.surplus.min(Self::SURPLUS_KEPT);
        self.all_quiet.add(quiet);
        self.all_loud.add(loud);
        if self.surplus <= 0.0 {
            self.begin_anew();
        }
        let (quiet, loud) = (self.all_quiet, self.all_loud);
        let found = self.surplus > Self::SURPLUS_MAX
            && quiet.share() - loud.share() >= Self::difference_min(loud)
            && now >= self.trust_until;
        if found {
            self.factor = (self.factor * Self::DECREASE).max(Self::FACTOR_MIN);
            if self.suspicion.is_none() {
                let since_then = Tally::default();
                self.suspicion = Some(Suspicion { since: now, last_failure: now, before: loud.share(), since_then });
            }
            self.begin_anew();
            self.unfound = 0;
        } else if self.unfound >= Self::CLEARED_AFTER {
            self.factor = (self.factor * 2.0).min(1.0);
            self.unfound = 0;
        }
    }

    fn difference_min(loud: Tally) -> f64 {
        Self::DIFFERENCE_MIN.min(Self::RELATIVE_DIFFERENCE_MIN * loud.share())
    }

    fn begin_anew(&mut self) {
        (self.all_quiet, self.all_loud) = (Tally::default(), Tally::default());
        self.surplus = 0.0;
    }

    /// Whether the suspicion has come to nothing, or has nothing to go on any more.
    fn suspicion_is_over(&mut self, served: bool, now: Timestamp) -> bool {
        let Some(suspicion) = &mut self.suspicion else { return false };
        suspicion.since_then.count(served);
        if !served {
            suspicion.last_failure = now;
        }
        let (tried, improvement) = (suspicion.since_then.all, suspicion.since_then.share() - suspicion.before);
        let soon = tried >= Self::PROOF_SOON && now.saturating_since(suspicion.since) >= Self::SOON;
        let in_vain =
            tried >= Self::PROOF && improvement < Self::IMPROVEMENT_MIN || soon && improvement < Self::IMPROVEMENT_SOON;
        if in_vain {
            self.trust_until = now.saturating_add(Self::TRUST);
        }
        in_vain || now.saturating_since(suspicion.last_failure) >= Self::FORGET_AFTER
    }

    /// The slot that an instant falls into, and how far it is into it.
    fn slot(&self, at: Timestamp) -> (u64, Duration) {
        let passed = at.saturating_since(self.origin).as_micros();
        let length = Self::SLOT.as_micros();
        let into = Duration::from_micros(u64::try_from(passed % length).unwrap_or(0));
        (u64::try_from(passed / length).unwrap_or(u64::MAX), into)
    }

    fn is_quiet(&self, slot: u64, now: Timestamp) -> bool {
        self.failing_since.is_some_and(|since| {
            let new = now.saturating_since(since) < Self::AT_FIRST;
            let of = if new { Self::SLOTS_PER_QUIET_ONE_AT_FIRST } else { Self::SLOTS_PER_QUIET_ONE };
            slot % of == Self::SLOTS_PER_QUIET_ONE_AT_FIRST / 2
        })
    }
}

/// By how many standard deviations the quiet ones were served more often than the loud ones: the two-sample z-test of
/// proportions, with one served and one failed imagined.
fn deviations(quiet: Tally, loud: Tally) -> f64 {
    let pooled = f64::from(loud.served + quiet.served + 1) / f64::from(loud.all + quiet.all + 2);
    let variance = pooled * (1.0 - pooled) * (1.0 / f64::from(loud.all) + 1.0 / f64::from(quiet.all));
    (quiet.share() - loud.share()) / variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upstream that is called evenly for so many seconds, and fails by these chances in loud and in quiet slots,
    /// or by the third while the trial suspects it and calls are paced.
    fn suspected(loud: f64, quiet: f64, paced: f64, per_second: u64, seconds: u64, seed: u64) -> (LoadTrial, usize) {
        let mut trial = LoadTrial::new(Timestamp::ORIGIN);
        let (mut random, mut times) = (seed, 0);
        for call in 0..per_second * seconds {
            let now = Timestamp::from_micros(call * 1_000_000 / per_second);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let chance = (random >> 11) as f64 / (1_u64 << 53) as f64;
            let failing = match (trial.suspects_overload(), trial.retries_wait(now).is_zero()) {
                (true, _) => paced,
                (false, true) => loud,
                (false, false) => quiet,
            };
            let before = trial.suspects_overload();
            trial.observe(now, chance >= failing, now);
            times += usize::from(!before && trial.suspects_overload());
        }
        (trial, times)
    }

    #[test]
    fn an_upstream_that_suffers_from_load_is_found_out_and_retries_earn_less() {
        let found = (0..20).filter(|seed| suspected(0.6, 0.2, 0.2, 50, 30, *seed).1 > 0).count();
        assert!(found >= 18, "{found} of 20 within half a minute");
        let (trial, _) = suspected(0.6, 0.2, 0.2, 50, 30, 1);
        assert!(trial.suspects_overload() && trial.factor() < 1.0);
    }

    #[test]
    fn an_upstream_that_fails_by_chance_is_seldom_suspected_and_never_for_long() {
        let outcomes: Vec<_> = (0..50).map(|seed| suspected(0.5, 0.5, 0.5, 50, 120, seed)).collect();
        let false_alarms = outcomes.iter().filter(|(_, times)| *times > 0).count();
        assert!(false_alarms <= 8, "{false_alarms} of 50 runs of two minutes");
        assert!(outcomes.iter().all(|(_, times)| *times <= 1), "whoever was wrong once waits before the next time");
        let suspected = outcomes.iter().map(|(trial, _)| u32::from(trial.suspects_overload())).sum::<u32>();
        assert!(suspected <= 2, "{suspected} of 50 at the end: a false alarm takes fifteen seconds");
    }

    #[test]
    fn a_suspicion_that_brings_nothing_ends_and_says_so_once() {
        let (mut trial, _) = suspected(0.6, 0.2, 0.2, 50, 30, 1);
        assert!(trial.suspects_overload());
        let said = (30 * 50..50 * 50_u64).filter(|call| {
            let now = Timestamp::from_micros(call * 20_000);
            trial.observe(now, call % 5 == 0, now)
        });
        assert_eq!(said.count(), 1);
        assert!(!trial.suspects_overload());
    }

    #[test]
    fn a_slot_that_says_the_opposite_spoils_no_later_one() {
        let found = |odd_slot: Option<u64>| {
            let mut trial = LoadTrial::new(Timestamp::ORIGIN);
            (0..50 * 30_u64).find(|call| {
                let now = Timestamp::from_micros(call * 20_000);
                let quiet = !trial.retries_wait(now).is_zero();
                let odd = odd_slot.is_some_and(|odd| (odd - 1..=odd + 1).contains(&(call / 50)));
                let served_of_ten = if quiet != odd { 7 } else { 2 };
                trial.observe(now, call * 7 % 10 < served_of_ten, now);
                trial.suspects_overload()
            })
        };
        let (seconds, odd) = (|call: u64| call / 50, found(Some(6)).map(|call| call / 50));
        let usual = found(None).map(seconds);
        assert!(usual.is_some() && odd <= usual.map(|usual| usual + 8), "{usual:?} s, and {odd:?} s");
    }

    #[test]
    fn a_suspicion_ends_when_nothing_fails_any_more() {
        let (mut trial, _) = suspected(0.6, 0.2, 0.2, 50, 30, 1);
        assert!(trial.suspects_overload());
        for second in 30..100 {
            let now = Timestamp::from_micros(second * 1_000_000);
            assert!(!trial.observe(now, true, now), "it was no false one");
        }
        assert!(!trial.suspects_overload());
        assert!((trial.factor() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn where_most_attempts_fail_retries_wait_for_the_end_of_one_slot_in_four_and_later_in_eight() {
        let waits = |trial: &LoadTrial, from: u32| {
            let slot = LoadTrial::SLOT;
            let at = |number| Timestamp::ORIGIN.saturating_add(slot * (from + number) + slot / 4);
            let waits: Vec<Duration> =
                (0..24).map(|number| trial.retries_wait(at(number))).filter(|wait| !wait.is_zero()).collect();
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
                trial.observe(now, (call * 7) % 10 >= failing_of_ten, now);
                assert!(!trial.suspects_overload(), "a change after {change} s");
            }
        }
    }
}
