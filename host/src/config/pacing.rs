//! `[upstreams.NAME.pacing]`: how calls go out once the provider has said "too much".

use super::kind::Time;
use super::reader::Section;
use super::section::section;
use spillway_resilience::PacerSettings;
use std::time::Duration;

section! {
    /// How calls go out once the provider has said "too much".
    pub struct PacingConfig {
        /// Longest pause that the provider can name; after it one call an interval goes out.
        named_pause_max: Duration = PacerSettings::DEFAULT_NAMED_PAUSE_MAX, Time::POSITIVE;
    }
}

impl PacingConfig {
    pub(super) fn read(section: Section<'_>) -> PacingConfig {
        let mut pacing = PacingConfig::fresh(section.folder());
        pacing.take(&section);
        section.finish();
        pacing
    }

    /// As the core takes them.
    pub fn settings(&self) -> PacerSettings {
        PacerSettings { named_pause_max: self.named_pause_max, ..PacerSettings::default() }
    }
}
