//! Chance that repeats itself: the same seed gives the same numbers, in every run and on every machine.

/// Numbers that look random (splitmix64, which passes the usual tests and is five lines).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins the sequence of this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0, included, to 1, excluded.
    pub fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // A float holds 53 bits exactly.
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number below `bound`, which is at least 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of a small number")]
    pub fn below(&mut self, bound: usize) -> usize {
        (self.fraction() * bound as f64) as usize
    }

    /// Whether something of this probability happens now.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }
}
