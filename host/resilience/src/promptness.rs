//! How soon answers come, by which a call that hangs is told from an upstream that is late with all.

use std::time::Duration;

use crate::time::{Timestamp, micros, mix};

/// The time to the first content of those that are served, smoothed.
///
/// An upstream that lets its queue grow instead of refusing is late with every answer, and in the end too late with
/// many. Where answers come far sooner than a call has waited, and came while it waited, its hanging has another
/// reason: to send less would help nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promptness {
    /// Microseconds.
    smoothed: u64,
    last: Option<Timestamp>,
}

impl Promptness {
    /// Weight of a new answer: one part in this many.
    const SMOOTHING: u64 = 8;
    /// Answers are far sooner that come in less than this part of the time.
    const FAR_SOONER: u64 = 4;

    /// Notes an answer whose first content took so long and is there now.
    pub fn answered(&mut self, first_content: Duration, now: Timestamp) {
        let sample = micros(first_content);
        self.smoothed = match self.last {
            None => sample,
            Some(_) => mix(self.smoothed, sample, Self::SMOOTHING),
        };
        self.last = Some(now);
    }

    /// Whether a call that was sent then and is not answered yet hangs alone.
    #[must_use]
    pub fn hangs_alone(&self, sent: Timestamp, now: Timestamp) -> bool {
        let waited = micros(now.saturating_since(sent));
        self.last.is_some_and(|last| last > sent) && self.smoothed.saturating_mul(Self::FAR_SOONER) < waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn answered(first_content: Duration, until: u64) -> Promptness {
        let mut promptness = Promptness::default();
        (1..=until).for_each(|second| promptness.answered(first_content, at(second)));
        promptness
    }

    #[test]
    fn a_call_hangs_alone_where_others_are_answered_far_sooner() {
        let promptness = answered(Duration::from_millis(200), 20);
        assert!(promptness.hangs_alone(at(10), at(20)));
    }

    #[test]
    fn it_does_not_where_nobody_was_answered_meanwhile() {
        assert!(!Promptness::default().hangs_alone(at(10), at(20)));
        assert!(!answered(Duration::from_millis(200), 10).hangs_alone(at(10), at(20)));
    }

    #[test]
    fn it_does_not_where_all_are_late() {
        let mut promptness = answered(Duration::from_millis(200), 20);
        (21..=40).for_each(|second| promptness.answered(Duration::from_secs(4), at(second)));
        assert!(!promptness.hangs_alone(at(30), at(40)), "answers take four tenths of the time it has waited");
    }

    #[test]
    fn one_late_answer_among_many_is_no_sign() {
        let mut promptness = answered(Duration::from_millis(200), 20);
        promptness.answered(Duration::from_secs(9), at(21));
        assert!(promptness.hangs_alone(at(12), at(22)));
    }
}
