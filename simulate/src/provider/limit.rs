//! So many calls a second, and no more.

use std::time::Duration;

use spillway_resilience::Timestamp;

/// A limit on calls, as a bucket: whoever finds it empty is told to come again after a fixed wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    per_second: f64,
    burst: f64,
    retry_after: Duration,
    left: f64,
    filled_at: Timestamp,
}

impl Limit {
    pub(super) fn new(per_second: f64, burst: f64, retry_after: Duration) -> Self {
        Self { per_second, burst, retry_after, left: burst, filled_at: Timestamp::ORIGIN }
    }

    /// Takes a call.
    ///
    /// # Errors
    ///
    /// The wait that is named to a call too many.
    pub(super) fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        let since = now.saturating_since(self.filled_at).as_secs_f64();
        self.left = self.burst.min(self.left + since * self.per_second);
        self.filled_at = now;
        if self.left < 1.0 {
            return Err(self.retry_after);
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_as_many_as_the_rate_allows() {
        let mut limit = Limit::new(2.0, 3.0, Duration::from_secs(1));
        let mut passed =
            |millis: u64| (0..5).filter(|_| limit.take(Timestamp::from_micros(millis * 1_000)).is_ok()).count();
        assert_eq!([passed(0), passed(400), passed(500), passed(1_500), passed(60_000)], [3, 0, 1, 2, 3]);
        assert_eq!(limit.take(Timestamp::from_micros(60_000_000)), Err(Duration::from_secs(1)));
    }
}
