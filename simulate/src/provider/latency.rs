//! How long answers take, as it was measured.

/// Quantiles of the time to an answer, in seconds, from the shortest to the longest in equal steps of their rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latencies([f64; Self::QUANTILES]);

impl Latencies {
    /// So many are kept: each twentieth, and both ends.
    pub const QUANTILES: usize = 21;

    /// The quantiles of these times; `None` without any.
    #[must_use]
    pub fn of(mut seconds: Vec<f64>) -> Option<Self> {
        seconds.sort_unstable_by(f64::total_cmp);
        let last = seconds.len().checked_sub(1)?;
        let quantile = |step: usize| seconds[(last * step + (Self::QUANTILES - 1) / 2) / (Self::QUANTILES - 1)];
        Some(Self(std::array::from_fn(quantile)))
    }

    /// The time of this rank, between 0 and 1; between two quantiles in proportion.
    #[must_use]
    pub fn at(&self, rank: f64) -> f64 {
        let place = rank.clamp(0.0, 1.0) * (Self::QUANTILES - 1) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies within the quantiles")]
        let below = place as usize;
        let above = (below + 1).min(Self::QUANTILES - 1);
        self.0[below] + (self.0[above] - self.0[below]) * (place - below as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_answers_take_no_longer_than_the_median() {
        let latencies = Latencies::of((0..=100).rev().map(f64::from).collect()).unwrap();
        assert_eq!([0.0, 0.5, 0.525, 1.0].map(|rank| latencies.at(rank)), [0.0, 50.0, 52.5, 100.0]);
        assert_eq!(Latencies::of(vec![7.0]).map(|one| one.at(0.3)), Some(7.0));
        assert_eq!(Latencies::of(Vec::new()), None);
    }
}
