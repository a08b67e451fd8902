//! What may go wrong many times a second, and is said now and then.

use std::mem::take;
use std::time::{Duration, Instant};

/// How often to say so, while it goes on.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Something that may go wrong many times a second, and is said now and then.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    said: Option<Instant>,
    unsaid: u64,
}

impl Complaint {
    /// How often it went wrong unsaid, if it is to be said.
    pub(crate) fn is_due(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < COMPLAIN_EVERY) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_all_the_time_is_said_now_and_then_with_how_often_it_was_not() {
        let (began, mut complaint) = (Instant::now(), Complaint::default());
        let mut is_due = |ms: u64| complaint.is_due(began + Duration::from_millis(ms));
        assert_eq!(is_due(0), Some(0));
        assert_eq!((1..100).filter_map(|tenth| is_due(tenth * 100)).count(), 0);
        assert_eq!(is_due(10_000), Some(99));
        assert_eq!(is_due(20_000), Some(0));
    }
}
