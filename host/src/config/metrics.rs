//! `[metrics]`: what the figures tell apart.

use super::kind::Whole;
use super::reader::Section;
use super::section::section;

/// Bounds on names: with more a scrape takes longer than people scrape.
const NAMES: Whole = Whole(0..=1_000);

section! {
    /// What the figures at `/metrics` tell apart ([metrics.md](metrics.md)). A name gets figures of its own with its
    /// first answer, and keeps them until the next start; whoever comes when no place is left counts as "other".
    pub struct MetricsConfig {
        /// Most models with figures of their own, over all upstreams.
        // A platform's models at their upstreams; at the bound a scrape has some ten thousand lines for them.
        max_models: usize = 50, NAMES;
        /// Most tenants with figures of their own, beside those that have a `[tenants.NAME]`.
        max_tenants: usize = 50, NAMES;
    }
}

impl MetricsConfig {
    pub(super) fn read(section: Section<'_>) -> MetricsConfig {
        let mut metrics = MetricsConfig::fresh(section.folder());
        metrics.take(&section);
        section.finish();
        metrics
    }
}
