//! Whether requests cost far more tokens than they used to.

use crate::time::mix;

/// Parts of an octave in which sizes are measured. Sizes are compared by their logarithms: a caller's requests differ by
/// factors, and one that is a hundred times as large as the others would be all that a mean of them tells.
const OCTAVE: u64 = 1 << 16;
/// What is usual is learnt from about so many requests.
const USUAL_PARTS: u64 = 256;
/// What they are of late is that of about so many.
const LATELY_PARTS: u64 = 8;

/// How many tokens a caller's requests usually cost, how far they are from that, and what they cost of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    requests: u64,
    /// All three in parts of an octave.
    usual: u64,
    distance: u64,
    lately: u64,
    is_alarmed: bool,
}

impl Growth {
    /// Fewer requests are no habit.
    pub const REQUESTS_MIN: u64 = 64;
    /// Requests that cost fewer tokens run away with nothing.
    pub const TOKENS_MIN: u64 = 2_000;
    /// What differs as much as this many times the usual distance is unusual, whatever factor is asked for: where
    /// small and large requests take turns, a row of large ones is nothing new.
    const DISTANCES: u64 = 2;

    /// Notes what a request has cost. Answers with what they cost of late and what is usual, in tokens, when the one has
    /// come to be more than `factor` times the other; once, until they have gone half of the way back.
    ///
    /// What is usual follows slowly, so that who has grown for good is no alarm for ever.
    pub fn note(&mut self, tokens: u64, factor: f64) -> Option<(u64, u64)> {
        let size = octaves(tokens);
        if self.requests == 0 {
            (self.usual, self.lately) = (size, size);
        }
        self.lately = mix(self.lately, size, LATELY_PARTS);
        let (usual, margin) = (self.usual, self.margin(factor));
        // Learnt from the first ones as their mean, and from then on slowly; and then what is unusual counts as if it were
        // just not, or a growth would make itself usual before it is noticed.
        let parts = (self.requests + 1).min(USUAL_PARTS);
        let learnt = match self.requests > Self::REQUESTS_MIN {
            true => size.clamp(usual.saturating_sub(margin), usual.saturating_add(margin)),
            false => size,
        };
        self.distance = mix(self.distance, learnt.abs_diff(usual), parts);
        self.usual = mix(usual, learnt, parts);
        self.requests = self.requests.saturating_add(1);
        let above = self.lately.saturating_sub(usual);
        if self.is_alarmed {
            self.is_alarmed = above > margin / 2;
            return None;
        }
        self.is_alarmed =
            self.requests > Self::REQUESTS_MIN && above > margin && self.lately >= octaves(Self::TOKENS_MIN);
        self.is_alarmed.then(|| (tokens_of(self.lately), tokens_of(usual)))
    }

    /// The most tokens that a request may be expected to cost without being unusual; `None` where nothing is alarming,
    /// so that one large request among many is nobody's concern.
    #[must_use]
    pub fn usual_max(&self, factor: f64) -> Option<u64> {
        self.is_alarmed.then(|| tokens_of(self.usual.saturating_add(self.margin(factor))).max(Self::TOKENS_MIN))
    }

    fn margin(&self, factor: f64) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small, and the cast saturates")]
        let asked = (factor.max(1.0).log2() * OCTAVE as f64) as u64;
        asked.max(self.distance.saturating_mul(Self::DISTANCES))
    }
}

/// The binary logarithm in parts of an octave; between powers of two along a straight line, which is 9 % of an octave
/// too low at most. That of 0 is that of 1.
fn octaves(number: u64) -> u64 {
    let number = number.max(1);
    let power = u64::from(number.ilog2());
    // The bits behind the first one, as the part of an octave.
    let rest = (number << (63 - power)) & !(1 << 63);
    power * OCTAVE + (rest >> 47)
}

/// What has this logarithm.
fn tokens_of(octaves: u64) -> u64 {
    let (power, part) = (octaves / OCTAVE, octaves % OCTAVE);
    if power >= 63 {
        return u64::MAX;
    }
    let whole = 1_u64 << power;
    whole + u64::try_from(u128::from(whole) * u128::from(part) / u128::from(OCTAVE)).unwrap_or(u64::MAX)
}
