//! Histograms whose buckets are fine enough for honest quantiles.

use super::cells::Cells;
use std::time::Duration;

/// Where the buckets of each factor of ten end, in tenths. Round numbers, so that "answered within 1, 2, 5 or 10
/// seconds" can be read off exactly; each is at most [`RATIO_MAX`] times the one before it.
const STEPS: [u64; 13] = [10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 70, 85];
/// The largest factor between the ends of neighbouring buckets, but for the first and the last. A quantile that is
/// read off a histogram, by `histogram_quantile` as well, lies in the same bucket as the true one: so it is wrong by
/// less than this factor less 1, 21.5 %, in either direction.
#[cfg(test)]
const RATIO_MAX: f64 = 1.215;
/// A hundred microseconds: the first bucket of durations ends at ten tenths of a millisecond.
const TENTH_OF_A_MS_NS: u64 = 100_000;
/// The last bucket with an end, in nanoseconds: 600 s.
const LONGEST_NS: u64 = 600_000_000_000;
/// Five factors of ten from 1 ms to 100 s, and what is left to 600 s.
const DURATIONS_COUNT: usize = 5 * STEPS.len() + 11;

/// Ends of buckets, and how much of them is one unit.
#[derive(Debug)]
pub(super) struct Scale {
    /// Where each bucket ends, itself included; one more has no end.
    ends: &'static [u64],
    per_unit: f64,
}

/// From 1 ms to 600 s, in seconds: how long calls, requests and waits take.
pub(super) static DURATIONS: Scale = Scale { ends: &DURATION_ENDS, per_unit: 1e9 };
/// From 10 µs to 1 s, in seconds, more coarsely: what Spillway itself takes of a request.
pub(super) static OVERHEAD: Scale = Scale { ends: &OVERHEAD_ENDS, per_unit: 1e9 };
/// How often something was done for one request.
pub(super) static TIMES: Scale = Scale { ends: &[0, 1, 2, 3, 5, 10], per_unit: 1.0 };

static DURATION_ENDS: [u64; DURATIONS_COUNT] = duration_ends();
static OVERHEAD_ENDS: [u64; 16] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

const fn duration_ends() -> [u64; DURATIONS_COUNT] {
    let mut ends = [0; DURATIONS_COUNT];
    let (mut index, mut unit) = (0, TENTH_OF_A_MS_NS);
    while index < DURATIONS_COUNT {
        ends[index] = STEPS[index % STEPS.len()] * unit;
        index += 1;
        if index % STEPS.len() == 0 {
            unit *= 10;
        }
    }
    assert!(ends[DURATIONS_COUNT - 1] == LONGEST_NS);
    ends
}

/// Counts of what was observed, by buckets, with their sum.
#[derive(Debug)]
pub(super) struct Histogram {
    scale: &'static Scale,
    /// A count for each bucket, and behind them the sum of all that was observed.
    cells: Cells,
}

/// What a histogram has seen, as the exposition wants it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    /// Where each bucket ends, and what lies in it alone.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) count: u64,
    pub(super) sum: f64,
}

impl Histogram {
    /// One that has seen nothing.
    pub(super) fn new(scale: &'static Scale) -> Histogram {
        Histogram { scale, cells: Cells::new(scale.ends.len() + 2) }
    }

