//! Instants handed in by the caller, so that no decision ever reads a clock.

use std::time::Duration;

/// An instant of a monotonic clock: whole microseconds since an origin of the caller's choice.
///
/// A wall clock must never be its source: it jumps, and a jump would end a cooldown early or an
/// hour late. Arithmetic saturates at both ends of the range, which spans more than half a million
/// years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin of the clock.
    pub const ORIGIN: Self = Self(0);

    /// The instant `micros` microseconds after the origin.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The instant `duration` later, or the last one that can be expressed. Fractions of a
    /// microsecond are dropped.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// The time passed since `earlier`; zero when `earlier` lies in the future.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Whole microseconds of `duration`, saturating.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// `factor` times `duration`, where `factor` is a share between 0 and 1. Whatever lies outside, NaN
/// included, is brought to the nearer end (NaN to 0), because `Duration::mul_f64` would panic on
/// it.
pub(crate) fn share_of(duration: Duration, factor: f64) -> Duration {
    let factor = if factor.is_nan() { 0.0 } else { factor.clamp(0.0, 1.0) };
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(duration)
}

/// A duration uniform between zero and `longest` (excluded, unless it is zero), chosen by `random`.
pub(crate) fn uniform_below(longest: Duration, random: u64) -> Duration {
    // The high half of the 128-bit product is `longest * random / 2^64`, without bias that matters
    // or overflow.
    let product = u128::from(micros(longest)) * u128::from(random);
    Duration::from_micros(u64::try_from(product >> 64).unwrap_or(u64::MAX))
}

/// An exponentially weighted mean, of which a new value makes up one part in so many.
pub(crate) const fn mix(old: u64, new: u64, parts: u64) -> u64 {
    if new >= old { old + (new - old).div_ceil(parts) } else { old - (old - new) / parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let last = Timestamp::from_micros(u64::MAX);
        assert_eq!(last.saturating_add(Duration::from_secs(1)), last);
        assert_eq!(Timestamp::ORIGIN.saturating_add(Duration::MAX), last);
        assert_eq!(Timestamp::ORIGIN.saturating_since(last), Duration::ZERO);
        assert_eq!(Timestamp::from_micros(7).saturating_since(Timestamp::from_micros(5)), Duration::from_micros(2));
    }

    #[test]
    fn a_uniform_duration_stays_below_its_bound() {
        let second = Duration::from_secs(1);
        assert_eq!(uniform_below(second, 0), Duration::ZERO);
        assert_eq!(uniform_below(second, 1 << 63), Duration::from_millis(500));
        assert_eq!(uniform_below(second, u64::MAX), Duration::from_micros(999_999));
        assert!(uniform_below(Duration::MAX, u64::MAX) < Duration::MAX);
    }

    #[test]
    fn a_share_outside_its_range_is_brought_to_the_nearer_end() {
        let second = Duration::from_secs(1);
        assert_eq!(share_of(second, f64::NAN), Duration::ZERO);
        assert_eq!(share_of(second, -3.0), Duration::ZERO);
        assert_eq!(share_of(second, 9.0), second);
        assert_eq!(share_of(second, 0.25), Duration::from_millis(250));
        assert_eq!(share_of(Duration::MAX, 1.0), Duration::MAX);
    }
}
