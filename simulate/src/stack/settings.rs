//! What an operator can set about one upstream, as far as it is simulated.

use std::time::Duration;

use spillway_resilience::{
    AdaptiveLimit, AdaptiveLimitSettings, AdmissionQueue, BreakerKind, BreakerSettings, Bulkhead, Concurrency,
    FairQueueSettings, Limiter, PacerSettings, RetryBudgetSettings, RetrySettings, Timestamp, TokenBucket,
};

use crate::scenario;

/// A quota as it is mirrored in the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What comes back in a minute, in requests or tokens; at least 1.
    pub per_minute: u64,
    /// What can be used at once, in the same unit; at least 1.
    pub burst: u64,
}

impl Quota {
    /// As the proxy has it: all of a minute can be used at once.
    #[must_use]
    pub const fn of_a_minute(per_minute: u64) -> Self {
        Self { per_minute, burst: per_minute }
    }

    fn bucket(self, now: Timestamp) -> TokenBucket {
        TokenBucket::new(self.burst, self.per_minute, now)
    }
}

/// The settings of all layers around one upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What circuits open for.
    pub kind: BreakerKind,
    /// When they open and close.
    pub breaker: BreakerSettings,
    /// Circuits let every call pass.
    pub watch_only: bool,
    /// How long a request waits at an open circuit for a probe to show whether the upstream is back.
    pub circuit_patience: Duration,
    /// When an attempt is followed by another.
    pub retry: RetrySettings,
    /// How many retries all requests together may cause.
    pub retry_budget: RetryBudgetSettings,
    /// How calls go out once the provider has said "too much".
    pub pacing: PacerSettings,
    /// Calls in a minute; without limit when `None`.
    pub requests: Option<Quota>,
    /// Tokens in a minute; without limit when `None`.
    pub tokens: Option<Quota>,
    /// Who waits, and how many.
    pub queue: FairQueueSettings,
    /// How many calls may be in flight.
    pub concurrency: AdaptiveLimitSettings,
    /// Whether that bound adapts; if not, it is `concurrency.max_in_flight`.
    pub is_adaptive: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kind: BreakerKind::Adaptive,
            breaker: BreakerSettings::adaptive(),
            watch_only: false,
            circuit_patience: Self::CIRCUIT_PATIENCE,
            retry: RetrySettings::default(),
            retry_budget: RetryBudgetSettings::default(),
            pacing: PacerSettings::default(),
            requests: None,
            tokens: None,
            queue: FairQueueSettings::default(),
            concurrency: AdaptiveLimitSettings::default(),
            is_adaptive: true,
        }
    }
}

impl Settings {
    /// How long a request waits at an open circuit by default.
    pub const CIRCUIT_PATIENCE: Duration = Duration::from_secs(1);

    /// Defaults, and a limiter that knows the provider's quota.
    #[must_use]
    pub fn knowing(provider: &scenario::Provider) -> Self {
        let quota = |per_minute| Quota { per_minute: u64::from(per_minute), burst: u64::from(provider.burst_tokens) };
        Self { tokens: provider.tokens_per_minute.map(quota), ..Self::default() }
    }

    /// The limits on requests, tokens and calls in flight, and whoever waits for them: nobody yet.
    pub(super) fn admission_queue(&self, now: Timestamp) -> AdmissionQueue {
        let bucket = |quota: Quota| quota.bucket(now);
        let concurrency = match self.is_adaptive {
            true => Concurrency::Adaptive(AdaptiveLimit::new(self.concurrency)),
            false => Concurrency::Fixed(Bulkhead::new(self.concurrency.max_in_flight)),
        };
        AdmissionQueue::new(Limiter::new(self.requests.map(bucket), self.tokens.map(bucket)), concurrency, self.queue)
    }
}
