//! `[upstreams.NAME.hedge]`: whether and when a call that is late gets a second one beside it.

use super::kind::{Flag, Share, Time, Whole};
use super::reader::Section;
use super::section::section;
use spillway_resilience::{HedgeSettings, RetryBudgetSettings};
use std::time::Duration;

section! {
    /// A second call beside one that is later than 95 % of them. The first answer wins.
    pub struct HedgeConfig {
        /// Whether to hedge at all. Each hedge is paid for.
        enabled: bool = false, Flag;
        /// Hedges per request.
        max_hedges: u32 = HedgeSettings::DEFAULT_MAX_HEDGES, Whole(1..=u64::from(HedgeSettings::HEDGES_MAX));
        /// Least wait before a hedge, whatever the latencies say; not longer than `first_content_timeout`.
        delay_min: Duration = HedgeSettings::DEFAULT_DELAY_MIN, Time::POSITIVE;
        /// Hedges that each answer earns, over all requests.
        budget_ratio: f64 = RetryBudgetSettings::HEDGE_RATIO, Share;
    }
}

impl HedgeConfig {
    /// `outer` ends the call beside which a hedge goes out.
    pub(super) fn read(section: Section<'_>, outer: (&str, Duration)) -> HedgeConfig {
        let mut hedge = HedgeConfig::fresh(section.folder());
        hedge.take(&section);
        section.within("delay_min", &mut hedge.delay_min, outer);
        section.finish();
        hedge
    }

    /// When a call is late.
    pub fn settings(&self) -> HedgeSettings {
        HedgeSettings { enabled: self.enabled, max_hedges: self.max_hedges, delay_min: self.delay_min }
    }

    /// How many hedges all requests together may cause.
    pub fn budget(&self) -> RetryBudgetSettings {
        RetryBudgetSettings { ratio: self.budget_ratio, ..RetryBudgetSettings::for_hedges() }
    }
}
