//! `[upstreams.NAME.retry]`: whether and when a failed attempt is followed by another.

use super::kind::{Number, Time, Whole};
use super::reader::Section;
use super::section::section;
use spillway_resilience::{Backoff, RetryBudgetSettings, RetrySettings};
use std::time::Duration;

section! {
    /// Whether and when a failed attempt is followed by another.
    pub struct RetryConfig {
        /// Attempts per request. The second follows the first at once.
        max_attempts: u32 = RetrySettings::DEFAULT_MAX_ATTEMPTS, Whole(1..=u64::from(RetrySettings::MAX_ATTEMPTS_MAX));
        /// The wait before the third attempt. It doubles with each further one, and chance shortens it.
        backoff: Duration = Backoff::DEFAULT_BASE, Time::POSITIVE;
        /// Longest wait between two attempts; not shorter than `backoff`.
        backoff_max: Duration = Backoff::DEFAULT_CAP, Time::POSITIVE;
        /// An attempt that took longer is not repeated.
        quick_attempt_max: Duration = RetrySettings::DEFAULT_QUICK_ATTEMPT_MAX, Time::POSITIVE;
        /// Retries that each answer earns, over all requests.
        budget_ratio: f64 = RetryBudgetSettings::DEFAULT_RATIO, Number(0.0..=RetryBudgetSettings::RATIO_MAX);
        /// Retries that each second earns, whatever fails.
        budget_floor: f64 = RetryBudgetSettings::DEFAULT_FLOOR, Number(0.0..=RetryBudgetSettings::FLOOR_MAX);
    }
}

impl RetryConfig {
    /// `outer` ends the request in any case.
    pub(super) fn read(section: Section<'_>, outer: (&str, Duration)) -> RetryConfig {
        let mut retry = RetryConfig::fresh(section.folder());
        retry.take(&section);
        section.within("backoff", &mut retry.backoff, outer);
        section.within("backoff_max", &mut retry.backoff_max, outer);
        section.no_shorter("backoff_max", &mut retry.backoff_max, retry.backoff);
        section.mistakes(retry.settings().validate());
        section.finish();
        retry
    }

    /// When an attempt is followed by another.
    pub fn settings(&self) -> RetrySettings {
        let backoff = Backoff { base: self.backoff, cap: self.backoff_max, ..Backoff::default() };
        let RetryConfig { max_attempts, quick_attempt_max, .. } = *self;
        RetrySettings { max_attempts, backoff, quick_attempt_max, ..RetrySettings::default() }
    }

    /// How many retries all requests together may cause.
    pub fn budget(&self) -> RetryBudgetSettings {
        let (ratio, floor) = (self.budget_ratio, self.budget_floor);
        RetryBudgetSettings { ratio, floor, ..RetryBudgetSettings::default() }
    }
}