    /// Counts a duration.
    pub(super) fn observe(&self, duration: Duration) {
        self.count(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a value in the scale's own measure.
    pub(super) fn count(&self, value: u64) {
        self.cells.add(self.scale.ends.partition_point(|end| *end < value), 1);
        self.cells.add(self.scale.ends.len() + 1, value);
    }

    /// Whether it has seen nothing.
    pub(super) fn is_empty(&self) -> bool {
        (0..=self.scale.ends.len()).all(|index| self.cells.sum(index) == 0)
    }

    /// What it has seen. Its count is always the sum of its buckets, whatever is observed meanwhile.
    #[expect(clippy::cast_precision_loss, reason = "figures are floats where they are shown")]
    pub(super) fn read(&self) -> Reading {
        let Scale { ends, per_unit } = self.scale;
        let ends = ends.iter().map(|end| *end as f64 / per_unit).chain([f64::INFINITY]);
        let buckets: Vec<_> = ends.enumerate().map(|(index, end)| (end, self.cells.sum(index))).collect();
        Reading {
            count: buckets.iter().map(|(_, count)| count).sum(),
            sum: self.cells.sum(self.scale.ends.len() + 1) as f64 / per_unit,
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A quantile as Prometheus reads it off a histogram: linear within the bucket that holds it.
    fn histogram_quantile(q: f64, reading: &Reading) -> f64 {
        let rank = q * reading.count as f64;
        let (mut before, mut begin) = (0.0, 0.0);
        for (end, count) in &reading.buckets {
            let upto = before + *count as f64;
            if upto >= rank && *count > 0 {
                let is_last = *end == f64::INFINITY;
                return if is_last { begin } else { begin + (end - begin) * ((rank - before) / *count as f64) };
            }
            (before, begin) = (upto, *end);
        }
        begin
    }

    /// The exact quantile: the value that a share `q` of all do not exceed.
    #[expect(clippy::cast_possible_truncation, reason = "a rank is small")]
    fn exact(q: f64, sorted: &[Duration]) -> f64 {
        let rank = (q * sorted.len() as f64).ceil().max(1.0);
        sorted[rank as usize - 1].as_secs_f64()
    }

    fn largest_error(mut durations: Vec<Duration>) -> f64 {
        let histogram = Histogram::new(&DURATIONS);
        durations.iter().for_each(|duration| histogram.observe(*duration));
        durations.sort_unstable();
        let reading = histogram.read();
        let error = |q| (histogram_quantile(q, &reading) / exact(q, &durations) - 1.0).abs();
        [0.5, 0.9, 0.95, 0.99].into_iter().map(error).fold(0.0, f64::max)
    }

    #[test]
    fn durations_are_told_apart_from_a_millisecond_to_ten_minutes_by_round_numbers() {
        let ends = DURATIONS.ends;
        assert_eq!((ends.first(), ends.last()), (Some(&1_000_000), Some(&600_000_000_000)));
        for pair in ends.windows(2) {
            let ratio = pair[1] as f64 / pair[0] as f64;
            assert!(ratio > 1.1 && ratio < RATIO_MAX, "{pair:?}: {ratio}");
        }
        for seconds in [1, 2, 5, 10, 20, 50, 100, 200, 600] {
            assert!(ends.contains(&(seconds * 1_000_000_000)), "{seconds} s");
        }
    }

    #[test]
    fn quantiles_of_nasty_distributions_are_wrong_by_less_than_is_said() {
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        // A generator that needs no seed: equally spread, and in no order.
        let spread = |n: u32| f64::from(n.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX);
        let cases: [(&str, Vec<Duration>); 8] = [
            ("all alike, just above an end", vec![ms(1_000.001); 1_000]),
            ("all alike, at an end", vec![ms(1_000.0); 1_000]),
            ("two heaps far apart", (0..1_000).map(|n| ms(if n % 20 == 0 { 590_000.0 } else { 1.7 })).collect()),
            ("exponential", (1..5_000).map(|n| ms(1.0 - 800.0 * (1.0 - spread(n)).max(1e-9).ln())).collect()),
            ("heavy tail", (1..5_000).map(|n| ms((2.0 / (1.0 - spread(n)).max(1e-9).powf(0.7)).min(6e5))).collect()),
            ("log-uniform", (1..5_000).map(|n| ms(10f64.powf(5.77 * spread(n)))).collect()),
            ("timeouts at the 95th", (0..1_000).map(|n| ms(if n % 20 == 0 { 30_000.0 } else { 12.0 })).collect()),
            ("one", vec![ms(7.0)]),
        ];
        for (name, durations) in cases {
            let error = largest_error(durations);
            println!("{name}: wrong by {:.1} % at most", error * 100.0);
            assert!(error < RATIO_MAX - 1.0, "{name}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_distribution_makes_a_quantile_wrong_by_more(
            micros in prop::collection::vec((3.0..8.778f64).prop_map(|power| 10f64.powf(power)), 1..200),
        ) {
            let durations = micros.into_iter().map(|micros| Duration::from_secs_f64(micros.clamp(1e3, 6e8) / 1e6));
            prop_assert!(largest_error(durations.collect()) < RATIO_MAX - 1.0);
        }
    }

    #[test]
    fn what_is_shorter_or_longer_is_counted_and_the_sum_is_exact() {
        let histogram = Histogram::new(&DURATIONS);
        for duration in
            [Duration::ZERO, Duration::from_micros(1_000), Duration::from_secs(600), Duration::from_secs(601)]
        {
            histogram.observe(duration);
        }
        let reading = histogram.read();
        assert_eq!((reading.buckets[0], reading.count), ((0.001, 2), 4));
        assert_eq!(reading.buckets.last(), Some(&(f64::INFINITY, 1)));
        assert!((reading.sum - 1_201.001).abs() < 1e-9, "{}", reading.sum);
    }

    #[test]
    fn how_often_something_was_done_is_counted_exactly_up_to_three() {
        let histogram = Histogram::new(&TIMES);
        [0, 0, 1, 3, 4, 11].into_iter().for_each(|times| histogram.count(times));
        let counts: Vec<u64> = histogram.read().buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 0, 1, 1, 0, 1]);
    }
}
