//! A small fixed histogram of durations on a logarithmic scale.

use std::time::Duration;

use crate::time::micros;

/// Everything shorter than `2^SHORTEST_EXPONENT` microseconds (about a millisecond) shares the
/// first slot: no upstream answers faster, and a refused connection needs no finer figure.
const SHORTEST_EXPONENT: u32 = 10;

/// Durations are told apart up to `2^LONGEST_EXPONENT` microseconds (about 71 minutes), beyond any
/// sane time-out; longer ones share the last slot.
const LONGEST_EXPONENT: u32 = 32;

/// Each doubling is cut into `2^PARTS_EXPONENT` equal slots. Four slots keep the error below 25 %
/// at 356 bytes.
const PARTS_EXPONENT: u32 = 2;
const PARTS: u32 = 1 << PARTS_EXPONENT;

const SLOTS: usize = 1 + ((LONGEST_EXPONENT - SHORTEST_EXPONENT) * PARTS) as usize;

/// Counts of durations, precise enough for a quantile and small enough to copy.
///
/// Between 1 ms and 71 min a reported quantile is never below the true one and exceeds it by at
/// most 25 %. Shorter durations are reported as 1.024 ms, longer ones as 71 min. Counts saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u32; SLOTS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; SLOTS] }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let count = &mut self.counts[slot(duration)];
        *count = count.saturating_add(1);
    }

    /// Takes back one duration that was counted before.
    pub fn forget(&mut self, duration: Duration) {
        let count = &mut self.counts[slot(duration)];
        *count = count.saturating_sub(1);
    }

    /// Adds another histogram's counts to this one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// The duration below which a share of `q` (0 to 1) of the recorded ones stayed: the upper edge
    /// of the slot that holds the `ceil(q * count)`-th shortest. A `q` outside the range is brought
    /// to the nearer end; `None` when nothing was recorded or `q` is not a number.
    #[must_use]
    pub fn quantile(&self, q: f32) -> Option<Duration> {
        let total = self.counts.iter().fold(0_u32, |sum, count| sum.saturating_add(*count));
        if total == 0 || q.is_nan() {
            return None;
        }
        // 0.1 as an `f32` is a little more than a tenth; without slack it would ask for the second
        // of ten.
        let slack = 1.0 - f64::from(f32::EPSILON);
        let rank = (f64::from(q.clamp(0.0, 1.0)) * f64::from(total) * slack).max(1.0);
        let mut counted = 0_u32;
        for (edge, count) in (0..).map(upper_edge).zip(&self.counts) {
            counted = counted.saturating_add(*count);
            if f64::from(counted) >= rank {
                return Some(edge);
            }
        }
        None
    }
}

fn slot(duration: Duration) -> usize {
    let micros = u32::try_from(micros(duration)).unwrap_or(u32::MAX);
    if micros < 1 << SHORTEST_EXPONENT {
        return 0;
    }
    let exponent = micros.ilog2();
    let part = (micros >> (exponent - PARTS_EXPONENT)) % PARTS;
    1 + ((exponent - SHORTEST_EXPONENT) * PARTS + part) as usize
}

fn upper_edge(slot: u32) -> Duration {
    let Some(above) = slot.checked_sub(1) else {
        return Duration::from_micros(1 << SHORTEST_EXPONENT);
    };
    let exponent = SHORTEST_EXPONENT + above / PARTS;
    let parts = u64::from(PARTS + above % PARTS + 1);
    Duration::from_micros(parts << (exponent - PARTS_EXPONENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        for milli in millis {
            histogram.record(Duration::from_millis(milli));
        }
        histogram
    }

    #[test]
    fn an_empty_histogram_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(of([1]).quantile(f32::NAN), None);
    }

    #[test]
    fn a_tenth_of_ten_is_the_shortest_one() {
        let histogram = of((1..=10).map(|n| n * 1000));
        let tenth = histogram.quantile(0.1).unwrap();
        assert!((1000..=1250).contains(&tenth.as_millis()), "{tenth:?}");
        assert_eq!(histogram.quantile(-1.0), histogram.quantile(0.0));
        assert_eq!(histogram.quantile(7.0), histogram.quantile(1.0));
    }

    #[test]
    fn durations_beyond_the_scale_are_counted_at_its_ends() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_micros(1024)));
        histogram.record(Duration::MAX);
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_micros(1 << 32)));
    }

    proptest! {
        #[test]
        fn a_quantile_is_never_below_the_true_one_and_at_most_a_quarter_above(
            mut micros in prop::collection::vec(1024_u64..1 << 32, 1..200),
            percent in 0_u16..=100,
        ) {
            let mut histogram = Histogram::default();
            micros.iter().for_each(|m| histogram.record(Duration::from_micros(*m)));
            micros.sort_unstable();
            let rank = (usize::from(percent) * micros.len()).div_ceil(100).max(1);
            let exact = Duration::from_micros(micros[rank - 1]);
            let reported = histogram.quantile(f32::from(percent) / 100.0).unwrap();
            prop_assert!(reported > exact, "{reported:?} {exact:?}");
            prop_assert!(reported <= exact * 5 / 4, "{reported:?} {exact:?}");
        }
    }
}
