//! How long people waited: a histogram that costs the same however many they are.

use std::time::Duration;

/// Waits by their logarithm, so that each is known within half a per cent; from 1 ms to a day.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waits {
    /// How many fell into each bucket; no longer than the longest wait needs.
    buckets: Vec<u32>,
    count: u64,
}

/// How much longer each bucket is than the one before.
const STEP: f64 = 1.01;
/// Everything up to this is one bucket.
const LEAST_SECONDS: f64 = 0.001;
/// The last bucket: a day.
const LAST: usize = 1_836;

impl Waits {
    /// Notes one wait.
    pub fn add(&mut self, wait: Duration) {
        let steps = (wait.as_secs_f64() / LEAST_SECONDS).max(1.0).ln() / STEP.ln();
        #[expect(clippy::cast_possible_truncation, reason = "it saturates, and the last bucket is far below")]
        let bucket = (steps.round() as usize).min(LAST);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
    }

    /// Adds the waits of another run.
    pub fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// The wait that so many per cent do not exceed, by the nearest rank; `None` without any.
    #[must_use]
    pub fn percentile_seconds(&self, percent: u64) -> Option<f64> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(LEAST_SECONDS * STEP.powi(i32::try_from(bucket).unwrap_or(i32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_half_a_per_cent_over_all_runs_together() {
        let (mut waits, mut others) = (Waits::default(), Waits::default());
        (1..=50).for_each(|millis| waits.add(Duration::from_millis(millis * 10)));
        (51..=100).for_each(|millis| others.add(Duration::from_millis(millis * 10)));
        waits.merge(&others);
        for (percent, seconds) in [(50, 0.5), (95, 0.95), (1, 0.01)] {
            let found = waits.percentile_seconds(percent).unwrap();
            assert!((found / seconds - 1.0).abs() < 0.006, "{percent}: {found}");
        }
        assert_eq!(Waits::default().percentile_seconds(50), None);
    }

    #[test]
    fn what_is_too_short_or_too_long_is_still_counted() {
        let mut waits = Waits::default();
        waits.add(Duration::ZERO);
        waits.add(Duration::MAX);
        assert_eq!(waits.percentile_seconds(50), Some(0.001));
        assert!(waits.percentile_seconds(100).is_some_and(|seconds| seconds > 80_000.0));
    }
}
