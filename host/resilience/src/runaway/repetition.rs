//! How often the same request has come in a row.

use std::time::Duration;

use super::{GuardKind, Tripped};
use crate::time::Timestamp;

/// The last request of somebody, and how often it has come in a row.
///
/// What counts is the same request after it was answered: one that failed is rightly sent again, and several that are
/// under way side by side are one choice among several answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repetition {
    request: u64,
    answered: u64,
    last: Timestamp,
    /// Whether the last one was one too many.
    is_tripped: bool,
}

/// A request of a row: which it is, and how often the same was answered before it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfRow {
    request: u64,
    answered: u64,
}

impl Repetition {
    /// What comes later than this after the same is no repetition: a loop waits for nothing but its answers, and what
    /// looks every quarter of an hour whether all is well is meant to.
    pub const GAP_MAX: Duration = Duration::from_secs(600);

    /// Takes a request, known by its hash, of which at most `max` may come in a row.
    ///
    /// Whoever is told that it is one too many and goes on asking is told so again, until it asks for something else or
    /// pauses for longer than [`GAP_MAX`](Self::GAP_MAX).
    pub fn ask(&mut self, request: u64, max: u64, now: Timestamp) -> (OfRow, Option<Tripped>) {
        let goes_on = self.request == request && now.saturating_since(self.last) <= Self::GAP_MAX;
        if !goes_on {
            *self = Self { request, ..Self::default() };
        }
        self.last = now;
        let was_tripped = std::mem::replace(&mut self.is_tripped, self.answered >= max);
        let figure = self.answered.saturating_add(1);
        let tripped = Tripped { guard: GuardKind::Repeats, figure, limit: max, is_news: !was_tripped };
        (OfRow { request, answered: self.answered }, self.is_tripped.then_some(tripped))
    }

    /// Notes that a request was answered. Of those that were asked side by side the first answer counts.
    pub fn answered(&mut self, of: OfRow, now: Timestamp) {
        if (self.request, self.answered) == (of.request, of.answered) {
            self.answered = self.answered.saturating_add(1);
            self.last = self.last.max(now);
        }
    }
}
