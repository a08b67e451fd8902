//! `[upstreams.NAME.concurrency]`: how many calls may be in flight.

use super::kind::{AboveOrOff, Flag, Whole};
use super::reader::Section;
use super::section::section;
use spillway_resilience::AdaptiveLimitSettings;

/// Bounds on calls in flight.
pub(super) const IN_FLIGHT: Whole = Whole(1..=AdaptiveLimitSettings::LIMIT_MAX as u64);

section! {
    /// How many calls may be in flight.
    pub struct ConcurrencyConfig {
        /// Most calls in flight.
        max_in_flight: u32 = AdaptiveLimitSettings::DEFAULT_MAX_IN_FLIGHT, IN_FLIGHT;
        /// What adapting leaves; more for an upstream that answers slowly.
        min_in_flight: u32 = AdaptiveLimitSettings::DEFAULT_MIN_IN_FLIGHT, IN_FLIGHT;
        /// Whether the bound is halved when calls time out, and regrown.
        adaptive: bool = true, Flag;
        /// Adapt also when first content takes so many times as long as usual.
        latency_tolerance: Option<f64> = AdaptiveLimitSettings::DEFAULT_LATENCY_TOLERANCE, AboveOrOff(1.0);
    }
}

impl ConcurrencyConfig {
    pub(super) fn read(section: Section<'_>) -> ConcurrencyConfig {
        let mut concurrency = ConcurrencyConfig::fresh(section.folder());
        concurrency.take(&section);
        // It begins at the most there may be, so what is wrong with the beginning is wrong with that.
        section.mistakes(concurrency.settings().validate().into_iter().filter(|mistake| mistake.field != "initial"));
        section.finish();
        concurrency
    }

    /// As the core takes them: it begins without a bound but the highest.
    pub fn settings(&self) -> AdaptiveLimitSettings {
        let ConcurrencyConfig { max_in_flight, min_in_flight, latency_tolerance, .. } = *self;
        AdaptiveLimitSettings { min_in_flight, max_in_flight, initial: max_in_flight, latency_tolerance }
    }
}
