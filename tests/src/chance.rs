//! How far what depends on chance may be from what is expected.

pub use spillway_mock_provider::chance::Chance;

/// One bound in two thousand is missed by chance at this many standard deviations, if what it bounds is just met.
pub const SIGMAS: f64 = 3.3;

/// How far a share may be from what is expected of it, in this many tries. Counts of what is rare are skewed: the second
/// summand is that of Cornish and Fisher.
pub fn margin(share: f64, count: usize) -> f64 {
    let skew = (SIGMAS * SIGMAS - 1.0) / 6.0;
    SIGMAS * (share * (1.0 - share) / count as f64).sqrt() + skew / count as f64
}
