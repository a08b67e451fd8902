//! Chance that depends on the seed alone.

use std::time::Duration;

/// A stream of numbers by splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014): one word of state, uniform over 64 bits, and good from the first draw.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for one part of the world. Clients, provider and proxy each have one, so
    /// that with protection on or off the very same requests arrive.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// The next number, uniform over all 64 bits.
    #[expect(clippy::should_implement_trait, reason = "the stream has no end, so an Option would say nothing")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Uniform between 0 (included) and 1 (excluded).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform between 0 and `most`, both included.
    pub fn up_to(&mut self, most: u64) -> u64 {
        let product = (u128::from(most) + 1) * u128::from(self.next());
        u64::try_from(product >> 64).unwrap_or(most)
    }

    /// The gap to the next arrival of a Poisson process with `rate` arrivals per second.
    pub fn gap(&mut self, rate: f64) -> Duration {
        // One minus the draw is never zero, so the logarithm is finite.
        let seconds = -(1.0 - self.unit()).ln() / rate;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_numbers() {
        let mut random = Random::new(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn draws_stay_in_their_ranges_and_reach_both_ends() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.up_to(3)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&0), Some(&3)));
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&random.unit())));
        assert_eq!(random.up_to(0), 0);
    }

    #[test]
    fn gaps_average_to_the_rate() {
        let mut random = Random::new(7);
        let total: Duration = (0..100_000).map(|_| random.gap(50.0)).sum();
        assert!((1_960.0..2_040.0).contains(&total.as_secs_f64()), "{total:?}");
    }
}
