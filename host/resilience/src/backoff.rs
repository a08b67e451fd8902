//! Exponential waits with jitter.

use std::time::Duration;

use crate::Mistake;
use crate::time::uniform_below;

/// How much of a wait is left to chance, so that callers who failed together do not return
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Uniform between zero and the whole wait: the least load on the upstream, and sometimes no
    /// wait at all.
    Full,
    /// Half the wait, plus a uniform share of the other half: never returns at once.
    Equal,
}

/// The wait between two attempts: `base` doubled with every attempt up to `cap`, then jittered.
///
/// The formulas are "full" and "equal" jitter of the AWS Architecture Blog's "Exponential Backoff
/// and Jitter".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Longest wait after the first attempt.
    pub base: Duration,
    /// Longest wait after any attempt.
    pub cap: Duration,
    /// The share left to chance.
    pub jitter: Jitter,
}

impl Backoff {
    /// A tenth of a second: with half of the calls failing, nineteen requests in twenty then wait less than a second.
    pub const DEFAULT_BASE: Duration = Duration::from_millis(100);
    /// Eight seconds, where the official client SDKs of the large providers stop growing.
    pub const DEFAULT_CAP: Duration = Duration::from_secs(8);

    /// The wait after attempt number `attempt` (1 is the first; 0 counts as 1), at most `cap`.
    /// Every attempt number has an answer, `u32::MAX` included.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let longest = exponential(self.base, self.cap, attempt.saturating_sub(1));
        match self.jitter {
            Jitter::Full => uniform_below(longest, random),
            Jitter::Equal => {
                let half = longest / 2;
                half.saturating_add(uniform_below(longest.saturating_sub(half), random))
            }
        }
    }

    /// Every mistake in these settings; none when they are sound.
    #[must_use]
    pub fn validate(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        Mistake::unless(
            &mut mistakes,
            !self.base.is_zero(),
            "backoff",
            "must be longer than zero, or retries follow each other at once".to_owned(),
        );
        Mistake::unless(
            &mut mistakes,
            self.cap >= self.base,
            "backoff_max",
            format!("{:?} must not be shorter than backoff ({:?})", self.cap, self.base),
        );
        mistakes
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Self::DEFAULT_BASE, cap: Self::DEFAULT_CAP, jitter: Jitter::Full }
    }
}

/// `base * 2^exponent`, at most `cap`.
pub(crate) fn exponential(base: Duration, cap: Duration, exponent: u32) -> Duration {
    if base.is_zero() {
        return base;
    }
    let grown = 2_u32.checked_pow(exponent).and_then(|factor| base.checked_mul(factor));
    grown.map_or(cap, |grown| grown.min(cap))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let seconds = |exponent| exponential(Duration::from_secs(1), Duration::from_secs(5), exponent).as_secs();
        assert_eq!([0, 1, 2, 3, 31, 32, u32::MAX].map(seconds), [1, 2, 4, 5, 5, 5, 5]);
        assert_eq!(exponential(Duration::ZERO, Duration::MAX, 40), Duration::ZERO);
    }

    #[test]
    fn case_34_attempt_two_thousand_waits_no_longer_than_the_cap() {
        let backoff = Backoff { jitter: Jitter::Equal, ..Backoff::default() };
        for attempt in [2_000, u32::MAX] {
            let delay = backoff.delay(attempt, u64::MAX);
            assert!(delay <= backoff.cap && delay > backoff.cap / 2, "{delay:?}");
        }
        let endless = Backoff { base: Duration::MAX, cap: Duration::MAX, jitter: Jitter::Equal };
        assert!(endless.delay(u32::MAX, u64::MAX) <= Duration::MAX);
    }

    #[test]
    fn every_mistake_is_listed() {
        let backoff = Backoff { base: Duration::ZERO, ..Backoff::default() };
        assert_eq!(backoff.validate().len(), 1);
        let backoff = Backoff { base: Duration::from_secs(9), ..Backoff::default() };
        assert_eq!(backoff.validate()[0].field, "backoff_max");
        assert_eq!(Backoff::default().validate(), []);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_bounds(attempt: u32, random: u64) {
            let full = Backoff::default();
            let equal = Backoff { jitter: Jitter::Equal, ..full };
            let longest = exponential(full.base, full.cap, attempt.saturating_sub(1));
            prop_assert!(full.delay(attempt, random) <= longest);
            prop_assert!((longest / 2..=longest).contains(&equal.delay(attempt, random)));
        }
    }
}
