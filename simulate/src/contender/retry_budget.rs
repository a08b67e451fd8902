//! How many retries the traffic pays for.

use std::collections::VecDeque;
use std::time::Duration;

use spillway_resilience::Timestamp;

/// The retry budget of Finagle (`RetryBudget`, announced in "Retry Budgets", 2016) and linkerd with
/// their defaults: a fifth of the requests of the last ten seconds, and ten a second, may be repeated.
#[derive(Clone, Debug, Default)]
pub struct RetryBudget {
    /// Requests not yet expired.
    requests: VecDeque<Timestamp>,
    /// Retries not yet expired.
    retries: VecDeque<Timestamp>,
}

impl RetryBudget {
    /// How long a request pays for retries.
    pub const TIME_TO_LIVE: Duration = Duration::from_secs(10);
    /// Retries that need no request to pay for them, per second.
    pub const MINIMUM_PER_SECOND: f64 = 10.0;
    /// Share of the requests that may be repeated.
    pub const SHARE: f64 = 0.2;

    /// Notes a request.
    pub fn deposit(&mut self, now: Timestamp) {
        self.requests.push_back(now);
    }

    /// Takes a retry from the budget, if there is one.
    pub fn withdraw(&mut self, now: Timestamp) -> bool {
        for noted in [&mut self.requests, &mut self.retries] {
            while noted.front().is_some_and(|at| now.saturating_since(*at) >= Self::TIME_TO_LIVE) {
                noted.pop_front();
            }
        }
        let floor = Self::MINIMUM_PER_SECOND * Self::TIME_TO_LIVE.as_secs_f64();
        let most = Self::SHARE * self.requests.len() as f64 + floor;
        let granted = self.retries.len() as f64 + 1.0 <= most;
        if granted {
            self.retries.push_back(now);
        }
        granted
    }
}
