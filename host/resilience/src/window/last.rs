//! The last so many results, exactly.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Outcome, Tally, WindowKind};
use crate::time::{Timestamp, micros};

/// A first-in, first-out list of results, with their tally kept up to date. Its memory grows with
/// the results that come, up to its size.
#[derive(Clone, Debug)]
pub(super) struct Last {
    size: usize,
    results: VecDeque<Counted>,
    tally: Tally,
    /// Results counted so far, forgotten ones included.
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Timestamp,
    /// Microseconds, saturating: the histogram tells no longer ones apart.
    took: u32,
    outcome: Outcome,
    slow: bool,
}

impl Last {
    pub(super) fn new(size: u32) -> Self {
        let size = size.clamp(1, WindowKind::COUNT_MAX) as usize;
        Self { size, results: VecDeque::new(), tally: Tally::default(), number: 0 }
    }

    pub(super) fn record(&mut self, outcome: Outcome, duration: Duration, slow: bool, now: Timestamp) {
        if matches!(outcome, Outcome::FailedAgain | Outcome::Overdue | Outcome::Ignored) {
            return;
        }
        if self.results.len() >= self.size
            && let Some(oldest) = self.results.pop_front()
        {
            self.tally.forget(oldest.outcome, Duration::from_micros(u64::from(oldest.took)), oldest.slow);
        }
        let took = u32::try_from(micros(duration)).unwrap_or(u32::MAX);
        self.results.push_back(Counted { at: now, took, outcome, slow });
        self.tally.count(outcome, Duration::from_micros(u64::from(took)), slow);
        self.number = self.number.saturating_add(1);
    }

    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }

    /// The number of the newest result; the first has number 1.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether the result with this number is still in view.
    pub(super) const fn shows(&self, number: u64) -> bool {
        self.number.saturating_sub(number) < self.size as u64
    }

    /// The time since the oldest result in view.
    pub(super) fn length(&self, now: Timestamp) -> Duration {
        self.results.front().map_or(Duration::ZERO, |oldest| now.saturating_since(oldest.at))
    }
}
